//! A small authority of one's own: certificates for a collector, its agents and those who ask.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use procscope_startup::{Failure, Result};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{random, tls::SPIFFE};

/// The authority's name: the same each time, so that its certificate and those it signs fit.
const AUTHORITY: &str = "procscope CA";

/// The domain in the names of agents and people; the authority signs for nobody else.
const DOMAIN: &str = "procscope";

/// How long the authority is good. Replacing one means to touch every machine.
const AUTHORITY_DAYS: u64 = 3_650;

/// Clocks differ: what is made now was good an hour ago.
const BEFORE: Duration = Duration::from_hours(1);

/// What was issued, so that it can be renewed.
const ISSUED: &str = "issued.toml";

/// What to make.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Make an authority and the collector's certificate
    Init {
        /// Folder for all of it; keep it on one machine and closed
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Name or address by which agents reach the collector; repeatable
        #[arg(long, value_name = "NAME", required = true)]
        name: Vec<String>,
        /// Days that the collector's certificate is good
        #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u64).range(1..=3_650))]
        days: u64,
    },
    /// Make the certificate of an agent
    Agent {
        /// The folder that `init` made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The agent's host, as its `--host` says or the kernel's node name
        #[arg(long, value_name = "HOST")]
        name: String,
        /// The agent's id, from the file `agent_id` in its state folder [default: a new one]
        #[arg(long, value_name = "UUID")]
        agent_id: Option<Uuid>,
        /// Days that it is good
        #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u64).range(1..=3_650))]
        days: u64,
    },
    /// Make the certificate of a person or program that asks
    Reader {
        /// The folder that `init` made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Who
        #[arg(long, value_name = "NAME")]
        name: String,
        /// May also change what there is to change
        #[arg(long)]
        admin: bool,
        /// Days that it is good
        #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u64).range(1..=3_650))]
        days: u64,
    },
    /// Sign everything once more, for the same names, keys and number of days
    Renew {
        /// The folder that `init` made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// One certificate that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    /// Name of its files.
    file: String,
    /// Its `spiffe://` name, or for a collector its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    days: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    #[serde(default)]
    certificate: Vec<Issued>,
}

/// Does it; the lines that say what to copy where.
///
/// # Errors
/// Exit code 2 for names that cannot be, 1 when files are there already or cannot be written.
pub fn run(command: &Command, now_ms: i64) -> Result<Vec<String>> {
    match command {
        Command::Init { dir, name, days } => init(dir, name, *days, now_ms),
        Command::Agent {
            dir,
            name,
            agent_id,
            days,
        } => {
            let id = agent_id.unwrap_or_else(Uuid::new_v4);
            let authority = Authority::open(dir)?;
            authority.client(name, &format!("agent/{id}/{}", checked(name)?), *days, now_ms)?;
            let mut lines = vec![
                format!("on {name}, owned by the agent's user and with mode 0600:"),
                format!("  {}  as --tls-cert", authority.path(name, "pem").display()),
                format!("  {}  as --tls-key", authority.path(name, "key").display()),
                format!("  {}  as --tls-ca", authority.path("ca", "pem").display()),
            ];
            if agent_id.is_none() {
                let file = authority.path(name, "agent_id");
                write_new(&file, &format!("{id}\n"), 0o600)?;
                lines.push(format!(
                    "  {}  as the file agent_id in its --state-dir, before its first start",
                    file.display()
                ));
            }
            Ok(lines)
        }
        Command::Reader {
            dir,
            name,
            admin,
            days,
        } => {
            let authority = Authority::open(dir)?;
            let role = if *admin { "admin" } else { "reader" };
            authority.client(name, &format!("{role}/{}", checked(name)?), *days, now_ms)?;
            Ok(vec![
                format!("for {name}, with mode 0600:"),
                format!("  {}  as --tls-cert", authority.path(name, "pem").display()),
                format!("  {}  as --tls-key", authority.path(name, "key").display()),
                format!("  {}  as --tls-ca", authority.path("ca", "pem").display()),
            ])
        }
        Command::Renew { dir } => renew(dir, now_ms),
    }
}

/// What may stand in a path of SPIFFE and in the name of a file.
fn checked(name: &str) -> Result<&str> {
    let good = (1..=253).contains(&name.len())
        && !name.starts_with('.')
        && !matches!(name, "ca" | "server")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if good {
        Ok(name)
    } else {
        Err(Failure::usage(format_args!(
            "--name `{}` cannot stand in a certificate: use letters, digits, dots, dashes and underscores, and not \
             ca or server",
            name.escape_debug()
        )))
    }
}

fn init(dir: &Path, names: &[String], days: u64, now_ms: i64) -> Result<Vec<String>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| unwritten(dir, &error))?;
    let key = KeyPair::generate().map_err(|error| unmade(&error))?;
    let certificate = valid(authority_params(), AUTHORITY_DAYS, now_ms)?
        .self_signed(&key)
        .map_err(|error| unmade(&error))?;
    write_new(&dir.join("ca.key"), &key.serialize_pem(), 0o600)?;
    write_new(&dir.join("ca.pem"), &certificate.pem(), 0o644)?;
    let authority = Authority::open(dir)?;
    let issued = Issued {
        file: "server".to_owned(),
        uri: None,
        names: names.to_vec(),
        days,
    };
    authority.issue(issued, now_ms)?;
    let show = |file: &str| dir.join(file).display().to_string();
    Ok(vec![
        "for the collector, owned by its user and with mode 0600:".to_owned(),
        format!("  {}  as --tls-cert", show("server.pem")),
        format!("  {}  as --tls-key", show("server.key")),
        format!("  {}  as --tls-client-ca", show("ca.pem")),
        format!("on every other machine: {}  as --tls-ca", show("ca.pem")),
        format!(
            "keep {} where nobody else can read it, and a copy of it",
            show("ca.key")
        ),
    ])
}

fn renew(dir: &Path, now_ms: i64) -> Result<Vec<String>> {
    let authority = Authority::open(dir)?;
    let mut lines = vec!["copy these over the old ones; nothing needs to be restarted:".to_owned()];
    for issued in authority.book()?.certificate {
        let file = authority.path(&issued.file, "pem");
        let key = authority.key(&issued.file)?;
        let certificate = authority.sign(&issued, &key, now_ms)?;
        replace(&file, &certificate.pem())?;
        lines.push(format!("  {}", file.display()));
    }
    Ok(lines)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The same certificate, good from now for so many days, with a number of its own.
fn valid(mut params: CertificateParams, days: u64, now_ms: i64) -> Result<CertificateParams> {
    let since_1970 = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    let start = date_time_ymd(1970, 1, 1) + since_1970;
    params.not_before = start - BEFORE;
    params.not_after = start + Duration::from_hours(24 * days);
    let mut number = random::<16>().map_err(|error| unmade(&error))?;
    number[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&number));
    Ok(params)
}

/// The folder that `init` made.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn open(dir: &Path) -> Result<Self> {
        let text = procscope_startup::read_private(&dir.join("ca.key"))?;
        let key = KeyPair::from_pem(&text).map_err(|error| unmade(&error))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            issuer: Issuer::new(authority_params(), key),
        })
    }

    fn path(&self, file: &str, kind: &str) -> PathBuf {
        self.dir.join(format!("{file}.{kind}"))
    }

    fn key(&self, file: &str) -> Result<KeyPair> {
        let text = procscope_startup::read_private(&self.path(file, "key"))?;
        KeyPair::from_pem(&text).map_err(|error| unmade(&error))
    }

    fn book(&self) -> Result<Book> {
        let file = self.dir.join(ISSUED);
        match fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::failed(format_args!("could not read {}: {error}", file.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(error) => Err(Failure::failed(format_args!(
                "could not read {}: {error}",
                file.display()
            ))),
        }
    }

    fn client(&self, name: &str, path: &str, days: u64, now_ms: i64) -> Result<()> {
        self.issue(
            Issued {
                file: name.to_owned(),
                uri: Some(format!("{SPIFFE}{DOMAIN}/{path}")),
                names: Vec::new(),
                days,
            },
            now_ms,
        )
    }

    /// Makes a key and a certificate in new files.
    fn issue(&self, issued: Issued, now_ms: i64) -> Result<()> {
        let key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let certificate = self.sign(&issued, &key, now_ms)?;
        write_new(&self.path(&issued.file, "key"), &key.serialize_pem(), 0o600)?;
        write_new(&self.path(&issued.file, "pem"), &certificate.pem(), 0o644)?;
        let mut book = self.book()?;
        book.certificate.push(issued);
        let text = toml::to_string(&book).map_err(|error| unmade(&error))?;
        replace(&self.dir.join(ISSUED), &text)
    }

    fn sign(&self, issued: &Issued, key: &KeyPair, now_ms: i64) -> Result<Certificate> {
        let mut params = CertificateParams::new(issued.names.clone()).map_err(|error| {
            Failure::usage(format_args!(
                "--name is no name of a machine, and no address: {error}"
            ))
        })?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, issued.file.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![match &issued.uri {
            Some(_) => ExtendedKeyUsagePurpose::ClientAuth,
            None => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        if let Some(uri) = &issued.uri {
            let uri = uri.as_str().try_into().map_err(|error| unmade(&error))?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        valid(params, issued.days, now_ms)?
            .signed_by(key, &self.issuer)
            .map_err(|error| unmade(&error))
    }
}

fn unmade(why: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format_args!("could not make a certificate: {why}"))
}

fn unwritten(file: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "nothing is overwritten here: name another folder or name, or use `certs renew`"
        }
        _ => "name a folder that this user may write with --dir",
    };
    Failure::failed(format_args!(
        "could not write {}: {error}; {remedy}",
        file.display()
    ))
}

/// Writes a file that is not there yet.
fn write_new(file: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || {
        let mut options = OpenOptions::new();
        let mut new = options.create_new(true).write(true).mode(mode).open(file)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()
    };
    write().map_err(|error| unwritten(file, &error))
}

/// Replaces a public file as a whole.
fn replace(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_extension("new");
    drop(fs::remove_file(&beside));
    write_new(&beside, text, 0o644)?;
    fs::rename(&beside, file).map_err(|error| unwritten(file, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    use super::*;
    use crate::access::tls::{Files, Tls, certified};

    const DAY_MS: i64 = 86_400_000;

    fn made(dir: &Path) -> i64 {
        let now_ms = crate::clock::now_ms();
        let names = vec!["collector.example".to_owned(), "127.0.0.1".to_owned()];
        init(dir, &names, 30, now_ms).unwrap();
        now_ms
    }

    #[test]
    fn what_is_made_fits_together_and_keys_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("certs");
        let now_ms = made(&folder);
        let agent = Command::Agent {
            dir: folder.clone(),
            name: "node-1".to_owned(),
            agent_id: None,
            days: 30,
        };
        run(&agent, now_ms).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.extension().is_some_and(|kind| kind == "key") {
                assert_eq!(mode, 0o600, "{}", path.display());
            }
        }
        Tls::open(Files {
            cert: folder.join("server.pem"),
            key: folder.join("server.key"),
            client_ca: Some(folder.join("ca.pem")),
        })
        .unwrap();
        let id = fs::read_to_string(folder.join("node-1.agent_id")).unwrap();
        let read = || certified(&CertificateDer::from_pem_file(folder.join("node-1.pem")).unwrap());
        let before = read();
        assert_eq!(before.agent_id.unwrap().to_string(), id.trim());
        assert_eq!(before.host.as_deref(), Some("node-1"));
        let old = fs::read(folder.join("node-1.pem")).unwrap();
        run(&Command::Renew { dir: folder.clone() }, now_ms + DAY_MS).unwrap();
        assert_ne!(fs::read(folder.join("node-1.pem")).unwrap(), old);
        assert_eq!(read(), before);
    }

    #[test]
    fn nothing_is_overwritten_and_odd_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now_ms = made(dir.path());
        let key = fs::read(dir.path().join("ca.key")).unwrap();
        assert_eq!(
            init(dir.path(), &["x".to_owned()], 1, now_ms).unwrap_err().code(),
            1
        );
        assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), key);
        for name in ["", "../x", "a/b", "a b", "ca", "server", ".x"] {
            let reader = Command::Reader {
                dir: dir.path().to_path_buf(),
                name: name.to_owned(),
                admin: false,
                days: 1,
            };
            assert_eq!(run(&reader, now_ms).unwrap_err().code(), 2, "{name:?}");
        }
    }
}

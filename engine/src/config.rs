//! Flags over environment over file, checked once into a `Config` that cannot be wrong.

use std::{net::SocketAddr, path::PathBuf};

use procscope_startup::{Common, Failure, Result, check_listen, read_config, read_secret};

use crate::access::{Access, Account};

/// The release of libchdb that is built and tested against; part of the folder that set-up puts it into.
const LIBRARY_VERSION: &str = "26.7.3-stable.1";
/// The least memory the engine can work with.
const MEMORY_BYTES_MIN: u64 = 256 << 20;
/// The default is half of the machine's memory, and no more than this.
const MEMORY_BYTES_DEFAULT_MAX: u64 = 4 << 30;

/// The ClickHouse HTTP interface over the embedded engine, libchdb
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "procscope-engine", version)]
pub struct Args {
    /// What every binary has.
    #[command(flatten)]
    pub common: Common,
    /// Folder that holds the data; made with mode 0700 where it is missing
    #[arg(long, value_name = "DIR", env = "PROCSCOPE_ENGINE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address to serve on; port 0 takes a free one and writes it to DIR/listen [default: 127.0.0.1:8123]
    #[arg(long, value_name = "ADDRESS", env = "PROCSCOPE_ENGINE_LISTEN")]
    listen: Option<SocketAddr>,
    /// The engine's library [default: where `cargo xtask setup` puts it]
    #[arg(long, value_name = "PATH", env = "PROCSCOPE_LIBCHDB")]
    library: Option<PathBuf>,
    /// User that may do everything [default: procscope]
    #[arg(long, value_name = "NAME", env = "PROCSCOPE_ENGINE_USER")]
    user: Option<String>,
    /// File with the user's password, mode 0600
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_ENGINE_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    /// User that may only read, for dashboards
    #[arg(
        long,
        value_name = "NAME",
        env = "PROCSCOPE_ENGINE_READER",
        requires = "reader_password_file"
    )]
    reader: Option<String>,
    /// File with the reader's password, mode 0600
    #[arg(long, value_name = "FILE", env = "PROCSCOPE_ENGINE_READER_PASSWORD_FILE")]
    reader_password_file: Option<PathBuf>,
    /// Allow addresses and host names beyond loopback, in the clear
    #[arg(long, env = "PROCSCOPE_ENGINE_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure: Option<bool>,
    /// Memory of all queries together, such as 512MiB or 2GiB [default: half of the machine's, at most 4GiB]
    #[arg(long, value_name = "SIZE", env = "PROCSCOPE_ENGINE_MEMORY_LIMIT", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// Stop when the process that started this one ends
    #[arg(long, env = "PROCSCOPE_ENGINE_DIE_WITH_PARENT", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    die_with_parent: Option<bool>,
}

/// The same keys in the file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    library: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    reader: Option<String>,
    reader_password_file: Option<PathBuf>,
    insecure: Option<bool>,
    memory_limit: Option<Size>,
    die_with_parent: Option<bool>,
}

/// A number of bytes, or a text such as `2GiB`.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

/// Everything the engine was told, checked.
#[derive(Debug)]
pub struct Config {
    /// Folder that holds the data.
    pub data_dir: PathBuf,
    /// Address to serve on.
    pub listen: SocketAddr,
    /// The engine's library; it exists.
    pub library: PathBuf,
    /// Who may do what.
    pub access: Access,
    /// Memory of all queries together.
    pub memory_bytes: u64,
    /// Whether to stop with the parent process.
    pub die_with_parent: bool,
}

impl Config {
    /// Puts arguments (flags and environment) over the file they name.
    ///
    /// # Errors
    /// Exit code 2 for what is missing or wrong, 1 where the library is not there.
    pub fn new(args: Args) -> Result<Self> {
        let file: RawConfig = read_config(args.common.config.as_deref())?;
        let data_dir = args.data_dir.or(file.data_dir).ok_or_else(|| {
            Failure::usage("no data folder was named: say where the data is to live with --data-dir DIR")
        })?;
        let listen = args
            .listen
            .or(file.listen)
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8123)));
        let insecure = args.insecure.or(file.insecure).unwrap_or(false);
        check_listen("--listen", listen, insecure, "")?;
        let password_file = args.password_file.or(file.password_file).ok_or_else(|| {
            Failure::usage("no password was named: write one into a file of mode 0600 and name it with --password-file FILE")
        })?;
        let user = args.user.or(file.user).unwrap_or_else(|| "procscope".to_owned());
        let mut accounts = vec![Account {
            user,
            password: read_secret(&password_file)?,
            reader: false,
        }];
        if let Some(user) = args.reader.or(file.reader) {
            let password_file = args
                .reader_password_file
                .or(file.reader_password_file)
                .ok_or_else(|| {
                    Failure::usage("--reader has no password: name its file with --reader-password-file FILE")
                })?;
            if accounts.iter().any(|account| account.user == user) {
                return Err(Failure::usage(
                    "--reader and --user are the same name: give the reader another one",
                ));
            }
            accounts.push(Account {
                user,
                password: read_secret(&password_file)?,
                reader: true,
            });
        }
        let memory_bytes = match (args.memory_limit, file.memory_limit) {
            (Some(bytes), _) | (None, Some(Size::Bytes(bytes))) => bytes,
            (None, Some(Size::Text(text))) => parse_bytes(&text).map_err(Failure::usage)?,
            (None, None) => default_memory_bytes(),
        };
        if memory_bytes < MEMORY_BYTES_MIN {
            return Err(Failure::usage(format_args!(
                "--memory-limit {memory_bytes} is too little for the engine: give it 256MiB or more"
            )));
        }
        Ok(Self {
            data_dir,
            listen,
            library: find_library(args.library.or(file.library))?,
            access: Access::new(accounts, insecure),
            memory_bytes,
            die_with_parent: args.die_with_parent.or(file.die_with_parent).unwrap_or(false),
        })
    }
}

/// The library that was named, or the one that set-up has fetched.
fn find_library(named: Option<PathBuf>) -> Result<PathBuf> {
    let path = named
        .or_else(|| default_library(|name| std::env::var_os(name).map(PathBuf::from)))
        .unwrap_or_default();
    if path.is_file() {
        return std::path::absolute(&path)
            .map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())));
    }
    Err(Failure::failed(format_args!(
        "could not find the engine's library {}: run `cargo xtask setup` or set PROCSCOPE_LIBCHDB to libchdb.so",
        path.display()
    )))
}

/// Where `cargo xtask setup` puts the library.
fn default_library(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME")
        .filter(|cache| cache.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(
        cache
            .join("procscope")
            .join(format!("libchdb-{LIBRARY_VERSION}"))
            .join("libchdb.so"),
    )
}

/// Reads a whole number with one of the units B, KiB, MiB, GiB, or none.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write a whole number and KiB, MiB or GiB, such as 512MiB");
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_bytes = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_error| wrong())?;
    number.checked_mul(unit_bytes).ok_or_else(wrong)
}

fn default_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
    (total / 2).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_DEFAULT_MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use clap::Parser as _;

    use super::*;

    fn check(extra: &[&str], file: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for (name, text) in [("secret", "s3cret"), ("libchdb.so", "x"), ("engine.toml", file)] {
            fs::write(at(name), text).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (secret, library, config) = (at("secret"), at("libchdb.so"), at("engine.toml"));
        let mut args = vec![
            "procscope-engine",
            "--password-file",
            &secret,
            "--library",
            &library,
            "--config",
            &config,
        ];
        args.extend(extra);
        Config::new(Args::try_parse_from(args).unwrap())
    }

    #[test]
    fn flags_win_over_the_file() {
        let config = check(
            &["--data-dir", "/a", "--memory-limit", "1GiB"],
            "data_dir = \"/b\"\nlisten = \"127.0.0.1:1\"\nmemory_limit = 5",
        )
        .unwrap();
        assert_eq!(
            (config.data_dir, config.listen.port(), config.memory_bytes),
            (PathBuf::from("/a"), 1, 1 << 30)
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_exit_code_2() {
        for (extra, file, word) in [
            (&[][..], "", "--data-dir"),
            (&["--data-dir", "/a"], "colour = 1", "colour"),
            (&["--data-dir", "/a", "--listen", "0.0.0.0:1"], "", "--insecure"),
            (&["--data-dir", "/a"], "memory_limit = \"1 parsec\"", "parsec"),
            (&["--data-dir", "/a", "--memory-limit", "1MiB"], "", "256MiB"),
        ] {
            let failure = check(extra, file).unwrap_err();
            assert!(
                failure.code() == 2 && failure.to_string().contains(word),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_missing_library_names_the_remedy() {
        let line = find_library(Some(PathBuf::from("/nonexistent/x.so")))
            .unwrap_err()
            .to_string();
        assert!(
            line.contains("cargo xtask setup") && line.contains("PROCSCOPE_LIBCHDB"),
            "{line}"
        );
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("5", 5),
            ("512MiB", 512 << 20),
            ("2 GiB", 2 << 30),
            ("1KiB", 1024),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "1.5GiB",
            "1GB",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_library_is_where_set_up_puts_it() {
        let path = default_library(|name| (name == "HOME").then(|| PathBuf::from("/home/a"))).unwrap();
        assert_eq!(
            path,
            Path::new("/home/a/.cache/procscope/libchdb-26.7.3-stable.1/libchdb.so")
        );
    }
}

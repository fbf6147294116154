//! The file of tokens: written beside and renamed, one writer at a time, readable by its owner alone.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
    time::Duration,
};

use procscope_startup::{Failure, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PREFIX, SECRET_BYTES, Token, digest};
use crate::{
    access::{Scope, random},
    model::hex,
};

/// Its name in the state folder.
pub const FILE: &str = "tokens.toml";

/// Tokens kept, those included that have expired: one for each agent of the largest fleet, twice.
const TOKENS_MAX: usize = 20_000;

/// Bytes of a file of so many.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A name longer than this is no name.
const NAME_CHARS_MAX: usize = 64;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    #[serde(default)]
    token: Vec<Token>,
}

/// A token that is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Request {
    /// What it is good for
    #[arg(long, value_enum)]
    pub scope: Scope,
    /// What to call it
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub name: String,
    /// The one agent that may show it; its state folder has the id in the file `agent_id`
    #[arg(long, value_name = "UUID")]
    pub agent_id: Option<Uuid>,
    /// The one host that may be spoken of with it
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// How long it is good, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = procscope_startup::parse_duration)]
    pub expires: Option<Duration>,
}

/// Reads all tokens; none where there is no file.
///
/// # Errors
/// Exit code 2 when the file cannot be used.
pub(super) fn read(folder: &Path) -> Result<Vec<Token>> {
    let path = folder.join(FILE);
    let fail = |why: &dyn std::fmt::Display, remedy: &str| {
        Failure::usage(format_args!(
            "could not use the tokens {}: {why}; {remedy}",
            path.display()
        ))
    };
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(&error, "let this user read it")),
    };
    if metadata.mode() & 0o007 != 0 {
        return Err(fail(&"everybody on this machine may open it", "chmod 0600 it"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(
            &"it is longer than 16 MiB",
            "revoke tokens that nobody uses",
        ));
    }
    let text = fs::read_to_string(&path).map_err(|error| fail(&error, "let this user read it"))?;
    let kept: Kept = toml::from_str(&text)
        .map_err(|error| fail(&error.message(), "mend it, or put the last good one back"))?;
    Ok(kept.token)
}

/// Makes a token; its text is told this once and kept nowhere.
///
/// # Errors
/// Exit code 2 for what cannot be asked for, 1 when the file cannot be written.
pub fn create(folder: &Path, request: &Request, now_ms: i64) -> Result<String> {
    for (option, text) in [("--name", Some(&request.name)), ("--host", request.host.as_ref())] {
        let good =
            |text: &String| text.chars().count() <= NAME_CHARS_MAX * 4 && !text.contains(char::is_control);
        if text.is_some_and(|text| !good(text)) {
            return Err(Failure::usage(format_args!("{option} is too long, or no text")));
        }
    }
    if request.scope != Scope::Ingest && (request.agent_id.is_some() || request.host.is_some()) {
        return Err(Failure::usage(
            "--agent-id and --host belong to tokens with --scope ingest",
        ));
    }
    let made = |error| Failure::failed(format_args!("could not make a token: {error}"));
    let id = hex(&random::<8>().map_err(made)?);
    let text = format!("{PREFIX}{id}_{}", hex(&random::<SECRET_BYTES>().map_err(made)?));
    let now = now_ms.div_euclid(1_000);
    let lasts = request
        .expires
        .map(|lasts| i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
    let token = Token {
        id,
        scope: request.scope,
        name: request.name.clone(),
        agent_id: request.agent_id,
        host: request.host.clone(),
        created: now,
        expires: lasts.map(|lasts| now.saturating_add(lasts)),
        digest: digest(&text),
    };
    change(folder, |tokens| {
        if tokens.len() >= TOKENS_MAX {
            return Err(Failure::failed(format_args!(
                "{TOKENS_MAX} tokens are kept, which is the most: revoke those that nobody uses"
            )));
        }
        tokens.push(token);
        Ok(())
    })?;
    Ok(text)
}

/// All tokens, oldest first.
///
/// # Errors
/// Exit code 2 when the file cannot be used.
pub fn list(folder: &Path) -> Result<Vec<Token>> {
    read(folder)
}

/// Takes a token back, by its number or by all of its text.
///
/// # Errors
/// Exit code 1 when there is none, or the file cannot be written.
pub fn revoke(folder: &Path, which: &str) -> Result<()> {
    let id = which
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('_').next())
        .unwrap_or(which);
    change(folder, |tokens| {
        let before = tokens.len();
        tokens.retain(|token| token.id != id);
        if tokens.len() == before {
            return Err(Failure::failed(
                "no token has this number: `procscope-collector tokens list` shows them",
            ));
        }
        Ok(())
    })
}

/// Changes the file, one writer at a time.
fn change(folder: &Path, change: impl FnOnce(&mut Vec<Token>) -> Result<()>) -> Result<()> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format_args!(
            "could not write the tokens in {}: {error}; name the collector's folder with --state-dir and run this as \
             its user, or as root",
            folder.display()
        ))
    };
    let io = |error: io::Error| fail(&error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io)?;
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        // It is given away below: no link that somebody has put there.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options.open(folder.join(name))
    };
    let lock = open("tokens.lock").map_err(io)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(&error))?;
    let mut tokens = read(folder)?;
    change(&mut tokens)?;
    let text = toml::to_string(&Kept { token: tokens }).map_err(|error| fail(&error))?;
    let beside = folder.join(format!("{FILE}.new"));
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&beside)?;
        // Made by root for a collector that is somebody else: the folder says who.
        let owner = fs::metadata(folder)?;
        if file.metadata()?.uid() != owner.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            fchown(&lock, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, folder.join(FILE))?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(io)
}

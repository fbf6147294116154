//! The running engine: how it is started and stopped, and how connections are made ready for a request.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    chdb::{Chdb, Connection},
    exception::{Code, Exception},
    folder::Folder,
    kept,
    policy::{Policy, refused_setting},
    settings::reaches_outside,
};

/// Sent with every connection: what differs from the defaults of the embedded engine and of its kind of server.
const SESSION_ARGUMENTS: &[&str] = &[
    // `1` alone is no statement.
    "--implicit_select=0",
    // An acknowledged insert is in a part, and its deduplication token counts.
    "--async_insert=0",
    // Addresses and symbols of this process are nobody's business.
    "--allow_introspection_functions=0",
];

/// Told to the engine once, when it starts: caches and pools for a small machine. The defaults reserve up to 5 GiB
/// for each of several caches.
const SERVER_ARGUMENTS: &[&str] = &[
    "--mark_cache_size=67108864",
    "--primary_index_cache_size=67108864",
    "--index_mark_cache_size=16777216",
    "--vector_similarity_index_cache_size=1048576",
    "--text_index_tokens_cache_size=1048576",
    "--text_index_header_cache_size=1048576",
    "--text_index_postings_cache_size=1048576",
    "--parquet_metadata_cache_size=1048576",
    "--iceberg_metadata_files_cache_size=1048576",
    "--compiled_expression_cache_size=33554432",
    "--query_condition_cache_size=16777216",
    "--background_schedule_pool_size=4",
];

/// Named, so that the engine reads no `config.xml` of the current folder, of the home folder, or of `/etc`.
const EMPTY_CONFIGURATION: &str = "<clickhouse/>\n";

/// Of the engine's memory, the share that one query may take, in percent: what is left is for inserts and merges.
const QUERY_MEMORY_PERCENT: u64 = 75;
/// Threads for merges at most; two is the least that the engine runs with.
const MERGE_THREADS_MAX: usize = 16;

/// The engine of this process.
#[derive(Debug)]
pub struct Engine {
    chdb: &'static Chdb,
    /// What every connection is opened with.
    arguments: Vec<String>,
    /// Open as long as the engine runs: closing the last connection stops it. Kills queries.
    control: Mutex<Option<Connection>>,
    facts: Facts,
    policy: Policy,
    uploads: PathBuf,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The version of ClickHouse in it.
    pub version: String,
    /// Its time zone.
    pub timezone: String,
    /// Its display name.
    pub display_name: String,
}

impl Engine {
    /// Starts the engine on `folder` with at most `memory_bytes` of memory for all queries together.
    ///
    /// # Errors
    /// When the folder cannot be opened; the engine's own words are on stderr then.
    pub fn start(chdb: &'static Chdb, folder: &Folder, memory_bytes: u64) -> Result<Self, Exception> {
        let path = format!("--path={}", folder.engine().display());
        let configuration = folder.engine().join("empty.xml");
        fs::write(&configuration, EMPTY_CONFIGURATION).map_err(|error| {
            Exception::new(
                Code::LOGICAL_ERROR,
                format_args!("could not write {}: {error}", configuration.display()),
            )
        })?;
        let uploads = kept::empty_folder(&folder.engine()).map_err(|error| {
            Exception::new(
                Code::LOGICAL_ERROR,
                format_args!("could not make a folder for uploads: {error}"),
            )
        })?;
        let query_memory = memory_bytes / 100 * QUERY_MEMORY_PERCENT;
        let mut session = vec![
            "procscope-engine".to_owned(),
            path,
            format!("--max_memory_usage={query_memory}"),
        ];
        session.extend(SESSION_ARGUMENTS.iter().map(|argument| (*argument).to_owned()));
        let merge_threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .clamp(2, MERGE_THREADS_MAX);
        let mut arguments = marked_arguments(&session, "procscope:control");
        arguments.push(format!("--background_pool_size={merge_threads}"));
        arguments.extend(SERVER_ARGUMENTS.iter().map(|argument| (*argument).to_owned()));
        arguments.push(format!("--max_server_memory_usage={memory_bytes}"));
        arguments.push(format!("--config-file={}", configuration.display()));
        arguments.push(format!("--backups.allowed_path={}", folder.backups().display()));
        arguments.push(format!(
            "--user_scripts_path={}",
            folder.engine().join("user_scripts").display()
        ));
        let mut control = chdb.connect(&arguments).ok_or_else(|| {
            Exception::new(
                Code::LOGICAL_ERROR,
                "the engine did not start; its reason is above",
            )
        })?;
        let facts = Facts::ask(&mut control)?;
        let functions = rows(&mut control, "SELECT name FROM system.table_functions")?;
        Ok(Self {
            chdb,
            arguments: session,
            control: Mutex::new(Some(control)),
            facts,
            policy: Policy::new(&functions),
            uploads,
        })
    }

    /// Where data waits that a SELECT reads.
    #[must_use]
    pub fn uploads(&self) -> &Path {
        &self.uploads
    }

    /// What the engine says of itself.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What is refused here.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A fresh connection whose queries carry `mark`, by which they can be killed.
    ///
    /// # Errors
    /// When the engine is stopping.
    pub fn connect(&self, mark: &str) -> Result<Connection, Exception> {
        self.chdb
            .connect(&marked_arguments(&self.arguments, mark))
            .ok_or_else(|| Exception::new(Code::QUERY_WAS_CANCELLED, "The engine is stopping"))
    }

    /// Kills what runs under `mark`; answers with the engine's own query ids of what it found.
    pub fn kill(&self, mark: &str) -> Vec<String> {
        let ids = self.query_ids(mark);
        if !ids.is_empty()
            && let Some(control) = self.control().as_mut()
        {
            let statement = format!("KILL QUERY WHERE {} ASYNC", marked(mark));
            if let Err(error) = control.query(statement.as_bytes(), "Null", &[]) {
                tracing::warn!(%error, "could not kill a query");
            }
        }
        ids
    }

    /// The engine's own query ids of what runs under `mark`.
    pub fn query_ids(&self, mark: &str) -> Vec<String> {
        let mut control = self.control();
        let Some(control) = control.as_mut() else {
            return Vec::new();
        };
        rows(
            control,
            &format!("SELECT query_id FROM system.processes WHERE {}", marked(mark)),
        )
        .unwrap_or_default()
    }

    /// Closes the control connection; the engine stops when it was the last one.
    pub fn close(&self) {
        drop(self.control().take());
    }

    fn control(&self) -> MutexGuard<'_, Option<Connection>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn ask(connection: &mut Connection) -> Result<Self, Exception> {
        let mut rows = rows(
            connection,
            "SELECT arrayJoin([version(), timezone(), displayName()])",
        )?
        .into_iter();
        let mut next = || rows.next().unwrap_or_default();
        Ok(Self {
            version: next(),
            timezone: next(),
            display_name: next(),
        })
    }
}

fn marked_arguments(session: &[String], mark: &str) -> Vec<String> {
    let mut arguments = session.to_vec();
    arguments.push(format!("--log_comment={mark}"));
    arguments
}

/// A mark is made of letters, digits, `:` and `-`: nothing in it ends a literal.
fn marked(mark: &str) -> String {
    format!("startsWith(Settings['log_comment'], '{mark}')")
}

fn rows(connection: &mut Connection, statement: &str) -> Result<Vec<String>, Exception> {
    let answer = connection.query(statement.as_bytes(), "TSVRaw", &[])?;
    Ok(String::from_utf8_lossy(answer.bytes())
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Sets settings on a connection; `readonly` goes last, for nothing can be set after it.
///
/// # Errors
/// `UNKNOWN_SETTING`, or what the engine says of a value.
pub fn apply_settings(connection: &mut Connection, settings: &[(String, String)]) -> Result<(), Exception> {
    if settings.is_empty() {
        return Ok(());
    }
    let mut clauses = Vec::with_capacity(settings.len());
    let (last, first): (Vec<_>, Vec<_>) = settings.iter().partition(|(name, _)| name == "readonly");
    for (name, value) in first.into_iter().chain(last) {
        let known = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !known {
            return Err(Exception::new(
                Code::UNKNOWN_SETTING,
                format_args!("Unknown setting '{name}'"),
            ));
        }
        if reaches_outside(name) {
            return Err(refused_setting(name));
        }
        clauses.push(format!("{name} = {}", literal(value)));
    }
    connection
        .query(format!("SET {}", clauses.join(", ")).as_bytes(), "Null", &[])
        .map(drop)
}

/// Makes `database` the current one of a connection.
///
/// # Errors
/// When there is none of that name.
pub fn use_database(connection: &mut Connection, database: &str) -> Result<(), Exception> {
    let name = database.replace('\\', "\\\\").replace('`', "\\`");
    connection
        .query(format!("USE `{name}`").as_bytes(), "Null", &[])
        .map(drop)
}

/// A string literal.
pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_literal() {
        assert_eq!(literal("a'; DROP TABLE t --\\"), "'a\\'; DROP TABLE t --\\\\'");
    }
}

//! The store: ClickHouse over HTTP, embedded or a server of your own. This folder is the one place that knows it.

/// A question of several parts, some of which it shares with another.
macro_rules! parts {
    ($($file:literal),+) => {
        concat!($(include_str!(concat!("../../queries/", $file))),+)
    };
}

pub mod answers;
pub mod cut;
pub mod figures;
pub mod group_figures;
pub mod insert;
pub mod leases;
pub mod migrate;
mod native;
pub mod parts;
mod pieces;
pub mod queries;
pub mod retention;
pub mod rollups;
mod rows;
pub mod tops;

use std::{sync::Arc, time::Duration};

use clickhouse::{Client, Compression};

pub use rows::Table;

use crate::config::StoreConfig;

/// How long an insert may take before it is tried again with the same bytes and the same token.
const INSERT_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a question may take in the store.
const QUERY_SECONDS_MAX: &str = "10";

/// Memory a question may use in the store: 1 GiB.
const QUERY_MEMORY_BYTES_MAX: &str = "1073741824";

/// Memory from which on a question groups and sorts on the disk of the store: half of that.
const QUERY_MEMORY_BYTES_SPILL: &str = "536870912";

/// What a question may put there: 4 GiB.
const QUERY_DISK_BYTES_MAX: &str = "4294967296";

/// Rows an answer may have: exits page by 100,000, histories end at 11,000 points.
const RESULT_ROWS_MAX: &str = "200000";

/// Characters kept of a refusal: an exception of ClickHouse has some hundred.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// What goes wrong between us and the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No answer, or none in time.
    #[error("the store did not answer `{what}`")]
    Unavailable {
        /// What was tried.
        what: &'static str,
        /// Why there was no answer.
        #[source]
        source: clickhouse::error::Error,
    },
    /// An exception of ClickHouse.
    #[error("the store refused `{what}`: {message}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// ClickHouse's number of the exception; `None` when the answer carried none.
        code: Option<u32>,
        /// The exception as the store words it.
        message: String,
    },
    /// The store answered with something else than was asked for.
    #[error("the answer to `{what}` could not be read")]
    Unreadable {
        /// What was tried.
        what: &'static str,
        /// What was wrong with it.
        #[source]
        source: clickhouse::error::Error,
    },
    /// The tables are not those that this collector writes.
    #[error("{fact}")]
    Schema {
        /// What is so.
        fact: String,
        /// What to do.
        remedy: String,
    },
}

/// Exceptions that may pass without a change of the data: the store is busy, full, read-only or closing, or its
/// tables or rights are being worked on.
const CODES_TRANSIENT: [u32; 28] = [
    3,   // UNEXPECTED_END_OF_FILE: the connection was cut
    16,  // NO_SUCH_COLUMN_IN_TABLE: somebody altered the table
    24,  // CANNOT_WRITE_TO_OSTREAM
    60,  // UNKNOWN_TABLE
    74,  // CANNOT_READ_FROM_FILE_DESCRIPTOR
    75,  // CANNOT_WRITE_TO_FILE_DESCRIPTOR
    76,  // CANNOT_OPEN_FILE
    81,  // UNKNOWN_DATABASE
    159, // TIMEOUT_EXCEEDED
    160, // TOO_SLOW
    164, // READONLY
    192, // UNKNOWN_USER
    193, // WRONG_PASSWORD
    202, // TOO_MANY_SIMULTANEOUS_QUERIES
    209, // SOCKET_TIMEOUT
    210, // NETWORK_ERROR
    236, // ABORTED
    241, // MEMORY_LIMIT_EXCEEDED
    242, // TABLE_IS_READ_ONLY
    243, // NOT_ENOUGH_SPACE
    252, // TOO_MANY_PARTS
    285, // TOO_FEW_LIVE_REPLICAS
    319, // UNKNOWN_STATUS_OF_INSERT
    373, // SESSION_IS_LOCKED
    394, // QUERY_WAS_CANCELLED
    497, // ACCESS_DENIED
    516, // AUTHENTICATION_FAILED
    999, // KEEPER_EXCEPTION
];

impl StoreError {
    /// Sorts an error of the client.
    fn new(what: &'static str, error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::BadResponse(message) => Self::Refused {
                what,
                code: exception_code(&message),
                message: one_line(&message),
            },
            Error::Network(_) | Error::TimedOut | Error::Decompression(_) => {
                Self::Unavailable { what, source: error }
            }
            source => Self::Unreadable { what, source },
        }
    }

    /// Whether the same thing may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            // An answer without a number came from something before the store, such as a proxy.
            Self::Refused { code, .. } => code.is_none_or(|code| CODES_TRANSIENT.contains(&code)),
            Self::Unreadable { .. } | Self::Schema { .. } => false,
        }
    }

    /// ClickHouse's number of the exception.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::Schema { remedy, .. } => remedy,
            Self::Unavailable { .. } => {
                "start procscope-engine or your ClickHouse server, or name another with --store-url"
            }
            // UNKNOWN_USER, WRONG_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED
            Self::Refused {
                code: Some(192 | 193 | 497 | 516),
                ..
            } => "name a user who may write there with --store-user and --store-password-file",
            Self::Refused { .. } | Self::Unreadable { .. } => {
                "see the log of the store, and make sure that --store-url is a ClickHouse server's HTTP port"
            }
        }
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line
    }
}

/// The number in `Code: 241. DB::Exception: …`.
fn exception_code(message: &str) -> Option<u32> {
    let (_, rest) = message.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The first words of what the store, or something before it, answered. A page of a proxy has many lines.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The tables that hold a snapshot already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoredIn {
    tables: [bool; Table::ALL.len()],
    set_aside: bool,
}

impl StoredIn {
    /// Marks a table.
    pub fn insert(&mut self, table: Table) {
        for (at, known) in Table::ALL.iter().enumerate() {
            self.tables[at] |= *known == table;
        }
    }

    /// Marks it as set aside: refused for good and kept elsewhere.
    pub fn set_aside(&mut self) {
        self.set_aside = true;
    }

    /// Whether it was set aside.
    #[must_use]
    pub fn is_set_aside(self) -> bool {
        self.set_aside
    }

    /// Whether the table has it.
    #[must_use]
    pub fn contains(self, table: Table) -> bool {
        Table::ALL
            .iter()
            .zip(self.tables)
            .any(|(known, stored)| *known == table && stored)
    }

    /// Whether nothing is left to write. The last table is written when all others are.
    #[must_use]
    pub fn is_complete(self) -> bool {
        self.set_aside || self.contains(Table::HostSamples)
    }
}

/// A connection to the store, of one start of one collector. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// For everything inside of our database.
    client: Client,
    /// For what comes before the database exists.
    server: Client,
    database: String,
    identity: Arc<leases::Identity>,
    roll_call: Arc<parts::RollCall>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("database", &self.database)
            .field("instance", &self.identity.instance)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Prepares a connection; nothing is sent.
    #[must_use]
    pub fn new(config: &StoreConfig) -> Self {
        // Compressing pays on a network and costs on loopback.
        let compression = if config.is_local() {
            Compression::None
        } else {
            Compression::Lz4
        };
        let mut server = Client::default()
            .with_url(&config.url)
            .with_user(&config.user)
            .with_compression(compression)
            .with_product_info("procscope-collector", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &config.password {
            server = server.with_password(password.reveal());
        }
        let client = server.clone().with_database(&config.database);
        Self {
            client,
            server,
            database: config.database.clone(),
            identity: Arc::new(leases::Identity::new()),
            roll_call: Arc::default(),
        }
    }

    /// The version of the store: the cheapest question that proves that it answers us.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn version(&self) -> Result<String, StoreError> {
        let what = "SELECT version()";
        self.server
            .query_raw(what)
            .fetch_one::<String>()
            .await
            .map_err(|error| StoreError::new(what, error))
    }

    /// A question with the limits that every question has.
    fn question(&self, sql: &str) -> clickhouse::query::Query {
        self.client
            .query_raw(sql)
            .with_setting("max_execution_time", QUERY_SECONDS_MAX)
            .with_setting("max_memory_usage", QUERY_MEMORY_BYTES_MAX)
            .with_setting("max_bytes_before_external_group_by", QUERY_MEMORY_BYTES_SPILL)
            .with_setting("max_bytes_before_external_sort", QUERY_MEMORY_BYTES_SPILL)
            .with_setting("max_temporary_data_on_disk_size_for_query", QUERY_DISK_BYTES_MAX)
            .with_setting("max_result_rows", RESULT_ROWS_MAX)
            .with_setting("result_overflow_mode", "throw")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, code: Option<u32>, transient: bool) {
        let error = StoreError::new("x", clickhouse::error::Error::BadResponse(message.to_owned()));
        assert_eq!(
            (error.code(), error.is_transient()),
            (code, transient),
            "{message}"
        );
    }

    #[test]
    fn an_exception_says_whether_to_try_again() {
        check("Code: 241. DB::Exception: Memory limit exceeded", Some(241), true);
        check("Code: 252. DB::Exception: Too many parts", Some(252), true);
        check(
            "Code: 469. DB::Exception: Constraint is violated",
            Some(469),
            false,
        );
        check("Code: 53. DB::Exception: Type mismatch", Some(53), false);
        check("502 Bad Gateway", None, true);
    }

    #[test]
    fn an_error_is_one_line_with_what_to_do() {
        let page = format!(
            "<html>\n<title>502\r\n Bad Gateway</title>{}",
            "\n<br>".repeat(9_999)
        );
        for (error, said, remedy) in [
            (
                clickhouse::error::Error::BadResponse(page),
                "502 Bad Gateway",
                "--store-url",
            ),
            (
                clickhouse::error::Error::BadResponse("Code: 516. DB::Exception: wrong\npassword".to_owned()),
                "wrong password",
                "--store-password-file",
            ),
            (
                clickhouse::error::Error::TimedOut,
                "timeout expired",
                "start procscope-engine",
            ),
        ] {
            let error = StoreError::new("x", error);
            let line = error.chain();
            assert!(
                line.contains(said) && line.lines().count() == 1 && line.len() < 1_100,
                "{line}"
            );
            assert!(
                error.remedy().contains(remedy) && !line.contains("--store"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_snapshot_is_complete_with_the_last_table() {
        let mut stored = StoredIn::default();
        for table in Table::ALL {
            assert!(!stored.is_complete());
            stored.insert(table);
            assert!(stored.contains(table));
        }
        assert!(stored.is_complete());
    }
}

//! Which statements are refused whatever the user: those that leave the data folder or stop the engine. Pure.
//! The sandbox stands behind this list; together they replace the users and grants that the engine does not have.

use crate::{
    exception::{Code, Exception},
    lexer::{Kind, Lexer, Token},
    settings::reaching,
    tables::table_by_path,
};

/// What a statement does to what outlives it, as the engine's own parser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Leaves no trace.
    ReadOnly,
    /// Changes a database.
    Mutating,
    /// Changes something beside the databases: functions, users, named collections.
    MutatingGlobal,
    /// Session, SYSTEM, BACKUP, KILL, and writing outside the engine.
    Control,
    /// Did not parse.
    Unknown,
}

/// Table functions that stay inside the engine. All others (files, other servers, programs) are refused.
const SAFE_TABLE_FUNCTIONS: &[&str] = &[
    "format",
    "fuzzjson",
    "fuzzquery",
    "generaterandom",
    "generate_series",
    "generateseries",
    "dictionary",
    "input",
    "loop",
    "merge",
    "mergetreeanalyzeindexes",
    "mergetreeanalyzeindexesuuid",
    "mergetreeindex",
    "mergetreeprojection",
    "mergetreetextindex",
    "null",
    "numbers",
    "numbers_mt",
    "one",
    "primes",
    "sqlstandardvalues",
    "timeseriesdata",
    "timeseriesmetrics",
    "timeseriessamples",
    "timeseriesselector",
    "timeseriestags",
    "values",
    "view",
    "viewexplain",
    "viewifpermitted",
    "zeros",
    "zeros_mt",
];

/// Table engines that stay inside the data folder, besides every `…MergeTree`.
const SAFE_ENGINES: &[&str] = &[
    "alias",
    "atomic",
    "buffer",
    "dictionary",
    "generaterandom",
    "join",
    "log",
    "materializedview",
    "memory",
    "merge",
    "null",
    "set",
    "stripelog",
    "timeseries",
    "tinylog",
    "view",
    "windowview",
];

/// Sources of dictionaries that stay inside the engine.
const SAFE_SOURCES: &[&str] = &["clickhouse", "null"];

/// SYSTEM statements that neither stop the engine nor reach outside; the words that follow SYSTEM.
const SAFE_SYSTEM: &[&[&str]] = &[
    &["JEMALLOC"],
    &["FLUSH"],
    &["SYNC"],
    &["REFRESH"],
    &["WAIT"],
    &["CLEAR"],
    &["UNLOAD", "PRIMARY"],
    &["LOAD", "PRIMARY"],
    &["PREWARM"],
    &["DROP"],
    &["STOP", "MERGES"],
    &["START", "MERGES"],
    &["STOP", "TTL"],
    &["START", "TTL"],
    &["STOP", "VIEW"],
    &["START", "VIEW"],
    &["STOP", "VIEWS"],
    &["START", "VIEWS"],
    &["RELOAD", "DICTIONARY"],
    &["RELOAD", "DICTIONARIES"],
];

/// What this engine offers that a policy has to know.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    refused_functions: Vec<String>,
}

impl Policy {
    /// `table_functions`: the names of every table function of this engine.
    #[must_use]
    pub fn new(table_functions: &[String]) -> Self {
        let mut refused: Vec<_> = table_functions
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .filter(|name| !SAFE_TABLE_FUNCTIONS.contains(&name.as_str()))
            .collect();
        // `disk(…)` in the settings of a table is a disk of one's own: any path, any bucket.
        refused.extend(["python", "catboostevaluate", "disk"].map(str::to_owned));
        refused.sort_unstable();
        Self {
            refused_functions: refused,
        }
    }

    /// Refuses a statement that leaves the engine or stops it.
    ///
    /// # Errors
    /// `ACCESS_DENIED`, naming what was refused.
    pub fn check(&self, text: &[u8], class: Class) -> Result<(), Exception> {
        let tokens: Vec<_> = Lexer::new(text).collect();
        // A backup's place looks like a function; `check_class` looks at it.
        let backup = class == Class::Control
            && tokens
                .first()
                .is_some_and(|first| first.is_word(text, "BACKUP") || first.is_word(text, "RESTORE"));
        if let Some(name) = self.refused_function(text, &tokens).filter(|_| !backup) {
            return Err(refused(format_args!(
                "the function `{name}` reaches outside this engine"
            )));
        }
        if let Some(name) = refused_engine(text, &tokens) {
            return Err(refused(format_args!(
                "the engine `{name}` reaches outside this engine"
            )));
        }
        if let Some(name) = refused_source(text, &tokens) {
            return Err(refused(format_args!(
                "the dictionary source `{name}` reaches outside this engine"
            )));
        }
        if let Some(name) = reaching(text, &tokens) {
            return Err(refused_setting(&name));
        }
        if let Some(path) = table_by_path(text, &tokens) {
            return Err(refused(format_args!("`{path}` is a path and no table")));
        }
        check_class(text, &tokens, class)
    }

    fn refused_function(&self, text: &[u8], tokens: &[Token]) -> Option<String> {
        tokens.windows(2).find_map(|pair| {
            let [name, open] = pair else { return None };
            let called = matches!(name.kind, Kind::Word | Kind::QuotedName) && open.is_symbol(b'(');
            let name = called.then(|| lower(name, text))?;
            // With an escape in it, it may be any.
            (name.contains('\\') || self.refused_functions.binary_search(&name).is_ok()).then_some(name)
        })
    }
}

fn refused(why: impl std::fmt::Display) -> Exception {
    Exception::new(
        Code::ACCESS_DENIED,
        format_args!("Refused by procscope-engine: {why}"),
    )
}

/// What is said of a setting that names a file or an address, in a statement or in the URL.
pub(crate) fn refused_setting(name: &str) -> Exception {
    refused(format_args!("the setting `{name}` reaches outside this engine"))
}

fn lower(token: &Token, text: &[u8]) -> String {
    String::from_utf8_lossy(token.content(text)).to_ascii_lowercase()
}

/// `ENGINE = X` or `ENGINE X` with an X that is not known to stay inside. `MergeTree` families all do.
fn refused_engine(text: &[u8], tokens: &[Token]) -> Option<String> {
    let creates = tokens.iter().any(|token| {
        ["CREATE", "REPLACE", "ATTACH"]
            .iter()
            .any(|word| token.is_word(text, word))
    });
    if !creates {
        return None;
    }
    tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.is_word(text, "ENGINE"))
        .find_map(|(at, _)| {
            let mut after = tokens.iter().skip(at + 1);
            let name = match after.next()? {
                equals if equals.is_symbol(b'=') => after.next()?,
                // A column that is called `engine` has no `=`; an engine without one is not written by anybody.
                _ => return None,
            };
            let name = lower(name, text);
            (!name.ends_with("mergetree") && !SAFE_ENGINES.contains(&name.as_str())).then_some(name)
        })
}

/// `SOURCE(X(…))` of a dictionary.
fn refused_source(text: &[u8], tokens: &[Token]) -> Option<String> {
    tokens.windows(3).find_map(|three| {
        let [source, open, kind] = three else { return None };
        let source = source.is_word(text, "SOURCE") && open.is_symbol(b'(') && kind.kind == Kind::Word;
        let name = source.then(|| lower(kind, text))?;
        let remote = tokens.iter().any(|token| token.is_word(text, "HOST"));
        (!SAFE_SOURCES.contains(&name.as_str()) || remote).then_some(name)
    })
}

fn check_class(text: &[u8], tokens: &[Token], class: Class) -> Result<(), Exception> {
    let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(text, word));
    let has = |word: &str| tokens.iter().any(|token| token.is_word(text, word));
    match class {
        Class::ReadOnly | Class::Mutating | Class::Unknown => Ok(()),
        Class::MutatingGlobal if has("FUNCTION") => Ok(()),
        Class::MutatingGlobal => Err(refused(
            "users, grants, named collections and workloads do not exist here",
        )),
        Class::Control if word(0, "USE") || word(0, "SET") || word(0, "KILL") => Ok(()),
        Class::Control if (word(0, "CREATE") || word(0, "DROP")) && has("TEMPORARY") => Ok(()),
        // With SETTINGS behind them, these two count as control.
        Class::Control if word(0, "DELETE") || (word(0, "ALTER") && !moves_parts(text, tokens)) => Ok(()),
        Class::Control if word(0, "BACKUP") || word(0, "RESTORE") => {
            let place = tokens.windows(3).rev().find(|three| {
                matches!(three, [to, _, open] if (to.is_word(text, "TO") || to.is_word(text, "FROM")) && open.is_symbol(b'('))
            });
            let file = place.is_some_and(|three| three.get(1).is_some_and(|name| name.is_word(text, "File")));
            if file && !has("base_backup") {
                Ok(())
            } else {
                Err(refused(
                    "backups go to and come from File('NAME') in the folder `backups` of the data folder",
                ))
            }
        }
        Class::Control if word(0, "SYSTEM") => {
            let safe = SAFE_SYSTEM
                .iter()
                .any(|words| words.iter().enumerate().all(|(at, name)| word(at + 1, name)));
            let replicas = word(1, "DROP") && (has("REPLICA") || has("DATABASE"));
            if safe && !replicas {
                Ok(())
            } else {
                Err(refused(
                    "this SYSTEM statement could stop the engine or reach outside it",
                ))
            }
        }
        Class::Control => Err(refused("this statement controls the engine or writes outside it")),
    }
}

/// ALTER statements that copy parts from or to places beside the table.
fn moves_parts(text: &[u8], tokens: &[Token]) -> bool {
    tokens.windows(2).any(|pair| {
        let [first, second] = pair else { return false };
        let word = |token: &Token, words: &[&str]| words.iter().any(|word| token.is_word(text, word));
        word(first, &["FREEZE", "UNFREEZE", "EXPORT"])
            || word(second, &["FREEZE", "UNFREEZE"])
            || (word(first, &["FETCH"]) && word(second, &["PARTITION", "PART"]))
            || (word(first, &["TO"]) && word(second, &["DISK", "VOLUME", "SHARD"]))
    })
}

/// Whether anything but a comment stands behind a semicolon.
#[must_use]
pub fn has_second_statement(text: &[u8]) -> bool {
    Lexer::new(text)
        .skip_while(|token| !token.is_symbol(b';'))
        .any(|token| !token.is_symbol(b';'))
}

/// An INSERT behind EXPLAIN or WITH that takes data: the engine would look for the data in the text.
#[must_use]
pub fn hides_an_insert(text: &[u8]) -> bool {
    let mut rest = Lexer::new(text).skip_while(|token| !token.is_word(text, "INSERT"));
    let reads = |token: Token| token.is_word(text, "SELECT") || token.is_word(text, "WITH");
    let first = Lexer::new(text)
        .next()
        .is_some_and(|first| first.is_word(text, "EXPLAIN") || first.is_word(text, "WITH"));
    first && rest.next().is_some() && !rest.any(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, class: Class) -> Result<(), Exception> {
        let functions = [
            "file",
            "url",
            "s3",
            "remote",
            "executable",
            "numbers",
            "view",
            "merge",
        ]
        .map(str::to_owned);
        Policy::new(&functions).check(text.as_bytes(), class)
    }

    #[test]
    fn what_stays_inside_is_allowed() {
        for text in [
            "SELECT * FROM numbers(10)",
            "SELECT 'file(x)', `url` FROM t -- url('http://x')",
            "CREATE TABLE t (a Int8, engine String) ENGINE = ReplacingMergeTree(v) ORDER BY a",
            "CREATE VIEW v AS SELECT 1",
            "SELECT engine FROM system.tables",
            "SELECT a AS `CPU/s` FROM d.t",
            "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT()) LIFETIME(1)",
        ] {
            assert_eq!(check(text, Class::ReadOnly), Ok(()), "{text}");
        }
        for text in [
            "SYSTEM JEMALLOC PURGE",
            "SYSTEM DROP MARK CACHE",
            "BACKUP DATABASE d TO File('x')",
            "KILL QUERY WHERE 1",
            "USE d",
            "CREATE TEMPORARY TABLE t (a Int8)",
            "ALTER TABLE t UPDATE disk = 1 WHERE 1 SETTINGS mutations_sync = 2",
            "DELETE FROM t WHERE 1 SETTINGS mutations_sync = 2",
        ] {
            assert_eq!(check(text, Class::Control), Ok(()), "{text}");
        }
        assert_eq!(
            check("CREATE FUNCTION f AS x -> x", Class::MutatingGlobal),
            Ok(())
        );
    }

    #[test]
    fn what_reaches_outside_is_refused() {
        for text in [
            "SELECT * FROM file('/etc/passwd')",
            "SELECT * FROM /* x */ FILE ('/etc/passwd')",
            "SELECT * FROM `url`('http://x')",
            "SELECT * FROM `u\\x72l`('http://x')",
            "SELECT 1 FORMAT Template SETTINGS format_template_row = '/etc/passwd'",
            "CREATE TABLE t (a Int8) ENGINE = URL('http://x')",
            "CREATE TABLE t (a Int8) ENGINE=File(CSV)",
            "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id'))",
            "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(HOST 'x' TABLE 't'))",
            "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '/')",
            "SELECT * FROM '/etc/passwd'",
        ] {
            assert!(check(text, Class::ReadOnly).is_err(), "{text}");
        }
    }

    #[test]
    fn what_controls_the_engine_is_refused() {
        for text in [
            "SYSTEM SHUTDOWN",
            "SYSTEM KILL",
            "ATTACH TABLE t FROM 'x'",
            "BACKUP TABLE t TO S3('x')",
            "SELECT 1 INTO OUTFILE 'x'",
            "SYSTEM DROP REPLICA 'x'",
            "ALTER TABLE t FREEZE",
            "ALTER TABLE t FETCH PARTITION 1 FROM '/x'",
            "ALTER TABLE t MOVE PARTITION 1 TO DISK 'x'",
            "INSERT INTO FUNCTION null('a Int8') SELECT 1",
        ] {
            assert!(check(text, Class::Control).is_err(), "{text}");
        }
        assert!(check("CREATE USER u", Class::MutatingGlobal).is_err());
    }

    #[test]
    fn a_second_statement_is_seen_behind_comments_and_quotes() {
        for (text, second) in [
            ("SELECT 1;", false),
            ("SELECT 1; -- x", false),
            ("SELECT ';x'", false),
            ("SELECT 1;x", true),
        ] {
            assert_eq!(has_second_statement(text.as_bytes()), second, "{text}");
        }
    }

    #[test]
    fn an_insert_behind_another_word_is_seen() {
        for (text, hidden) in [
            ("EXPLAIN INSERT INTO t VALUES (1)", true),
            ("WITH 1 AS x INSERT INTO t VALUES (1)", true),
            ("EXPLAIN INSERT INTO t SELECT 1", false),
            ("SELECT 'INSERT'", false),
            ("WITH 1 AS x SELECT x", false),
        ] {
            assert_eq!(hides_an_insert(text.as_bytes()), hidden, "{text}");
        }
    }
}

//! Common arguments, and a TOML file into a type that refuses unknown keys.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::{Failure, LogFormat, Result};

/// Arguments that every binary has; flatten it into the binary's own.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// TOML file with the same keys as the long options; options win over the environment, which wins over the file
    #[arg(long, global = true, value_name = "FILE", env = "PROCSCOPE_CONFIG")]
    pub config: Option<PathBuf>,
    /// How log lines look on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "PROCSCOPE_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,procscope_agent=debug`
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info",
        env = "PROCSCOPE_LOG"
    )]
    pub log: String,
}

/// Reads a TOML file; `None` gives the default. Derive `Deserialize` with `deny_unknown_fields`.
///
/// # Errors
/// Exit code 2 when the file cannot be read, is not TOML, or has a key that `T` does not know: the line names
/// the file, the place and the key.
pub fn read_config<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T> {
    let Some(file) = file else { return Ok(T::default()) };
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::usage(format_args!(
            "could not read the configuration {}: {error}; name an existing file with --config",
            file.display()
        ))
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        Failure::usage(format_args!(
            "{}, line {line}: {}",
            file.display(),
            error.message()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        interval: Option<String>,
    }

    fn check(text: &str) -> Result<Keys> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        fs::write(&file, text).unwrap();
        read_config(Some(&file))
    }

    #[test]
    fn a_known_key_is_read() {
        assert_eq!(
            check("interval = \"1s\"").unwrap().interval.as_deref(),
            Some("1s")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_place_and_exit_code() {
        let failure = check("\ninterva = \"1s\"").unwrap_err();
        assert_eq!(failure.code(), 2);
        let line = failure.to_string();
        assert!(
            line.contains("line 2") && line.contains("`interva`") && line.contains("`interval`"),
            "{line}"
        );
    }

    #[test]
    fn a_missing_file_is_wrong_usage() {
        assert_eq!(
            read_config::<Keys>(Some(Path::new("/nonexistent/x.toml")))
                .unwrap_err()
                .code(),
            2
        );
    }
}

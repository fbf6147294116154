//! Groups of processes that have a name: the table `[groups]` of the configuration.

use std::collections::BTreeMap;

use procscope_startup::{Failure, Result};
use serde::Deserialize;

/// Groups that may be configured.
const GROUPS_MAX: usize = 1_000;

/// Bytes of one expression, made of prefixes or given: as many as in a question.
const REGEX_BYTES_MAX: usize = 1_000;

/// One entry of the table.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupKeys {
    prefixes: Option<Vec<String>>,
    regex: Option<String>,
}

/// Groups by their names. Checked: each is an expression that can be asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NamedGroups {
    regexes: BTreeMap<String, String>,
}

impl NamedGroups {
    /// Turns prefixes into expressions and refuses what makes no sense.
    ///
    /// # Errors
    /// Exit code 2, naming the group and what is wrong with it.
    pub fn check(groups: BTreeMap<String, GroupKeys>) -> Result<Self> {
        if groups.len() > GROUPS_MAX {
            let text = format_args!("groups has {} entries, more than {GROUPS_MAX}", groups.len());
            return Err(Failure::usage(text));
        }
        let regexes = groups.into_iter().map(|(name, keys)| {
            let wrong = |why: &str| Failure::usage(format_args!("groups.{name} {why}"));
            let regex = match (keys.prefixes, keys.regex) {
                (Some(prefixes), None) if !prefixes.is_empty() && prefixes.iter().all(|p| !p.is_empty()) => {
                    let prefixes: Vec<_> = prefixes
                        .iter()
                        .map(|prefix| regex_syntax::escape(prefix))
                        .collect();
                    format!("^({})", prefixes.join("|"))
                }
                (None, Some(regex)) if !regex.is_empty() => regex,
                _ => {
                    return Err(wrong(
                        "needs either `prefixes`, a list of begins of names, or `regex`",
                    ));
                }
            };
            if regex.len() > REGEX_BYTES_MAX {
                return Err(wrong(&format!(
                    "has an expression of {} bytes, more than {REGEX_BYTES_MAX}",
                    regex.len()
                )));
            }
            if regex_syntax::parse(&regex).is_err() {
                return Err(wrong(&format!("has no regular expression: `{regex}`")));
            }
            Ok((name, regex))
        });
        Ok(Self {
            regexes: regexes.collect::<Result<_>>()?,
        })
    }

    /// The expression that the names of a group match.
    #[must_use]
    pub fn regex(&self, name: &str) -> Option<&str> {
        self.regexes.get(name).map(String::as_str)
    }

    /// What to say to who asks for a group that is not there.
    #[must_use]
    pub fn unknown(&self, name: &str) -> String {
        let known: Vec<_> = self.regexes.keys().map(String::as_str).take(20).collect();
        if known.is_empty() {
            format!(
                "no group {name} is configured, nor any other: see [groups] of the collector's configuration"
            )
        } else {
            format!("no group {name} is configured; there are {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> std::result::Result<NamedGroups, String> {
        let keys = toml::from_str(toml).map_err(|error| error.to_string())?;
        NamedGroups::check(keys).map_err(|failure| failure.to_string())
    }

    #[test]
    fn prefixes_are_an_expression_and_nothing_else() {
        let groups = check("web = { prefixes = [\"nginx\", \"c++\"] }\ndb = { regex = \"^post\" }").unwrap();
        assert_eq!(groups.regex("web"), Some(r"^(nginx|c\+\+)"));
        assert_eq!(groups.regex("db"), Some("^post"));
        assert_eq!(groups.regex("x"), None);
        assert!(groups.unknown("x").contains("db, web"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for wrong in [
            "web = {}",
            "web = { prefixes = [] }",
            "web = { prefixes = [\"\"] }",
            "web = { regex = \"\" }",
            "web = { regex = \"(\" }",
            "web = { prefixes = [\"a\"], regex = \"b\" }",
            "web = { names = [\"a\"] }",
        ] {
            assert!(check(wrong).unwrap_err().contains("web"), "{wrong}");
        }
        let long = format!("web = {{ regex = \"{}\" }}", "a".repeat(REGEX_BYTES_MAX + 1));
        assert!(check(&long).is_err());
    }
}

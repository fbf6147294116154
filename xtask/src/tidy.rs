//! What a compiler does not check: every file says what it owns and stays short, and every part keeps to what it
//! may know. The table `WALLS` is the map of the walls in the house.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// More lines than this mean a second subject inside.
const LINES_MAX: usize = 500;
/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "node_modules", "__pycache__", ".git"];
/// Files that people wrote.
const TEXTS: &[&str] = &[
    "rs", "toml", "md", "sql", "proto", "yaml", "yml", "json", "ts", "css", "html", "sh", "service",
];
/// Words that mean that something is not finished.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!"),
    concat!("unimplemented", "!"),
];
/// Folders of one person's machine; a test in Rust may make up a user's home.
const PERSONAL: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/")];
/// Those that are wrong in Rust, too.
const PERSONAL_IN_RUST: &[&str] = &[PERSONAL[0]];
/// Documents that show every part.
const MAPS: &[&str] = &["README.md", "ARCHITECTURE.md"];

/// Words that belong into some files only.
struct Wall {
    words: &'static [&'static str],
    /// Where they are looked for: beginnings of paths.
    within: &'static [&'static str],
    /// Where they are at home: beginnings or ends of paths.
    except: &'static [&'static str],
    /// Whether comments may not say them either.
    even_in_comments: bool,
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        words: &["aya", "aya_log"],
        within: &["agent/", "collector/", "cli/", "engine/", "proto/", "startup/"],
        except: &[
            "agent/src/probes.rs",
            "agent/src/drain.rs",
            "agent/src/drain/",
            "agent/build/kernel_programs.rs",
        ],
        even_in_comments: false,
        why: "only probes.rs, drain.rs and build.rs of the agent know how programs get into the kernel",
    },
    Wall {
        words: &["clickhouse::"],
        within: &[
            "agent/",
            "agent-common/",
            "agent-ebpf/",
            "collector/",
            "cli/",
            "engine/",
            "proto/",
            "startup/",
        ],
        except: &["collector/src/store/", "collector/tests/", "engine/tests/"],
        even_in_comments: false,
        why: "only collector/src/store/ uses the store's crate",
    },
    Wall {
        words: &["ClickHouse", "MergeTree", "SELECT", "INSERT INTO"],
        within: &["agent/", "agent-common/", "agent-ebpf/"],
        except: &[],
        even_in_comments: true,
        why: "the agent does not know what becomes of what it sends",
    },
    Wall {
        words: &["SELECT", "INSERT INTO"],
        within: &["cli/src/", "collector/src/api/"],
        except: &[],
        even_in_comments: false,
        why: "SQL stands in collector/queries/ and collector/schema/",
    },
    Wall {
        words: &[
            "SystemTime::now",
            "Timestamp::now",
            "Zoned::now",
            "ClockId::Realtime",
            "CLOCK_REALTIME",
        ],
        within: &["agent/", "collector/", "cli/", "engine/", "startup/", "xtask/"],
        except: &["/clock.rs", "xtask/src/tidy.rs"],
        even_in_comments: false,
        why: "a clock.rs asks the system clock, the rest takes time as an argument",
    },
    Wall {
        words: &["procscope_agent_common", "procscope_agent"],
        within: &["collector/", "cli/", "engine/", "proto/", "startup/"],
        except: &[],
        even_in_comments: false,
        why: "agent and the others meet only in proto/",
    },
    Wall {
        words: &["std", "aya", "aya_ebpf"],
        within: &["agent-common/src/"],
        except: &[],
        even_in_comments: false,
        why: "both the kernel's side and user space use agent-common",
    },
    Wall {
        words: &["process_samples", "process_exits", "procscope_proto"],
        within: &["engine/src/"],
        except: &[],
        even_in_comments: false,
        why: "the engine speaks ClickHouse's interface and knows nothing of processes",
    },
];

/// Holds the whole workspace against the rules and returns every breach as `PATH:LINE: what`.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files(root)? {
        let path = file
            .strip_prefix(root)
            .context("find the file's place")?
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("read {path}"))?;
        check_file(&path, &text, &mut found);
    }
    for map in MAPS {
        let text = fs::read_to_string(root.join(map)).unwrap_or_default();
        check_map(map, &text, &members(root)?, &mut found);
    }
    Ok(found)
}

/// All files that people wrote, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry
            .file_type()
            .with_context(|| format!("look at {}", path.display()))?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            found.extend(files(&path)?);
        } else if kind.is_file()
            && path
                .extension()
                .is_some_and(|end| TEXTS.iter().any(|text| end == *text))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folders of the workspace's members.
fn members(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Cargo.toml")).context("read Cargo.toml")?;
    let manifest: toml::Table = text.parse().context("parse Cargo.toml")?;
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .context("find members")?;
    let members = members.as_array().context("read members")?;
    Ok(members
        .iter()
        .filter_map(toml::Value::as_str)
        .map(str::to_owned)
        .collect())
}

fn check_map(map: &str, text: &str, members: &[String], found: &mut Vec<String>) {
    for member in members.iter().filter(|member| !contains_word(text, member)) {
        found.push(format!("{map}: does not mention {member}"));
    }
}

fn check_file(path: &str, text: &str, found: &mut Vec<String>) {
    let is_rust = Path::new(path).extension().is_some_and(|end| end == "rs");
    if is_rust && !text.starts_with("//! ") {
        found.push(format!(
            "{path}:1: does not open with a `//!` line that says what it owns"
        ));
    }
    let lines = text.lines().count();
    if is_rust && lines > LINES_MAX {
        found.push(format!(
            "{path}: {lines} lines are more than {LINES_MAX}: look for the second subject inside"
        ));
    }
    let personal = if is_rust { PERSONAL_IN_RUST } else { PERSONAL };
    let walls: Vec<&Wall> = WALLS
        .iter()
        .filter(|wall| is_rust && wall.stands_at(path))
        .collect();
    for (number, line) in (1..).zip(text.lines()) {
        let mut breach = |what: String| found.push(format!("{path}:{number}: {what}"));
        for word in UNFINISHED.iter().filter(|word| contains_word(line, word)) {
            breach(format!("`{word}`: finish it, or write an issue"));
        }
        for folder in personal.iter().filter(|folder| line.contains(*folder)) {
            breach(format!("`{folder}…` is a path of one machine"));
        }
        for wall in &walls {
            let seen = if wall.even_in_comments {
                line
            } else {
                line.split("//").next().unwrap_or_default()
            };
            for word in wall.words.iter().filter(|word| contains_word(seen, word)) {
                breach(format!("`{word}` does not belong here: {}", wall.why));
            }
        }
    }
}

impl Wall {
    fn stands_at(&self, path: &str) -> bool {
        self.within.iter().any(|start| path.starts_with(start))
            && !self
                .except
                .iter()
                .any(|place| path.starts_with(place) || path.ends_with(place))
    }
}

/// Whether a text has a word that is not a part of a longer one.
fn contains_word(text: &str, word: &str) -> bool {
    let belongs = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !(before.is_some_and(belongs) && word.starts_with(belongs)
            || after.is_some_and(belongs) && word.ends_with(belongs))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks how many breaches a file at a path has.
    fn check(path: &str, text: &str, breaches: usize) {
        let mut found = Vec::new();
        check_file(path, text, &mut found);
        assert_eq!(found.len(), breaches, "{found:#?}");
    }

    #[test]
    fn a_rust_file_opens_with_what_it_owns() {
        check("cli/src/a.rs", "//! The table.\n", 0);
        check("cli/src/a.rs", "use std::fs;\n", 1);
        check("docs/a.md", "No such line here.\n", 0);
    }

    #[test]
    fn a_rust_file_has_at_most_500_lines() {
        check("cli/src/a.rs", &format!("//! Long.\n{}", "\n".repeat(499)), 0);
        check("cli/src/a.rs", &format!("//! Long.\n{}", "\n".repeat(500)), 1);
    }

    #[test]
    fn each_word_stays_behind_its_wall() {
        check("agent/src/fold.rs", "//! x\nuse aya::Ebpf;\n", 1);
        check("agent/src/drain.rs", "//! x\nuse aya::Ebpf;\n", 0);
        check("agent-ebpf/src/main.rs", "//! x\nuse aya_ebpf::macros;\n", 0);
        check("collector/src/query.rs", "//! x\nuse clickhouse::Client;\n", 1);
        check("collector/src/store/rows.rs", "//! x\nuse clickhouse::Row;\n", 0);
        check(
            "collector/src/batch.rs",
            "//! x\nlet now = SystemTime::now();\n",
            1,
        );
        check(
            "collector/src/clock.rs",
            "//! x\nlet now = SystemTime::now();\n",
            0,
        );
        check("agent-common/src/lib.rs", "//! x\nuse std::mem;\n", 1);
    }

    #[test]
    fn comments_may_speak_except_of_what_must_not_be_known() {
        check("agent/src/fold.rs", "//! x\n// as aya does it\n", 0);
        check("agent/src/fold.rs", "//! x\n// what ClickHouse likes\n", 1);
    }

    #[test]
    fn nothing_is_left_unfinished_and_no_machine_is_named() {
        check("docs/a.md", concat!("TO", "DO: more\n"), 1);
        check("docs/a.md", concat!("see /ro", "ot/secret\n"), 1);
        check("docs/a.md", "see /rootfs and mastodon\n", 0);
    }

    #[test]
    fn a_map_mentions_every_part() {
        let mut found = Vec::new();
        check_map(
            "README.md",
            "agent-common and cli",
            &["cli".to_owned(), "engine".to_owned()],
            &mut found,
        );
        assert_eq!(found, ["README.md: does not mention engine"]);
    }

    #[test]
    fn a_word_is_no_part_of_a_longer_one() {
        assert!(contains_word("use aya::Ebpf", "aya"));
        assert!(!contains_word("use aya_ebpf::Map", "aya"));
        assert!(!contains_word("papaya", "aya"));
    }
}

//! Manual pages: every program writes its own, and they name every option that its help names.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::tools::{program, run, stdout};

/// Words that begin with two dashes.
fn options(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.len() > 3 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_program_has_pages_that_name_each_of_its_options() {
    let folder = tempfile::tempdir().unwrap();
    for (name, commands) in [
        (
            "procscope",
            &[
                "",
                "top",
                "history",
                "groups",
                "exits",
                "hosts",
                "audit",
                "loadgen",
                "completions",
            ][..],
        ),
        ("procscope-agent", &["", "run", "sample", "check"]),
        (
            "procscope-collector",
            &["", "run", "check", "migrate", "certs", "tokens"],
        ),
        ("procscope-engine", &[""]),
    ] {
        run(Command::new(program(name)).arg("man").arg(folder.path()));
        for command in commands {
            let words = Some(*command).filter(|command| !command.is_empty());
            let help = stdout(Command::new(program(name)).args(words).arg("--help"));
            let page = [Some(name), words]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("-");
            let text = read(&folder.path().join(format!("{page}.1")));
            let missing: Vec<String> = options(&help).difference(&options(&text)).cloned().collect();
            assert!(missing.is_empty(), "{page}(1) does not name {missing:?}");
        }
    }
}

/// A page as it is read: without the marks of its fonts, and with dashes that are no marks either.
fn read(path: &Path) -> String {
    let mut text = fs::read_to_string(path).unwrap().replace("\\-", "-");
    for font in ["\\fB", "\\fI", "\\fR"] {
        text = text.replace(font, " ");
    }
    text
}

//! `cargo xtask accuracy`: runs the tests that measure, and writes what they found into docs/accuracy.md.

use std::{
    env, fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::report::{FIGURES, is_long};

/// Test programs whose figures are published, each under its heading.
const SECTIONS: [(&str, &str); 5] = [
    ("accuracy", "Processes of known use"),
    ("audit", "The books of the machine"),
    ("storm", "Storms"),
    ("traps", "Odd lives"),
    ("privilege", "The agent itself"),
];

/// What stands before and after the tables.
const BEGIN: &str = "<!-- figures: written by `cargo xtask accuracy` -->\n";
const END: &str = "<!-- end of figures -->\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "procscope-accuracy: error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/accuracy.md");
    let figures = env::temp_dir().join(format!("procscope-figures-{}", std::process::id()));
    let mut tables = heading()?;
    for (test, title) in SECTIONS {
        drop(fs::remove_file(&figures));
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["test", "--package", env!("CARGO_PKG_NAME"), "--test", test])
            .args(["--", "--test-threads", "1", "--nocapture"])
            .env(FIGURES, &figures)
            .status()
            .context("run cargo")?;
        ensure!(
            status.success(),
            "a test of `{test}` failed: nothing was published"
        );
        let lines = fs::read_to_string(&figures).with_context(|| format!("figures of `{test}`"))?;
        tables.push_str(&table(title, &lines));
    }
    drop(fs::remove_file(&figures));
    let text = fs::read_to_string(&document).with_context(|| format!("read {}", document.display()))?;
    let text = replace(&text, &tables).context("the marks in docs/accuracy.md are missing")?;
    fs::write(&document, text).with_context(|| format!("write {}", document.display()))
}

/// Where the figures come from.
fn heading() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // What follows the series is the builder's own.
    let series: Vec<&str> = release.trim().split('.').take(2).collect();
    let cpus = std::thread::available_parallelism()?;
    let form = if is_long() { "long" } else { "short" };
    Ok(format!(
        "\nMeasured on Linux {}, {cpus} CPUs, in the {form} form.\n",
        series.join(".")
    ))
}

/// A table of lines whose cells tabs divide.
fn table(title: &str, lines: &str) -> String {
    let head = ["what", "against", "found", "bound"].join("\t");
    let rows = [head.as_str(), "---\t---\t---\t---"]
        .into_iter()
        .chain(lines.lines());
    let rows: Vec<String> = rows
        .map(|line| format!("| {} |", line.replace('|', "\\|").replace('\t', " | ")))
        .collect();
    format!("\n### {title}\n\n{}\n", rows.join("\n"))
}

/// The document with other tables between its marks.
fn replace(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_old, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_replace_what_stood_between_the_marks() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(
            replace(&text, "new\n").as_deref(),
            Some(&*format!("a\n{BEGIN}new\n\n{END}b\n"))
        );
        assert_eq!(replace("no marks", "new"), None);
    }

    #[test]
    fn a_line_becomes_a_row() {
        assert!(table("T", "a\tb\tc\td\n").ends_with("| --- |\n| a | b | c | d |\n"));
    }
}

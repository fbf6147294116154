//! The arguments of a process, or in one line why they cannot be taken. Knows clap alone: `xtask` has this file, too.

use std::{env, ffi::OsString};

use clap::{Command, Parser, error::ErrorKind};

/// Reads the arguments of this process. Where they ask for help or the version, prints that and ends the process.
///
/// # Errors
/// One line: which argument, why it cannot be taken, and what to do; for exit code 2.
pub(crate) fn read_arguments<T: Parser>() -> Result<T, String> {
    let arguments: Vec<OsString> = env::args_os().collect();
    T::try_parse_from(&arguments).map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        explain(&error, &T::command(), &arguments)
    })
}

/// What clap says in several lines, in one.
fn explain(error: &clap::Error, command: &Command, arguments: &[OsString]) -> String {
    let (command, words) = named(command, arguments);
    let remedy = format!("see `{words} --help`");
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        let commands: Vec<&str> = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(Command::get_name)
            .collect();
        return format!("`{words}` needs a command: {}; {remedy}", commands.join(", "));
    }
    let said = error.to_string();
    let reason = said
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect::<Vec<_>>()
        .join("\n");
    let parts: Vec<String> = reason
        .trim_start_matches("error: ")
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|part| !part.is_empty())
        .chain([remedy])
        .collect();
    // An argument may hold anything, and stands in the line.
    parts.join("; ").replace(char::is_control, "?")
}

/// The innermost command that the arguments name, and the words that name it.
fn named<'a>(command: &'a Command, arguments: &[OsString]) -> (&'a Command, String) {
    let mut words = command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut innermost = command;
    for argument in arguments.iter().skip(1) {
        if let Some(inner) = innermost.find_subcommand(argument) {
            innermost = inner;
            words.push(' ');
            words.push_str(inner.get_name());
        }
    }
    (innermost, words)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "tool")]
    enum Tool {
        /// Shows
        Show {
            /// What of it
            name: String,
            /// At most
            #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9))]
            limit: Option<u32>,
            /// How
            #[arg(long, value_parser = ["table", "json"])]
            format: Option<String>,
        },
        /// Hides
        Hide,
    }

    fn check(line: &str, said: &str) {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let error = Tool::try_parse_from(&arguments).unwrap_err();
        assert_eq!(explain(&error, &Tool::command(), &arguments), said);
    }

    #[test]
    fn an_argument_cannot_write_to_the_terminal() {
        check(
            "tool a\x1b[2J\u{9b}\nb",
            "unrecognized subcommand 'a? b'; see `tool --help`",
        );
    }

    #[test]
    fn each_way_of_wrong_usage_is_one_line_with_its_remedy() {
        check("tool", "`tool` needs a command: show, hide; see `tool --help`");
        check(
            "tool shwo",
            "unrecognized subcommand 'shwo'; tip: a similar subcommand exists: 'show'; see `tool --help`",
        );
        check(
            "tool show",
            "the following required arguments were not provided: <NAME>; see `tool show --help`",
        );
        check(
            "tool show a --limit 10",
            "invalid value '10' for '--limit <LIMIT>': 10 is not in 1..=9; see `tool show --help`",
        );
        check(
            "tool show a --format xml",
            "invalid value 'xml' for '--format <FORMAT>' [possible values: table, json]; see `tool show --help`",
        );
        check(
            "tool show a --limt 1",
            "unexpected argument '--limt' found; tip: a similar argument exists: '--limit'; see `tool show --help`",
        );
    }
}

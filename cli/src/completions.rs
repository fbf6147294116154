//! `completions`: what a shell needs to finish what somebody types.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use procscope_startup::Result;

use crate::{args::Cli, output};

/// Prints them.
pub(crate) fn print(shell: Shell) -> Result<()> {
    output::raw(&made(shell))
}

fn made(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    generate(shell, &mut Cli::command(), "procscope", &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command_and_option() {
        let mut command = Cli::command();
        command.build();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(made(shell)).unwrap();
            for command in command.get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
                for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                    assert!(
                        text.contains(option),
                        "{shell}: --{option} of {}",
                        command.get_name()
                    );
                }
            }
        }
    }
}

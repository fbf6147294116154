//! Manual pages, made of the definitions that read the arguments.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::{Failure, Result};

/// `PROGRAM man FOLDER` writes pages and does nothing else. It is for those who make packages, so no help lists it.
const WORD: &str = "man";

/// The folder to write pages into, when that is what the arguments of this process ask for.
pub(crate) fn folder(arguments: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.into_iter().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(word), Some(folder), None) if word == WORD && !folder.is_empty() => Some(folder.into()),
        _ => None,
    }
}

/// Writes a page for the program and one for each of its commands into a folder, which is made when it is not there.
///
/// # Errors
/// Exit code 1: which file could not be written, and why.
pub(crate) fn write<T: CommandFactory>(folder: &Path) -> Result<()> {
    let failed = |path: &Path, error: io::Error| {
        Failure::failed(format_args!(
            "could not write {}: {error}; name a folder that may be written to",
            path.display()
        ))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in pages(T::command()).map_err(|error| failed(folder, error))? {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Names of files, and what is in them.
fn pages(mut program: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    program.build();
    let mut pages = Vec::new();
    let mut waiting = vec![program];
    while let Some(command) = waiting.pop() {
        let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
        waiting.extend(command.get_subcommands().filter(shown).cloned());
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name())
            .to_owned();
        let mut text = Vec::new();
        // No date: the same sources make the same pages.
        Man::new(command).date("").manual("procscope").render(&mut text)?;
        pages.push((format!("{name}.1"), text));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Tries things
    #[derive(Parser)]
    #[command(name = "tester", version)]
    struct Cli {
        /// How loud
        #[arg(long, global = true)]
        volume: Option<u32>,
        #[command(subcommand)]
        command: Commands,
    }

    #[derive(clap::Subcommand)]
    enum Commands {
        /// Says it
        Say {
            /// To whom
            #[arg(long)]
            to: String,
        },
        #[command(hide = true)]
        Secret,
    }

    #[test]
    fn there_is_a_page_for_each_command_that_names_each_option() {
        let dir = tempfile::tempdir().unwrap();
        write::<Cli>(&dir.path().join("new")).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join("new").join(name));
        let (program, say) = (read("tester.1").unwrap(), read("tester-say.1").unwrap());
        assert!(
            program.contains("Tries things") && program.contains("tester\\-say(1)"),
            "{program}"
        );
        assert!(say.contains("\\-\\-to") && say.contains("\\-\\-volume"), "{say}");
        assert!(read("tester-secret.1").is_err() && read("tester-help.1").is_err());
    }

    #[test]
    fn only_the_word_and_a_folder_ask_for_pages() {
        let check = |line: &str| folder(line.split(' ').map(OsString::from));
        assert_eq!(check("procscope man pages"), Some(PathBuf::from("pages")));
        for line in [
            "procscope",
            "procscope man",
            "procscope man a b",
            "procscope top man",
            "procscope man ",
        ] {
            assert_eq!(check(line), None, "{line}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = write::<Cli>(&file.path().join("pages")).unwrap_err();
        assert!(
            failure.code() == 1 && failure.to_string().contains("pages"),
            "{failure}"
        );
    }
}

//! `echostr completions` and `echostr man`: for shells and for `man`, from the definition of the command line itself.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Arguments, Done};

#[derive(clap::Args, Debug)]
pub(super) struct CompletionArguments {
    /// The shell: source what is printed, or put it where the shell looks for completions
    shell: Shell,
}

#[derive(clap::Args, Debug)]
pub(super) struct ManArguments {
    /// Write a page for each command into this folder, instead of printing the page of the program
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(super) fn complete(CompletionArguments { shell }: &CompletionArguments) -> Done {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    // The library panics when it cannot write, as into a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(ManArguments { folder }: &ManArguments) -> Done {
    let command = Arguments::command();
    match folder {
        Some(folder) => {
            fs::create_dir_all(folder)?;
            clap_mangen::generate_to(command, folder)?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

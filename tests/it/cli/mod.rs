//! The command line, as the program itself: what an operator types, and what is printed.

mod causes;
mod check;
mod explain;
mod names;
mod panics;
mod secrets;
mod url_check;
mod width;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use tokio::task;

/// Both outputs and the exit code of a command.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Fails unless the command ended so.
    #[track_caller]
    pub fn with(self, code: i32, parts: &[&str]) -> Self {
        let text = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{text}");
        for part in parts {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        self
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// `echostr` with a configuration in a folder, and nothing else of the environment that it could read.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_echostr"));
    command.args(arguments).env("ECHOSTR_CONFIG", folder.join("echostr.toml")).stdin(Stdio::null());
    for variable in ["RUST_LOG", "ECHOSTR_ADMIN_TOKEN", "COLUMNS", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

pub async fn run(folder: &Path, arguments: &[&str]) -> Said {
    ended(command(folder, arguments)).await
}

/// Runs a command to its end, beside servers of this test.
pub async fn ended(mut command: Command) -> Said {
    task::spawn_blocking(move || command.output().unwrap()).await.unwrap().into()
}

/// Writes the configuration of a folder.
pub fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("echostr.toml"), text).unwrap();
}

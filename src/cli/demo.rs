//! temporary
use super::Done;
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> Done {
    Ok(std::process::ExitCode::SUCCESS)
}

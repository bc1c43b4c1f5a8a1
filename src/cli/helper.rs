//! `transhume helper`

use super::{Exit, Failure};

/// (to be written)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let _ = arguments;
    Err(Failure::message(Exit::Usage, "not there yet", None))
}

//! `transhume files`

use super::{Common, Exit, Failure};

/// (to be written)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(arguments: Arguments, common: &Common) -> Result<Exit, Failure> {
    let _ = (arguments, common);
    Err(Failure::message(Exit::Usage, "not there yet", None))
}

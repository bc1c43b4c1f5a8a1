//! `transhume helper`: the remote half, started by the other one over SSH.

use clap::Subcommand;

use super::{Exit, Failure};
use crate::media;

/// The remote half; started by transhume itself
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Serves the file engine on standard input and output
    Files,
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let result = match arguments.part {
        Part::Files => media::helper::serve(tokio::io::stdin(), tokio::io::stdout()).await,
    };
    match result {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            let text = format!("the helper stopped: {}", crate::error::one_line(&error));
            Err(Failure::message(Exit::Failed, text, None))
        }
    }
}

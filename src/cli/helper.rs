//! `transhume helper`: the remote half. Programs call it, not people, so it prints no events.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use clap::Subcommand;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Exit, Failure, cache};
use crate::error::one_line;
use crate::host::Address;
use crate::host::helper::{parse_address, serve};
use crate::media;
use crate::wire::WireError;

/// The remote half; started by transhume itself
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Prints protocol, version and the digest of this program
    Hello,
    /// Serves the file engine on standard input and output
    Files,
    /// Removes the listings that scans left for the next one
    Forget,
    /// Connects standard input and output to a socket
    Connect {
        /// Pack what goes through in both directions
        #[arg(long)]
        packed: bool,
        /// tcp:HOST:PORT or unix:/PATH
        #[arg(value_parser = address)]
        address: Address,
    },
    /// Unpacks standard input into a program
    ///
    /// Exits as the program does; 121 if the stream broke off, 122 if it is damaged.
    Unpack {
        #[arg(last = true, required = true, value_name = "PROGRAM")]
        program: Vec<OsString>,
    },
}

/// As large as a pipe may be made without special rights.
const PIPE_BYTES: usize = 1 << 20;

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    widen_pipes();
    let code = match arguments.work {
        Work::Hello => {
            let line = serve::hello().map_err(|error| Failure::from_io("read itself", error))?;
            println!("{line}");
            0
        }
        Work::Files => {
            let served = serve_files();
            served.map_err(|error| {
                let text = format!("the helper stopped: {}", one_line(&error));
                Failure::message(Exit::Failed, text, None)
            })?;
            0
        }
        Work::Forget => {
            if let Some(dir) = cache::manifests() {
                media::manifest::forget(&dir)
                    .map_err(|error| Failure::from_io("remove the listings", error))?;
            }
            0
        }
        Work::Connect { packed, address } => {
            let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
            let bridged = serve::bridge(&address, packed, input, output).await;
            bridged.map_err(|error| Failure::new(Exit::Failed, error))?;
            0
        }
        Work::Unpack { program } => match serve::unpack_into(&program, tokio::io::stdin()).await {
            Ok(code) => code,
            Err(error) => {
                eprintln!("transhume helper: {}", one_line(&error));
                error.exit_code()
            }
        },
    };
    // The exit code is the program's, and the thread that reads standard input would keep us.
    let _ = std::io::stdout().flush();
    std::process::exit(i32::from(code))
}

/// sshd takes whatever comes over the wire, and what it cannot pass on yet it copies about with every
/// packet; so there is room for it here. What is no pipe, or one too many, stays as it is.
fn widen_pipes() {
    let _ = rustix::pipe::fcntl_setpipe_size(std::io::stdin(), PIPE_BYTES);
    let _ = rustix::pipe::fcntl_setpipe_size(std::io::stdout(), PIPE_BYTES);
}

/// Blocks: nothing else happens in this process. The descriptors themselves, because the standard
/// streams have buffers of their own and break what is written into lines.
fn serve_files() -> Result<(), WireError> {
    let limit = getrlimit(Resource::Nofile);
    // Handles of directories are kept. If there may be no more, fewer are.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let manifests = cache::manifests();
    tokio::task::block_in_place(|| {
        media::helper::serve_confined(input, output, manifests.as_deref())
    })
}

fn address(word: &str) -> Result<Address, String> {
    parse_address(word).ok_or_else(|| "expected tcp:HOST:PORT or unix:/PATH".into())
}

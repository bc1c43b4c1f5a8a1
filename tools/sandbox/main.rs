//! Two small servers on loopback, to look at or to be moved. `sandbox up` starts them and waits;
//! `sandbox try` has transhume move one to the other and verifies what came of it. The stand-ins
//! that run on them are in here too: `sandbox stand-in NAME …`.

// The tests' harness, as if this were the root of the tests: its modules say `crate::harness`.
#[path = "../../tests/all"]
mod live {
    #[allow(dead_code, reason = "the tests use more of the harness than this program does")]
    #[allow(unused_imports, reason = "the same")]
    pub mod harness;
}
use live::harness;

mod signals;
mod trial;
mod up;

use std::process::ExitCode;

const USAGE: &str = "\
usage: sandbox up DIR                two servers below DIR, until Ctrl-C
       sandbox try [--program FILE] [--keep DIR] [--small]
                                     move one to the other, and verify
       sandbox stand-in NAME …       systemctl, crontab, web, sidekiq, streaming, tootctl, rails";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = match arguments.split_first() {
        Some((verb, rest)) if verb == "stand-in" => harness::stand_in::main(rest),
        Some((verb, rest)) if verb == "up" => up::run(rest),
        Some((verb, rest)) if verb == "try" => trial::run(rest),
        Some(_) | None => {
            eprintln!("{USAGE}");
            2
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

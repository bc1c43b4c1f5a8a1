//! `transhume completions`: what a shell has to know to complete our command lines.

use clap_complete::Shell as Generator;

use super::outcome::say;
use super::{Exit, Failure};

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume completions bash > /usr/share/bash-completion/completions/transhume
  transhume completions zsh > /usr/local/share/zsh/site-functions/_transhume
  transhume completions fish > /etc/fish/completions/transhume.fish")]
pub(super) struct Arguments {
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let generator = match arguments.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut super::shown(), "transhume", &mut script);
    say(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

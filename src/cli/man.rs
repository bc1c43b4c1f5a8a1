//! `transhume man`: the manual as one page, drawn from what `--help` says.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::outcome::say;
use super::{Exit, Failure};
use crate::render;

/// Where the text after the options begins to be examples.
const EXAMPLES: &str = "Examples:\n";
/// Every code that a move ends with, as docs/exit-codes.md explains it.
const CODES: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 130];

/// Print the manual, all commands on one page, in the form that man(1) reads.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transhume man > /usr/local/share/man/man1/transhume.1
  transhume man | man -l -        read it now")]
pub(super) struct Arguments {}

pub(super) fn run(_: Arguments) -> Result<Exit, Failure> {
    let page = page(&super::shown()).map_err(|error| Failure::from_io("draw the page", error))?;
    say(&String::from_utf8_lossy(&page));
    Ok(Exit::Done)
}

fn page(program: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let whole = Man::new(program.clone().disable_help_subcommand(true));
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    examples(program, "SH").to_writer(&mut page)?;
    for verb in program.get_subcommands() {
        draw(verb, &mut page)?;
    }
    exit_status().to_writer(&mut page)?;
    Ok(page)
}

/// A section for one verb; the options that every verb takes are told once, above.
fn draw(verb: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let name = format!("transhume {}", verb.get_name());
    let mut heading = Roff::default();
    heading.control("SH", [name.to_uppercase().as_str()]);
    heading.to_writer(page)?;
    let man = Man::new(verb.clone().bin_name(name).disable_help_flag(true));
    let mut sections = Vec::new();
    man.render_description_section(&mut sections)?;
    man.render_synopsis_section(&mut sections)?;
    if verb.get_arguments().next().is_some() {
        man.render_options_section(&mut sections)?;
    }
    let sections = String::from_utf8_lossy(&sections).replace(".SH DESCRIPTION\n", "");
    page.extend_from_slice(sections.replace(".SH ", ".SS ").as_bytes());
    examples(verb, "SS").to_writer(page)
}

/// What stands below the options in `--help`: text, then examples as they are.
fn examples(command: &Command, level: &str) -> Roff {
    let mut roff = Roff::default();
    let help = command.get_after_long_help().or_else(|| command.get_after_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (text, examples) = help.split_once(EXAMPLES).unwrap_or((&help, ""));
    if !text.trim().is_empty() {
        roff.control("PP", []);
        roff.text([roman(text.trim())]);
    }
    if !examples.is_empty() {
        roff.control(level, ["EXAMPLES"]);
        roff.control("nf", []);
        roff.text([roman(examples)]);
        roff.control("fi", []);
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for code in CODES {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(render::result("migrate", code))]);
    }
    roff
}

//! The stand-in as a program of its own, for the tests that put it in systemctl's place.

#[path = "../systemctl.rs"]
mod systemctl;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    std::process::exit(systemctl::main(&args));
}

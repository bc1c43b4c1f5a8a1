//! `transhume.toml`: parsing ends, and a complaint never repeats the line that may hold a password.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use transhume::config::Config;

const PASSWORD: &str = "hunter2hunter2";

fuzz_target!(|text: &str| {
    let text = format!("{text}\n[target.env]\nDB_PASS = \"{PASSWORD}\"\n");
    match Config::parse(&text, Path::new("transhume.toml")) {
        Ok(config) => assert!(!format!("{config:?}").contains(PASSWORD)),
        Err(error) => assert!(!format!("{error} {error:?}").contains(PASSWORD)),
    }
});

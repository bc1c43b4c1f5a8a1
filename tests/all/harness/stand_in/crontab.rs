//! crontab(1) on a spool directory of its own: `--spool=DIR`, then `[-u USER] -l | -r | FILE | -`.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

pub fn main(args: &[String]) -> i32 {
    let mut spool = PathBuf::new();
    let mut user = login();
    let mut word = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--spool=") {
            Some(dir) => spool = dir.into(),
            None if arg == "-u" => user = args.next().cloned().unwrap_or_default(),
            None => word = Some(arg.as_str()),
        }
    }
    let table = spool.join(&user);
    let result = match word {
        Some("-l") => match fs::read_to_string(&table) {
            Ok(text) => {
                print!("{text}");
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("no crontab for {user}");
                return 1;
            }
            Err(error) => Err(error),
        },
        Some("-r") => fs::remove_file(&table),
        Some("-") | None => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.and_then(|_| fs::write(&table, text))
        }
        Some(file) => fs::copy(file, &table).map(drop),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("crontab: {user}: {error}");
            1
        }
    }
}

fn login() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.len() > 2 && fields[2] == uid);
    found.map_or(uid, |fields| fields[0].to_owned())
}

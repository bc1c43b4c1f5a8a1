//! libpq's password file: `host:port:database:user:password`, one login a line. Pure.

use crate::host::Address;
use crate::secret::Secret;

use super::conninfo::SOCKET_DIR_DEFAULT;
use super::server::socket_parts;

/// The password that the file `text` has for a login; the first line that fits wins.
pub fn find(text: &str, address: &Address, database: &str, user: &str) -> Option<Secret> {
    let (host, port) = match address {
        Address::Tcp { host, port } => (host.clone(), *port),
        Address::Unix { path } => {
            let (dir, port) = socket_parts(path);
            // Debian's libpq has this directory built in, and asks for it by another name.
            (if dir == SOCKET_DIR_DEFAULT { "localhost".into() } else { dir }, port)
        }
    };
    let wanted = [host.as_str(), &port.to_string(), database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line)?;
        let fits = |(field, wanted): (&String, &&str)| field == "*" || field == *wanted;
        fields[..4].iter().zip(&wanted).all(fits).then(|| Secret::new(fields[4].as_str()))
    })
}

/// The five fields of a line, without their backslashes.
fn split(line: &str) -> Option<[String; 5]> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => fields.last_mut()?.extend(letters.next()),
            ':' => fields.push(String::new()),
            other => fields.last_mut()?.push(other),
        }
    }
    fields.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let file = "# comment\nbroken\nold.example:5432:*:mastodon:one\n\
                    localhost:*:prod:mastodon:two\\:\\\\half\n/tmp:5433:*:*:three\n*:*:*:*:four\n";
        let tcp = |host: &str| Address::Tcp { host: host.into(), port: 5432 };
        let socket = |path: &str| Address::Unix { path: path.into() };
        let found = |address: &Address| {
            find(file, address, "prod", "mastodon").unwrap().expose().to_owned()
        };
        assert_eq!(found(&tcp("old.example")), "one");
        assert_eq!(found(&tcp("localhost")), "two:\\half");
        assert_eq!(found(&socket("/var/run/postgresql/.s.PGSQL.5432")), "two:\\half");
        assert_eq!(found(&socket("/tmp/.s.PGSQL.5433")), "three");
        assert_eq!(found(&tcp("new.example")), "four");
        assert_eq!(find("a:1:b:c:d", &tcp("new.example"), "prod", "mastodon"), None);
    }
}

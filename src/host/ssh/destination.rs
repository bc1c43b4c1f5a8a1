//! Where to log in, as the operator writes it: `[user@]host` or `ssh://[user@]host[:port]`.

use std::fmt;
use std::str::FromStr;

/// A machine to log in to; what is `None` comes from ssh_config(5) or its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub user: Option<String>,
    /// A host name, an address without brackets, or an alias of `~/.ssh/config`.
    pub host: String,
    pub port: Option<u16>,
}

/// A text that names no machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not [user@]host or ssh://[user@]host[:port]: {problem}")]
pub struct NotADestination {
    pub text: String,
    pub problem: &'static str,
}

impl FromStr for Destination {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, NotADestination> {
        parse(text).map_err(|problem| NotADestination { text: without_password(text), problem })
    }
}

/// The text with a password in it taken out, if there is one: `user:password@host`.
pub fn without_password(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = text.split_at(start);
    match rest.rsplit_once('@').map(|(login, host)| (login.split_once(':'), host)) {
        Some((Some((user, _)), host)) => format!("{scheme}{user}:…@{host}"),
        Some((None, _)) | None => text.to_owned(),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(out, "[{}]", self.host)?,
            false => out.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

fn parse(text: &str) -> Result<Destination, &'static str> {
    let (rest, is_uri) = match text.strip_prefix("ssh://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), true),
        None => (text, false),
    };
    // A user may contain `@` (user@domain logins do), a host may not.
    let (user, address) = match rest.rsplit_once('@') {
        Some(("", _)) => return Err("the user is empty"),
        Some((login, _)) if login.contains(':') => {
            return Err("a password has no place here, where others can read it: leave it out, \
                        and install a key with `ssh-copy-id`, or type it when you are asked");
        }
        Some((user, address)) => (Some(user.to_owned()), address),
        None => (None, rest),
    };
    let (host, port) = split_port(address, is_uri)?;
    match host.bytes().next() {
        None => return Err("the host is empty"),
        Some(b'-') => return Err("a host does not begin with `-`"),
        Some(_) => {}
    }
    if host
        .bytes()
        .any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control() || byte == b'/')
    {
        return Err("a host has no blanks and no `/`");
    }
    Ok(Destination { user, host: host.to_owned(), port })
}

fn split_port(address: &str, is_uri: bool) -> Result<(&str, Option<u16>), &'static str> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("`[` without `]`")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("something other than a port follows `]`"),
        };
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host, Some(parse_port(port)?))),
        Some(_) if is_uri => Err("an IPv6 address stands in brackets"),
        Some(_) | None => Ok((address, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("the port is not a number from 1 to 65535"),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn destination(user: Option<&str>, host: &str, port: Option<u16>) -> Destination {
        Destination { user: user.map(str::to_owned), host: host.to_owned(), port }
    }

    #[test]
    fn reads_what_ssh_users_write() {
        let cases = [
            ("new.example.com", destination(None, "new.example.com", None)),
            ("root@new", destination(Some("root"), "new", None)),
            ("me@corp@new", destination(Some("me@corp"), "new", None)),
            ("root@new:2222", destination(Some("root"), "new", Some(2222))),
            ("ssh://root@new:2222", destination(Some("root"), "new", Some(2222))),
            ("ssh://new/", destination(None, "new", None)),
            ("ssh://[2001:db8::1]:22", destination(None, "2001:db8::1", Some(22))),
            ("root@[::1]", destination(Some("root"), "::1", None)),
            ("root@2001:db8::1", destination(Some("root"), "2001:db8::1", None)),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn refuses_what_would_be_guessed() {
        for text in [
            "",
            "@new",
            "ssh://",
            "new:0",
            "new:x",
            "[::1",
            "[::1]22",
            "ssh://::1",
            "-oProxyCommand=x",
            "a b",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for text in ["root:hunter2@new", "ssh://root:hunt@er2@new:22", "ssh://:hunter2@new/"] {
            let told = text.parse::<Destination>().unwrap_err().to_string();
            assert!(told.contains("a password has no place here"), "{told}");
            assert!(!told.contains("hunt"), "{told}");
        }
        let told = "ssh://root:hunter2@".parse::<Destination>().unwrap_err().to_string();
        assert!(told.starts_with("`ssh://root:…@` is not"), "{told}");
    }

    proptest! {
        /// The law: what is printed reads back the same.
        #[test]
        fn prints_what_it_parses(
            user in prop::option::of("[a-z][a-z0-9@._-]{0,8}"),
            host in "[a-z0-9][a-z0-9.-]{0,12}|[0-9a-f]{1,4}::[0-9a-f]{1,4}",
            port in prop::option::of(1u16..),
        ) {
            let one = Destination { user, host, port };
            prop_assert_eq!(one.to_string().parse::<Destination>(), Ok(one));
        }
    }
}

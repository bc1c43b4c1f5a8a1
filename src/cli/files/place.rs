//! SRC and DEST as they are typed. Paths are bytes, as on any Linux.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::host::ssh::Destination;
use crate::host::ssh::destination::NotADestination;

/// A directory, here or there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Local(PathBuf),
    /// A relative path starts at the login's home directory.
    Remote {
        destination: Destination,
        path: Vec<u8>,
    },
}

impl Place {
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err("SRC and DEST must not be empty".into());
        }
        if let Some(rest) = bytes.strip_prefix(b"ssh://") {
            let at = rest.iter().position(|byte| *byte == b'/').ok_or_else(|| no_path(text))?;
            return Place::remote(text, &[b"ssh://", &rest[..at]].concat(), &rest[at..]);
        }
        match colon(bytes) {
            Some(at) if bytes[at + 1..].starts_with(b":") => {
                Err(format!("{}: transhume does not speak to rsync daemons", text.display()))
            }
            Some(at) => Place::remote(text, &bytes[..at], &bytes[at + 1..]),
            None => Ok(Place::Local(PathBuf::from(OsString::from_vec(bytes.to_vec())))),
        }
    }

    fn remote(text: &OsStr, machine: &[u8], path: &[u8]) -> Result<Self, String> {
        let machine = std::str::from_utf8(machine)
            .map_err(|_| format!("{}: a host name has no such letters", text.display()))?;
        // The error tells the machine, without a password that may stand there.
        let destination: Destination =
            machine.parse().map_err(|error: NotADestination| error.to_string())?;
        let path = match path {
            b"" => return Err(no_path(text)),
            b"~" | b"~/" => b".",
            path => path.strip_prefix(b"~/").unwrap_or(path),
        };
        Ok(Place::Remote { destination, path: path.to_vec() })
    }

    pub fn is_remote(&self) -> bool {
        matches!(self, Place::Remote { .. })
    }
}

fn no_path(text: &OsStr) -> String {
    format!("{}: the path is missing; use `.` for the home directory", text.display())
}

/// The colon that ends the host, if there is a host: none after a `/`, none inside brackets.
fn colon(bytes: &[u8]) -> Option<usize> {
    let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
    let head = &bytes[..slash];
    let from = match head.iter().position(|byte| *byte == b'[') {
        Some(open) if open == 0 || head[open - 1] == b'@' => {
            open + head[open..].iter().position(|byte| *byte == b']')?
        }
        Some(_) | None => 0,
    };
    head[from..].iter().position(|byte| *byte == b':').map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Place {
        let destination = Destination { user: user.map(str::to_owned), host: host.into(), port };
        Place::Remote { destination, path: path.into() }
    }

    fn parse(text: &str) -> Result<Place, String> {
        Place::parse(OsStr::new(text))
    }

    #[test]
    fn places_are_read_as_rsync_reads_them() {
        let cases = [
            ("public/system", Place::Local("public/system".into())),
            ("/srv/a:b", Place::Local("/srv/a:b".into())),
            ("./a:b", Place::Local("./a:b".into())),
            ("new:/srv", remote(None, "new", None, "/srv")),
            ("root@new:srv", remote(Some("root"), "new", None, "srv")),
            ("new:~/live", remote(None, "new", None, "live")),
            ("new:~", remote(None, "new", None, ".")),
            ("[::1]:/srv", remote(None, "::1", None, "/srv")),
            ("me@[2001:db8::1]:/srv", remote(Some("me"), "2001:db8::1", None, "/srv")),
            ("ssh://root@new:2222/srv/x y", remote(Some("root"), "new", Some(2222), "/srv/x y")),
            ("ssh://[::1]/srv", remote(None, "::1", None, "/srv")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in ["", "new:", "ssh://new", "host::module", "-oProxyCommand=x:/srv", "@new:/srv"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let told = parse("ssh://root:hunter2@new/srv").unwrap_err();
        assert!(told.contains("a password has no place here"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

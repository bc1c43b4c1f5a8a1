//! The known_hosts files: is this key the one that was recorded for this host? Pure apart from
//! [`read`] and [`append`]. Stricter than most clients where they differ: a key of another
//! algorithm than those recorded is a mismatch, not a new host, and a file that cannot be read is
//! an error, not an empty one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use russh::keys::ssh_encoding::base64::{Base64, Encoding};
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyBase64, parse_public_key_base64};

use super::config_file::Source;
use super::pattern::list_matches;

/// What the files say about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Recorded for this host.
    Known,
    /// Nothing is recorded for this host. `authority`: a @cert-authority line covers it, which
    /// says nothing about a plain key.
    Unknown { authority: bool },
    /// Other keys are recorded for this host; the place is that of the first.
    Changed { place: String, recorded: String },
    /// A @revoked line names this key.
    Revoked { place: String },
}

/// The name under which a host is recorded: `host`, or `[host]:port` off port 22.
pub fn record_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Looks `key`, offered by the host recorded as `name`, up in the texts of the files.
pub fn check(files: &[Source], name: &str, key: &PublicKey) -> Verdict {
    let mut first_other = None;
    let mut known = false;
    let mut authority = false;
    for (place, line) in lines_for(files, name) {
        let same = line.key.as_ref().is_some_and(|recorded| recorded.key_data() == key.key_data());
        match line.marker {
            Marker::Revoked if same => return Verdict::Revoked { place },
            Marker::Revoked => {}
            Marker::Authority => authority = true,
            Marker::None if same => known = true,
            Marker::None => {
                first_other.get_or_insert((place, line.kind.to_owned()));
            }
        }
    }
    match first_other {
        _ if known => Verdict::Known,
        Some((place, recorded)) => Verdict::Changed { place, recorded },
        None => Verdict::Unknown { authority },
    }
}

/// The algorithms of the keys recorded for `name`: to be asked for first, so that a host with
/// several keys shows one that can be compared.
pub fn recorded_algorithms(files: &[Source], name: &str) -> Vec<Algorithm> {
    let mut found = Vec::new();
    for (_, line) in lines_for(files, name) {
        let (Marker::None, Some(key)) = (line.marker, line.key) else { continue };
        for algorithm in signing_algorithms(&key) {
            if !found.contains(&algorithm) {
                found.push(algorithm);
            }
        }
    }
    found
}

/// The algorithms a host can prove `key` with. SHA-1 is not among them.
pub fn signing_algorithms(key: &PublicKey) -> Vec<Algorithm> {
    match key.algorithm() {
        Algorithm::Rsa { .. } => [HashAlg::Sha512, HashAlg::Sha256]
            .map(|hash| Algorithm::Rsa { hash: Some(hash) })
            .into(),
        other => vec![other],
    }
}

/// The files' texts; one that does not exist is left out.
pub fn read(paths: &[std::path::PathBuf]) -> io::Result<Vec<Source>> {
    let mut files = Vec::new();
    for path in paths {
        match std::fs::read(path) {
            Ok(bytes) => files.push(Source {
                name: path.display().to_string(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let text = format!("cannot read {}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
    Ok(files)
}

/// Records `key` for `name` at the end of the file at `path`, which is made if need be.
pub fn append(path: &Path, name: &str, key: &PublicKey, hashed: bool) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let ends_open = match std::fs::read(path) {
        Ok(bytes) => bytes.last().is_some_and(|last| *last != b'\n'),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let name = if hashed { hashed_name(name)? } else { name.to_owned() };
    let gap = if ends_open { "\n" } else { "" };
    let line = format!("{gap}{name} {} {}\n", key.algorithm(), key.public_key_base64());
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    // One write: another ssh may be appending as well.
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

struct Line<'a> {
    marker: Marker,
    /// The key's type as written.
    kind: &'a str,
    /// `None` if it cannot be read: then it is a recorded key that nothing equals.
    key: Option<PublicKey>,
}

#[derive(Clone, Copy, PartialEq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

/// The lines about `name`, each with its place.
fn lines_for<'a>(
    files: &'a [Source],
    name: &'a str,
) -> impl Iterator<Item = (String, Line<'a>)> + 'a {
    files.iter().flat_map(move |file| {
        file.text.lines().enumerate().filter_map(move |(index, text)| {
            let line = parse_line(text, name)?;
            Some((format!("{}, line {}", file.name, index + 1), line))
        })
    })
}

/// The line, if it is about `name`.
fn parse_line<'a>(text: &'a str, name: &str) -> Option<Line<'a>> {
    let mut fields = text.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
    let mut hosts = fields.next().filter(|field| !field.starts_with('#'))?;
    let mut marker = Marker::None;
    if hosts.starts_with('@') {
        marker = match hosts {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::Authority,
            _ => return None,
        };
        hosts = fields.next()?;
    }
    if !names(hosts, name) {
        return None;
    }
    let kind = fields.next().unwrap_or("unreadable");
    let key = fields.next().and_then(|base64| parse_public_key_base64(base64).ok());
    Some(Line { marker, kind, key })
}

fn names(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return is_hash_of(hashed, name).unwrap_or(false);
    }
    let hosts = hosts.to_ascii_lowercase();
    list_matches(hosts.split(',').filter(|pattern| !pattern.is_empty()), name)
}

/// Whether `salt|hash` stands for `name`: HMAC-SHA1, a disguise rather than a protection.
fn is_hash_of(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let (salt, hash) = (Base64::decode_vec(salt).ok()?, Base64::decode_vec(hash).ok()?);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Some(hmac::verify(&key, name.as_bytes(), &hash).is_ok())
}

fn hashed_name(name: &str) -> io::Result<String> {
    let mut salt = [0; 20];
    SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    let hash = hmac::sign(&key, name.as_bytes());
    Ok(format!("|1|{}|{}", Base64::encode_string(&salt), Base64::encode_string(hash.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN+Wjn4+4Fcvl2JlKpggT+wCRxpSvtqqpVrQrKN1/A22";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";

    fn key(line: &str) -> PublicKey {
        parse_public_key_base64(line.split(' ').nth(1).unwrap()).unwrap()
    }

    fn verdict(text: &str, name: &str, offered: &str) -> Verdict {
        let files = [Source { name: "known_hosts".into(), text: text.into() }];
        check(&files, name, &key(offered))
    }

    fn changed(line: usize, recorded: &str) -> Verdict {
        Verdict::Changed { place: format!("known_hosts, line {line}"), recorded: recorded.into() }
    }

    #[test]
    fn finds_names_however_they_are_written() {
        for line in [
            format!("new.example.com {ONE}"),
            format!("a,new.example.com,b\t{ONE} comment"),
            format!("  *.example.com,!old.example.com   {ONE}"),
            format!("NEW.example.com {ONE}\r"),
            format!("{} {ONE}", hashed_name("new.example.com").unwrap()),
            format!("# new.example.com {TWO}\n\nnew.example.com {ECDSA}\nnew.example.com {ONE}"),
        ] {
            assert_eq!(verdict(&line, "new.example.com", ONE), Verdict::Known, "{line}");
        }
    }

    #[test]
    fn another_port_is_another_host() {
        let text = format!("new {TWO}\n[new]:2222 {ONE}");
        assert_eq!(verdict(&text, &record_name("NEW", 2222), ONE), Verdict::Known);
        assert_eq!(verdict(&text, &record_name("new", 22), ONE), changed(1, "ssh-ed25519"));
        assert_eq!(
            verdict(&text, &record_name("new", 23), ONE),
            Verdict::Unknown { authority: false }
        );
    }

    #[test]
    fn another_key_or_another_algorithm_is_a_change() {
        let text = format!("\nnew {TWO}");
        assert_eq!(verdict(&text, "new", ONE), changed(2, "ssh-ed25519"));
        assert_eq!(verdict(&text, "new", ECDSA), changed(2, "ssh-ed25519"));
        assert_eq!(verdict("new ssh-dss AAAA", "new", ONE), changed(1, "ssh-dss"));
    }

    #[test]
    fn a_revoked_key_is_refused_even_where_it_is_recorded_too() {
        let text = format!("new {ONE}\n@revoked * {ONE}\n@revoked * {TWO}");
        let revoked = |line| Verdict::Revoked { place: format!("known_hosts, line {line}") };
        assert_eq!(verdict(&text, "new", ONE), revoked(2));
        assert_eq!(verdict(&text, "new", TWO), revoked(3));
        assert_eq!(verdict(&text, "new", ECDSA), changed(1, "ssh-ed25519"));
    }

    #[test]
    fn an_authority_does_not_make_its_own_key_a_host_key() {
        let text = format!("@cert-authority * {ONE}");
        assert_eq!(verdict(&text, "new", ONE), Verdict::Unknown { authority: true });
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&[dir.path().to_owned()]).is_err());
        assert!(read(&[dir.path().join("absent")]).unwrap().is_empty());
    }

    #[test]
    fn a_recorded_key_is_known_and_the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssh/known_hosts");
        append(&path, "new", &key(ONE), true).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end()).unwrap();
        append(&path, "[old]:2222", &key(ECDSA), false).unwrap();
        let files = read(std::slice::from_ref(&path)).unwrap();
        assert_eq!(check(&files, "new", &key(ONE)), Verdict::Known);
        assert_eq!(check(&files, "[old]:2222", &key(ECDSA)), Verdict::Known);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!files[0].text.contains("new"), "the name is hashed: {}", files[0].text);
    }

    #[test]
    fn openssh_understands_our_hashes_and_we_its() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        std::fs::write(&path, format!("theirs {TWO}\n")).unwrap();
        let keygen = |words: &[&str]| {
            let output =
                std::process::Command::new("ssh-keygen").args(words).arg("-f").arg(&path).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        keygen(&["-H"]);
        append(&path, "ours", &key(ONE), true).unwrap();
        assert!(keygen(&["-F", "ours"]).contains(ONE));
        let files = read(std::slice::from_ref(&path)).unwrap();
        assert_eq!(check(&files, "theirs", &key(TWO)), Verdict::Known);
        assert_eq!(recorded_algorithms(&files, "theirs"), [Algorithm::Ed25519]);
    }
}

//! Questions only a person can answer: is this the right host key, and the secrets of the login.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::secret::Secret;

/// Answers questions that come up while logging in. The calls may block: they are made on a
/// blocking thread, one at a time for a connection.
pub trait Prompt: Send + Sync {
    /// Whether `key` is really the key of that host. Only an explicit yes is a yes.
    fn confirm_host_key(&self, key: &OfferedKey) -> bool;

    /// The passphrase of a key file; `None` to do without that key.
    fn passphrase(&self, key_file: &Path) -> Option<Secret>;

    /// The password of `account` (`user@host`); `None` to do without.
    fn password(&self, account: &str) -> Option<Secret>;

    /// The answer to a question of the server (keyboard-interactive), such as a one-time code.
    /// `echo`: what is typed may be seen. `None` to do without.
    fn answer(&self, account: &str, question: &str, echo: bool) -> Option<Secret>;

    /// Whether anybody is there to ask. If not, methods that need an answer are not tried.
    fn is_present(&self) -> bool;
}

/// A host key that is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedKey {
    /// The host as the operator named it.
    pub host: String,
    /// The name under which it would be recorded: `[host]:port` off port 22.
    pub record_name: String,
    /// `ssh-ed25519`
    pub algorithm: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// A @cert-authority line covers the host, and it did not show a certificate.
    pub authority: bool,
}

/// Nobody to ask: every question is answered with no.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn confirm_host_key(&self, _: &OfferedKey) -> bool {
        false
    }

    fn passphrase(&self, _: &Path) -> Option<Secret> {
        None
    }

    fn password(&self, _: &str) -> Option<Secret> {
        None
    }

    fn answer(&self, _: &str, _: &str, _: bool) -> Option<Secret> {
        None
    }

    fn is_present(&self) -> bool {
        false
    }
}

/// Asks on the controlling terminal, whatever standard input and output are.
#[derive(Clone, Copy, Debug, Default)]
pub struct TerminalPrompt;

impl Prompt for TerminalPrompt {
    fn confirm_host_key(&self, key: &OfferedKey) -> bool {
        let authority = if key.authority {
            "A certificate authority is recorded for it, but it did not show a certificate.\n"
        } else {
            ""
        };
        let question = format!(
            "{} is not known yet. Its {} key has the fingerprint\n  {}\n{authority}\
             Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on that machine.\n\
             Is this the right machine (yes/no)? ",
            key.record_name, key.algorithm, key.fingerprint
        );
        for _ in 0..3 {
            match ask(&question, true) {
                Ok(Some(answer)) if answer.expose() == "yes" => return true,
                Ok(Some(answer)) if answer.expose() != "no" => continue,
                Ok(_) | Err(_) => return false,
            }
        }
        false
    }

    fn passphrase(&self, key_file: &Path) -> Option<Secret> {
        ask(&format!("Passphrase of {}: ", key_file.display()), false).ok().flatten()
    }

    fn password(&self, account: &str) -> Option<Secret> {
        ask(&format!("Password of {account}: "), false).ok().flatten()
    }

    fn answer(&self, account: &str, question: &str, echo: bool) -> Option<Secret> {
        let question: String = question.chars().filter(|c| !c.is_control()).collect();
        ask(&format!("({account}) {question}"), echo).ok().flatten()
    }

    fn is_present(&self) -> bool {
        open_terminal().is_ok()
    }
}

fn open_terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Asks and reads a line; `None` for Ctrl-C, Ctrl-D or the end of input.
fn ask(question: &str, echo: bool) -> io::Result<Option<Secret>> {
    let mut terminal = open_terminal()?;
    terminal.write_all(question.as_bytes())?;
    let raw = Raw::enter(&terminal)?;
    let line = read_line(&mut (&terminal), &mut (&terminal), echo);
    drop(raw);
    terminal.write_all(b"\n")?;
    line
}

/// Keys one by one and unseen, Ctrl-C among them, until it is dropped: a signal can then not end
/// the program while the terminal is in this state.
struct Raw<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn enter(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(terminal, OptionalActions::Flush, &raw)?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// A line typed key by key, with the little editing people expect.
fn read_line(
    keys: &mut impl Read,
    screen: &mut impl Write,
    echo: bool,
) -> io::Result<Option<Secret>> {
    const LINE_BYTES_MAX: usize = 4096;
    // Reserved whole, so that growing leaves no copies behind.
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    loop {
        let mut key = [0];
        if keys.read(&mut key)? == 0 {
            return Ok(None);
        }
        match key[0] {
            b'\r' | b'\n' => return Ok(Some(into_secret(line))),
            // Ctrl-C, Ctrl-D
            3 | 4 => return Ok(None),
            // Ctrl-U
            21 => line.clear(),
            // Backspace: the whole character.
            8 | 127 => {
                while line.pop().is_some_and(|byte: u8| byte & 0xC0 == 0x80) {}
                if echo {
                    screen.write_all(b"\x08 \x08")?;
                }
            }
            byte if line.len() < LINE_BYTES_MAX => {
                line.push(byte);
                if echo {
                    screen.write_all(&[byte])?;
                }
            }
            _ => {}
        }
    }
}

fn into_secret(line: Vec<u8>) -> Secret {
    match String::from_utf8(line) {
        Ok(text) => Secret::new(text),
        Err(error) => Secret::new(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8], echo: bool) -> (Option<String>, Vec<u8>) {
        let mut screen = Vec::new();
        let line = read_line(&mut (&keys[..]), &mut screen, echo).unwrap();
        (line.map(|secret| secret.expose().to_owned()), screen)
    }

    #[test]
    fn a_typed_line_can_be_corrected_and_given_up() {
        assert_eq!(typed(b"hux\x7fnter2\n", false), (Some("hunter2".into()), Vec::new()));
        assert_eq!(typed("wrong\x15pä\x7f\x7fok\r".as_bytes(), false).0.as_deref(), Some("ok"));
        assert_eq!(typed(b"yes\n", true), (Some("yes".into()), b"yes".to_vec()));
        assert_eq!(typed(b"abc\x03", false).0, None);
        assert_eq!(typed(b"abc", false).0, None);
    }
}

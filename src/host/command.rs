//! A command as a value: argv, the user to run it as, directory, environment, input, deadline.

use std::fmt;
use std::time::Duration;

use super::quote::shell_line;

/// Who a command runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunAs {
    /// Whoever is logged in.
    #[default]
    Login,
    Root,
    User(String),
}

/// A command. Secrets may be in its input, never in argv or `env`: both are visible to every
/// user of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    argv: Vec<String>,
    run_as: RunAs,
    dir: Option<String>,
    env: Vec<(String, String)>,
    input: Vec<u8>,
    pub deadline: Option<Duration>,
}

impl Command {
    /// A command from its words. The first is the program.
    pub fn new<W: Into<String>>(argv: impl IntoIterator<Item = W>) -> Self {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        debug_assert!(!argv.is_empty(), "a command has a program");
        Command {
            argv,
            run_as: RunAs::Login,
            dir: None,
            env: Vec::new(),
            input: Vec::new(),
            deadline: None,
        }
    }

    /// A POSIX shell script with positional parameters `$1`…; no value is ever pasted into it.
    pub fn script(script: &str, parameters: &[&str]) -> Self {
        Command::new(["sh", "-c", script, "sh"]).args(parameters.iter().copied())
    }

    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.argv.push(word.into());
        self
    }

    pub fn args<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.argv.extend(words.into_iter().map(Into::into));
        self
    }

    /// The same command as the last words of another program's: `sh -c SCRIPT sh` and the like.
    pub fn wrapped<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.argv.splice(0..0, words.into_iter().map(Into::into));
        self
    }

    pub fn run_as(mut self, user: RunAs) -> Self {
        self.run_as = user;
        self
    }

    pub fn dir(mut self, dir: impl Into<String>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets an environment variable. Not for secrets: see [`Command`].
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What [`super::run`] writes to standard input before it closes it.
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    pub fn user(&self) -> &RunAs {
        &self.run_as
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// The words to execute for someone logged in as `login`: directory and environment through
    /// env(1), another user through sudo(8), or runuser(1) where the login is root.
    pub fn effective_argv(&self, login: &str) -> Vec<String> {
        let mut words = self.switch_user(login);
        if self.dir.is_some() || !self.env.is_empty() {
            words.push("env".into());
            if let Some(dir) = &self.dir {
                words.extend(["-C".into(), dir.clone()]);
            }
            words.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        }
        words.extend(self.argv.iter().cloned());
        words
    }

    fn switch_user(&self, login: &str) -> Vec<String> {
        let user = match &self.run_as {
            RunAs::Login => return Vec::new(),
            RunAs::Root => "root",
            RunAs::User(name) => name,
        };
        let words: &[&str] = if user == login {
            &[]
        } else if login == "root" {
            &["runuser", "-u", user, "--"]
        } else {
            &["sudo", "-n", "-H", "-u", user, "--"]
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// The command as an operator would type it: for messages, so without input and long scripts.
impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_CHARS_MAX: usize = 160;
        let words = match self.argv.as_slice() {
            [shell, flag, _, name, parameters @ ..]
                if shell == "sh" && flag == "-c" && name == "sh" =>
            {
                [&["sh".to_owned(), "-c".to_owned(), "…".to_owned()], parameters].concat()
            }
            words => words.to_vec(),
        };
        let line = shell_line(&words);
        match line.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(out, "{}…", &line[..end]),
            None => out.write_str(&line),
        }
    }
}

/// Whether this is sudo saying no, rather than the command itself.
pub(super) fn is_sudo_refusal(stderr: &str) -> bool {
    let refusals = [
        "sudo: a password is required",
        "sudo: a terminal is required",
        "is not in the sudoers file",
        "is not allowed to execute",
        "sudo: command not found",
        "sudo: not found",
        "sudo: sorry,",
    ];
    refusals.iter().any(|refusal| stderr.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_steps_down_with_runuser_and_others_up_with_sudo() {
        let command =
            Command::new(["id"]).run_as(RunAs::User("mastodon".into())).dir("/srv").env("A", "b c");
        assert_eq!(
            command.effective_argv("root"),
            ["runuser", "-u", "mastodon", "--", "env", "-C", "/srv", "A=b c", "id"]
        );
        assert_eq!(
            command.effective_argv("admin")[..7],
            ["sudo", "-n", "-H", "-u", "mastodon", "--", "env"]
        );
        assert_eq!(command.effective_argv("mastodon"), ["env", "-C", "/srv", "A=b c", "id"]);
        assert_eq!(Command::new(["id"]).run_as(RunAs::Root).effective_argv("root"), ["id"]);
    }

    #[test]
    fn messages_show_neither_input_nor_script() {
        let command = Command::script("umask 077; cat > \"$1\"", &["/etc/x y"]).stdin("hunter2");
        assert_eq!(command.to_string(), "sh -c … '/etc/x y'");
    }
}

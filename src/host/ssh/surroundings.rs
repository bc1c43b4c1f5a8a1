//! Whose login files are used: the one place of this part that looks at the process it runs in.

use std::path::{Path, PathBuf};

/// The user on this side, with home directory and agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    pub user: String,
    pub home: PathBuf,
    /// The socket of an SSH agent.
    pub agent: Option<PathBuf>,
}

/// Those of this process: the home directory that /etc/passwd names, as OpenSSH does it, and
/// `SSH_AUTH_SOCK`.
impl Default for Surroundings {
    fn default() -> Self {
        let uid = rustix::process::getuid().as_raw().to_string();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.len() > 5 && fields[2] == uid);
        let (user, home) = match entry {
            Some(fields) => (fields[0].to_owned(), PathBuf::from(fields[5])),
            None => (uid, std::env::home_dir().unwrap_or_else(|| "/".into())),
        };
        let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        Surroundings { user, home, agent: agent.map(PathBuf::from) }
    }
}

impl Surroundings {
    /// The path that `text` means: `~/` is the home directory.
    pub fn absolute(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None if text == "~" => self.home.clone(),
            None => Path::new(text).to_owned(),
        }
    }
}

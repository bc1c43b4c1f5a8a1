//! The proof that a server gives handles as [`super::handles`] foretells: it has the extensions of
//! OpenSSH, and a directory that is opened twice, closed and opened twice again got the handles that
//! were expected. It costs no wait of its own: whatever is posted behind it is answered behind it.
//! Every later handle is compared too.

use super::client::{Burst, Client};
use super::handles::Handles;
use super::reply::{SftpError, is_done};
use crate::wire::sftp::{Request, Response};
use bytes::Bytes;

/// Without these it is another server, or an OpenSSH from before 2014.
const EXTENSIONS: [&str; 4] = [
    "posix-rename@openssh.com",
    "statvfs@openssh.com",
    "hardlink@openssh.com",
    "fsync@openssh.com",
];

/// A proof under way.
pub(super) struct Proof {
    /// For each request the handle that is expected, or that it is done.
    expected: Vec<Option<Bytes>>,
    handles: Handles,
}

impl Proof {
    /// Posts what is to be answered to prove it, on a channel on which nothing is open, of the
    /// directory `dir`. `None` if it is not worth trying.
    pub fn post(client: &Client, burst: &mut Burst<'_>, dir: &Bytes) -> Option<Self> {
        if !EXTENSIONS.iter().all(|extension| client.offers(extension)) {
            return None;
        }
        let mut proof = Proof { expected: Vec::new(), handles: Handles::default() };
        let (zero, one) = (proof.open(burst, dir), proof.open(burst, dir));
        proof.close(burst, &zero);
        proof.close(burst, &one);
        let (one, zero) = (proof.open(burst, dir), proof.open(burst, dir));
        proof.close(burst, &one);
        proof.close(burst, &zero);
        Some(proof)
    }

    fn open(&mut self, burst: &mut Burst<'_>, dir: &Bytes) -> Bytes {
        burst.post(&Request::OpenDir { path: dir.clone() });
        let handle = self.handles.open();
        self.expected.push(Some(handle.clone()));
        handle
    }

    fn close(&mut self, burst: &mut Burst<'_>, handle: &Bytes) {
        burst.post(&Request::Close { handle: handle.clone() });
        self.handles.close(handle);
        self.expected.push(None);
    }

    /// The handles that come next, if the replies are what they should be.
    pub fn judge(self, replies: &[Result<Response, SftpError>]) -> Option<Handles> {
        let as_expected =
            |(reply, expected): (&Result<Response, _>, &Option<Bytes>)| match (reply, expected) {
                (Ok(Response::Handle(handle)), Some(expected)) => handle == expected,
                (Ok(status), None) => is_done(status),
                (Ok(_), Some(_)) | (Err(_), _) => false,
            };
        let proved = replies.len() == self.expected.len()
            && replies.iter().zip(&self.expected).all(as_expected);
        proved.then_some(self.handles)
    }
}

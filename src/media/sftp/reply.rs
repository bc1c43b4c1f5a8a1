//! What a reply gives of what was asked for, or why it does not.

use bytes::Bytes;

use crate::wire::sftp::{Attrs, NameEntry, Response, StatusCode};
use crate::wire::tree::{Failure, FailureKind};

/// Why a request did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SftpError {
    #[error("{}", status_text(*code, message))]
    Status { code: StatusCode, message: Bytes },
    #[error("the connection was lost")]
    Lost,
    #[error("the server answers something else than was asked")]
    Unexpected,
}

fn status_text(code: StatusCode, message: &[u8]) -> String {
    if message.is_empty() {
        format!("{code:?}")
    } else {
        String::from_utf8_lossy(message).into_owned()
    }
}

impl SftpError {
    pub fn is_missing(&self) -> bool {
        matches!(self, SftpError::Status { code: StatusCode::NoSuchFile, .. })
    }

    pub fn failure(self, action: &str) -> Failure {
        let kind = match &self {
            SftpError::Status { code: StatusCode::NoSuchFile, .. } => FailureKind::Vanished,
            SftpError::Status { code: StatusCode::PermissionDenied, .. } => FailureKind::Denied,
            SftpError::Lost => FailureKind::Lost,
            SftpError::Status { .. } | SftpError::Unexpected => FailureKind::Other,
        };
        Failure::new(kind, format!("cannot {action}: {self}"))
    }
}

pub(super) fn is_done(response: &Response) -> bool {
    matches!(response, Response::Status { code: StatusCode::Ok, .. })
}

pub(super) fn done(response: Response) -> Result<(), SftpError> {
    if is_done(&response) { Ok(()) } else { Err(unexpected(response)) }
}

pub(super) fn handle(response: Response) -> Result<Bytes, SftpError> {
    match response {
        Response::Handle(handle) => Ok(handle),
        other => Err(unexpected(other)),
    }
}

pub(super) fn attrs(response: Response) -> Result<Attrs, SftpError> {
    match response {
        Response::Attrs(attrs) => Ok(attrs),
        other => Err(unexpected(other)),
    }
}

pub(super) fn names(response: Response) -> Result<Option<Vec<NameEntry>>, SftpError> {
    match response {
        Response::Names(names) => Ok(Some(names)),
        Response::Status { code: StatusCode::Eof, .. } => Ok(None),
        other => Err(unexpected(other)),
    }
}

pub(super) fn name(response: Response) -> Result<Bytes, SftpError> {
    let mut names = names(response)?.unwrap_or_default();
    if names.len() == 1 { Ok(names.remove(0).name) } else { Err(SftpError::Unexpected) }
}

pub(super) fn data(response: Response) -> Result<Option<Bytes>, SftpError> {
    match response {
        Response::Data(data) => Ok(Some(data)),
        Response::Status { code: StatusCode::Eof, .. } => Ok(None),
        other => Err(unexpected(other)),
    }
}

pub(super) fn unexpected(response: Response) -> SftpError {
    match response {
        Response::Status { code: StatusCode::Ok, .. }
        | Response::Handle(_)
        | Response::Data(_)
        | Response::Names(_)
        | Response::Attrs(_)
        | Response::Extended(_) => SftpError::Unexpected,
        Response::Status { code, message } => SftpError::Status { code, message },
    }
}

//! COPY in both directions: rows as bytes that nobody looks into.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::{CopyInSink, CopyOutStream};

use super::{DatabaseError, Session};

/// Rows that come from a server.
pub(in super::super) struct CopyOut<'a> {
    session: &'a Session,
    action: &'static str,
    stream: Pin<Box<CopyOutStream>>,
}

/// Rows that go to a server. Dropped before its end, it copies nothing.
pub(in super::super) struct CopyIn<'a> {
    session: &'a Session,
    action: &'static str,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl Session {
    /// Runs a `COPY … TO STDOUT`.
    pub(in super::super) async fn copy_out(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<CopyOut<'_>, DatabaseError> {
        let stream = self.patient(action, self.client.copy_out(sql)).await?;
        Ok(CopyOut { session: self, action, stream: Box::pin(stream) })
    }

    /// Runs a `COPY … FROM STDIN`.
    pub(in super::super) async fn copy_in(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<CopyIn<'_>, DatabaseError> {
        let sink = self.patient(action, self.client.copy_in(sql)).await?;
        Ok(CopyIn { session: self, action, sink: Box::pin(sink) })
    }
}

impl CopyOut<'_> {
    /// The next row, or more; `None` at the proved end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DatabaseError> {
        let next = self.stream.try_next().await;
        next.map_err(|error| self.session.fault(self.action, &error))
    }
}

impl CopyIn<'_> {
    /// Sends a piece, of any length.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), DatabaseError> {
        let sent = self.sink.feed(piece).await;
        sent.map_err(|error| self.session.fault(self.action, &error))
    }

    /// Ends the copy; gives the number of rows.
    pub async fn finish(mut self) -> Result<u64, DatabaseError> {
        let finished = self.sink.as_mut().finish().await;
        finished.map_err(|error| self.session.fault(self.action, &error))
    }
}

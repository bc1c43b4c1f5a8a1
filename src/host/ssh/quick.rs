//! A TCP stream that acknowledges at once what it reads while a login is under way. Until the first
//! command starts, OpenSSH's server leaves Nagle's algorithm on: a short message of it then waits
//! for the acknowledgement of the one before, which the kernel puts off for 40 ms.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::sockopt::set_tcp_quickack;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More reads than a login and the first session take. Afterwards it would cost packets.
const READS_QUICK: u32 = 256;

pub(super) struct Quick {
    stream: TcpStream,
    reads_left: u32,
}

impl Quick {
    pub fn new(stream: TcpStream) -> Self {
        Quick { stream, reads_left: READS_QUICK }
    }
}

impl AsyncRead for Quick {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.reads_left > 0 && read.is_ready() {
            self.reads_left -= 1;
            // It is a wish that the kernel forgets again; without it everything only takes longer.
            let _ = set_tcp_quickack(&self.stream, true);
        }
        read
    }
}

impl AsyncWrite for Quick {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! How fast a link takes bytes: a few pieces, each twice as large as the one before, sent to the
//! helper, which answers each with a byte.

use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Helper;
use crate::host::{Host, HostError};

/// Small enough to say something soon, whatever the link.
const PIECE_BYTES_MIN: usize = 128 << 10;
const PIECE_BYTES_MAX: usize = 4 << 20;
/// No further piece is sent after this.
const TIME_MAX: Duration = Duration::from_millis(150);
const ANSWER: u8 = b'+';

/// Bytes a second that one SSH connection to `host` takes now; less than what is true where a
/// connection needs long to get up to speed. Takes a fraction of a second.
pub async fn throughput(host: &dyn Host, helper: &Helper) -> Result<u64, HostError> {
    let command = helper.command(["swallow"]);
    let lost = |_| HostError::Lost { host: host.name().to_owned(), command: command.to_string() };
    let (mut writer, mut reader, ending) = host.spawn(&command).await?.split();
    // What can be compressed says nothing; where there is no randomness it has to do.
    let mut piece = vec![0; PIECE_BYTES_MAX];
    let _ = getrandom(&mut piece, GetRandomFlags::empty());
    // Until the helper runs, and this is how long an answer takes by itself.
    ask(&mut writer, &mut reader, &[]).await.map_err(lost)?;
    let latency = ask(&mut writer, &mut reader, &[]).await.map_err(lost)?;
    let (start, mut bytes, mut rate) = (Instant::now(), PIECE_BYTES_MIN, 0);
    while bytes <= PIECE_BYTES_MAX && start.elapsed() < TIME_MAX {
        let took = ask(&mut writer, &mut reader, &piece[..bytes]).await.map_err(lost)?;
        let carrying = took.saturating_sub(latency).max(Duration::from_micros(1));
        rate = rate.max((bytes as f64 / carrying.as_secs_f64()) as u64);
        bytes *= 2;
    }
    drop((writer, reader));
    // It ends by itself; nothing depends on how.
    drop(ending);
    Ok(rate)
}

/// How long it takes until `piece` is answered.
async fn ask(
    writer: &mut (impl AsyncWrite + Unpin),
    reader: &mut (impl AsyncRead + Unpin),
    piece: &[u8],
) -> std::io::Result<Duration> {
    let start = Instant::now();
    // It fits: no piece is larger than a constant.
    writer.write_all(&(piece.len() as u32).to_le_bytes()).await?;
    writer.write_all(piece).await?;
    writer.flush().await?;
    reader.read_u8().await?;
    Ok(start.elapsed())
}

/// The other side of it: swallows pieces until the input ends.
pub async fn swallow(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    while let Ok(length) = input.read_u32_le().await {
        let mut piece = (&mut input).take(u64::from(length));
        tokio::io::copy(&mut piece, &mut tokio::io::sink()).await?;
        output.write_all(&[ANSWER]).await?;
        output.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_piece_is_answered_once_and_the_end_ends_it() {
        let (near, far) = tokio::io::duplex(1000);
        let (far_in, far_out) = tokio::io::split(far);
        let swallowing = tokio::spawn(swallow(far_in, far_out));
        let (mut reader, mut writer) = tokio::io::split(near);
        for length in [0, 1, 100_000] {
            ask(&mut writer, &mut reader, &vec![7; length]).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        swallowing.await.unwrap().unwrap();
    }
}

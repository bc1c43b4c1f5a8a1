//! How fast a link takes bytes: a few pieces, each twice as large as the one before, sent to a
//! shell that swallows each and answers it with a line. Nothing of ours has to be over there.

use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Command, Host, HostError};

/// Small enough to say something soon, whatever the link.
const PIECE_BYTES_MIN: usize = 128 << 10;
const PIECE_BYTES_MAX: usize = 4 << 20;
/// No further piece is sent after this.
const TIME_MAX: Duration = Duration::from_millis(150);
/// Takes pieces: the length on a line, then so many bytes.
const SWALLOW: &str = r#"while read -r count; do head -c "$count" >/dev/null; echo; done"#;

/// Bytes a second that one connection to `host` takes now; less than what is true where it needs
/// long to get up to speed. Takes a fraction of a second.
pub async fn throughput(host: &dyn Host) -> Result<u64, HostError> {
    let command = Command::script(SWALLOW, &[]);
    let lost = |_| HostError::Lost { host: host.name().to_owned(), command: "swallow".into() };
    let (mut writer, mut reader, ending) = host.spawn(&command).await?.split();
    // What can be compressed says nothing; where there is no randomness it has to do.
    let mut piece = vec![0; PIECE_BYTES_MAX];
    let _ = getrandom(&mut piece, GetRandomFlags::empty());
    // Until the shell runs, and this is how long an answer takes by itself.
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
    writer.write_all(format!("{}\n", piece.len()).as_bytes()).await?;
    writer.write_all(piece).await?;
    writer.flush().await?;
    reader.read_u8().await?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::local::Local;

    #[tokio::test]
    async fn each_piece_is_answered_once_and_the_end_ends_it() {
        let command = Command::script(SWALLOW, &[]);
        let spawned = Local::new().spawn(&command).await.unwrap();
        let (mut writer, mut reader, ending) = spawned.split();
        // Bytes that would mean something to a shell that took too few.
        for length in [0, 1, 100_000] {
            ask(&mut writer, &mut reader, &vec![b'\n'; length]).await.unwrap();
        }
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert_eq!(ending.await.unwrap().exit, crate::host::Exit::Code(0));
    }

    #[tokio::test]
    async fn a_machine_takes_something() {
        assert_ne!(throughput(&Local::new()).await.unwrap(), 0);
    }
}

//! The same bytes over plain TCP, in so many streams side by side: what the link gives to somebody
//! who needs neither encryption nor proof. A reference, no tool.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 256 * 1024;

/// Takes files at `listener` until the process ends.
pub fn receive(listener: TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = take(stream) {
                eprintln!("a stream: {error}");
            }
        });
    }
}

/// A line with place and path, then the bytes; one byte back when they are written. Without a path
/// every byte is answered.
fn take(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, &stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let (place, path) = line.trim_end().split_once(' ').unwrap_or(("0", ""));
    if path.is_empty() {
        return echo(&mut input, &stream);
    }
    let mut at = place.parse().map_err(io::Error::other)?;
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        file.write_all_at(&buffer[..length], at)?;
        at += length as u64;
    }
    (&stream).write_all(b".")
}

fn echo(input: &mut impl Read, mut output: &TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        output.write_all(&byte)?;
    }
    Ok(())
}

/// Sends the file `from` to the receiver at `address`, which writes it to `to`.
pub fn send(address: &str, from: &Path, to: &Path, streams: u64) -> io::Result<()> {
    let size = from.metadata()?.len();
    let part = size.div_ceil(streams).max(1);
    thread::scope(|scope| {
        let parts = (0..size).step_by(part as usize);
        let sending: Vec<_> = parts
            .map(|at| scope.spawn(move || send_part(address, from, to, at, part.min(size - at))))
            .collect();
        sending.into_iter().try_for_each(|part| part.join().expect("a sender does not panic"))
    })
}

fn send_part(address: &str, from: &Path, to: &Path, at: u64, length: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("{at} {}\n", to.display()).as_bytes())?;
    let file = File::open(from)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut sent = 0;
    while sent < length {
        let part = (length - sent).min(BUFFER_BYTES as u64) as usize;
        file.read_exact_at(&mut buffer[..part], at + sent)?;
        stream.write_all(&buffer[..part])?;
        sent += part as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])
}

/// The shortest of `count` round trips to the receiver at `address`.
pub fn round_trip(address: &str, count: u32) -> io::Result<Duration> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(b"0\n")?;
    let mut shortest = Duration::MAX;
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
        shortest = shortest.min(start.elapsed());
    }
    Ok(shortest)
}

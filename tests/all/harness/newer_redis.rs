//! A Redis from the future: a door to a real one that says it has another version, and dumps in
//! another format. What it says otherwise is the real one's word.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What it says of itself.
pub const VERSION: &str = "99.0.1";
/// The format of its dumps: higher than any Redis has.
pub const FORMAT: u16 = 999;

/// Listens until the test ends.
pub struct NewerRedis {
    port: u16,
}

impl NewerRedis {
    /// In front of the Redis on `port` of loopback.
    pub fn of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let own = listener.local_addr().expect("a bound socket has an address").port();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(("127.0.0.1", port)).expect("the real one is there");
                serve(near, far).expect("a socket can be cloned");
            }
        });
        NewerRedis { port: own }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Passes requests on, and answers back, each answer in the order of its request.
fn serve(near: TcpStream, far: TcpStream) -> io::Result<()> {
    let (near_in, far_in) = (near.try_clone()?, far.try_clone()?);
    let (asked, answered) = channel();
    thread::spawn(move || {
        // The end of a connection is no failure: whoever asked is gone.
        let _ = requests(BufReader::new(near_in), &far, &asked);
        let _ = far.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = answers(BufReader::new(far_in), &near, &answered);
        let _ = near.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn requests(
    mut from: BufReader<TcpStream>,
    mut to: &TcpStream,
    asked: &Sender<String>,
) -> io::Result<()> {
    loop {
        let mut raw = Vec::new();
        let mut words: Vec<Vec<u8>> = Vec::new();
        value(&mut from, &mut raw, &mut |word| {
            words.push(word.clone());
            word
        })?;
        let name = words.first().map(|word| String::from_utf8_lossy(word).to_uppercase());
        let _ = asked.send(name.unwrap_or_default());
        to.write_all(&raw)?;
    }
}

fn answers(
    mut from: BufReader<TcpStream>,
    mut to: &TcpStream,
    asked: &Receiver<String>,
) -> io::Result<()> {
    loop {
        let mut raw = Vec::new();
        // A value begins when its request is sent, never before.
        from.fill_buf()?;
        let name = asked.recv().unwrap_or_default();
        value(&mut from, &mut raw, &mut |text| match name.as_str() {
            "INFO" => renamed(&text),
            "DUMP" => reformatted(text),
            _ => text,
        })?;
        to.write_all(&raw)?;
    }
}

fn renamed(info: &[u8]) -> Vec<u8> {
    let lines = std::str::from_utf8(info).expect("INFO is text").split("\r\n");
    let line = |line: &str| match line.split_once(':') {
        Some(("redis_version", _)) => format!("redis_version:{VERSION}"),
        Some(_) | None => line.to_owned(),
    };
    lines.map(line).collect::<Vec<_>>().join("\r\n").into_bytes()
}

/// A dump ends with two bytes of format and eight of checksum.
fn reformatted(mut dump: Vec<u8>) -> Vec<u8> {
    if let Some(at) = dump.len().checked_sub(10) {
        dump[at..at + 2].copy_from_slice(&FORMAT.to_le_bytes());
    }
    dump
}

/// Reads one value of the protocol (RESP) into `raw`, its strings changed by `edit`.
fn value(
    from: &mut BufReader<TcpStream>,
    raw: &mut Vec<u8>,
    edit: &mut dyn FnMut(Vec<u8>) -> Vec<u8>,
) -> io::Result<()> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8_lossy(&line[1..]);
    let count = || text.trim_end().parse::<i64>().unwrap_or(0).max(0) as u64;
    let nested = match line[0] {
        b'$' if !text.starts_with('-') => {
            let mut bytes = vec![0; count() as usize + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            let bytes = edit(bytes);
            raw.extend(format!("${}\r\n", bytes.len()).into_bytes());
            raw.extend(bytes);
            raw.extend(b"\r\n");
            return Ok(());
        }
        b'*' | b'~' | b'>' => count(),
        b'%' => 2 * count(),
        _ => 0,
    };
    raw.extend(&line);
    (0..nested).try_for_each(|_| value(from, raw, edit))
}

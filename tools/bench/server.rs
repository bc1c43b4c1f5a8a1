//! The machine that everything is copied to: an sshd on loopback, or one behind a slow link.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;

use super::harness::sshd::Sshd;
use super::wan::line::Spec;
use super::wan::link::{FAR, Link};
use super::wan::streams;

pub struct Server {
    pub sshd: Sshd,
    pub address: &'static str,
    /// Takes the bytes of plain streams.
    pub streams: Option<String>,
}

impl Server {
    pub fn here() -> Self {
        Server { sshd: Sshd::start(), address: "127.0.0.1", streams: None }
    }

    /// One at the far end of `link`.
    pub fn beyond(link: &Link) -> Result<Self, String> {
        let listen = format!("ListenAddress {FAR}");
        let sshd = link.at_far(move || Sshd::builder().config(&listen).start());
        let known = OpenOptions::new().append(true).open(sshd.known_hosts());
        known
            .and_then(|mut file| write!(file, "\n[{FAR}]:{} {}\n", sshd.port(), sshd.host_key()))
            .map_err(|error| format!("write known_hosts: {error}"))?;
        let listener = link.at_far(|| TcpListener::bind((FAR, 0)));
        let listener = listener.map_err(|error| format!("listen: {error}"))?;
        let streams = listener.local_addr().map_err(|error| error.to_string())?.to_string();
        link.at_far(move || drop(std::thread::spawn(move || streams::receive(listener))));
        Ok(Server { sshd, address: FAR, streams: Some(streams) })
    }
}

/// `RTT_MS,MBIT[,BUFFER_MS[,LOSS_PERCENT]]`.
pub fn spec(text: &str) -> Option<Spec> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.parse().ok()).collect();
    match numbers?.as_slice() {
        [rtt, mbit] => Some(Spec::of(*rtt, *mbit, None, 0.0)),
        [rtt, mbit, buffer] => Some(Spec::of(*rtt, *mbit, Some(*buffer), 0.0)),
        [rtt, mbit, buffer, loss] => Some(Spec::of(*rtt, *mbit, Some(*buffer), *loss)),
        _ => None,
    }
}

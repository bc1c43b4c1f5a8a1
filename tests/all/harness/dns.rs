//! A small DNS server on loopback that answers from a list of records.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, rdata};

/// Answers on UDP until it is dropped. Names that it holds no record of do not exist.
pub struct Dns {
    address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// One on any free port of 127.0.0.1.
    pub fn start(zone: &[(&str, u32, &str, &str)]) -> Self {
        Dns::start_on("127.0.0.1:0".parse().expect("an address"), zone)
    }

    /// One on that address. `zone` holds name, TTL, type (A, AAAA, CNAME, NS) and data.
    pub fn start_on(address: SocketAddr, zone: &[(&str, u32, &str, &str)]) -> Self {
        let socket = UdpSocket::bind(address).expect("bind a loopback port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set a timeout");
        let address = socket.local_addr().expect("its address");
        let records = Arc::new(Mutex::new(zone.iter().map(record).collect::<Vec<_>>()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (held, stop) = (records.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::SeqCst) {
                let Ok((count, client)) = socket.recv_from(&mut buffer) else { continue };
                let held = held.lock().expect("the records").clone();
                if let Some(answer) = answer(&buffer[..count], &held) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Dns { address, records, stopped, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these records from now on.
    pub fn change(&self, zone: &[(&str, u32, &str, &str)]) {
        *self.records.lock().expect("the records") = zone.iter().map(record).collect();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).expect("a name")
}

fn record(&(owner, ttl, kind, data): &(&str, u32, &str, &str)) -> Record {
    let data = match kind {
        "CNAME" => RData::CNAME(rdata::CNAME(name(data))),
        "NS" => RData::NS(rdata::NS(name(data))),
        _ => match data.parse().expect("an address") {
            IpAddr::V4(address) => RData::A(rdata::A(address)),
            IpAddr::V6(address) => RData::AAAA(rdata::AAAA(address)),
        },
    };
    Record::from_rdata(name(owner), ttl, data)
}

fn answer(request: &[u8], records: &[Record]) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).ok()?;
    let query = request.queries.first()?.clone();
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.message_type = MessageType::Response;
    response.metadata.authoritative = true;
    response.add_query(query.clone());
    let mut asked = query.name().clone();
    let mut exists = false;
    loop {
        let owned = records.iter().filter(|record| record.name == asked);
        let mut alias = None;
        for record in owned {
            exists = true;
            if record.record_type() == query.query_type() {
                response.add_answer(record.clone());
            } else if let RData::CNAME(target) = &record.data {
                response.add_answer(record.clone());
                alias = Some(target.0.clone());
            }
        }
        match alias {
            Some(target) if query.query_type() != RecordType::CNAME => asked = target,
            Some(_) | None => break,
        }
    }
    if !exists {
        response.metadata.response_code = ResponseCode::NXDomain;
    }
    response.to_vec().ok()
}

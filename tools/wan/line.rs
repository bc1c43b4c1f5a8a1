//! One direction of a link, without the clock and the devices: packets in, packets out when it is
//! time. A packet waits behind those before it until the line has sent it at its rate, and is on
//! its way for the delay; where too much waits already, it is dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// With less than this not even one packet of many segments would pass.
const BUFFER_BYTES_MIN: u64 = 64 * 1024;

/// What a link is like, each direction by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// One way.
    pub delay: Duration,
    pub bits_per_sec: f64,
    /// What may wait for the line to be free.
    pub buffer_bytes: u64,
    /// Of packets, 0 to 1.
    pub loss: f64,
}

impl Spec {
    /// Half the round trip each way; without a word on the buffer, what the line carries in a round
    /// trip.
    pub fn of(rtt_ms: f64, mbit: f64, buffer_ms: Option<f64>, loss_percent: f64) -> Self {
        let bits_per_sec = mbit * 1e6;
        let buffer_bytes = bits_per_sec / 8.0 * buffer_ms.unwrap_or(rtt_ms) / 1e3;
        Spec {
            delay: Duration::from_secs_f64(rtt_ms / 2e3),
            bits_per_sec,
            buffer_bytes: (buffer_bytes as u64).max(BUFFER_BYTES_MIN),
            loss: loss_percent / 100.0,
        }
    }
}

/// One direction.
pub struct Line<P> {
    spec: Spec,
    /// When all that waits will have been sent.
    free: Instant,
    under_way: VecDeque<(Instant, P)>,
    numbers: u64,
    pub counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
    /// Found the buffer full.
    pub dropped: u64,
    /// Chance.
    pub lost: u64,
}

impl<P> Line<P> {
    pub fn new(spec: Spec, now: Instant) -> Self {
        let under_way = VecDeque::new();
        Line {
            spec,
            free: now,
            under_way,
            numbers: 0x9e37_79b9_7f4a_7c15,
            counts: Counts::default(),
        }
    }

    /// Takes a packet that is `bytes` long on the wire; a packet that is lost is given back.
    pub fn take(&mut self, now: Instant, packet: P, bytes: u64) -> Option<P> {
        let start = self.free.max(now);
        let waiting_bytes = (start - now).as_secs_f64() * self.spec.bits_per_sec / 8.0;
        if waiting_bytes + bytes as f64 > self.spec.buffer_bytes as f64 {
            self.counts.dropped += 1;
            return Some(packet);
        }
        self.free = start + Duration::from_secs_f64(bytes as f64 * 8.0 / self.spec.bits_per_sec);
        if self.chance() < self.spec.loss {
            self.counts.lost += 1;
            return Some(packet);
        }
        self.counts.packets += 1;
        self.counts.bytes += bytes;
        self.under_way.push_back((self.free + self.spec.delay, packet));
        None
    }

    /// When the next packet arrives.
    pub fn due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// A packet that has arrived by `now`.
    pub fn give(&mut self, now: Instant) -> Option<P> {
        self.under_way.pop_front_if(|(due, _)| *due <= now).map(|(_, packet)| packet)
    }

    /// From 0 to 1; the same sequence each time (xorshift64).
    fn chance(&mut self) -> f64 {
        self.numbers ^= self.numbers << 13;
        self.numbers ^= self.numbers >> 7;
        self.numbers ^= self.numbers << 17;
        (self.numbers >> 11) as f64 / (1_u64 << 53) as f64
    }
}

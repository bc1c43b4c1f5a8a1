//! A link that can be cut or stalled: a TCP forwarder on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// Forwards connections to its own port on to another port of 127.0.0.1.
pub struct Proxy {
    port: u16,
    link: Arc<Link>,
}

#[derive(Default)]
struct Link {
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicUsize,
}

#[derive(Default)]
struct State {
    streams: Vec<TcpStream>,
    stalled: bool,
    refusing: bool,
    closed: bool,
}

impl Proxy {
    pub fn to(target_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let link = Arc::new(Link::default());
        let accepting = link.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if accepting.lock().closed {
                    break;
                }
                accepting.accept(near, target_port);
            }
        });
        Proxy { port, link }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections accepted so far, refused ones included.
    pub fn accepted(&self) -> usize {
        self.link.accepted.load(Ordering::SeqCst)
    }

    /// Closes every connection there is; new ones work.
    pub fn cut(&self) {
        for stream in self.link.lock().streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.link.changed.notify_all();
    }

    /// While `true`, nothing passes in either direction, and nobody is told.
    pub fn stall(&self, stalled: bool) {
        self.link.lock().stalled = stalled;
        self.link.changed.notify_all();
    }

    /// While `true`, new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.link.lock().refusing = refusing;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.lock().closed = true;
        self.cut();
        // Wakes the accepting thread, so that it sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn accept(self: &Arc<Self>, near: TcpStream, target_port: u16) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.lock().refusing {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", target_port)) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let link = self.clone();
            thread::spawn(move || link.pump(from, to));
        }
        self.lock().streams.extend([near, far]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            let mut state = self.lock();
            while state.stalled && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            drop(state);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

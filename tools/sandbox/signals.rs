//! Ctrl-C and TERM as a flag, so that whatever was started is stopped on the way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Set once somebody asked us to stop.
#[derive(Clone)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub fn watch() -> Interrupted {
        let flag = Interrupted(Arc::default());
        let seen = flag.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("start the runtime").block_on(async {
                let kinds =
                    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [mut first, mut second, mut third] =
                    kinds.map(|kind| signal(kind).expect("signals can be taken over"));
                loop {
                    tokio::select! {
                        _ = first.recv() => {}
                        _ = second.recv() => {}
                        _ = third.recv() => {}
                    }
                    seen.0.store(true, Ordering::SeqCst);
                }
            });
        });
        flag
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

//! A wire between two hosts that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes bytes on between clients and one server until told otherwise.
pub struct Proxy {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    server: Mutex<Option<String>>,
    /// Bytes that may still pass, both ways together.
    left: AtomicU64,
    passed: AtomicU64,
    is_frozen: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    has_ended: AtomicBool,
}

impl Proxy {
    /// A wire that leads nowhere yet.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let state = Arc::new(State { left: AtomicU64::new(u64::MAX), ..State::default() });
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if served.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                let server = served.server.lock().unwrap().clone();
                let (Ok(client), Some(server)) = (client, server) else { continue };
                let Ok(server) = TcpStream::connect(server) else { continue };
                served.join(client, server);
            }
        });
        Self { address, state }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `failback://127.0.0.1:PORT/EXPORT`.
    pub fn url(&self, export: &str) -> String {
        format!("failback://{}/{export}", self.address)
    }

    /// Where it leads, for new connections.
    pub fn lead_to(&self, server: &str) {
        *self.state.server.lock().unwrap() = Some(server.to_owned());
    }

    /// Bytes that passed, both ways together.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Cuts everything once so many more bytes have passed.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::Relaxed);
    }

    /// Nothing passes any more, and nobody is told.
    pub fn freeze(&self) {
        self.state.is_frozen.store(true, Ordering::Relaxed);
    }

    /// Closes what there is, in one or both directions, and lets new connections through.
    pub fn close(&self, how: Shutdown) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(how);
        }
        self.state.left.store(u64::MAX, Ordering::Relaxed);
        self.state.is_frozen.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::Relaxed);
        self.close(Shutdown::Both);
        let _ = TcpStream::connect(&self.address);
    }
}

impl State {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let again = |stream: &TcpStream| stream.try_clone().expect("there are descriptors");
        self.streams.lock().unwrap().extend([again(&client), again(&server)]);
        for (from, to) in [(again(&client), again(&server)), (server, client)] {
            let state = Arc::clone(self);
            thread::spawn(move || state.pass(from, to));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            while self.is_frozen.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            let take = |left: u64| (left < u64::MAX).then(|| left.saturating_sub(count as u64));
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(u64::MAX);
            let through = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if to.write_all(&buffer[..through]).is_err() {
                break;
            }
            self.passed.fetch_add(through as u64, Ordering::Relaxed);
            if through < count {
                for stream in [&from, &to] {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

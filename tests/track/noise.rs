//! A busy machine: a thread that takes a processor away, and another program
//! on the same tracepoints.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use failback_datapath::sys::bpf;

/// `r0 = 0`, `r0 += 1`, `exit`.
const SET: u64 = 0xb7;
const ADD: u64 = 0x1_0000_0007;
const EXIT: u64 = 0x95;

/// Noise until it is dropped.
pub struct Noise {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _links: Vec<OwnedFd>,
}

impl Noise {
    pub fn new() -> Self {
        let code: Vec<u64> = [SET].into_iter().chain([ADD; 2000]).chain([SET, EXIT]).collect();
        let links = [c"block_rq_issue", c"block_rq_complete"].map(|tracepoint| {
            let program = bpf::load("noise", &code).unwrap_or_else(|refused| panic!("{refused:?}"));
            bpf::attach(tracepoint, program.as_fd()).expect("the tracepoint is there")
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let spin = || {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = vec![spin()];
        Self { is_over, threads, _links: links.into() }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it only spins"));
    }
}

//! When a write has landed: a block of the source that holds the time, and the
//! same block of the target. What is found there is as old as the target is
//! behind, whatever agent and master target say of themselves.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use failback_datapath::sys::{Arena, Buffer};
use nix::libc::O_DIRECT;

use crate::error::Error;
use crate::ground::LoopDevice;

/// The block: the last of the disk, past the end of its filesystem.
const BLOCK_BYTES: u64 = 4096;
/// Twice as often the target is looked at as the source is written.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// Writes the time and looks for it, until it is ended.
pub struct Probe {
    is_over: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    thread: Option<JoinHandle<io::Result<Vec<u64>>>>,
    source: PathBuf,
}

impl Probe {
    /// Starts on a source and its target.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn start([source, target]: [&LoopDevice; 2]) -> Result<Self, Error> {
        let open = |device: &LoopDevice, write: bool| {
            let file = OpenOptions::new().read(true).write(write).custom_flags(O_DIRECT).open(device.path());
            file.map_err(Error::at("open", device.path()))
        };
        let look = Look {
            source: open(source, true)?,
            target: open(target, false)?,
            place: source.size_bytes - BLOCK_BYTES,
            is_over: Arc::default(),
            seen: Arc::default(),
        };
        let (is_over, seen) = (Arc::clone(&look.is_over), Arc::clone(&look.seen));
        let thread = Some(thread::spawn(move || look.run()));
        Ok(Self { is_over, seen, thread, source: source.path().to_owned() })
    }

    /// How many lags it saw so far: none before its first write has landed.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends it: the lags that it saw, in milliseconds, in order.
    ///
    /// # Errors
    /// It could not write or read.
    pub fn end(mut self) -> Result<Vec<u64>, Error> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        let died = || Err(io::Error::other("its thread died"));
        ended.unwrap_or_else(died).map_err(Error::at("follow a block of", &self.source))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It holds the devices open.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Look {
    source: File,
    target: File,
    place: u64,
    is_over: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
}

impl Look {
    fn run(self) -> io::Result<Vec<u64>> {
        let size = NonZeroUsize::new(4096).ok_or(io::ErrorKind::InvalidInput)?;
        let mut buffers = Arena::buffers(1, size)?;
        let buffer = buffers.first_mut().ok_or(io::ErrorKind::OutOfMemory)?;
        let (begun, mut lags) = (Instant::now(), Vec::new());
        let now_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // What an earlier probe has left is not taken for a time of this one.
        let mark = RandomState::new().hash_one(std::process::id());
        while !self.is_over.load(Ordering::Relaxed) {
            self.write(buffer, mark, now_ms())?;
            for _ in 0..2 {
                thread::sleep(LOOKS_EVERY);
                self.target.read_exact_at(buffer.bytes_mut(), self.place)?;
                let [found, landed_ms] = [0, 8].map(|from| word_at(buffer.bytes(), from));
                if found == mark {
                    lags.push(now_ms().saturating_sub(landed_ms));
                    self.seen.store(lags.len(), Ordering::Relaxed);
                }
            }
        }
        Ok(lags)
    }

    fn write(&self, buffer: &mut Buffer, mark: u64, now_ms: u64) -> io::Result<()> {
        let block = buffer.bytes_mut();
        block[..8].copy_from_slice(&mark.to_le_bytes());
        block[8..16].copy_from_slice(&now_ms.to_le_bytes());
        self.source.write_all_at(block, self.place)
    }
}

fn word_at(bytes: &[u8], from: usize) -> u64 {
    bytes[from..from + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

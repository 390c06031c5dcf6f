//! Somebody who works on the machine all the time: numbered lines, each flushed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::command::demo::error::Error;

/// The file in the root of the filesystem.
const FILE: &str = "work.log";

/// Between two lines.
const PAUSE: Duration = Duration::from_millis(1);

/// A thread that writes until it is dropped.
pub struct Writer {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts to write in the folder `root`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn start(root: &Path) -> Result<Self, Error> {
        let path = root.join(FILE);
        let mut file = File::create(&path).map_err(Error::at("make", &path))?;
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends) = (Arc::clone(&written), Arc::clone(&stop));
        let write = move || {
            while !ends.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed) + 1;
                // A full disk ends the work; what was written counts.
                if writeln!(file, "{number}").and_then(|()| file.sync_data()).is_err() {
                    return;
                }
                count.store(number, Ordering::Release);
                std::thread::sleep(PAUSE);
            }
        };
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(write);
        let thread = thread.map_err(Error::at("write to", root))?;
        Ok(Self { written, stop, thread: Some(thread) })
    }

    /// The last number that is surely on the disk.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It tells its panics itself.
            let _ended = thread.join();
        }
    }
}

/// The last whole line that a writer left in the folder `root`; 0 for none.
///
/// # Errors
/// [`Error::System`].
pub fn last(root: &Path) -> Result<u64, Error> {
    let path = root.join(FILE);
    let text = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().next_back().and_then(|line| line.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_the_last_whole_one_is_found() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let writer = Writer::start(folder.path()).expect("it starts");
        while writer.written() < 3 {
            std::thread::sleep(PAUSE);
        }
        let before = writer.written();
        writer.stop();
        assert!(last(folder.path()).expect("it is there") >= before);
        fs::write(folder.path().join(FILE), "1\n2\n3").expect("a file");
        assert_eq!(last(folder.path()).expect("it is there"), 2);
    }
}

//! The clocks of this host, as a master target knows them: there is one wall clock
//! for all journals, and what is known of it outlives a process and a boot.
//!
//! `RETENTION/.master-target/clock.json` says when the wall clock was last known to
//! be right, by both clocks, and whether somebody watched them from then on in
//! that boot:
//!
//! ```json
//! {"version":1,"boot_id":"4f3c0c1e-0000-4000-8000-000000000001",
//!  "wall_unix_ms":1795254000000,"running_ms":86400000,"is_watched":true}
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::journal::{Believed, Clock, ClockWatch, Paused};
use crate::{landing, limits};

/// The name of the record.
pub(super) const RECORD: &str = "clock.json";

const VERSION: u32 = 1;

/// A record is some two hundred bytes; a larger file is not one of ours.
const RECORD_BYTES_MAX: u64 = 4096;

/// What is known of the clocks of this host; its clones know the same.
#[derive(Clone, Default)]
pub struct SharedClock(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    watch: ClockWatch,
    keeper: Option<Keeper>,
}

/// Writes the record, seldom.
struct Keeper {
    path: PathBuf,
    boot_id: String,
    /// By the running clock.
    written_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    boot_id: String,
    #[serde(flatten)]
    known: Believed,
    is_watched: bool,
}

impl Record {
    /// What is at `path`; `None` where there is nothing.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(RECORD_BYTES_MAX).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Self = serde_json::from_str(&text)?;
        if record.version == VERSION { Ok(Some(record)) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// What it means in the boot `boot_id`.
    fn watch(&self, boot_id: &str, now: Clock, keep_seconds: u64) -> ClockWatch {
        let is_of_this_boot =
            self.boot_id == boot_id && !boot_id.is_empty() && self.known.running_ms <= now.running_ms;
        match (is_of_this_boot, self.is_watched) {
            (true, true) => ClockWatch::Agreed(self.known),
            (true, false) => ClockWatch::unwatched(self.known, keep_seconds),
            // It was off until this boot began.
            (false, _) => ClockWatch::unwatched(Believed { running_ms: 0, ..self.known }, keep_seconds),
        }
    }
}

impl SharedClock {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what earlier processes knew, and keeps the record at `path` from
    /// now on. Where there is none, the wall clock was right when the newest
    /// point was made, if there is one: `newest` says when.
    ///
    /// # Errors
    /// Where a record is there and cannot be read: it counts as none.
    pub(super) fn begin(
        &self,
        path: PathBuf,
        boot_id: String,
        newest: impl FnOnce() -> Option<u64>,
        keep_seconds: u64,
        now: Clock,
    ) -> io::Result<()> {
        let read = Record::read(&path);
        let watch = match &read {
            Ok(Some(record)) => record.watch(&boot_id, now, keep_seconds),
            Ok(None) | Err(_) => newest().map_or(ClockWatch::New, |wall_unix_ms| {
                let since = Believed { wall_unix_ms, running_ms: now.running_ms };
                ClockWatch::unwatched(since, keep_seconds)
            }),
        };
        let keeper = Some(Keeper { path, boot_id, written_ms: None });
        *self.known() = Known { watch, keeper };
        read.map(drop)
    }

    /// The time by the wall clock, in milliseconds of Unix time, if it may be
    /// believed at `now`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn look(&self, now: Clock) -> Result<u64, Paused> {
        let mut known = self.known();
        let looked = known.watch.look(now);
        // Where it cannot be written, an older record says the same, and the next
        // boot asks for a longer time.
        let _seldom = known.keep(now, false);
        looked.map(|()| now.wall_unix_ms)
    }

    /// Believes the wall clock as it is at `now`.
    ///
    /// # Errors
    /// Where that is believed by this process only: the record was not written.
    pub fn accept(&self, now: Clock) -> io::Result<()> {
        let mut known = self.known();
        known.watch.accept(now);
        known.keep(now, true)
    }
}

impl Known {
    fn keep(&mut self, now: Clock, at_once: bool) -> io::Result<()> {
        let (Some(keeper), Some(known)) = (&mut self.keeper, self.watch.known(now)) else { return Ok(()) };
        let since = |written: u64| u128::from(now.running_ms.saturating_sub(written));
        let is_due = keeper.written_ms.is_none_or(|written| since(written) >= limits::TEND_EVERY.as_millis());
        if !is_due && !at_once {
            return Ok(());
        }
        let is_watched = matches!(self.watch, ClockWatch::Agreed(_));
        let record = Record { version: VERSION, boot_id: keeper.boot_id.clone(), known, is_watched };
        landing::replace(&keeper.path, &record)?;
        keeper.written_ms = Some(now.running_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const KEEP_SECONDS: u64 = 24 * 3600;

    struct Host {
        folder: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        /// A process that starts at `now`, in the boot called `boot`.
        fn start(&self, boot: &str, newest: Option<u64>, now: Clock) -> SharedClock {
            let clock = SharedClock::default();
            let path = self.folder.path().join(RECORD);
            clock.begin(path, boot.to_owned(), || newest, KEEP_SECONDS, now).unwrap();
            clock
        }
    }

    fn at(wall_unix_ms: u64, running_ms: u64) -> Clock {
        Clock { wall_unix_ms, running_ms, is_synchronized: false }
    }

    #[test]
    fn a_jump_outlives_processes_until_it_is_accepted() {
        let host = Host::new();
        let first = host.start("boot", None, at(100 * HOUR, HOUR));
        assert_eq!(first.look(at(100 * HOUR, HOUR)), Ok(100 * HOUR));
        for _ in 0..3 {
            let ahead = at(131 * HOUR, 2 * HOUR);
            let next = host.start("boot", Some(130 * HOUR), ahead);
            assert!(
                matches!(next.look(ahead), Err(Paused::ClockJumped { by_ms }) if by_ms == 30 * 3_600_000)
            );
        }
        let right = at(103 * HOUR, 4 * HOUR);
        assert_eq!(host.start("boot", None, right).look(right), Ok(103 * HOUR));
        let ahead = at(134 * HOUR, 5 * HOUR);
        host.start("boot", None, ahead).accept(ahead).unwrap();
        assert_eq!(host.start("boot", None, ahead).look(ahead), Ok(134 * HOUR));
    }

    #[test]
    fn another_boot_is_asked_how_long_the_host_was_off() {
        let host = Host::new();
        let first = host.start("first", None, at(100 * HOUR, 50 * HOUR));
        first.look(at(100 * HOUR, 50 * HOUR)).unwrap();
        for boot in ["second", "third"] {
            let ahead = at(130 * HOUR, HOUR / 10);
            let clock = host.start(boot, Some(129 * HOUR), ahead);
            assert!(matches!(clock.look(ahead), Err(Paused::ClockUnproven { .. })), "{boot}");
            // As if one more process of this boot came.
            assert!(host.start(boot, Some(129 * HOUR), ahead).look(ahead).is_err(), "{boot}");
        }
        let synchronized = Clock { is_synchronized: true, ..at(130 * HOUR, HOUR / 5) };
        host.start("third", None, synchronized).look(synchronized).unwrap();
        let later = at(131 * HOUR, HOUR + HOUR / 5);
        host.start("third", None, later).look(later).unwrap();
    }

    #[test]
    fn without_a_record_the_newest_point_tells_the_time() {
        for record in [None, Some("{"), Some("{\"version\":9}")] {
            let host = Host::new();
            let path = host.folder.path().join(RECORD);
            if let Some(text) = record {
                std::fs::write(&path, text).unwrap();
            }
            let ahead = at(130 * HOUR, 500 * HOUR);
            let start = |newest: u64| {
                let clock = SharedClock::default();
                let begun =
                    clock.begin(path.clone(), "boot".to_owned(), || Some(newest), KEEP_SECONDS, ahead);
                (clock, begun)
            };
            let (clock, begun) = start(100 * HOUR);
            assert_eq!(begun.is_err(), record.is_some());
            assert!(clock.look(ahead).is_err());
            // A point that was made by the wrong clock makes it no better.
            let (clock, begun) = start(130 * HOUR);
            begun.unwrap();
            assert!(clock.look(ahead).is_err(), "it was doubted before");
        }
    }

    #[test]
    fn the_record_is_what_it_always_was() {
        let host = Host::new();
        let now = at(1_795_254_000_000, 86_400_000);
        host.start("4f3c", None, now).look(now).unwrap();
        let text = std::fs::read_to_string(host.folder.path().join(RECORD)).unwrap();
        let golden = "{\"version\":1,\"boot_id\":\"4f3c\",\"wall_unix_ms\":1795254000000,\
                      \"running_ms\":86400000,\"is_watched\":true}\n";
        assert_eq!(text, golden);
    }
}

//! Undoing a freeze that its watchdog did not undo.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;
use super::record::{Marks, Process, Record, State};
use super::superblock::Superblock;
use crate::disk::storage::{DeviceNumber, Host};
use crate::limits;
use crate::sys;

/// Pause between two rounds while the watchdog is still there.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What was found, and done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// These were frozen, and are thawed.
    pub thawed: Vec<String>,
    /// These are recorded as frozen, and no mount leads to them any more.
    pub missing: Vec<DeviceNumber>,
    /// The watchdog was still there, and is ended.
    pub had_watchdog: bool,
}

/// Undoes the freeze that is recorded in `folder`; `None` where none is. An agent
/// calls this when it starts, before [`Watchdog::start`](super::Watchdog::start).
///
/// The watchdog of that freeze is ended first, so that it does not thaw a later
/// one. A filesystem that the record calls frozen is thawed; whoever else froze
/// it in the moment between its record and its freeze loses that freeze.
///
/// # Errors
/// [`Error::RecordDamaged`] where the record cannot be read: nothing is done then;
/// [`Error::Thaw`] where the kernel refuses, [`Error::Unreachable`] where a mount
/// covers one of them: the others are thawed then, and the record stays.
pub fn recover(folder: &Path) -> Result<Option<Recovered>, Error> {
    let host = Host::here();
    let Some(record) = Record::read(folder)? else { return Ok(None) };
    let mut recovered = Recovered::default();
    if record.boot_id == boot_id(&host)? {
        Undoing::new(&host, folder, &record)?.run(&mut recovered)?;
    }
    Record::remove(folder)?;
    Ok(Some(recovered))
}

/// The boot id as bytes.
pub(super) fn boot_id(host: &Host) -> Result<[u8; 16], Error> {
    let text = host.boot_id()?.replace('-', "");
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_default();
    // A kernel that tells its boot in another way is the same boot to itself.
    Ok(bytes.try_into().unwrap_or_default())
}

/// Removes a record in which nothing is left to undo.
pub(super) fn close(folder: &Path) -> Result<(), Error> {
    match Record::read(folder)? {
        Some(record) if record.is_settled() => Record::remove(folder),
        _ => Ok(()),
    }
}

struct Undoing<'a> {
    record: &'a Record,
    marks: Marks,
    opened: BTreeMap<DeviceNumber, (String, File)>,
    /// Why one of them, mounted as it is, could not be opened.
    unreachable: Option<Error>,
}

impl<'a> Undoing<'a> {
    fn new(host: &Host, folder: &Path, record: &'a Record) -> Result<Self, Error> {
        let path = Record::path(folder);
        let file =
            File::options().write(true).open(&path).map_err(|source| Error::Record { path, source })?;
        let marks = Marks::of(file, record.filesystems.len());
        let mut all = Superblock::all(host)?;
        let mut undoing = Self { record, marks, opened: BTreeMap::new(), unreachable: None };
        for (number, _) in record.filesystems.iter().filter(|(_, state)| state.is_outstanding()) {
            let Some(superblock) = all.remove(number) else { continue };
            match superblock.open(host) {
                Ok(file) => {
                    undoing.opened.insert(*number, (superblock.to_string(), file));
                }
                Err(error) => undoing.unreachable = Some(error),
            }
        }
        Ok(undoing)
    }

    fn run(self, recovered: &mut Recovered) -> Result<(), Error> {
        let watchdog = self.record.watchdog;
        recovered.had_watchdog = watchdog.is_alive();
        end(watchdog);
        let deadline = Instant::now() + limits::WATCHDOG_GRACE;
        loop {
            // A freeze that the kernel is in the middle of may end after a round,
            // and may wait for what this round thaws.
            let is_last = !watchdog.is_alive() || Instant::now() > deadline;
            self.round(recovered)?;
            if is_last {
                break;
            }
            thread::sleep(AGAIN_AFTER);
        }
        if let Some(error) = self.unreachable {
            return Err(error);
        }
        let is_missing = |(number, state): &&(DeviceNumber, State)| {
            state.is_outstanding() && !self.opened.contains_key(number)
        };
        recovered.missing =
            self.record.filesystems.iter().filter(is_missing).map(|(number, _)| *number).collect();
        Ok(())
    }

    fn round(&self, recovered: &mut Recovered) -> Result<(), Error> {
        for (index, (number, state)) in self.record.filesystems.iter().enumerate().rev() {
            let Some((name, file)) = self.opened.get(number).filter(|_| state.is_outstanding()) else {
                continue;
            };
            match sys::thaw(file) {
                Ok(()) => recovered.thawed.push(name.clone()),
                // Not frozen.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(source) => return Err(Error::Thaw { superblock: name.clone(), source }),
            }
            self.marks.set(index, State::Released);
        }
        Ok(())
    }
}

/// Ends a process, if it is still the one that is meant.
fn end(process: Process) {
    if process.is_alive()
        && let Ok(number) = i32::try_from(process.identifier)
    {
        let _ended = kill(Pid::from_raw(number), Signal::SIGKILL);
    }
}

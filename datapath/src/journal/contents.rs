//! What lies in the directory of a journal, read without changing it.

use super::files::{Files, Identity, new_buffer};
use super::log::{Segments, segment_name, segment_number};
use super::open_epoch::RUN_PREFIX;
use super::record::LogPosition;
use super::shelf::{Shelf, UNFINISHED};
use super::{Error, Pair, PairState, Volume, VolumeFile, pair, reserve};
use crate::limits;
use crate::unit::{to_u64, to_usize};

pub(super) struct Contents<V: Volume> {
    pub files: Files<V>,
    pub pair: Pair,
    pub shelf: Shelf,
    pub segments: Segments,
    /// Files that a process left half made; whoever writes removes them.
    pub leftovers: Vec<String>,
}

impl<V: Volume> Contents<V> {
    pub async fn read(volume: V) -> Result<Self, Error> {
        let pair = read_pair(&volume).await?;
        let names = volume.names().map_err(|source| Error::file("the directory", "read", source))?;
        let identity = Identity { seed: pair.seed(), incarnation: pair.generation.incarnation };
        let files = Files::new(volume, identity);
        let shelf = Shelf::open(&files, &names).await?;
        let is_rewinding = matches!(pair.state, PairState::Rewinding { .. });
        if is_rewinding {
            files.adopt(&names, u64::from(pair.segment_bytes))?;
        }
        let is_left = |name: &&String| {
            let is_aside = reserve::is_piece(name) && !is_rewinding;
            is_aside || name.ends_with(UNFINISHED) || name.starts_with(RUN_PREFIX)
        };
        let leftovers = names.iter().filter(is_left).chain(&shelf.damaged).cloned().collect();
        let mut contents = Self { files, pair, shelf, segments: Segments::new(), leftovers };
        contents.find_segments(&names)?;
        Ok(contents)
    }

    /// Where reading the log begins: after the newest point that has an index.
    pub fn log_start(&self) -> Option<LogPosition> {
        self.shelf.newest().map(|table| table.header.log)
    }

    fn find_segments(&mut self, names: &[String]) -> Result<(), Error> {
        let tail = self.log_start().map_or(0, |log| log.segment);
        for number in names.iter().filter_map(|name| segment_number(name)) {
            // Only those that will be read must be measured.
            let bytes =
                if number < tail { u64::from(self.pair.segment_bytes) } else { self.measure(number)? };
            self.segments.insert(number, bytes);
        }
        let needed = self.shelf.oldest().map(|table| table.header.log.segment);
        let found = self.segments.first_key_value().map(|(number, _)| *number);
        let Some(mut expected) = needed.or(found) else {
            return Err(Error::Missing { file: segment_name(1) });
        };
        for number in self.segments.range(expected..).map(|(number, _)| *number) {
            if number != expected {
                break;
            }
            expected += 1;
        }
        let last = self.segments.last_key_value().map_or(0, |(number, _)| *number);
        if expected <= last.max(tail) {
            return Err(Error::damaged(&segment_name(expected), 0, "it is missing"));
        }
        Ok(())
    }

    fn measure(&self, number: u32) -> Result<u64, Error> {
        let name = segment_name(number);
        let file =
            self.files.volume.open(&name, false).map_err(|source| Error::file(&name, "open", source))?;
        file.size_bytes().map_err(|source| Error::file(&name, "measure", source))
    }
}

/// Reads the file that every journal has.
pub(super) async fn read_pair<V: Volume>(volume: &V) -> Result<Pair, Error> {
    let file = volume.open(pair::FILE, false).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { file: pair::FILE.to_owned() },
        _ => Error::file(pair::FILE, "open", source),
    })?;
    let size = file.size_bytes().map_err(|source| Error::file(pair::FILE, "measure", source))?;
    if size == 0 || size > limits::PAIR_BYTES_MAX || !size.is_multiple_of(4096) {
        return Err(Error::damaged(pair::FILE, 0, format!("it has {size} bytes")));
    }
    let size = to_usize(size);
    let (read, buffer) = file.read(0, new_buffer(size)?, 0..size).await;
    read.map_err(|source| Error::file(pair::FILE, "read", source))?;
    Pair::decode(&buffer.bytes()[..size])
}

/// Replaces that file as a whole.
pub(super) async fn write_pair<V: Volume>(volume: &V, pair: &Pair) -> Result<(), Error> {
    let bytes = pair.encode()?;
    let beside = format!("{}{UNFINISHED}", pair::FILE);
    let failed = |action| move |source| Error::file(pair::FILE, action, source);
    match volume.remove(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("replace")(error)),
        _ => {}
    }
    let file = volume.create(&beside, to_u64(bytes.len())).map_err(|source| {
        if super::files::is_full(&source) {
            let free_bytes = volume.free_bytes().unwrap_or(0);
            Error::Full { needed_bytes: to_u64(bytes.len()), free_bytes }
        } else {
            failed("replace")(source)
        }
    })?;
    let mut buffer = new_buffer(bytes.len())?;
    buffer.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
    let (written, _buffer) = file.write(0, buffer, 0..bytes.len()).await;
    written.map_err(failed("write"))?;
    file.flush().await.map_err(failed("flush"))?;
    volume.rename(&beside, pair::FILE).map_err(failed("replace"))?;
    volume.flush_directory().map_err(failed("replace"))
}

//! Whether a disk was written between two looks at it.
//!
//! Block devices count their writes in sysfs, whoever makes them and through
//! whatever name; files carry the times of their last change. So a mount that
//! came and went while a source was read does not go unseen.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use super::Disk;
use super::storage::{BlockDevice, DeviceNumber, Host, is_block_device};

/// What a file or device showed of its writes at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writes(Option<Vec<i64>>);

/// Fields of a block device's `stat`: sectors written, sectors discarded
/// (Documentation/block/stat.rst). Not the number of writes: a flush counts as one.
const COUNTERS: [usize; 2] = [6, 13];

impl Writes {
    /// Looks at `file`, having flushed what others had left in the page cache:
    /// reading it would do so, and would look like a write of theirs.
    pub(super) fn of(file: &File) -> Self {
        // A read-only device or filesystem has nothing to flush.
        let _nothing = file.sync_all();
        Self::look(file)
    }

    /// Whether it was written since; where nothing is known, no.
    pub(super) fn changed(&self, file: &File) -> bool {
        self.0.is_some() && *self != Self::look(file)
    }

    /// Looks at `file` and flushes nothing.
    pub(super) fn look(file: &File) -> Self {
        let Ok(metadata) = file.metadata() else { return Self(None) };
        if !is_block_device(&metadata) {
            let size = i64::try_from(metadata.size()).unwrap_or(i64::MAX);
            return Self(Some(vec![metadata.mtime(), metadata.mtime_nsec(), size]));
        }
        let device = Host::here().device(DeviceNumber::from_raw(metadata.rdev())).ok();
        // Counters that stand still whatever is written tell nothing.
        let counts =
            |device: &BlockDevice| device.attribute("queue/iostats").is_none_or(|text| text.trim() != "0");
        let text = device.filter(counts).and_then(|device| device.attribute("stat"));
        Self(text.map(|text| counters(&text)))
    }
}

/// What a disk had shown of its writes at one moment: see [`Disk::write_mark`].
///
/// It may be kept: what is compared with a mark of another boot, or of a device
/// that was attached anew since, tells nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteMark(Vec<FileMark>);

/// The same of one of its files, and of when its counts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileMark {
    /// What must be the same for `shows` to be compared.
    since: String,
    shows: Writes,
}

/// Whether a disk was written since a mark was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nobody has written it, for certain.
    No,
    /// Somebody has, for certain.
    Yes,
    /// Nobody can tell.
    Unknown,
}

impl WriteMark {
    /// Whether it tells nothing at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the disk was written between `before` and this mark of it.
    #[must_use]
    pub fn written_since(&self, before: &Self) -> Written {
        let is_known = |(now, before): (&FileMark, &FileMark)| {
            now.since == before.since && now.shows.0.is_some() && before.shows.0.is_some()
        };
        let mut files = self.0.iter().zip(&before.0);
        if files.clone().any(|file| is_known(file) && file.0.shows != file.1.shows) {
            return Written::Yes;
        }
        let are_all_known = !self.is_empty() && self.0.len() == before.0.len() && files.all(is_known);
        if are_all_known { Written::No } else { Written::Unknown }
    }
}

impl Disk {
    /// What the disk shows of its writes now, flushing nothing: bytes that lie in
    /// a page cache are written later, and then show.
    #[must_use]
    pub fn write_mark(&self) -> WriteMark {
        WriteMark(self.files.iter().map(|file| FileMark::of(&file.buffered)).collect())
    }

    /// Whether nobody has written the disk since `mark`, for certain.
    #[must_use]
    pub fn is_unwritten_since(&self, mark: &WriteMark) -> bool {
        self.write_mark().written_since(mark) == Written::No
    }
}

impl FileMark {
    fn of(file: &File) -> Self {
        Self { since: since(file).unwrap_or_default(), shows: Writes::look(file) }
    }
}

/// From when on the counts of `file` count: times of files for ever, counters of
/// a device from its boot and its last attachment on.
fn since(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    if !is_block_device(&metadata) {
        return Some(format!("file:{}:{}", metadata.dev(), metadata.ino()));
    }
    let host = Host::here();
    let device = host.device(DeviceNumber::from_raw(metadata.rdev())).ok()?;
    let whole = match device.partition_of {
        Some((disk, _)) => host.device(disk).ok()?,
        None => device,
    };
    host.attachment(&whole).ok()
}

fn counters(stat: &str) -> Vec<i64> {
    let fields: Vec<i64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
    COUNTERS.iter().filter_map(|index| fields.get(*index).copied()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_writes_and_discards_count() {
        let text = "  1 2 3 4  50 6 70 8  9 10 11 120 13 140 15 16 17\n";
        assert_eq!(counters(text), [70, 140]);
        assert_eq!(counters("1 2 3 4 5 6 7 8 9 10 11"), [7], "kernels before 4.18 count no discards");
        assert_eq!(counters(""), [0; 0]);
    }

    #[test]
    fn a_mark_tells_what_it_can() {
        let mark = |files: &[(&str, Option<i64>)]| {
            let files = files.iter().map(|(since, shows)| FileMark {
                since: (*since).to_owned(),
                shows: Writes(shows.map(|count| vec![count])),
            });
            WriteMark(files.collect())
        };
        let before = mark(&[("boot 1", Some(7)), ("file", Some(8))]);
        assert_eq!(before.written_since(&before), Written::No);
        assert_eq!(mark(&[("boot 1", Some(7)), ("file", Some(9))]).written_since(&before), Written::Yes);
        assert_eq!(mark(&[("boot 2", Some(7)), ("file", Some(9))]).written_since(&before), Written::Yes);
        for other in [
            mark(&[("boot 2", Some(7)), ("file", Some(8))]),
            mark(&[("boot 1", None), ("file", Some(8))]),
            mark(&[("boot 1", Some(7))]),
            WriteMark::default(),
        ] {
            assert_eq!(other.written_since(&before), Written::Unknown, "{other:?}");
            assert_eq!(before.written_since(&other), Written::Unknown, "{other:?}");
        }
        assert_eq!(WriteMark::default().written_since(&WriteMark::default()), Written::Unknown);
        let text = serde_json::to_string(&before).expect("it is plain");
        assert_eq!(serde_json::from_str::<WriteMark>(&text).expect("it was written so"), before);
    }

    #[test]
    fn a_written_file_shows() {
        let mut file = tempfile::tempfile().expect("a temporary file can be made");
        let before = Writes::of(&file);
        assert!(!before.changed(&file));
        file.write_all(b"x").expect("it can be written");
        assert!(before.changed(&file));
    }
}

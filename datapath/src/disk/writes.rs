//! Whether a disk was written between two looks at it.
//!
//! Block devices count their writes in sysfs, whoever makes them and through
//! whatever name; files carry the times of their last change. So a mount that
//! came and went while a source was read does not go unseen.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::Disk;
use super::storage::{BlockDevice, DeviceNumber, Host, is_block_device};

/// What a file or device showed of its writes at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writes(Option<Vec<i64>>);

/// Fields of a block device's `stat`: writes, sectors written, discards,
/// sectors discarded (Documentation/block/stat.rst).
const COUNTERS: [usize; 4] = [4, 6, 11, 13];

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

    /// Whether it was not written since; where nothing is known, no.
    pub(super) fn unchanged(&self, file: &File) -> bool {
        self.0.is_some() && *self == Self::look(file)
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteMark(Vec<Writes>);

impl Disk {
    /// What the disk shows of its writes now, flushing nothing: bytes that lie in
    /// a page cache are written later, and then show.
    #[must_use]
    pub fn write_mark(&self) -> WriteMark {
        WriteMark(self.files.iter().map(|file| Writes::look(&file.buffered)).collect())
    }

    /// Whether nobody has written the disk since `mark`, for certain.
    #[must_use]
    pub fn is_unwritten_since(&self, mark: &WriteMark) -> bool {
        mark.0.len() == self.files.len()
            && mark.0.iter().zip(&self.files).all(|(before, file)| before.unchanged(&file.buffered))
    }
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
        assert_eq!(counters(text), [50, 70, 120, 140]);
        assert_eq!(counters("1 2 3 4 5 6 7 8 9 10 11"), [5, 7], "kernels before 4.18 count no discards");
        assert_eq!(counters(""), [0; 0]);
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

//! The files of the demo's disk: the same ones each time.
//!
//! ```text
//! documents/YEAR/MONTH/report-N.txt   many small ones, text
//! archive/1/2/3/…/N.bin               deep folders, random bytes
//! media/clip-N.bin                    random bytes, which no codec shrinks
//! logs/service-N.log                  text, which shrinks well
//! reserve/N.bin                       written zeroes
//! machines/guest.img                  mostly holes
//! inbox/                              where new files come
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use failback_datapath::pipeline::Cancel;

use super::error::Error;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const DOCUMENTS: u64 = 240;
const ARCHIVE_DEPTH: u64 = 16;
const ARCHIVE_FILES: u64 = 4;
const CLIP_BYTES: u64 = MIB;
const LOG_BYTES: u64 = 2 * MIB;
const RESERVE_BYTES: u64 = MIB;
/// A guest's image is this long at most, with some bytes every 4 MiB.
const GUEST_BYTES_MAX: u64 = 64 * MIB;
const GUEST_STEP: u64 = 4 * MIB;

/// A small generator (splitmix64) with a fixed seed: a demo is the same each time.
pub struct Random(u64);

impl Random {
    /// The generator of one purpose.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not including, `limit`, which is not zero.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// Bytes that no codec shrinks.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.number().to_le_bytes()[..piece.len()]);
        }
    }

    /// A line as in logs and letters.
    pub fn line(&mut self) -> String {
        const WORDS: [&str; 12] = [
            "disk",
            "target",
            "source",
            "failed over",
            "extent",
            "in sync",
            "0 errors",
            "home",
            "machine",
            "copied",
            "the",
            "flushed",
        ];
        let mut line = format!("{:08}", self.below(100_000_000));
        for _ in 0..4 + self.below(8) {
            let word = usize::try_from(self.below(WORDS.len() as u64)).unwrap_or(0);
            line.push(' ');
            line.push_str(WORDS[word]);
        }
        line.push('\n');
        line
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Lines of words.
    Text,
    /// Random bytes.
    Random,
    /// Zeroes, written.
    Zeroes,
    /// Holes, with some random bytes now and then.
    Sparse,
}

/// One file to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its path below the root.
    pub path: String,
    /// What it holds.
    pub content: Content,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Files that take about `bytes` on a disk, holes not counted.
pub fn plan(bytes: u64) -> Vec<Plan> {
    let mut random = Random::new(1);
    let mut plans = Vec::new();
    let mut add = |path: String, content, bytes| {
        plans.push(Plan { path, content, bytes });
        bytes
    };
    let mut small = 0;
    for number in 0..DOCUMENTS {
        let (year, month) = (2020 + number % 6, 1 + number / 6 % 12);
        let path = format!("documents/{year}/{month:02}/report-{number}.txt");
        small += add(path, Content::Text, random.below(24 * KIB));
    }
    add("documents/nothing at all.txt".to_owned(), Content::Text, 0);
    add("documents/Überblick.txt".to_owned(), Content::Text, 100);
    add("inbox/welcome.txt".to_owned(), Content::Text, 1000);
    let mut folder = "archive".to_owned();
    for depth in 1..=ARCHIVE_DEPTH {
        folder = format!("{folder}/{depth}");
        for number in 0..ARCHIVE_FILES {
            small += add(format!("{folder}/{number}.bin"), Content::Random, random.below(16 * KIB));
        }
    }
    let large = bytes.saturating_sub(small);
    for number in 0..large / 2 / CLIP_BYTES {
        add(format!("media/clip-{number}.bin"), Content::Random, CLIP_BYTES - random.below(64 * KIB));
    }
    for number in 0..large / 3 / LOG_BYTES {
        add(format!("logs/service-{number}.log"), Content::Text, LOG_BYTES - random.below(64 * KIB));
    }
    for number in 0..large / 6 / RESERVE_BYTES {
        add(format!("reserve/{number}.bin"), Content::Zeroes, RESERVE_BYTES);
    }
    add("machines/guest.img".to_owned(), Content::Sparse, GUEST_BYTES_MAX.min(bytes));
    plans
}

/// Writes all files of `plans` below `root`, which is an empty folder.
///
/// # Errors
/// [`Error::System`], [`Error::Interrupted`].
pub fn write(root: &Path, plans: &[Plan], cancel: &Cancel) -> Result<(), Error> {
    let mut random = Random::new(2);
    for plan in plans {
        cancel.check().map_err(|_| Error::Interrupted)?;
        let path = root.join(&plan.path);
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(Error::at("make", folder))?;
        write_file(&path, plan, &mut random).map_err(Error::at("write", &path))?;
    }
    let link = root.join("latest");
    symlink("documents/2025", &link).map_err(Error::at("make", &link))
}

fn write_file(path: &Path, plan: &Plan, random: &mut Random) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    match plan.content {
        Content::Text => write_text(&mut file, plan.bytes, random),
        Content::Random => write_blocks(&mut file, plan.bytes, |block| random.fill(block)),
        Content::Zeroes => write_blocks(&mut file, plan.bytes, |_| {}),
        Content::Sparse => {
            let mut block = [0; 4096];
            file.set_len(plan.bytes)?;
            for at in (0..plan.bytes).step_by(usize::try_from(GUEST_STEP).unwrap_or(usize::MAX)) {
                random.fill(&mut block);
                file.write_all_at(&block, at)?;
            }
            Ok(())
        }
    }
}

fn write_text(file: &mut File, bytes: u64, random: &mut Random) -> io::Result<()> {
    let mut writer = io::BufWriter::with_capacity(64 << 10, file);
    let mut left = bytes;
    while left > 0 {
        let line = random.line();
        let piece = &line.as_bytes()[..line.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        writer.write_all(piece)?;
        left -= piece.len() as u64;
    }
    writer.flush()
}

fn write_blocks(file: &mut File, bytes: u64, mut fill: impl FnMut(&mut [u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        fill(&mut buffer[..length]);
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Bytes that the files of `plans` take on a disk.
pub fn bytes_of(plans: &[Plan]) -> u64 {
    plans.iter().filter(|plan| plan.content != Content::Sparse).map(|plan| plan.bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn plans_keep_to_their_bytes_and_have_every_kind() {
        for bytes in [24 * MIB, 200 * MIB] {
            let plans = plan(bytes);
            let taken = bytes_of(&plans);
            assert!(taken <= bytes && taken > bytes * 2 / 3, "{taken} of {bytes}");
            assert!(plans.len() > 300);
            let paths: BTreeSet<_> = plans.iter().map(|plan| &plan.path).collect();
            assert_eq!(paths.len(), plans.len(), "no path twice");
            for content in [Content::Text, Content::Random, Content::Zeroes, Content::Sparse] {
                assert!(plans.iter().any(|plan| plan.content == content), "{content:?}");
            }
        }
    }

    #[test]
    fn files_are_as_planned() {
        let folder = tempfile::tempdir().unwrap();
        let plans = plan(4 * MIB);
        write(folder.path(), &plans, &Cancel::default()).unwrap();
        for plan in plans {
            let metadata = folder.path().join(&plan.path).metadata().unwrap();
            assert_eq!(metadata.len(), plan.bytes, "{}", plan.path);
        }
        assert!(folder.path().join("latest").is_dir());
    }
}

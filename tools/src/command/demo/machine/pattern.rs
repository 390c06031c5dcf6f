//! A machine whose disk is an image file with bytes of all sorts and no
//! filesystem, for hosts without e2fsprogs.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use failback_datapath::disk::image;
use indicatif::BinaryBytes;

use super::{Machine, bytes_of_files};
use crate::command::demo::compare;
use crate::command::demo::error::Error;
use crate::command::demo::stage::{Done, SOURCE, Stage};
use crate::command::demo::tree::Random;

/// Bytes written at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Places that are changed between the synchronizations.
const CHANGES: u64 = 40;
const CHANGE_BYTES: usize = 4096;

/// See the module.
pub struct Pattern {
    image: PathBuf,
}

impl Pattern {
    /// Makes the image.
    ///
    /// # Errors
    /// [`Error::Image`].
    pub fn make(stage: &Stage<'_>) -> Result<Self, Error> {
        stage.step("make disk", || {
            let image = stage.path(SOURCE);
            image::create_raw(&image, stage.size_bytes)?;
            let what = format!("the image file {SOURCE}, {}", BinaryBytes(stage.size_bytes));
            Ok((Self { image }, Done::saying(what)))
        })
    }

    /// Writes a block at each of `places`, and flushes.
    fn write(
        &self,
        stage: &Stage<'_>,
        places: impl Iterator<Item = u64>,
        mut block: impl FnMut() -> Vec<u8>,
    ) -> Result<u64, Error> {
        let failed = |source: io::Error| Error::at("write", &self.image)(source);
        let file = OpenOptions::new().write(true).open(&self.image).map_err(failed)?;
        let mut bytes = 0;
        for place in places {
            stage.check()?;
            let block = block();
            file.write_all_at(&block, place).map_err(failed)?;
            bytes += block.len() as u64;
        }
        file.sync_all().map_err(failed)?;
        Ok(bytes)
    }
}

impl Machine for Pattern {
    fn disk(&self) -> &Path {
        &self.image
    }

    fn fill(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("write bytes", || {
            let mut random = Random::new(4);
            // Evenly over the disk, with holes between.
            let blocks = bytes_of_files(stage.size_bytes) / BLOCK_BYTES as u64;
            let places = (0..blocks).map(|number| number * (stage.size_bytes / blocks) / 512 * 512);
            let bytes = self.write(stage, places, || block(&mut random))?;
            let what = "random bytes, text and holes".to_owned();
            Ok(((), Done { what, bytes_moved: bytes, bytes_covered: bytes, counts: None }))
        })
    }

    fn change(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("change bytes", || {
            let (mut random, mut content) = (Random::new(5), Random::new(6));
            let places = (0..CHANGES)
                .map(|_| random.below(stage.size_bytes / CHANGE_BYTES as u64) * CHANGE_BYTES as u64);
            let bytes = self.write(stage, places, || {
                let mut bytes = vec![0; CHANGE_BYTES];
                content.fill(&mut bytes);
                bytes
            })?;
            Ok(((), Done { what: format!("{CHANGES} places"), bytes_moved: bytes, ..Done::default() }))
        })
    }

    fn inspect(&self, stage: &Stage<'_>) -> Result<(), Error> {
        compare::images(stage)
    }

    fn put_away(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// Random bytes, or text.
fn block(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    if random.below(2) == 0 {
        random.fill(&mut bytes);
        return bytes;
    }
    bytes.clear();
    while bytes.len() < BLOCK_BYTES {
        bytes.extend_from_slice(random.line().as_bytes());
    }
    bytes.truncate(BLOCK_BYTES);
    bytes
}

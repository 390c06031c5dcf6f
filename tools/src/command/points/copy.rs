//! `points copy`: the disk as it was at a point, as an image.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use failback_datapath::landing::replica::OnForeignWrites;
use failback_datapath::limits;
use failback_datapath::pipeline::is_zero;
use failback_datapath::role::master_target::SeenReplica;
use failback_datapath::sys::Arena;
use failback_datapath::unit::{Epoch, Extent, to_u64, to_usize};
use indicatif::BinaryBytes;
use serde_json::json;

use super::progress::Progress;
use super::rewind::failed;
use super::{Place, Which};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// A hole is at least this long: what filesystems allocate.
const HOLE_BYTES: usize = 4096;

/// Writes the disk as it was at a point into the new image `file`.
pub fn copy(
    place: &Place,
    pair: &str,
    which: &Which,
    file: &Path,
    foreign: OnForeignWrites,
    output: &Output,
) -> Result<(), Failed> {
    let desk = place.desk(pair, output)?;
    desk.look(async |seen| {
        let point = desk.point(which, seen.journal())?;
        seen.set_on_foreign_writes(foreign);
        seen.check_exact(point.epoch).map_err(failed)?;
        seen.check_untouched().await.map_err(failed)?;
        let image = Image::create(file, seen.journal().pair().size_bytes)?;
        let written_bytes = write(seen, point.epoch, &image, output).await?;
        let size_bytes = image.size_bytes;
        image.finish()?;
        output.line(
            &format!(
                "{}: {} as it was at point {} of {}, {} of it data",
                file.display(),
                BinaryBytes(size_bytes),
                point.epoch,
                desk.name,
                BinaryBytes(written_bytes)
            ),
            || {
                json!({
                    "event": "copied", "pair": pair, "point": point.epoch, "file": file.display().to_string(),
                    "size_bytes": size_bytes, "written_bytes": written_bytes,
                })
            },
        );
        Ok(())
    })
}

async fn write(seen: &SeenReplica, point: Epoch, image: &Image<'_>, output: &Output) -> Result<u64, Failed> {
    let failed = |error: &dyn std::fmt::Display| (Exit::Failed, error.to_string());
    let window = NonZeroUsize::new(to_usize(u64::from(limits::WINDOW_BYTES))).unwrap_or(NonZeroUsize::MIN);
    let buffers = Arena::buffers(1, window).map_err(|error| failed(&error))?;
    let mut buffer = buffers.into_iter().next().ok_or_else(|| failed(&"no memory"))?;
    let progress = Progress::new(output, "copied");
    let mut written_bytes = 0;
    let whole = Extent::between(0, image.size_bytes);
    for extent in whole.split_at_multiples(u64::from(limits::WINDOW_BYTES)) {
        let (read, back) = seen.read_at(point, extent, buffer).await;
        buffer = back;
        read.map_err(|error| failed(&error))?;
        let bytes = &buffer.bytes()[..to_usize(extent.length())];
        written_bytes += image.write(extent.offset(), bytes)?;
        progress.show(extent.end(), image.size_bytes);
    }
    Ok(written_bytes)
}

/// An image that is taken away again unless it is finished.
struct Image<'a> {
    path: &'a Path,
    file: File,
    size_bytes: u64,
    is_finished: bool,
}

impl<'a> Image<'a> {
    fn create(path: &'a Path, size_bytes: u64) -> Result<Self, Failed> {
        let refused = |error: io::Error| {
            (Exit::Refused, format!("{}: cannot be made: {error}; nothing was changed", path.display()))
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(refused)?;
        let image = Self { path, file, size_bytes, is_finished: false };
        image.file.set_len(size_bytes).map_err(refused)?;
        Ok(image)
    }

    /// Writes what is not zero, and says how much that was.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<u64, Failed> {
        let (mut at, mut written_bytes) = (offset, 0);
        // Neighbours that hold data are one write.
        for run in
            bytes.chunks(HOLE_BYTES).collect::<Vec<_>>().chunk_by(|one, next| is_zero(one) == is_zero(next))
        {
            let length: usize = run.iter().map(|block| block.len()).sum();
            let from = to_usize(at - offset);
            if !run.first().is_some_and(|block| is_zero(block)) {
                let data = &bytes[from..from + length];
                self.file.write_all_at(data, at).map_err(|error| self.failed(&error))?;
                written_bytes += to_u64(length);
            }
            at += to_u64(length);
        }
        Ok(written_bytes)
    }

    fn finish(mut self) -> Result<(), Failed> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        self.is_finished = true;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Failed {
        (Exit::Failed, format!("{}: cannot be written: {error}", self.path.display()))
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Half a disk helps nobody; where it cannot be removed, the error says that it is one.
            let _left = fs::remove_file(self.path);
        }
    }
}

//! What lies on the disks: mixed data, differences, the previous content of a
//! target, and a vast sparse image. All of it follows from the seed (and, for
//! the tar half, from this machine's `/usr`).

use crate::device::{AlignedBuffer, DirectFile};
use crate::error::{Error, on_path};
use crate::interrupt::Interrupt;
use crate::random::Random;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// One mebibyte, in bytes.
pub(crate) const MEBIBYTE: u64 = 1 << 20;
/// How long each kind of mixed data lasts before the next one, in bytes.
const PIECE_BYTES: u64 = 16 * MEBIBYTE;
/// The unit in which two disks differ, in bytes.
const CHUNK_BYTES: u64 = 64 << 10;
/// One chunk of so many is changed for a resync.
const CHUNKS_PER_CHANGE: u64 = 100;
/// Size of the sparse image, in bytes.
const SPARSE_BYTES: u64 = 8 << 40;
/// How many pieces of data the sparse image holds, and of how many bytes each.
const SPARSE_PIECES: u64 = 48;
const SPARSE_PIECE_BYTES: u64 = 128 << 10;

/// Writes the mixed data onto `device`: of each four pieces of 16 MiB the first
/// and the third are a tar of `/usr`, the second is zeroes, the fourth random.
///
/// # Errors
/// tar or the device fails, or the user interrupts.
pub(crate) fn write_mixed(device: &Path, size: u64, seed: u64, interrupt: &Interrupt) -> Result<(), Error> {
    let mut tar = TarStream::start()?;
    let mut random = Random::new(seed);
    let file = DirectFile::open(device)?;
    for_pieces(size, interrupt, |bytes, offset| {
        match (offset / PIECE_BYTES) % 4 {
            0 | 2 => tar.fill(bytes)?,
            1 => bytes.fill(0),
            _ => random.fill(bytes),
        }
        file.write(bytes, offset)
    })?;
    file.flush()
}

/// Gives a target its previous content: allocated and written everywhere, with
/// bytes that are neither zero nor the source's.
///
/// # Errors
/// The device fails, or the user interrupts.
pub(crate) fn write_previous(
    device: &Path,
    size: u64,
    seed: u64,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    let file = DirectFile::open(device)?;
    let mut previous = AlignedBuffer::new(piece_length(PIECE_BYTES));
    Random::new(!seed).fill(previous.bytes_mut());
    for_pieces(size, interrupt, |bytes, offset| file.write(&previous.bytes()[..bytes.len()], offset))?;
    file.flush()
}

/// Makes `target` equal to `source`, every byte written, zeroes too.
///
/// # Errors
/// A device fails, or the user interrupts.
pub(crate) fn copy(source: &Path, target: &Path, size: u64, interrupt: &Interrupt) -> Result<(), Error> {
    let (source, target) = (DirectFile::open(source)?, DirectFile::open(target)?);
    for_pieces(size, interrupt, |bytes, offset| {
        source.read(bytes, offset)?;
        target.write(bytes, offset)
    })?;
    target.flush()
}

fn for_pieces(
    size: u64,
    interrupt: &Interrupt,
    mut work: impl FnMut(&mut [u8], u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = AlignedBuffer::new(piece_length(PIECE_BYTES));
    let mut offset = 0;
    while offset < size {
        interrupt.check()?;
        let length = piece_length(size - offset);
        work(&mut buffer.bytes_mut()[..length], offset)?;
        offset += PIECE_BYTES;
    }
    Ok(())
}

/// The length of the next piece when `left` bytes are left.
fn piece_length(left: u64) -> usize {
    usize::try_from(left.min(PIECE_BYTES)).unwrap_or(usize::MAX)
}

/// Chunks in which the source differs from its former self, which is kept.
#[derive(Debug)]
pub(crate) struct Difference {
    offsets: Vec<u64>,
    originals: PathBuf,
}

impl Difference {
    /// Changes 1 % of the 64 KiB chunks of `source` (at least one), at random
    /// places, to random bytes; their former bytes go to the file `originals`.
    ///
    /// # Errors
    /// The device or the file fails.
    pub(crate) fn make(source: &Path, size: u64, seed: u64, originals: PathBuf) -> Result<Self, Error> {
        let mut random = Random::new(seed.rotate_left(17));
        let chunks = size / CHUNK_BYTES;
        let wanted = usize::try_from((chunks / CHUNKS_PER_CHANGE).max(1)).unwrap_or(usize::MAX);
        let mut chosen = BTreeSet::new();
        while chosen.len() < wanted {
            chosen.insert(random.below(chunks) * CHUNK_BYTES);
        }
        let device = DirectFile::open(source)?;
        let kept = File::create(&originals).map_err(on_path("create", &originals))?;
        let mut chunk = AlignedBuffer::new(piece_length(CHUNK_BYTES));
        let mut place = 0;
        for offset in &chosen {
            device.read(chunk.bytes_mut(), *offset)?;
            kept.write_all_at(chunk.bytes(), place).map_err(on_path("write", &originals))?;
            random.fill(chunk.bytes_mut());
            device.write(chunk.bytes(), *offset)?;
            place += CHUNK_BYTES;
        }
        device.flush()?;
        Ok(Self { offsets: chosen.into_iter().collect(), originals })
    }

    /// How many chunks differ.
    pub(crate) fn chunks(&self) -> usize {
        self.offsets.len()
    }

    /// Takes a target that equals the changed source back to the former bytes.
    ///
    /// # Errors
    /// The device or the file fails.
    pub(crate) fn restore(&self, target: &Path) -> Result<(), Error> {
        let device = DirectFile::open(target)?;
        let kept = File::open(&self.originals).map_err(on_path("open", &self.originals))?;
        let mut chunk = AlignedBuffer::new(piece_length(CHUNK_BYTES));
        let mut place = 0;
        for offset in &self.offsets {
            kept.read_exact_at(chunk.bytes_mut(), place).map_err(on_path("read", &self.originals))?;
            device.write(chunk.bytes(), *offset)?;
            place += CHUNK_BYTES;
        }
        device.flush()
    }
}

/// Creates the sparse image at `path`: 8 TiB with 6 MiB of random bytes in
/// pieces of 128 KiB, at random places aligned to 4 KiB.
///
/// # Errors
/// The file system has no files of that size, or no room.
pub(crate) fn write_sparse(path: &Path, seed: u64) -> Result<(), Error> {
    let file = File::create(path).map_err(on_path("create", path))?;
    file.set_len(SPARSE_BYTES).map_err(on_path("set the size (8 TiB) of", path))?;
    let mut random = Random::new(seed.rotate_left(31));
    let mut piece = vec![0; piece_length(SPARSE_PIECE_BYTES)];
    for _ in 0..SPARSE_PIECES {
        let offset = random.below((SPARSE_BYTES - SPARSE_PIECE_BYTES) / 4096) * 4096;
        random.fill(&mut piece);
        file.write_all_at(&piece, offset).map_err(on_path("write", path))?;
    }
    file.sync_all().map_err(on_path("flush", path))
}

/// An endless tar of `/usr`: begun anew when it ends.
struct TarStream {
    child: Child,
    output: ChildStdout,
}

impl TarStream {
    fn start() -> Result<Self, Error> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "tar", "-C", "/", "--sort=name", "-cf", "-", "usr"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Start { program: "tar".to_owned(), source })?;
        let output = child.stdout.take().ok_or_else(|| no_tar("its output"))?;
        Ok(Self { child, output })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let (mut filled, mut since_start) = (0, usize::MAX);
        while filled < bytes.len() {
            let count = self
                .output
                .read(&mut bytes[filled..])
                .map_err(on_path("read the tar of", Path::new("/usr")))?;
            if count > 0 {
                filled += count;
                since_start = since_start.saturating_add(count);
            } else if since_start == 0 {
                return Err(no_tar("any data"));
            } else {
                *self = Self::start()?;
                since_start = 0;
            }
        }
        Ok(())
    }
}

impl Drop for TarStream {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn no_tar(what: &'static str) -> Error {
    Error::Answer { what, origin: "tar of /usr".to_owned() }
}

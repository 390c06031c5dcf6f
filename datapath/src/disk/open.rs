//! Opening a disk: find out what it is, whether it may be used so, claim it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::backing::Backing;
use super::guard::{self, Claim, Liveness, Uses};
use super::storage::{Host, Identity, Storage};
use super::vmdk::{self, Sniff};
use super::writes::Writes;
use super::{Error, Kind, Piece, Place};
use crate::limits;
use crate::sys::{self, OpenMode};
use crate::telemetry::Notice;
use crate::unit::{Extent, SectorSize};

/// What a disk is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read from; `live` allows one that is being written meanwhile.
    Source {
        /// Whether a mounted or otherwise busy source is accepted.
        live: bool,
    },
    /// To write to, and to be the only one who does.
    Target,
    /// To be written later: checked as a target, opened for reading.
    Rehearsal,
    /// To look at: not claimed, not checked.
    Inspection,
}

impl Purpose {
    const fn writes(self) -> bool {
        matches!(self, Self::Target)
    }
}

/// An open disk: what it is, where its bytes lie, and the claim on it.
pub struct Disk {
    path: PathBuf,
    kind: Kind,
    size_bytes: u64,
    sector: SectorSize,
    storage: Storage,
    identity: Identity,
    liveness: Liveness,
    notices: Vec<Notice>,
    pub(super) pieces: Vec<Piece>,
    pub(super) files: Vec<Backing>,
    /// What each file of a source showed of its writes before it was read.
    writes: Vec<Writes>,
    live: bool,
    claims: Mutex<Vec<Claim>>,
}

impl Disk {
    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is made of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its logical sector size.
    #[must_use]
    pub const fn sector(&self) -> SectorSize {
        self.sector
    }

    /// Its pieces, in order and without gaps.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The files that hold its bytes.
    pub fn file_paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Whether every file of it is read and written past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.files.iter().all(|file| file.direct.is_some())
    }

    /// What it rests on, to compare with another disk's.
    #[must_use]
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// What names it over reboots.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who else may be writing to it.
    #[must_use]
    pub const fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Whether somebody else may be writing to it, or has since it was opened.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.liveness, Liveness::Live { .. }) || self.was_written()
    }

    /// What a user should know about how it was opened.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The same disk as if it ended after `size_bytes`, or where it ends if that
    /// is earlier. What lies behind is neither read nor written.
    #[must_use]
    pub fn shortened(mut self, size_bytes: u64) -> Self {
        self.size_bytes = self.size_bytes.min(size_bytes);
        self.pieces = super::piece::parts(&self.pieces, Extent::between(0, self.size_bytes)).collect();
        self
    }

    /// Whether a source was written by anybody since it was opened.
    #[must_use]
    pub fn was_written(&self) -> bool {
        self.writes.iter().zip(&self.files).any(|(before, file)| before.changed(&file.buffered))
    }

    /// Checks at the end of a run that nobody wrote the source meanwhile,
    /// unless it was opened as one that somebody may write.
    ///
    /// # Errors
    /// [`Error::SourceWritten`].
    pub fn check_unwritten(&self) -> Result<(), Error> {
        if !self.live && self.was_written() {
            return Err(Error::SourceWritten { path: self.path.clone() });
        }
        Ok(())
    }

    /// Gives the claims back before the disk is closed: a run that is over
    /// tells so while its threads still end, and the next one may begin at once.
    /// Nothing may be written after this.
    pub fn release(&self) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets what the page cache holds of it, so that the next read comes
    /// from the device. Bytes not flushed yet stay.
    pub fn drop_cache(&self) {
        for file in &self.files {
            sys::forget_cached(&file.buffered);
        }
    }
}

/// Opens the disk at `path`.
///
/// # Errors
/// [`Error`] says what is wrong and what to do; nothing has been written then.
pub fn open(path: &Path, purpose: Purpose) -> Result<Disk, Error> {
    let file = look_at(path)?;
    let shape = Shape::find(path, &file)?;
    let mut opening = Opening::look(path, &file, &shape)?;
    let identity = opening.identity(path, &file, &shape)?;
    shape.check_extents(path, purpose)?;
    opening.check(purpose)?;
    let files = open_backings(&shape, purpose)?;
    opening.claim(&files, purpose)?;
    opening.notice_buffered(&files);
    opening.notices.extend(shape.notice_zero_extents(path, purpose));
    Ok(Disk {
        path: path.to_owned(),
        kind: shape.kind,
        size_bytes: shape.size_bytes,
        sector: shape.sector,
        storage: opening.storage,
        identity,
        liveness: opening.liveness,
        notices: opening.notices,
        pieces: shape.pieces,
        files,
        writes: opening.writes,
        live: purpose == (Purpose::Source { live: true }),
        claims: Mutex::new(opening.claims),
    })
}

impl Disk {
    /// A disk that is not there yet, as it would be made at `path`: all zero, to
    /// rehearse a run onto it.
    #[must_use]
    pub fn imagined(path: &Path, kind: Kind, size_bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            size_bytes,
            sector: SectorSize::BYTES_512,
            storage: Storage::nowhere(),
            identity: Identity::imagined(path),
            liveness: Liveness::Quiet,
            notices: vec![Notice::new(
                "would-create",
                format!("{}: is not there; a {kind} of {size_bytes} bytes would be made", path.display()),
            )],
            pieces: vec![Piece { extent: Extent::between(0, size_bytes), place: Place::Zero }],
            files: Vec::new(),
            writes: Vec::new(),
            live: false,
            claims: Mutex::default(),
        }
    }
}

/// Opens a file to look at it, having seen that opening it does no harm.
fn look_at(path: &Path) -> Result<File, Error> {
    guard::check_kind(path)?;
    sys::open_disk_file(path, OpenMode { write: false, direct: false, exclusive: false })
        .map_err(|source| guard::explain_open(path, guard::Access::Reading, source).into())
}

/// What the path leads to, before anything is opened for use.
struct Shape {
    kind: Kind,
    size_bytes: u64,
    sector: SectorSize,
    pieces: Vec<Piece>,
    members: Vec<PathBuf>,
}

impl Shape {
    fn find(path: &Path, file: &File) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(|source| Error::Open { path: path.to_owned(), source })?;
        if metadata.file_type().is_block_device() {
            let failed = |source| Error::Open { path: path.to_owned(), source };
            let size_bytes = sys::device_size_bytes(file).map_err(failed)?;
            let sector = sys::logical_sector_bytes(file).map_err(failed)?;
            let sector = SectorSize::new(sector).unwrap_or(SectorSize::BYTES_512);
            return Self::single(path, Kind::BlockDevice, size_bytes, sector);
        }
        if !metadata.file_type().is_file() {
            return Err(guard::Refusal::NotADisk {
                path: path.to_owned(),
                found: "no file that holds a disk",
            }
            .into());
        }
        let head = head(path, file)?;
        if let Some(format) = foreign_format(&head) {
            return Err(Error::Format { path: path.to_owned(), format });
        }
        match vmdk::sniff(&head) {
            Sniff::Descriptor if metadata.len() <= limits::DESCRIPTOR_BYTES_MAX => Self::vmdk(path, file),
            Sniff::SparseExtent => Err(Error::Format { path: path.to_owned(), format: "sparse VMDK" }),
            Sniff::SeSparse => Err(Error::Format { path: path.to_owned(), format: "SE sparse VMDK" }),
            Sniff::Cowd => Err(Error::Format { path: path.to_owned(), format: "COWD (vmfsSparse) VMDK" }),
            _ => Self::single(path, Kind::RawImage, metadata.len(), SectorSize::BYTES_512),
        }
    }

    /// Refuses a target of which a part must not be written, before another part is.
    fn check_extents(&self, path: &Path, purpose: Purpose) -> Result<(), Error> {
        let is_target = matches!(purpose, Purpose::Target | Purpose::Rehearsal);
        let is_read_only = |piece: &&Piece| matches!(piece.place, Place::File { writable: false, .. });
        match self.pieces.iter().find(is_read_only).filter(|_| is_target) {
            Some(piece) => Err(Error::ReadOnlyExtent { path: path.to_owned(), extent: piece.extent }),
            None => Ok(()),
        }
    }

    /// A target whose zero extents meet data of the source is left half done:
    /// that is worth knowing before.
    fn notice_zero_extents(&self, path: &Path, purpose: Purpose) -> Option<Notice> {
        let is_target = matches!(purpose, Purpose::Target | Purpose::Rehearsal);
        let zero = self.pieces.iter().filter(|piece| is_target && piece.place == Place::Zero);
        let zero_bytes: u64 = zero.map(|piece| piece.extent.length()).sum();
        let text = format!(
            "{}: {zero_bytes} bytes of it are ZERO extents, which cannot hold data: where the source has some \
             there, the run ends with an error and leaves the target unfinished",
            path.display()
        );
        (zero_bytes > 0).then(|| Notice::new("zero-extents", text))
    }

    fn single(path: &Path, kind: Kind, size_bytes: u64, sector: SectorSize) -> Result<Self, Error> {
        let wrong = |reason| Error::Size { path: path.to_owned(), size_bytes, reason };
        if size_bytes == 0 {
            return Err(wrong("nothing to copy (an empty file, or a device without a medium)"));
        }
        if size_bytes > limits::DISK_BYTES_MAX {
            return Err(wrong("larger than any Linux disk"));
        }
        let place = Place::File { index: 0, position: 0, writable: true };
        let pieces = vec![Piece { extent: Extent::between(0, size_bytes), place }];
        Ok(Self { kind, size_bytes, sector, pieces, members: vec![path.to_owned()] })
    }

    fn vmdk(path: &Path, file: &File) -> Result<Self, Error> {
        let mut text = Vec::new();
        file.take(limits::DESCRIPTOR_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let descriptor = vmdk::Descriptor::parse(&text)
            .map_err(|source| Error::Descriptor { path: path.to_owned(), source })?;
        let located = vmdk::locate(path, &descriptor)?;
        let mut indexes = HashMap::new();
        let (mut members, mut pieces, mut at) = (Vec::new(), Vec::new(), 0_u64);
        for piece in located {
            let extent = Extent::new(at, piece.length).ok_or_else(|| Error::Size {
                path: path.to_owned(),
                size_bytes: at,
                reason: "larger than any Linux disk",
            })?;
            // A file may have several names, and is opened and claimed once.
            let place = piece.path.map_or(Place::Zero, |member| {
                let index = *indexes.entry(piece.identity).or_insert_with(|| {
                    members.push(member);
                    members.len() - 1
                });
                Place::File {
                    index,
                    position: piece.file_offset,
                    writable: piece.access == vmdk::Access::ReadWrite,
                }
            });
            pieces.push(Piece { extent, place });
            at = extent.end();
        }
        Ok(Self { kind: Kind::VmdkFlat, size_bytes: at, sector: SectorSize::BYTES_512, pieces, members })
    }
}

/// Image formats whose bytes are not the disk's.
fn foreign_format(head: &[u8]) -> Option<&'static str> {
    const VDI_MAGIC: [u8; 4] = [0x7f, 0x10, 0xda, 0xbe];
    if head.starts_with(b"QFI\xfb") {
        Some("QCOW image")
    } else if head.starts_with(b"vhdxfile") {
        Some("VHDX image")
    } else if head.starts_with(b"conectix") {
        Some("dynamic VHD image")
    } else if head.get(0x40..0x44) == Some(&VDI_MAGIC) {
        Some("VDI image")
    } else {
        None
    }
}

fn head(path: &Path, mut file: &File) -> Result<Vec<u8>, Error> {
    use std::io::{Seek, SeekFrom};
    let mut head = Vec::with_capacity(4096);
    file.take(4096)
        .read_to_end(&mut head)
        .and_then(|_| file.seek(SeekFrom::Start(0)))
        .map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Ok(head)
}

/// What is gathered while the files of a disk are checked and claimed.
struct Opening {
    members: Vec<(PathBuf, File, Storage)>,
    storage: Storage,
    liveness: Liveness,
    notices: Vec<Notice>,
    claims: Vec<Claim>,
    writes: Vec<Writes>,
}

impl Opening {
    /// Finds out what the files rest on.
    fn look(path: &Path, file: &File, shape: &Shape) -> Result<Self, Error> {
        let mut members = Vec::with_capacity(shape.members.len());
        let mut storage: Option<Storage> = None;
        for member in &shape.members {
            let file = look_at(member)?;
            let own = Storage::of(member, &file)?;
            match &mut storage {
                Some(whole) => whole.merge(own.clone()),
                none => *none = Some(own.clone()),
            }
            members.push((member.clone(), file, own));
        }
        // An image without a file of its own holds zeroes alone: it rests on its descriptor.
        let storage = match storage {
            Some(storage) => storage,
            None => Storage::of(path, file)?,
        };
        Ok(Self {
            members,
            storage,
            liveness: Liveness::Quiet,
            notices: Vec::new(),
            claims: Vec::new(),
            writes: Vec::new(),
        })
    }

    /// An image is known by its first bytes: so it has one name as an image, as
    /// the file that holds them, and as a loop device over that.
    fn identity(&self, path: &Path, file: &File, shape: &Shape) -> Result<Identity, Error> {
        let first = shape.pieces.iter().find_map(|piece| match piece.place {
            Place::File { index, position, .. } => Some((&self.members[index], position)),
            Place::Zero => None,
        });
        Ok(match first {
            Some(((path, file, _), position)) => super::storage::identity(path, file)?.shifted(position),
            None => super::storage::identity(path, file)?,
        })
    }

    /// Refuses what must not be used so.
    fn check(&mut self, purpose: Purpose) -> Result<(), Error> {
        if purpose == Purpose::Inspection {
            return Ok(());
        }
        let uses = Uses::scan(&Host::here())?;
        for (path, file, storage) in &self.members {
            match purpose {
                Purpose::Target | Purpose::Rehearsal => {
                    guard::check_writable(path, file)?;
                    uses.check_target(path, file, storage)?;
                }
                Purpose::Source { live } => match uses.check_source(path, file, storage)? {
                    Liveness::Live { reason } if !live => {
                        return Err(Error::LiveSource { path: path.clone(), reason: Box::new(reason) });
                    }
                    Liveness::Quiet => {}
                    found @ Liveness::Live { .. } => self.liveness = found,
                },
                Purpose::Inspection => {}
            }
        }
        Ok(())
    }

    /// Keeps others away for as long as the disk is open.
    fn claim(&mut self, files: &[Backing], purpose: Purpose) -> Result<(), Error> {
        for backing in files {
            let claim = match purpose {
                Purpose::Target => guard::claim_target(&backing.path, &backing.buffered)?,
                Purpose::Source { live } => guard::claim_source(&backing.path, &backing.buffered, live)?,
                Purpose::Rehearsal | Purpose::Inspection => continue,
            };
            if let Purpose::Source { .. } = purpose {
                self.writes.push(Writes::of(&backing.buffered));
            }
            self.notices.extend(claim.notice().cloned());
            self.claims.push(claim);
        }
        Ok(())
    }

    fn notice_buffered(&mut self, files: &[Backing]) {
        for file in files.iter().filter(|file| file.direct.is_none()) {
            self.notices.push(Notice::new(
                "buffered",
                format!("{}: no direct I/O here, going through the page cache", file.path.display()),
            ));
        }
    }
}

fn open_backings(shape: &Shape, purpose: Purpose) -> Result<Vec<Backing>, Error> {
    let mut starts = vec![Vec::new(); shape.members.len()];
    for piece in &shape.pieces {
        if let Place::File { index, position, .. } = piece.place {
            starts[index].extend([piece.extent.offset(), position]);
        }
    }
    let open = |(path, starts): (&PathBuf, &Vec<u64>)| Backing::open(path, purpose.writes(), starts);
    shape.members.iter().zip(&starts).map(open).collect()
}

//! Keeping the space of a disk whose files may have holes.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Disk, Error, Place};
use crate::telemetry::Notice;
use crate::unit::Extent;

/// Most bytes of one call: a signal then waits no longer than for these.
const STEP_BYTES: u64 = 64 << 30;

impl Disk {
    /// Allocates what its files do not hold yet, and keeps their bytes: a target
    /// must never fail to go back to a point because its filesystem has filled
    /// up. Block devices have what they have; a thin one is told in no way.
    ///
    /// Gives a notice where a filesystem cannot promise space.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; then nothing but holes has changed.
    pub fn allocate(&self) -> Result<Vec<Notice>, Error> {
        let mut notices = Vec::new();
        for piece in &self.pieces {
            let Place::File { index, position, writable: true } = piece.place else { continue };
            let file = &self.files[index];
            let is_file = file.buffered.metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_file {
                continue;
            }
            match allocate(&file.buffered, position, piece.extent) {
                Ok(()) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                    let text = format!(
                        "{}: its filesystem cannot promise space, so a write may fail when it is full",
                        file.path.display()
                    );
                    notices.push(Notice::new("unallocated", text));
                }
                Err(errno) => {
                    let source = io::Error::from(errno);
                    return Err(Error::NoSpace { path: file.path.clone(), extent: piece.extent, source });
                }
            }
        }
        notices.dedup();
        Ok(notices)
    }
}

fn allocate(file: &impl AsFd, position: u64, extent: Extent) -> Result<(), Errno> {
    for step in extent.split_at_multiples(STEP_BYTES) {
        let offset = position + (step.offset() - extent.offset());
        let signed = |number: u64| i64::try_from(number).map_err(|_| Errno::EFBIG);
        let (offset, length) = (signed(offset)?, signed(step.length())?);
        while let Err(errno) = fallocate(file, FallocateFlags::empty(), offset, length) {
            if errno != Errno::EINTR {
                return Err(errno);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::super::{Purpose, open};

    #[test]
    fn holes_get_space_and_bytes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.img");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"kept", 300_000).unwrap();
        let allocated = || std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!(allocated() < 1 << 20);
        let notices = open(&path, Purpose::Target).unwrap().allocate().unwrap();
        if notices.is_empty() {
            assert!(allocated() >= 1 << 20);
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert_eq!(&bytes[300_000..300_004], b"kept");
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 4);
    }
}

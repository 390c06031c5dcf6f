//! The image that a run makes for its target, and takes away again where it
//! comes to nothing.

use std::path::{Path, PathBuf};

use super::Error;
use crate::disk::{Disk, image, vmdk};
use crate::wire::Create;

/// The files of an image made for this run. Dropped without [`Self::keep`], they
/// are removed: a run that was refused after all leaves none behind.
#[derive(Debug, Default)]
pub struct NewImage {
    files: Vec<PathBuf>,
}

impl NewImage {
    /// Makes a new image at `path` for a source of `size_bytes`, unless there is
    /// one already, which then stays whatever happens.
    ///
    /// # Errors
    /// [`Error::Image`].
    pub fn make(path: &Path, create: Create, size_bytes: u64) -> Result<Self, Error> {
        if path.symlink_metadata().is_ok() {
            return Ok(Self::default());
        }
        let files = match create {
            Create::Raw => image::create_raw(path, size_bytes).map(|()| vec![path.to_owned()]),
            Create::VmdkFlat => image::create_vmdk_flat(path, size_bytes, vmdk::CreateType::MonolithicFlat),
        };
        Ok(Self { files: files? })
    }

    /// The image that [`Self::make`] would make, as it would read: `None` where
    /// there is one already.
    ///
    /// # Errors
    /// [`Error::Image`], where it is seen without making anything.
    pub fn rehearse(path: &Path, create: Create, size_bytes: u64) -> Result<Option<Disk>, Error> {
        if path.symlink_metadata().is_ok() {
            return Ok(None);
        }
        image::check_place(path)?;
        Ok(Some(Disk::imagined(path, create.kind(), size_bytes)))
    }

    /// Something was written to it.
    pub fn keep(&mut self) {
        self.files.clear();
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        for file in &self.files {
            // It is empty; one that cannot be removed does no harm.
            let _left = std::fs::remove_file(file);
        }
    }
}

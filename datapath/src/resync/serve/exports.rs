//! What peers may reach, under which names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk, Purpose, image, vmdk};
use crate::resync::Error;
use crate::wire::{Create, Role};

/// A path that peers may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The disk.
    pub path: PathBuf,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// Everything that peers may reach.
#[derive(Clone, Debug)]
pub enum Exports {
    /// These names and no others.
    Named(BTreeMap<String, Export>),
    /// Any path, with the rights of the account that ssh logged in to.
    AnyPath,
}

impl Exports {
    pub(super) fn find(&self, name: &str) -> Result<Export, Error> {
        match self {
            Self::AnyPath => Ok(Export { path: PathBuf::from(name), read_only: false }),
            Self::Named(exports) => exports.get(name).cloned().ok_or_else(|| Error::Export {
                reason: format!(
                    "no export {name:?} here; ask its host for the names given to `failback serve --export`"
                ),
            }),
        }
    }
}

impl Export {
    /// Opens the export for `role`; as a target it may be made.
    pub(super) fn open(
        &self,
        role: Role,
        purpose: Purpose,
        create: Option<(Create, u64)>,
    ) -> Result<Disk, Error> {
        if role == Role::Target && self.read_only {
            let reason = format!("{}: exported for reading only", self.path.display());
            return Err(Error::Export { reason });
        }
        if role == Role::Target
            && let Some((create, size_bytes)) = create
        {
            drop(create_image(&self.path, create, size_bytes)?);
        }
        Ok(disk::open(&self.path, purpose)?)
    }
}

/// Makes a new image for a source of `size_bytes`, unless there is one already;
/// gives the files it made.
///
/// # Errors
/// [`Error::Image`].
pub fn create_image(path: &Path, create: Create, size_bytes: u64) -> Result<Vec<PathBuf>, Error> {
    if path.symlink_metadata().is_ok() {
        return Ok(Vec::new());
    }
    match create {
        Create::Raw => image::create_raw(path, size_bytes).map(|()| vec![path.to_owned()]),
        Create::VmdkFlat => image::create_vmdk_flat(path, size_bytes, vmdk::CreateType::MonolithicFlat),
    }
    .map_err(Error::from)
}

//! What peers may reach, under which names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::disk::{self, Disk, Purpose};
use crate::resync::{Error, NewImage};
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
    /// Opens the export for `role`; as a target it may be made, and the caller
    /// says whether it is kept.
    pub(super) fn open(
        &self,
        role: Role,
        purpose: Purpose,
        create: Option<(Create, u64)>,
    ) -> Result<(Disk, NewImage), Error> {
        if role == Role::Target && self.read_only {
            let reason = format!("{}: exported for reading only", self.path.display());
            return Err(Error::Export { reason });
        }
        let mut made = NewImage::default();
        if let Some((create, size_bytes)) = create.filter(|_| role == Role::Target) {
            if purpose != Purpose::Rehearsal {
                made = NewImage::make(&self.path, create, size_bytes)?;
            } else if let Some(imagined) = NewImage::rehearse(&self.path, create, size_bytes)? {
                return Ok((imagined, made));
            }
        }
        Ok((disk::open(&self.path, purpose)?, made))
    }
}

//! Room that is put aside for a rewind, which must not run out of it halfway: nobody
//! else on the volume can have it.
//!
//! ```text
//! reserve-00000001 …   each as large as a segment, its space allocated
//!    │ a new segment: renamed to it
//!    └ any other file that the volume refuses: one is taken away for it
//! ```
//!
//! They outlive their process while the pair is being rewound; else whoever opens
//! the journal takes them away.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::files::{Files, is_full};
use super::{Error, Volume, VolumeFile};
use crate::unit::to_u64;

const PREFIX: &str = "reserve-";

fn piece(number: u64) -> String {
    format!("{PREFIX}{number:08}")
}

/// Whether a file of this name was put aside.
pub(super) fn is_piece(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What is put aside.
#[derive(Default)]
pub(super) struct Reserve {
    pieces: RefCell<Vec<String>>,
    piece_bytes: Cell<u64>,
}

impl Reserve {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        to_u64(self.pieces.borrow().len()).saturating_mul(self.piece_bytes.get())
    }
}

impl<V: Volume> Files<V> {
    /// Takes over what an earlier process put aside, in pieces of `piece_bytes`;
    /// what it left half made is none.
    pub fn adopt(&self, names: &[String], piece_bytes: u64) -> Result<(), Error> {
        self.reserve.piece_bytes.set(piece_bytes);
        for name in names.iter().filter(|name| is_piece(name)) {
            let file = self.volume.open(name, false).map_err(|source| Error::file(name, "open", source))?;
            let size = file.size_bytes().map_err(|source| Error::file(name, "measure", source))?;
            if size == piece_bytes {
                self.reserve.pieces.borrow_mut().push(name.clone());
            }
        }
        Ok(())
    }

    /// Puts room aside until it is `bytes`, durably. On [`Error::Full`] nothing is.
    pub fn put_aside(&self, bytes: u64, piece_bytes: u64) -> Result<(), Error> {
        self.reserve.piece_bytes.set(piece_bytes);
        let mut number = 0;
        while self.reserve.bytes() < bytes {
            number += 1;
            let name = piece(number);
            if self.reserve.pieces.borrow().contains(&name) {
                continue;
            }
            self.remove(&name)?;
            match self.volume.create(&name, piece_bytes) {
                Ok(_piece) => self.reserve.pieces.borrow_mut().push(name),
                Err(error) => {
                    let refused = self.no_room(&name, "create", bytes, error);
                    self.release()?;
                    return Err(refused);
                }
            }
        }
        self.flush_names()
    }

    /// Gives back what was put aside.
    pub fn release(&self) -> Result<(), Error> {
        let mut released = false;
        while self.release_one()? {
            released = true;
        }
        if released { self.flush_names() } else { Ok(()) }
    }

    /// Makes a file of what was put aside, where that is of its size.
    pub(super) fn of_reserve(&self, name: &str, size_bytes: u64) -> Result<Option<Rc<V::File>>, Error> {
        if size_bytes != self.reserve.piece_bytes.get() {
            return Ok(None);
        }
        let Some(piece) = self.reserve.pieces.borrow_mut().pop() else { return Ok(None) };
        let failed = |action| move |source| Error::file(name, action, source);
        self.volume.rename(&piece, name).map_err(failed("create"))?;
        self.volume.open(name, true).map(|file| Some(Rc::new(file))).map_err(failed("open"))
    }

    /// Whether a piece could be given back for what the volume refused by `error`.
    pub(super) fn makes_way(&self, error: &std::io::Error) -> Result<bool, Error> {
        if is_full(error) { self.release_one() } else { Ok(false) }
    }

    fn release_one(&self) -> Result<bool, Error> {
        let Some(piece) = self.reserve.pieces.borrow_mut().pop() else { return Ok(false) };
        self.remove(&piece).map(|()| true)
    }
}

//! What was done to the storage, in order: the record that power cuts are made from.

use std::rc::Rc;

/// A file of the simulated storage, or its disk, by number; it keeps it when renamed.
pub type Inode = usize;

/// The disk. Files come after it.
pub const DISK: Inode = 0;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A write was handed to the storage; from now on any of it may be there.
    Submitted { inode: Inode, position: usize, bytes: Rc<[u8]>, write: usize },
    /// A flush completed. It covers the writes that had completed before it began,
    /// and the size that the file had then.
    Flushed { inode: Inode, covered: Rc<[usize]>, size: usize },
    /// A file was made, `size` bytes of zeroes.
    Created { name: String, inode: Inode, size: usize },
    /// A file grew by a write behind its end.
    Grown { inode: Inode, size: usize },
    /// A file got another name, in place of whichever had it.
    Renamed { from: String, to: String },
    /// A name was taken away.
    Removed { name: String },
    /// Every creation, renaming and removal before this one is durable.
    DirectoryFlushed,
    /// The workload did, or was told, something.
    Milestone(usize),
}

/// The events of a run.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    pub events: Vec<Event>,
}

impl Tape {
    /// Numbers of the events after which a flush, of a file or of the directory,
    /// was complete: between two of them the storage owes nothing new.
    pub fn flush_boundaries(&self) -> Vec<usize> {
        let is_flush = |event: &Event| matches!(event, Event::Flushed { .. } | Event::DirectoryFlushed);
        (0..self.events.len()).filter(|index| is_flush(&self.events[*index])).map(|index| index + 1).collect()
    }
}

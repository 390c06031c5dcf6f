//! The disk and the retention volume of a [`World`], as the data path knows them.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use failback_datapath::disk::{self, Blocks};
use failback_datapath::journal::{Volume, VolumeFile};
use failback_datapath::sys::Buffer;
use failback_datapath::unit::{Extent, to_u64, to_usize};

use super::tape::{DISK, Inode};
use super::world::{Faults, Shared, strikes};

/// The disk.
#[derive(Clone)]
pub struct Disk(pub Shared);

/// The directory.
#[derive(Clone)]
pub struct Directory(pub Shared);

/// A file of it.
pub struct File {
    world: Shared,
    inode: Inode,
    writable: bool,
}

/// Lets other tasks run before and after an operation takes effect, so that
/// operations in flight end in any order.
async fn pause(world: &Shared) {
    let times = world.borrow_mut().delay();
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

async fn write(world: &Shared, inode: Inode, position: u64, bytes: &[u8]) {
    let (position, bytes) = (to_usize(position), Rc::<[u8]>::from(bytes));
    let write = world.borrow_mut().submit(inode, position, &bytes);
    pause(world).await;
    world.borrow_mut().complete(inode, position, &bytes, write);
}

async fn flush(world: &Shared, inode: Inode) {
    let covered = world.borrow_mut().begin_flush(inode);
    pause(world).await;
    world.borrow_mut().end_flush(inode, covered);
}

impl Disk {
    fn fails(
        &self,
        which: impl FnOnce(&mut Faults) -> &mut Option<u64>,
        operation: &'static str,
        extent: Extent,
    ) -> Result<(), disk::Error> {
        if !strikes(which(&mut self.0.borrow_mut().faults)) {
            return Ok(());
        }
        let source = io::Error::other("a simulated fault");
        Err(disk::Error::Io { path: PathBuf::from("simulated disk"), operation, extent, source })
    }
}

impl Blocks for Disk {
    fn size_bytes(&self) -> u64 {
        to_u64(self.0.borrow().disk().len())
    }

    async fn read(&self, extent: Extent, mut buffer: Buffer) -> (Result<(), disk::Error>, Buffer) {
        pause(&self.0).await;
        let (from, to) = (to_usize(extent.offset()), to_usize(extent.end()));
        buffer.bytes_mut()[..to - from].copy_from_slice(&self.0.borrow().disk()[from..to]);
        (self.fails(|faults| &mut faults.disk_reads, "read", extent), buffer)
    }

    async fn write(&self, extent: Extent, buffer: Buffer, from: usize) -> (Result<(), disk::Error>, Buffer) {
        if let Err(error) = self.fails(|faults| &mut faults.disk_writes, "write", extent) {
            return (Err(error), buffer);
        }
        let bytes = &buffer.bytes()[from..from + to_usize(extent.length())];
        write(&self.0, DISK, extent.offset(), bytes).await;
        (Ok(()), buffer)
    }

    async fn zero_in_place(&self, extent: Extent) -> Result<(), disk::Error> {
        self.fails(|faults| &mut faults.disk_writes, "zeroing", extent)?;
        write(&self.0, DISK, extent.offset(), &vec![0; to_usize(extent.length())]).await;
        Ok(())
    }

    async fn flush(&self) -> Result<(), disk::Error> {
        let whole = Extent::between(0, self.size_bytes());
        self.fails(|faults| &mut faults.disk_flushes, "flush", whole)?;
        flush(&self.0, DISK).await;
        Ok(())
    }
}

impl Volume for Directory {
    type File = File;

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<File> {
        let inode = self.0.borrow_mut().create(name, to_usize(size_bytes))?;
        Ok(File { world: Rc::clone(&self.0), inode, writable: true })
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<File> {
        let found = self.0.borrow().names.get(name).copied();
        let inode = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(File { world: Rc::clone(&self.0), inode, writable })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.borrow_mut().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.0.borrow_mut().flush_directory();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.0.borrow();
        Ok(world.capacity.saturating_sub(world.used_bytes()))
    }

    fn open_entries_max(&self) -> usize {
        self.0.borrow().open_entries_max
    }
}

impl VolumeFile for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(to_u64(self.world.borrow().contents[self.inode].len()))
    }

    async fn read(&self, position: u64, mut buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        pause(&self.world).await;
        let position = to_usize(position);
        let world = self.world.borrow();
        let wanted = position..position + range.len();
        let Some(bytes) = world.contents[self.inode].get(wanted) else {
            return (Err(io::ErrorKind::UnexpectedEof.into()), buffer);
        };
        buffer.bytes_mut()[range].copy_from_slice(bytes);
        (Ok(()), buffer)
    }

    async fn write(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        let failed = strikes(&mut self.world.borrow_mut().faults.journal_writes);
        if failed || !self.writable {
            return (Err(io::Error::other("a simulated fault")), buffer);
        }
        write(&self.world, self.inode, position, &buffer.bytes()[range]).await;
        (Ok(()), buffer)
    }

    async fn flush(&self) -> io::Result<()> {
        if strikes(&mut self.world.borrow_mut().faults.journal_flushes) {
            return Err(io::Error::other("a simulated fault"));
        }
        flush(&self.world, self.inode).await;
        Ok(())
    }
}

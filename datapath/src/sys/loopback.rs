//! Loop devices: the ioctls that the crate `loopdev` lacks.
//!
//! In: descriptors of a loop device and of its backing file. Out: a bound
//! device, or what it is bound to. Invariants: every structure handed to the
//! kernel has the layout of `<linux/loop.h>`, which the assertions below hold.
//! Never: opens a file, chooses a device, undoes anything.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use crate::unit::SectorSize;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const SCAN_PARTITIONS: u32 = 8;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Information {
    filesystem: u64,
    inode: u64,
    backing_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption_kind: u32,
    encryption_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    encryption_name: [u8; 64],
    encryption_key: [u8; 32],
    initial: [u64; 2],
}

impl Information {
    const ZERO: Self = Self {
        filesystem: 0,
        inode: 0,
        backing_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption_kind: 0,
        encryption_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        encryption_name: [0; 64],
        encryption_key: [0; 32],
        initial: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct Configuration {
    backing: RawFd,
    block_size: u32,
    information: Information,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Information>() == 232 && size_of::<Configuration>() == 304);

mod request {
    use super::{Configuration, Information};

    nix::ioctl_write_ptr_bad!(configure, 0x4C0A, Configuration);
    nix::ioctl_read_bad!(status, 0x4C05, Information);
    nix::ioctl_write_ptr_bad!(set_status, 0x4C04, Information);
}

/// What a loop device is to be.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The file behind it, open for writing unless `read_only`.
    pub backing: &'a File,
    /// Its first byte in the file.
    pub offset: u64,
    /// Its size in bytes; 0 for all that the file has.
    pub size_limit: u64,
    /// Its logical sector size.
    pub sector_size: SectorSize,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether to bypass the page cache for the backing file, where possible.
    pub direct_io: bool,
    /// Whether partitions become devices of their own.
    pub scan_partitions: bool,
}

/// What a loop device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// `st_dev` of the backing file: the device number of its filesystem.
    pub filesystem: u64,
    /// Inode of the backing file.
    pub inode: u64,
    /// `st_rdev` of the backing file: not zero where it is itself a device.
    pub backing_device: u64,
    /// First byte in the file.
    pub offset: u64,
    /// Size in bytes; 0 for all that the file has.
    pub size_limit: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the page cache is bypassed for the backing file.
    pub direct_io: bool,
}

/// Binds a free loop device to a file, all settings at once: nobody ever sees
/// it half configured.
///
/// # Errors
/// `EBUSY` where the device is taken meanwhile, `EINVAL` where the kernel is
/// older than 5.8 or does not have the sector size, and those of the backing file.
pub fn bind(loop_device: &impl AsRawFd, binding: &Binding<'_>) -> io::Result<()> {
    let flag = |wanted: bool, flag: u32| if wanted { flag } else { 0 };
    let configuration = Configuration {
        backing: binding.backing.as_raw_fd(),
        block_size: binding.sector_size.bytes(),
        information: Information {
            offset: binding.offset,
            size_limit: binding.size_limit,
            flags: flag(binding.read_only, READ_ONLY)
                | flag(binding.direct_io, DIRECT_IO)
                | flag(binding.scan_partitions, SCAN_PARTITIONS),
            ..Information::ZERO
        },
        reserved: [0; 8],
    };
    // SAFETY: the request reads one `struct loop_config`, which the argument is,
    // and the kernel keeps no pointer to it.
    unsafe { request::configure(loop_device.as_raw_fd(), &raw const configuration) }?;
    Ok(())
}

/// What the loop device is bound to; `None` where it is free.
///
/// # Errors
/// `ENOTTY` or `EINVAL` where it is no loop device.
pub fn status(loop_device: &impl AsRawFd) -> io::Result<Option<Status>> {
    Ok(information(loop_device)?.map(|information| Status {
        filesystem: information.filesystem,
        inode: information.inode,
        backing_device: information.backing_device,
        offset: information.offset,
        size_limit: information.size_limit,
        read_only: information.flags & READ_ONLY != 0,
        direct_io: information.flags & DIRECT_IO != 0,
    }))
}

/// Takes back the promise to free the device when its last user closes it,
/// which freeing a device in use leaves behind. A free device stays free.
///
/// # Errors
/// Those of the kernel.
pub fn keep_bound(loop_device: &impl AsRawFd) -> io::Result<()> {
    let Some(mut information) = information(loop_device)? else { return Ok(()) };
    information.flags &= !AUTOCLEAR;
    // SAFETY: the request reads one `struct loop_info64`, which the argument is,
    // and the kernel keeps no pointer to it.
    match unsafe { request::set_status(loop_device.as_raw_fd(), &raw const information) } {
        Ok(_) | Err(Errno::ENXIO) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn information(loop_device: &impl AsRawFd) -> io::Result<Option<Information>> {
    let mut information = Information::ZERO;
    // SAFETY: the request writes one `struct loop_info64`, which the argument
    // has room for, and every bit pattern of it is valid.
    match unsafe { request::status(loop_device.as_raw_fd(), &raw mut information) } {
        Ok(_) => Ok(Some(information)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

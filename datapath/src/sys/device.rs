//! What the kernel says about a block device through ioctls: its size and
//! sectors, what a loop device stands on, what a mapped device is made of.
//!
//! The numbers are the kernel's (`include/uapi/linux/{fs,loop,dm-ioctl}.h`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

mod calls {
    //! The calls themselves; nix makes each of them an `unsafe fn`.

    use super::MapperHeader;

    nix::ioctl_read!(size, 0x12, 114, libc::size_t);
    nix::ioctl_read_bad!(logical_sector, libc::BLKSSZGET, libc::c_int);
    nix::ioctl_read_bad!(read_only, 0x125e, libc::c_int);
    nix::ioctl_readwrite!(mapper_table, 0xfd, 12, MapperHeader);
}

/// Size of the block device `file` in bytes (`BLKGETSIZE64`).
///
/// # Errors
/// `ENOTTY` where `file` is no block device.
pub fn device_size_bytes(file: &File) -> io::Result<u64> {
    let mut bytes: libc::size_t = 0;
    // SAFETY: the call writes one integer of that type through the pointer.
    unsafe { calls::size(file.as_raw_fd(), &raw mut bytes) }?;
    Ok(crate::unit::to_u64(bytes))
}

/// Logical sector of the block device `file` in bytes (`BLKSSZGET`).
///
/// # Errors
/// `ENOTTY` where `file` is no block device.
pub fn logical_sector_bytes(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one integer of that type through the pointer.
    unsafe { calls::logical_sector(file.as_raw_fd(), &raw mut bytes) }?;
    u32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether the kernel refuses writes to the block device `file` (`BLKROGET`).
///
/// # Errors
/// `ENOTTY` where `file` is no block device.
pub fn device_is_read_only(file: &File) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the call writes one integer of that type through the pointer.
    unsafe { calls::read_only(file.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// `struct dm_ioctl`, the head of every request to the device mapper.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct MapperHeader {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_number: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const MAPPER_HEADER_BYTES: usize = size_of::<MapperHeader>();
const _: () = assert!(MAPPER_HEADER_BYTES == 312, "dm_ioctl is 312 bytes");
const MAPPER_LINE_BYTES: usize = 40;
/// A table of a mapped device in bytes: 16,384 lines of 64 bytes of text.
const MAPPER_TABLE_BYTES_MAX: usize = 2 << 20;
const MAPPER_TABLE: u32 = 1 << 4;
const MAPPER_BUFFER_FULL: u32 = 1 << 8;
const MAPPER_WIPE: u32 = 1 << 15;

/// One line of a device-mapper table: `length` sectors of 512 bytes from
/// `start` of the mapped device are handled by the target `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedLine<'a> {
    /// First sector (512 bytes).
    pub start: u64,
    /// Sectors (512 bytes).
    pub length: u64,
    /// Name of the target: `linear`, `striped`, `crypt`, …
    pub kind: &'a str,
    /// Its parameters. Those of `crypt` can hold the key: never keep or print them.
    pub parameters: &'a str,
}

/// Reads the live table of the mapped device with the number `device`
/// (`st_rdev`) and shows each of its lines to `see`. `control` is an open
/// `/dev/mapper/control`. The buffer is wiped afterwards, since tables of
/// encrypted devices can hold keys.
///
/// # Errors
/// `EACCES`/`EPERM` without privileges, `ENXIO` where the number is no mapped
/// device, `InvalidData` for a table that is malformed or larger than 2 MiB.
pub fn mapped_lines(control: &File, device: u64, mut see: impl FnMut(MappedLine<'_>)) -> io::Result<()> {
    let mut bytes = 16 << 10;
    while bytes <= MAPPER_TABLE_BYTES_MAX {
        // u64 elements keep the header aligned.
        let mut buffer = vec![0_u64; bytes / 8];
        let outcome = read_table(control, device, &mut buffer).and_then(|found| match found {
            Some(count) => show_lines(&buffer, count, &mut see).map(|()| true),
            None => Ok(false),
        });
        buffer.fill(0);
        std::hint::black_box(&buffer);
        if outcome? {
            return Ok(());
        }
        bytes *= 4;
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the device-mapper table is larger than 2 MiB"))
}

/// The number of lines read into `buffer` behind the header; `None` where the
/// buffer is too small.
fn read_table(control: &File, device: u64, buffer: &mut [u64]) -> io::Result<Option<u32>> {
    let data_size = u32::try_from(size_of_val(buffer)).map_err(|_| Errno::EINVAL)?;
    let header = MapperHeader {
        version: [4, 0, 0],
        data_size,
        data_start: u32::try_from(MAPPER_HEADER_BYTES).map_err(|_| Errno::EINVAL)?,
        target_count: 0,
        open_count: 0,
        flags: MAPPER_TABLE | MAPPER_WIPE,
        event_number: 0,
        padding: 0,
        device,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    if size_of_val(buffer) < MAPPER_HEADER_BYTES {
        return Err(Errno::EINVAL.into());
    }
    let pointer = buffer.as_mut_ptr().cast::<MapperHeader>();
    // SAFETY: the buffer is at least a header long (checked above), and u64
    // elements are aligned for its largest member.
    unsafe { pointer.write(header) };
    // SAFETY: the kernel reads and writes at most `data_size` bytes from the
    // pointer, which is the size of the buffer.
    unsafe { calls::mapper_table(control.as_raw_fd(), pointer) }?;
    // SAFETY: the header was written above, and any bit pattern of it is valid.
    let answer = unsafe { pointer.read() };
    Ok((answer.flags & MAPPER_BUFFER_FULL == 0).then_some(answer.target_count))
}

/// Cuts the kernel's answer into lines: `dm_target_spec` (40 bytes), then text
/// that ends with a zero byte; `next` counts from the end of the header.
fn show_lines(buffer: &[u64], count: u32, see: &mut impl FnMut(MappedLine<'_>)) -> io::Result<()> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed device-mapper table");
    // SAFETY: the same memory as bytes, which may have any value.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), size_of_val(buffer)) };
    let lines = bytes.get(MAPPER_HEADER_BYTES..).ok_or_else(malformed)?;
    let text = |field: &[u8]| -> io::Result<usize> {
        field.iter().position(|byte| *byte == 0).ok_or_else(malformed)
    };
    let mut at = 0_usize;
    for _ in 0..count {
        let line = lines.get(at..).ok_or_else(malformed)?;
        let (head, parameters) = line.split_at_checked(MAPPER_LINE_BYTES).ok_or_else(malformed)?;
        let [start, length, rest @ ..] = head.as_chunks::<8>().0 else { return Err(malformed()) };
        let next = rest.first().map(|pair| u32::from_ne_bytes([pair[4], pair[5], pair[6], pair[7]]));
        let kind = head.get(24..).ok_or_else(malformed)?;
        let kind = &kind[..text(kind)?];
        let parameters = &parameters[..text(parameters)?];
        see(MappedLine {
            start: u64::from_ne_bytes(*start),
            length: u64::from_ne_bytes(*length),
            kind: std::str::from_utf8(kind).map_err(|_| malformed())?,
            parameters: std::str::from_utf8(parameters).map_err(|_| malformed())?,
        });
        at = usize::try_from(next.ok_or_else(malformed)?).map_err(|_| malformed())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[(u64, u64, u32, &str, &str)], bytes: usize) -> Vec<u64> {
        let mut raw = vec![0_u8; MAPPER_HEADER_BYTES];
        for (start, length, next, kind, parameters) in lines {
            raw.extend(start.to_ne_bytes());
            raw.extend(length.to_ne_bytes());
            raw.extend(0_i32.to_ne_bytes());
            raw.extend(next.to_ne_bytes());
            let mut name = [0_u8; 16];
            name[..kind.len()].copy_from_slice(kind.as_bytes());
            raw.extend(name);
            raw.extend(parameters.as_bytes());
            raw.push(0);
            raw.resize(MAPPER_HEADER_BYTES + usize::try_from(*next).unwrap_or(0), 0);
        }
        raw.resize(bytes, 0);
        raw.as_chunks::<8>().0.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect()
    }

    #[test]
    fn lines_of_a_table_are_cut_where_the_kernel_says() -> io::Result<()> {
        let buffer = answer(&[(0, 8, 64, "linear", "7:0 2048"), (8, 16, 128, "thin", "253:1 3")], 1024);
        let mut seen = Vec::new();
        show_lines(&buffer, 2, &mut |line| {
            seen.push((line.start, line.length, line.kind.to_owned(), line.parameters.to_owned()));
        })?;
        assert_eq!(
            seen,
            [(0, 8, "linear".into(), "7:0 2048".into()), (8, 16, "thin".into(), "253:1 3".into())]
        );
        Ok(())
    }

    #[test]
    fn a_malformed_table_is_an_error() {
        let buffer = answer(&[(0, 8, 1_000_000, "linear", "7:0 0")], 1024);
        assert!(show_lines(&buffer[..1024 / 8], 2, &mut |_| {}).is_err());
        assert!(show_lines(&[0; 40], 9, &mut |_| {}).is_err());
        assert!(show_lines(&[u64::MAX; 128], 1, &mut |_| {}).is_err());
    }

    #[test]
    fn a_file_that_is_no_device_is_refused_by_every_call() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        assert!(device_size_bytes(&file).is_err() && logical_sector_bytes(&file).is_err());
        assert!(device_is_read_only(&file).is_err());
        assert!(crate::sys::loopback::status(&file).is_err());
        assert!(mapped_lines(&file, 0, |_| {}).is_err());
        Ok(())
    }
}

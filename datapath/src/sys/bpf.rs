//! bpf(2): maps that are shared with the kernel, programs, raw tracepoints, pins.
//!
//! In: instructions, descriptors, paths. Out: owned descriptors and plain facts.
//! Invariants: every pointer in a request belongs to a value that outlives the
//! call; the kernel keeps none of them. Never: makes up instructions, retries.
//!
//! The numbers are the kernel's (`include/uapi/linux/bpf.h`), which never changes
//! a number once given. Requests are built byte by byte: their structure grows
//! from kernel to kernel, and a kernel takes a shorter one as filled with zeroes.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::limits;
use crate::unit::to_u64;

/// A page of a map's memory in bytes: what one entry of a [`map`] holds.
pub const PAGE_BYTES: usize = 4096;
const PAGE_BYTES_U32: u32 = 4096;

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP: u32 = 1;
const PROGRAM_LOAD: u32 = 5;
const OBJECT_PIN: u32 = 6;
const OBJECT_GET: u32 = 7;
const OBJECT_INFORMATION: u32 = 15;
const RAW_TRACEPOINT_OPEN: u32 = 17;
const ENABLE_STATISTICS: u32 = 32;

const MAP_ARRAY: u32 = 2;
const MAP_SHAREABLE: u32 = 1 << 10;
const PROGRAM_RAW_TRACEPOINT: u32 = 17;
const LINK_RAW_TRACEPOINT: u32 = 1;
const READ_ONLY: u32 = 1 << 3;

/// `union bpf_attr`, as far as these requests need it.
#[repr(C, align(8))]
struct Request([u8; 120]);

impl Request {
    fn new() -> Self {
        Self([0; 120])
    }

    fn word(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn descriptor(self, at: usize, value: BorrowedFd<'_>) -> Self {
        self.word(at, value.as_raw_fd().cast_unsigned())
    }

    fn pointer<T: ?Sized>(mut self, at: usize, value: *const T) -> Self {
        let address = to_u64(value.cast::<u8>().addr());
        self.0[at..at + 8].copy_from_slice(&address.to_ne_bytes());
        self
    }

    /// An object's name: 15 bytes at most, which the kernel wants to be plain.
    fn name(mut self, at: usize, value: &str) -> Self {
        let length = value.len().min(15);
        self.0[at..at + length].copy_from_slice(&value.as_bytes()[..length]);
        self
    }

    /// # Safety
    /// Each pointer in the request points at memory of the size that the request
    /// says, writable where the kernel answers through it, until this returns.
    unsafe fn call(&mut self, command: u32) -> io::Result<RawFd> {
        // SAFETY: the request is 120 initialised bytes, and its pointers are the
        // caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        RawFd::try_from(result).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// # Safety
    /// As for `call`, and the command answers with a new descriptor.
    unsafe fn open(&mut self, command: u32) -> io::Result<OwnedFd> {
        // SAFETY: the caller's promise.
        let descriptor = unsafe { self.call(command) }?;
        // SAFETY: the kernel made it for this call, so nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// Makes an array of `pages` entries of a page each, which can be mapped. Entries
/// lie one behind the other, so that the mapping is one run of `pages` pages.
/// (One entry of that size would do, but older kernels bound it by 4 MiB.)
///
/// # Errors
/// `EPERM` without `CAP_BPF`, `ENOMEM`, `EINVAL` on kernels before 5.5.
pub fn map(name: &str, pages: u32) -> io::Result<OwnedFd> {
    let mut request = Request::new()
        .word(0, MAP_ARRAY)
        .word(4, 4)
        .word(8, PAGE_BYTES_U32)
        .word(12, pages)
        .word(16, MAP_SHAREABLE)
        .name(28, name);
    // SAFETY: the request has no pointers; the answer is a descriptor.
    unsafe { request.open(MAP_CREATE) }
}

/// How many pages an array made by [`map`] has; `None` where it is another map.
///
/// # Errors
/// `EINVAL` where the descriptor is no map.
pub fn map_pages(map: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let information = information::<20>(map)?;
    let is_ours = information[0] == MAP_ARRAY
        && information[2] == 4
        && information[3] == PAGE_BYTES_U32
        && information[5] & MAP_SHAREABLE != 0;
    Ok(is_ours.then_some(information[4]))
}

/// Memory shared with the kernel, as words that both change atomically.
pub struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to no thread, and its words are atomic.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `pages` pages of a [`map`].
    ///
    /// # Errors
    /// Those of `mmap(2)`: `EINVAL` where the map is shorter.
    pub fn new(map: BorrowedFd<'_>, pages: u32) -> io::Result<Self> {
        let bytes = crate::unit::to_usize(u64::from(pages)) * PAGE_BYTES;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no
        // memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words: bytes / size_of::<AtomicU64>() })
    }

    /// All words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long and stays until `self` is dropped; a
        // page is aligned for words, each bit pattern of which is valid; others
        // change them too, which is what atomics are for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that this value made, and the borrow
        // of `words` has ended.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}

/// A pinned [`map`], opened so that nothing in it can be changed.
pub struct PinnedPages {
    map: OwnedFd,
    pages: u32,
}

impl PinnedPages {
    /// Opens it; `None` where what is pinned there is another map.
    ///
    /// # Errors
    /// `ENOENT`; `EACCES` where the path is no object; `EINVAL` where it is no map.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut request = Request::new().pointer(0, path.as_ptr()).word(12, READ_ONLY);
        // SAFETY: the path ends with zero and outlives the call.
        let map = unsafe { request.open(OBJECT_GET) }?;
        Ok(map_pages(map.as_fd())?.map(|pages| Self { map, pages }))
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Copies page `number`, while others may change it word by word.
    ///
    /// # Errors
    /// `ENOENT` past the end.
    pub fn read(&self, number: u32, page: &mut [u64; PAGE_BYTES / 8]) -> io::Result<()> {
        let mut request = Request::new()
            .descriptor(0, self.map.as_fd())
            .pointer(8, &raw const number)
            .pointer(16, page.as_mut_ptr());
        // SAFETY: the key is a word and outlives the call; an entry of this map is
        // a page, which is what the answer has room for, and a map keeps its shape.
        unsafe { request.call(MAP_LOOKUP) }.map(drop)
    }
}

/// Loads a program for raw tracepoints.
///
/// # Errors
/// What the kernel says, and the end of what its verifier wrote.
pub fn load(name: &str, instructions: &[u64]) -> Result<OwnedFd, Rejected> {
    let mut log = Vec::new();
    let quietly = load_with(name, instructions, &mut log);
    quietly.or_else(|source| {
        log.resize(limits::VERIFIER_LOG_BYTES, 0);
        // Said again with its reasons; should it pass this time, all the better.
        load_with(name, instructions, &mut log).map_err(|_| Rejected { source, log: end_of(&log) })
    })
}

/// A program that the kernel did not take.
#[derive(Debug)]
pub struct Rejected {
    /// What the kernel says.
    pub source: io::Error,
    /// The end of what its verifier wrote; empty where it wrote nothing.
    pub log: String,
}

fn load_with(name: &str, instructions: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut request = Request::new()
        .word(0, PROGRAM_RAW_TRACEPOINT)
        .word(4, u32::try_from(instructions.len()).map_err(invalid)?)
        .pointer(8, instructions.as_ptr())
        .pointer(16, c"GPL".as_ptr())
        .name(48, name);
    if !log.is_empty() {
        let bytes = u32::try_from(log.len()).map_err(invalid)?;
        request = request.word(24, 1).word(28, bytes).pointer(32, log.as_mut_ptr());
    }
    // SAFETY: the instructions, the licence (which ends with zero) and the log
    // have the sizes given and outlive the call; only the log is written.
    unsafe { request.open(PROGRAM_LOAD) }
}

/// The last lines of a log that ends with zeroes.
fn end_of(log: &[u8]) -> String {
    let written = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let from = written.saturating_sub(limits::VERIFIER_LINES_BYTES);
    String::from_utf8_lossy(&log[from..written]).trim().to_owned()
}

/// Attaches a program to the raw tracepoint `name`, for as long as the link that
/// is returned (or a pin of it) lives.
///
/// # Errors
/// `ENOENT` where the kernel has no such tracepoint.
pub fn attach(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut request = Request::new().pointer(0, name.as_ptr()).descriptor(8, program);
    // SAFETY: the name ends with zero and outlives the call.
    unsafe { request.open(RAW_TRACEPOINT_OPEN) }
}

/// Gives an object a name in a BPF filesystem, which keeps it alive.
///
/// # Errors
/// `EEXIST`; `EPERM` for a name with a dot; `EINVAL` outside a BPF filesystem.
pub fn pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = Request::new().pointer(0, path.as_ptr()).descriptor(8, object);
    // SAFETY: the path ends with zero and outlives the call.
    unsafe { request.call(OBJECT_PIN) }.map(drop)
}

/// Opens a pinned object.
///
/// # Errors
/// `ENOENT`; `EACCES` where the path is no object.
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = Request::new().pointer(0, path.as_ptr());
    // SAFETY: the path ends with zero and outlives the call.
    unsafe { request.open(OBJECT_GET) }
}

/// What the kernel tells about a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Its number, as links name it.
    pub number: u32,
    /// Time spent in it in nanoseconds, while statistics were on.
    pub run_time_ns: u64,
    /// How often it ran, while statistics were on.
    pub runs: u64,
    /// Events that passed it by, because it was at work on that processor.
    pub misses: u64,
    /// Instructions that the verifier walked through.
    pub verified: u32,
}

/// Facts about a program.
///
/// # Errors
/// `EINVAL` where the descriptor is no program; `Unsupported` on kernels before
/// 5.12, which do not count what they miss.
pub fn program_facts(program: BorrowedFd<'_>) -> io::Result<ProgramFacts> {
    let facts = information::<220>(program)?;
    if facts[0] != PROGRAM_RAW_TRACEPOINT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let long = |at: usize| u64::from(facts[at]) | u64::from(facts[at + 1]) << 32;
    Ok(ProgramFacts {
        number: facts[1],
        run_time_ns: long(48),
        runs: long(50),
        misses: long(52),
        verified: facts[54],
    })
}

/// The number of the program that a link to a raw tracepoint runs.
///
/// # Errors
/// `EINVAL` where the descriptor is no such link.
pub fn linked_program(link: BorrowedFd<'_>) -> io::Result<u32> {
    let [kind, _number, program] = *information::<12>(link)?.first_chunk().unwrap_or(&[0; 3]);
    if kind == LINK_RAW_TRACEPOINT { Ok(program) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Has the kernel measure programs as long as the descriptor lives.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn measure_programs() -> io::Result<OwnedFd> {
    // SAFETY: the request has no pointers; the answer is a descriptor.
    unsafe { Request::new().open(ENABLE_STATISTICS) }
}

/// What the kernel tells about an object: at least its first `BYTES`, as words.
///
/// The structure holds pointers that say where longer answers may go. They are
/// zero here, and so are their lengths.
fn information<const BYTES: usize>(object: BorrowedFd<'_>) -> io::Result<[u32; INFORMATION_WORDS]> {
    let mut words = [0; INFORMATION_WORDS];
    let mut request =
        Request::new().descriptor(0, object).word(4, INFORMATION_BYTES).pointer(8, words.as_mut_ptr());
    // SAFETY: the answer goes into `words`, which is that long and outlives the call.
    unsafe { request.call(OBJECT_INFORMATION) }?;
    let told = u32::from_ne_bytes([request.0[4], request.0[5], request.0[6], request.0[7]]);
    if u64::from(told) < to_u64(BYTES) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel does not tell enough (before 5.12)",
        ));
    }
    Ok(words)
}

/// Room for the answer about an object.
const INFORMATION_BYTES: u32 = 256;
const INFORMATION_WORDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_bounded() {
        assert_eq!(end_of(b"one\ntwo\n\0\0"), "one\ntwo");
        assert_eq!(end_of(&vec![b'x'; 1 << 20]).len(), limits::VERIFIER_LINES_BYTES);
        assert_eq!(end_of(&[]), "");
    }

    #[test]
    fn a_file_is_no_object() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        assert!(pinned(file.path()).is_err() && program_facts(file.as_file().as_fd()).is_err());
        assert!(
            linked_program(file.as_file().as_fd()).is_err() && map_pages(file.as_file().as_fd()).is_err()
        );
        Ok(())
    }
}

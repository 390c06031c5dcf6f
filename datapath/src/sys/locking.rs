//! Memory that is never paged out.

use std::io;

/// Keeps the pages of `memory` in memory for as long as it is mapped.
///
/// # Errors
/// Those of `mlock(2)`: past `RLIMIT_MEMLOCK` without privileges.
pub fn lock_memory(memory: &[u8]) -> io::Result<()> {
    // SAFETY: the range is one live allocation, and locking changes no byte of it.
    let result = unsafe { libc::mlock(memory.as_ptr().cast(), memory.len()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps all memory that this process touches from now on where it is, and what
/// it has touched already: nothing of it is paged out, to be paged in when its
/// storage stands still. Whether it may: where the kernel would count what is
/// locked against a limit, later mappings would fail, and nothing is done.
#[must_use]
pub fn lock_process() -> bool {
    if !may_lock_all() {
        return false;
    }
    // SAFETY: the call takes flags, and locking changes no byte of any mapping.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}

/// `CAP_IPC_LOCK` of capabilities(7): a bit of what `/proc` shows.
const MAY_LOCK: u64 = 1 << 14;

fn may_lock_all() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & MAY_LOCK != 0)
}

#[cfg(test)]
mod tests {
    use super::lock_memory;

    #[test]
    fn a_page_is_locked_or_the_kernel_says_why_not() {
        let page = vec![1_u8; 4096];
        if let Err(error) = lock_memory(&page) {
            assert!(
                matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN)),
                "{error}"
            );
        }
        assert_eq!(page, [1; 4096]);
    }
}

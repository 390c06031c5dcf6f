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

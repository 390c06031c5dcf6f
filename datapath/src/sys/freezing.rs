//! Stopping the writes of a filesystem, and letting them go on.
//!
//! The numbers are the kernel's (`include/uapi/linux/fs.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

mod calls {
    //! The calls themselves; nix makes each of them an `unsafe fn`.

    nix::ioctl_readwrite!(freeze, b'X', 119, libc::c_int);
    nix::ioctl_readwrite!(thaw, b'X', 120, libc::c_int);
}

/// Freezes the filesystem that `file` (a file or folder of it) lies on: all of
/// it is written to its device, and writes wait until it is thawed. May take as
/// long as the device needs for what is unwritten (`FIFREEZE`).
///
/// # Errors
/// `EBUSY` where it is frozen already, `EOPNOTSUPP` where this kind of filesystem
/// cannot be, `EPERM` without privileges.
pub fn freeze(file: &impl AsFd) -> io::Result<()> {
    let mut unused = 0;
    // SAFETY: the kernel ignores the argument, which is a valid integer anyway.
    unsafe { calls::freeze(file.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Thaws the filesystem that `file` lies on (`FITHAW`), whoever froze it.
///
/// # Errors
/// `EINVAL` where it is not frozen, those of its device where it stays frozen.
pub fn thaw(file: &impl AsFd) -> io::Result<()> {
    let mut unused = 0;
    // SAFETY: the kernel ignores the argument, which is a valid integer anyway.
    unsafe { calls::thaw(file.as_fd().as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_filesystem_to_freeze_says_so() -> io::Result<()> {
        let (pipe, _other) = nix::unistd::pipe()?;
        assert!(freeze(&pipe).is_err() && thaw(&pipe).is_err());
        Ok(())
    }
}

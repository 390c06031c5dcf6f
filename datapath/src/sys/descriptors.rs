//! Messages between two processes of one machine that carry a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends one message on a packet socket, and a descriptor with it.
///
/// # Errors
/// `EPIPE` where the other end is gone, `EAGAIN` where its queue is full: never
/// waits.
pub fn send_message(
    socket: &impl AsFd,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let raw = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let carried = raw.as_ref().map(|raw| [ControlMessage::ScmRights(raw)]);
    let carried = carried.as_ref().map_or(&[][..], |carried| &carried[..]);
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(message)], carried, flags, None)?;
    Ok(())
}

/// Receives one message: its length, and the descriptor that came with it. A
/// length of 0 is the end: nobody holds the other end any more.
///
/// # Errors
/// `EAGAIN` where there is none yet: never waits.
pub fn receive_message(socket: &impl AsFd, message: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let mut parts = [IoSliceMut::new(message)];
    let received = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut descriptor = None;
    for carried in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = carried {
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us, and
                // nobody else knows its number.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn a_descriptor_travels_and_the_end_is_told() -> io::Result<()> {
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let (here, there) = socketpair(AddressFamily::Unix, kind, None, flags)?;
        let (reader, writer) = nix::unistd::pipe()?;
        send_message(&here, b"take", Some(writer.as_fd()))?;
        send_message(&here, b"no", None)?;
        drop(writer);
        let mut message = [0; 8];
        let (length, carried) = receive_message(&there, &mut message)?;
        assert_eq!(&message[..length], b"take");
        nix::unistd::write(carried.ok_or(io::ErrorKind::NotFound)?, b"x")?;
        let (length, carried) = receive_message(&there, &mut message)?;
        assert!(length == 2 && carried.is_none());
        assert_eq!(
            receive_message(&there, &mut message).map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        drop(here);
        assert_eq!(receive_message(&there, &mut message)?.0, 0);
        let mut sent = String::new();
        File::from(reader).read_to_string(&mut sent)?;
        assert_eq!(sent, "x");
        Ok(())
    }
}

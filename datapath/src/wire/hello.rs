//! The first frame of both ends: which versions of the protocol they speak.

use super::frame::{Header, Kind};
use super::{Error, LinkReceiver, LinkSender};
use crate::limits;

/// The lowest version that this failback speaks. Version 1 knew no protected
/// disks, and was never released.
pub const VERSION_LOWEST: u16 = 2;

/// The highest version that this failback speaks.
pub const VERSION_HIGHEST: u16 = 2;

const MAGIC: &[u8; 8] = b"FAILBACK";

/// Exchanges versions and settles on the highest that both speak.
///
/// The serving end speaks first: a client whose certificate is refused learns
/// of it here, because its own TLS handshake ends before the server has looked.
///
/// # Errors
/// [`Error::NotFailback`], [`Error::Version`], and those of the connection.
pub async fn exchange(sender: &LinkSender, receiver: &mut LinkReceiver) -> Result<u16, Error> {
    exchange_within(limits::HANDSHAKE_TIMEOUT, sender, receiver).await
}

/// [`exchange`] with another limit: before ssh has a channel, a person may have
/// to type a password.
///
/// # Errors
/// As for [`exchange`].
pub async fn exchange_within(
    limit: std::time::Duration,
    sender: &LinkSender,
    receiver: &mut LinkReceiver,
) -> Result<u16, Error> {
    sender.send(Header::with_payload(Kind::Hello, 12), &[&encode()]).await?;
    let waited = tokio::time::timeout(limit, receive(receiver)).await;
    let (lowest, highest) = waited.map_err(|_| Error::NotFailback { peer: receiver.peer().to_owned() })??;
    let version = highest.min(VERSION_HIGHEST);
    if version < lowest.max(VERSION_LOWEST) {
        return Err(Error::Version { peer: receiver.peer().to_owned(), lowest, highest });
    }
    Ok(version)
}

async fn receive(receiver: &mut LinkReceiver) -> Result<(u16, u16), Error> {
    let header = receiver.receive().await?;
    let stranger = || Error::NotFailback { peer: receiver.peer().to_owned() };
    if header.kind != Kind::Hello || header.payload_bytes != 12 {
        return Err(stranger());
    }
    let mut body = [0; 12];
    receiver.read(&mut body).await?;
    decode(&body).ok_or_else(|| Error::NotFailback { peer: receiver.peer().to_owned() })
}

fn encode() -> [u8; 12] {
    let mut body = [0; 12];
    body[..8].copy_from_slice(MAGIC);
    body[8..10].copy_from_slice(&VERSION_LOWEST.to_le_bytes());
    body[10..].copy_from_slice(&VERSION_HIGHEST.to_le_bytes());
    body
}

fn decode(body: &[u8; 12]) -> Option<(u16, u16)> {
    let lowest = u16::from_le_bytes([body[8], body[9]]);
    let highest = u16::from_le_bytes([body[10], body[11]]);
    (body.starts_with(MAGIC) && lowest <= highest).then_some((lowest, highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        assert_eq!(&encode(), b"FAILBACK\x02\x00\x02\x00");
        assert_eq!(decode(b"FAILBACK\x01\x00\x07\x00"), Some((1, 7)));
        assert_eq!(decode(b"FAILBACK\x07\x00\x01\x00"), None);
        assert_eq!(decode(b"FALLBACK\x01\x00\x01\x00"), None);
    }
}

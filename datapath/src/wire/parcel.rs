//! Deltas and the small frames around them, on a link.

use super::frame::{Header, Kind};
use super::{Error, LinkReceiver, LinkSender, payload_length};
use crate::delta::{self, ENTRY_BYTES, Head, Packed};
use crate::unit::{ChunkSize, DeltaNumber, Digest, Epoch, Extent, to_usize};

impl LinkSender {
    /// Sends a delta.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub async fn send_delta(&self, packed: &Packed) -> Result<(), Error> {
        let head = packed.head().encode();
        let pieces: [&[u8]; 2] = [&head, packed.payload()];
        self.send(Header::with_payload(Kind::Delta, payload_length(&pieces)), &pieces).await
    }

    /// Sends the digests of the chunks of `extent`.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub async fn send_offer(&self, extent: Extent, digests: &[Digest]) -> Result<(), Error> {
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        self.send_about(Kind::Offer, extent, &bytes).await
    }

    /// Answers an offer: a bit for each chunk that is wanted.
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub async fn send_want(&self, extent: Extent, wanted: &[bool]) -> Result<(), Error> {
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        let bytes: Vec<u8> = wanted.chunks(8).map(byte).collect();
        self.send_about(Kind::Want, extent, &bytes).await
    }

    /// Acknowledges deltas of `epoch` up to `number` in one of two ways:
    /// [`Kind::Received`] or [`Kind::Durable`].
    ///
    /// # Errors
    /// [`Error::Channel`].
    pub async fn send_acknowledgement(
        &self,
        kind: Kind,
        epoch: Epoch,
        number: DeltaNumber,
    ) -> Result<(), Error> {
        // Both are counted from 1 and never come near the end of numbers together.
        let numbers = Extent::new(epoch.0, number.0).unwrap_or(Extent::between(0, 0));
        self.send(Header::bare(kind, numbers), &[]).await
    }

    async fn send_about(&self, kind: Kind, extent: Extent, payload: &[u8]) -> Result<(), Error> {
        let payload_bytes = payload_length(&[payload]);
        self.send(Header { kind, detail: 0, payload_bytes, extent }, &[payload]).await
    }
}

impl LinkReceiver {
    /// The delta whose frame `header` was just received, in `memory`.
    ///
    /// # Errors
    /// [`Error::Delta`] where it is damaged or breaks a rule, [`Error::Channel`].
    pub async fn receive_delta(&mut self, header: Header, mut memory: Vec<u8>) -> Result<Packed, Error> {
        let mut bytes = [0; delta::HEADER_BYTES];
        let peer = self.peer().to_owned();
        let failed = |source| Error::Delta { peer: peer.clone(), source };
        let unsound = |what| failed(delta::Error::Header { what });
        if to_usize(u64::from(header.payload_bytes)) < bytes.len() {
            return Err(unsound("it is shorter than a header"));
        }
        self.read(&mut bytes).await?;
        let head = delta::Header::decode(&bytes).map_err(failed)?;
        if head.encoded_bytes() != u64::from(header.payload_bytes) {
            return Err(unsound("it does not fill its frame"));
        }
        let mut entries = vec![0; to_usize(u64::from(head.entries)) * ENTRY_BYTES];
        self.read(&mut entries).await?;
        let head = Head::decode(head, &entries).map_err(failed)?;
        memory.resize(to_usize(u64::from(head.header().packed_bytes)), 0);
        self.read(&mut memory).await?;
        Packed::new(head, memory).map_err(failed)
    }

    /// The digests of the offer whose frame `header` was just received.
    ///
    /// # Errors
    /// [`Error::Frame`] where it is not whole chunks, [`Error::Channel`].
    pub async fn receive_offer(
        &mut self,
        header: Header,
        chunk: ChunkSize,
        size_bytes: u64,
    ) -> Result<Vec<Digest>, Error> {
        let payload = self.receive_about(header, chunk, size_bytes).await?;
        Ok(super::digests(&payload))
    }

    /// The answer whose frame `header` was just received: for each chunk whether
    /// it is wanted.
    ///
    /// # Errors
    /// As [`Self::receive_offer`].
    pub async fn receive_want(
        &mut self,
        header: Header,
        chunk: ChunkSize,
        size_bytes: u64,
    ) -> Result<Vec<bool>, Error> {
        let payload = self.receive_about(header, chunk, size_bytes).await?;
        let bits = payload.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        Ok(bits.take(to_usize(chunk.count(header.extent.length()))).collect())
    }

    async fn receive_about(
        &mut self,
        header: Header,
        chunk: ChunkSize,
        size_bytes: u64,
    ) -> Result<Vec<u8>, Error> {
        header
            .check_offer(chunk, size_bytes)
            .map_err(|source| Error::Frame { peer: self.peer().to_owned(), source })?;
        let mut payload = vec![0; to_usize(u64::from(header.payload_bytes))];
        self.read(&mut payload).await?;
        Ok(payload)
    }
}

/// The epoch and the number that an acknowledgement is about.
#[must_use]
pub const fn acknowledged(header: &Header) -> (Epoch, DeltaNumber) {
    (Epoch(header.extent.offset()), DeltaNumber(header.extent.length()))
}

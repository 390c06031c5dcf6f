//! The open epoch of a disk, on its way out: chunks become deltas, deltas get
//! their numbers, a cut ends it.

use super::CutLabel;
use super::session::Session;
use crate::delta::{Filling, Manifest, NoRoom, Place, Shape};
use crate::pipeline::{Compression, Digester, Packer, is_zero, seal};
use crate::role::Error;
use crate::unit::{Chain, DeltaNumber, Digest, Epoch, Extent, Generation};
use crate::wire::{Cut, Position, Protecting};

/// The open epoch.
pub(super) struct Outbox {
    shape: Shape,
    digester: Digester,
    packer: Packer,
    generation: Generation,
    epoch: Epoch,
    sent: DeltaNumber,
    manifest: Manifest,
    chain: Chain,
    filling: Filling,
}

impl Outbox {
    /// Goes on where the target stands.
    pub(super) fn new(shape: Shape, protecting: &Protecting, compression: Compression) -> Self {
        Self {
            shape,
            digester: Digester::new(protecting.digest, protecting.key),
            packer: Packer::new(compression),
            generation: protecting.position.generation,
            epoch: protecting.position.epoch,
            sent: protecting.position.landed,
            manifest: protecting.manifest,
            chain: protecting.chain,
            filling: Filling::new(shape),
        }
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The furthest that anything was sent.
    pub(super) const fn position(&self) -> Position {
        Position { generation: self.generation, epoch: self.epoch, landed: self.sent }
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        self.digester.digest(bytes)
    }

    /// Puts a chunk in; `None` for zeroes. Sends the delta that it fills.
    pub(super) async fn push(
        &mut self,
        session: &mut Session,
        extent: Extent,
        bytes: Option<(&[u8], Digest)>,
    ) -> Result<(), Error> {
        if self.put(extent, bytes).is_ok() {
            return Ok(());
        }
        self.flush(session).await?;
        self.put(extent, bytes).map_err(|NoRoom| Error::OutOfPlace {
            peer: "the tracker".to_owned(),
            what: "an extent that is no chunk",
        })
    }

    fn put(&mut self, extent: Extent, bytes: Option<(&[u8], Digest)>) -> Result<(), NoRoom> {
        match bytes {
            Some((bytes, digest)) if !is_zero(bytes) => self.filling.push_data(extent, bytes, digest),
            _ => self.filling.push_zero(extent),
        }
    }

    /// Sends what has been gathered.
    pub(super) async fn flush(&mut self, session: &mut Session) -> Result<(), Error> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let number = self.sent.next();
        let place = Place { generation: self.generation, epoch: self.epoch, number };
        let filling = std::mem::replace(&mut self.filling, Filling::new(self.shape));
        let Some(filled) = filling.close(place) else { return Ok(()) };
        self.manifest = self.manifest.with(filled.head());
        self.sent = number;
        let (packed, memory) = seal(filled, &mut self.packer);
        session.send_delta(&packed).await?;
        let memory = if memory.capacity() > 0 { memory } else { packed.into_memory() };
        self.filling = Filling::with_memory(self.shape, memory);
        Ok(())
    }

    /// Ends the epoch, and begins the next one.
    pub(super) async fn cut(&mut self, session: &mut Session, label: &CutLabel) -> Result<Epoch, Error> {
        self.flush(session).await?;
        let epoch = self.epoch;
        self.chain = Chain::next(self.chain, self.generation, epoch, self.manifest);
        let cut = Cut {
            epoch,
            deltas: self.sent,
            manifest: self.manifest,
            chain: self.chain,
            kind: label.kind,
            name: label.name.clone(),
            machine_cut: label.machine_cut,
            cut_unix_ms: label.cut_unix_ms,
            freeze_ms: label.freeze_ms,
        };
        // Sent, as far as anybody can say, also where this fails.
        self.epoch = epoch.next();
        self.sent = DeltaNumber::default();
        self.manifest = Manifest::EMPTY;
        session.send_cut(&cut).await?;
        Ok(epoch)
    }
}

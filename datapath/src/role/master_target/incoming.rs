//! What an agent sends, received and verified ahead of what is done with it.

use tokio::sync::mpsc;

use super::Standing;
use crate::delta::{self, Opened};
use crate::limits;
use crate::pipeline::{Digester, unseal};
use crate::ring::{self, Task};
use crate::role::Error;
use crate::unit::{Digest, Extent, to_usize};
use crate::wire::{self, Cut, Fence, Header, Kind, LinkReceiver};

/// One frame of an agent.
pub(super) enum Incoming {
    Delta(Opened),
    /// A delta that is not what was read at the source.
    Damaged {
        place: Option<delta::Place>,
        reason: String,
    },
    Offer(Extent, Vec<Digest>),
    Cut(Cut),
    Fence(Fence),
}

/// A task that receives; the queue between is as long as an agent's credit.
pub(super) struct Inbox {
    frames: mpsc::Receiver<Result<Incoming, Error>>,
    _task: Task<()>,
}

impl Inbox {
    pub(super) fn open(receiver: LinkReceiver, standing: &Standing) -> Self {
        let (sender, frames) = mpsc::channel(to_usize(u64::from(limits::DELTAS_IN_FLIGHT)));
        let mut reading = Reading { receiver, digester: standing.digester(), shape: standing.shape };
        let task = ring::spawn(async move {
            loop {
                let frame = tokio::select! {
                    frame = reading.next() => frame,
                    () = sender.closed() => return,
                };
                let is_last = !matches!(frame, Ok(ref frame) if !matches!(frame, Incoming::Damaged { .. }));
                if sender.send(frame).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self { frames, _task: task }
    }

    /// The next frame. Whoever stops waiting may wait again: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Incoming, Error> {
        self.frames.recv().await.unwrap_or(Err(Error::Stopped))
    }

    /// A frame that is there already.
    pub(super) fn try_next(&mut self) -> Option<Result<Incoming, Error>> {
        self.frames.try_recv().ok()
    }
}

struct Reading {
    receiver: LinkReceiver,
    digester: Digester,
    shape: delta::Shape,
}

impl Reading {
    async fn next(&mut self) -> Result<Incoming, Error> {
        let header = self.receiver.receive().await?;
        let (chunk, size_bytes) = (self.shape.chunk, self.shape.disk_bytes);
        match header.kind {
            Kind::Delta => self.delta(header).await,
            Kind::Offer => {
                let digests = self.receiver.receive_offer(header, chunk, size_bytes).await?;
                Ok(Incoming::Offer(header.extent, digests))
            }
            Kind::Cut => Ok(Incoming::Cut(self.receiver.body(header).await?)),
            Kind::Fence => Ok(Incoming::Fence(self.receiver.body(header).await?)),
            _ => Err(self.receiver.unexpected(header, "Delta, Offer, Cut or Fence").into()),
        }
    }

    async fn delta(&mut self, header: Header) -> Result<Incoming, Error> {
        let damaged = |place, reason: String| Ok(Incoming::Damaged { place, reason });
        let packed = match self.receiver.receive_delta(header, Vec::new()).await {
            Ok(packed) => packed,
            Err(wire::Error::Delta { source: source @ delta::Error::Checksum { place }, .. }) => {
                return damaged(Some(place), source.to_string());
            }
            Err(error) => return Err(error.into()),
        };
        let place = packed.head().place();
        match unseal(packed, &self.digester, Vec::new()) {
            Ok((opened, _)) => Ok(Incoming::Delta(opened)),
            Err(error) => damaged(Some(place), error.to_string()),
        }
    }
}

//! A connection to a master target, once it is ready: what was sent and not yet
//! taken in, and what has come back.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::order::Known;
use super::status::Count;
use crate::delta::{Packed, Shape};
use crate::limits;
use crate::ring::{self, Task};
use crate::role::Error;
use crate::unit::{DeltaNumber, Digest, Epoch, Extent, to_usize};
use crate::wire::{
    Connection, Cut, Fence, Kind, LinkReceiver, LinkSender, Point, Protect, Protecting, Remark, Remote,
    Waiting, acknowledged,
};

/// What a target sends.
enum Answer {
    Received(Epoch, DeltaNumber),
    Durable(Epoch, DeltaNumber),
    Want(Extent, Vec<bool>),
    Point(Point),
    Fenced,
    Waiting(Waiting),
}

/// A connection that protects a disk.
pub(super) struct Session {
    sender: LinkSender,
    answers: mpsc::Receiver<Result<Answer, Error>>,
    credit: usize,
    unreceived: VecDeque<(Epoch, DeltaNumber)>,
    wants: VecDeque<(Extent, Vec<bool>)>,
    points: VecDeque<Point>,
    pub(super) durable: Option<(Epoch, DeltaNumber)>,
    pub(super) fenced: bool,
    known: Arc<Known>,
    _tasks: [Task<()>; 2],
}

/// A greeting was answered: the target is ready, or it is fenced already.
pub(super) enum Welcome {
    Ready(Box<(Session, Protecting)>),
    Fenced,
}

impl Session {
    /// Connects, and says what is to be protected.
    pub(super) async fn open(
        remote: &Remote,
        protect: &Protect,
        known: Arc<Known>,
    ) -> Result<Welcome, Error> {
        let Connection { sender, mut receiver, .. } = remote.connect().await?;
        sender.send_message(Kind::Protect, protect).await?;
        // A target that is being opened says that it lives; one that does not is gone.
        let header = tokio::time::timeout(limits::TARGET_OPENS_WITHIN, receiver.receive())
            .await
            .map_err(|_| Error::OutOfPlace { peer: remote.export().to_owned(), what: "nothing" })??;
        let protecting: Protecting = match header.kind {
            Kind::Protecting => receiver.body(header).await?,
            Kind::Fenced => return Ok(Welcome::Fenced),
            _ => return Err(receiver.unexpected(header, "Protecting").into()),
        };
        let shape =
            Shape { disk_bytes: protect.size_bytes, chunk: protecting.chunk, algorithm: protecting.digest };
        let (told, answers) = mpsc::channel(ANSWERS);
        let alive = sender.clone();
        let lost = told.clone();
        let keep = ring::spawn(async move {
            // Ends with the session: what sends would keep the connection open.
            tokio::select! {
                Err(error) = alive.keep_alive() => drop(lost.send(Err(error.into())).await),
                () = lost.closed() => {}
            }
        });
        let session = Self {
            sender,
            answers,
            credit: to_usize(u64::from(protecting.credit.clamp(1, limits::DELTAS_IN_FLIGHT))),
            unreceived: VecDeque::new(),
            wants: VecDeque::new(),
            points: VecDeque::new(),
            durable: None,
            fenced: false,
            known,
            _tasks: [keep, ring::spawn(receive_all(receiver, shape, told))],
        };
        Ok(Welcome::Ready(Box::new((session, protecting))))
    }

    /// Sends a delta as soon as there is credit for it.
    pub(super) async fn send_delta(&mut self, packed: &Packed) -> Result<(), Error> {
        while self.unreceived.len() >= self.credit {
            self.wait().await?;
        }
        self.sender.send_delta(packed).await?;
        self.known.counters.add(Count::Sent, packed.encoded_bytes());
        let place = packed.head().place();
        self.unreceived.push_back((place.epoch, place.number));
        Ok(())
    }

    pub(super) async fn send_offer(&self, extent: Extent, digests: &[Digest]) -> Result<(), Error> {
        self.known.counters.add(Count::Offered, extent.length());
        Ok(self.sender.send_offer(extent, digests).await?)
    }

    pub(super) async fn send_cut(&self, cut: &Cut) -> Result<(), Error> {
        Ok(self.sender.send_message(Kind::Cut, cut).await?)
    }

    pub(super) async fn send_fence(&self, epoch: Epoch) -> Result<(), Error> {
        Ok(self.sender.send_message(Kind::Fence, &Fence { epoch }).await?)
    }

    /// What the target wants of the oldest offer.
    pub(super) async fn want(&mut self, offered: Extent) -> Result<Vec<bool>, Error> {
        loop {
            match self.wants.pop_front() {
                Some((extent, wanted)) if extent == offered => return Ok(wanted),
                Some(_) => {
                    let (peer, what) = ("the target".to_owned(), "an answer to no offer");
                    return Err(Error::OutOfPlace { peer, what });
                }
                None => self.wait().await?,
            }
        }
    }

    /// The next point that was made, if one was.
    pub(super) fn point(&mut self) -> Option<Point> {
        self.points.pop_front()
    }

    /// Waits for one answer. Whoever stops waiting may wait again.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        let answer = self.answers.recv().await.unwrap_or(Err(Error::Stopped))?;
        self.file(answer)
    }

    /// Takes the answers that are there.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        while let Ok(answer) = self.answers.try_recv() {
            let answer = answer?;
            self.file(answer)?;
        }
        Ok(())
    }

    fn file(&mut self, answer: Answer) -> Result<(), Error> {
        let waiting = match &answer {
            Answer::Waiting(waiting) => Some(waiting.reason.clone()),
            _ => None,
        };
        self.known.status().waiting = waiting;
        match answer {
            Answer::Waiting(_) => {}
            Answer::Received(epoch, number) => {
                while self.unreceived.front().is_some_and(|first| *first <= (epoch, number)) {
                    self.unreceived.pop_front();
                }
            }
            Answer::Durable(epoch, number) => self.durable = Some((epoch, number)),
            Answer::Want(extent, wanted) if self.wants.len() < limits::OFFERS_IN_FLIGHT => {
                self.wants.push_back((extent, wanted));
            }
            Answer::Want(..) => {
                let (peer, what) = ("the target".to_owned(), "more answers than there were offers");
                return Err(Error::OutOfPlace { peer, what });
            }
            Answer::Point(point) => self.points.push_back(point),
            Answer::Fenced => self.fenced = true,
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.sender.close().await;
    }
}

/// Answers that wait to be looked at: for each offer and each delta one, and few others.
const ANSWERS: usize = 2 * limits::OFFERS_IN_FLIGHT + 16;

async fn receive_all(mut receiver: LinkReceiver, shape: Shape, told: mpsc::Sender<Result<Answer, Error>>) {
    loop {
        // Ends with the session: what receives would keep the connection open.
        let answer = tokio::select! {
            answer = receive(&mut receiver, shape) => answer,
            () = told.closed() => return,
        };
        let is_last = answer.is_err();
        if told.send(answer).await.is_err() || is_last {
            return;
        }
    }
}

async fn receive(receiver: &mut LinkReceiver, shape: Shape) -> Result<Answer, Error> {
    let header = receiver.receive().await?;
    let numbers = acknowledged(&header);
    Ok(match header.kind {
        Kind::Received => Answer::Received(numbers.0, numbers.1),
        Kind::Durable => Answer::Durable(numbers.0, numbers.1),
        Kind::Want => {
            Answer::Want(header.extent, receiver.receive_want(header, shape.chunk, shape.disk_bytes).await?)
        }
        Kind::Point => Answer::Point(receiver.body(header).await?),
        Kind::Fenced => {
            let _: crate::wire::Fenced = receiver.body(header).await?;
            Answer::Fenced
        }
        Kind::Waiting => Answer::Waiting(receiver.body(header).await?),
        Kind::Remark => {
            let Remark { epoch, number, reason } = receiver.body(header).await?;
            let peer = receiver.peer().to_owned();
            return Err(Error::Remarked { peer, epoch: epoch.0, number: number.0, reason });
        }
        _ => return Err(receiver.unexpected(header, "an acknowledgement, Want, Point or Fenced").into()),
    })
}

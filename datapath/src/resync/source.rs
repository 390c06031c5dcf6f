//! The source's half of a lane: read, digest, compare with what the target
//! says, send what differs.

use std::sync::Arc;
use std::time::Instant;

use super::runs::{Fate, Run, runs};
use super::view::{Known, Misfit, View};
use super::{Error, SegmentDigests};
use crate::disk::{Disk, RingDisk};
use crate::pipeline::{
    Cancel, Digester, Packer, Pool, ReadAhead, Segments, Share, Throttle, Window, chunk_count, is_zero,
};
use crate::telemetry::{Counter, Meter, Stage};
use crate::unit::{Digest, Extent, to_usize};
use crate::wire::{self, End, Header, Kind, LinkReceiver, LinkSender, Start, payload_length};

/// What all lanes of a source share.
#[derive(Clone)]
pub(super) struct SourceSide {
    pub(super) disk: Arc<Disk>,
    pub(super) start: Start,
    pub(super) throttle: Throttle,
    pub(super) share: Arc<Share>,
    pub(super) cancel: Cancel,
}

impl SourceSide {
    /// Runs lane `number` over a link whose other end is the target, and gives
    /// what the target's lane counted.
    pub(super) async fn run(
        &self,
        number: u32,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        meter: &Meter,
    ) -> Result<End, Error> {
        super::carry_lane(sender, receiver, &self.start).await;
        let view = View::default();
        let mut lane = Lane::new(self, number, sender, &view, meter, receiver.peer())?;
        let work = async { tokio::try_join!(lane.walk(), listen(&view, receiver, self.start.size_bytes)) };
        let ((), end) = super::attend(work, sender, &self.cancel).await?;
        Ok(end)
    }
}

/// Receives what the target says until it has said everything.
async fn listen(view: &View, receiver: &mut LinkReceiver, size_bytes: u64) -> Result<End, Error> {
    loop {
        let header = receiver.receive().await?;
        let known = match header.kind {
            Kind::Digests => {
                receiver.check_chunks(&header, size_bytes)?;
                let mut bytes = vec![0; to_usize(u64::from(header.payload_bytes))];
                receiver.read(&mut bytes).await?;
                Known::Digests(wire::digests(&bytes))
            }
            Kind::Hole => Known::Hole,
            Kind::End => {
                let end = receiver.body(header).await?;
                // Too early, it would leave the walk waiting for ever.
                view.end();
                return Ok(end);
            }
            _ => return Err(receiver.unexpected(header, "an account of the target").into()),
        };
        view.push(header.extent, known).map_err(|_| receiver.unexpected(header, "nothing more for now"))?;
    }
}

struct Lane<'a, P> {
    side: &'a SourceSide,
    sender: &'a LinkSender,
    view: &'a View,
    meter: &'a Meter,
    peer: String,
    windows: ReadAhead<P>,
    segments: Segments,
    digests: SegmentDigests,
    packer: Packer,
}

impl<'a> Lane<'a, ()> {
    fn new(
        side: &'a SourceSide,
        number: u32,
        sender: &'a LinkSender,
        view: &'a View,
        meter: &'a Meter,
        peer: &str,
    ) -> Result<Lane<'a, impl Iterator<Item = Extent> + use<>>, Error> {
        let segments = Segments::new(side.start.size_bytes);
        let queue = side.share.queue(super::SOURCE_POOLS[0]);
        let pool = Pool::new(queue.buffers).map_err(Error::memory)?;
        let plan = segments.windows_of_lane(u64::from(number), u64::from(side.start.lanes));
        let digester = Digester::new(side.start.digest, side.start.key);
        Ok(Lane {
            side,
            sender,
            view,
            meter,
            peer: peer.to_owned(),
            windows: ReadAhead::new(RingDisk::new(Arc::clone(&side.disk)), plan, pool, queue.depth),
            segments,
            digests: SegmentDigests::new(digester, segments),
            packer: Packer::new(side.start.compression).limited_to(side.start.rate_limit),
        })
    }
}

impl<P: Iterator<Item = Extent>> Lane<'_, P> {
    async fn walk(&mut self) -> Result<(), Error> {
        while let Some(window) = self.windows.next().await? {
            self.side.cancel.check()?;
            if window.bytes.is_some() {
                self.meter.count(Counter::BytesReadSource, window.extent.length());
                self.meter.record(Stage::ReadSource, window.elapsed);
            }
            let start = Instant::now();
            let mine = self.digests.window(window.extent, window.data());
            self.meter.time(Stage::Digest, start);
            let theirs = self.theirs(window.extent).await?;
            for run in self.compare(&window, &mine, theirs.as_ref()) {
                self.send(run, &window, &mine).await?;
            }
            self.meter.count(Counter::BytesDone, window.extent.length());
            if let Some((index, digest)) = self.digests.push(window.extent, &mine) {
                self.end_segment(index, digest).await?;
            }
        }
        if !self.side.start.dry_run {
            self.side.disk.check_unwritten()?;
        }
        let live = self.side.disk.is_live();
        let end = End { counts: self.meter.counts(), latencies: self.meter.report(), live };
        Ok(self.sender.send_message(Kind::End, &end).await?)
    }

    /// What the target said of this window; `None` where nothing is compared.
    async fn theirs(&mut self, window: Extent) -> Result<Option<Known>, Error> {
        if window.offset() >= self.side.start.compare_until {
            return Ok(None);
        }
        let known = self.view.take(window).await.map_err(|misfit| self.misfit(misfit, window))?;
        if let Some(windows) = self.view.credit() {
            self.sender.send(Header::bare(Kind::Credit, Extent::between(0, windows)), &[]).await?;
        }
        Ok(Some(known))
    }

    fn misfit(&self, misfit: Misfit, window: Extent) -> wire::Error {
        let (kind, extent) = match misfit {
            Misfit::OutOfOrder(extent) => (Kind::Digests, extent),
            Misfit::TooMany => (Kind::Digests, window),
            Misfit::Ended => (Kind::End, window),
        };
        let expected = "the next window in order";
        wire::Error::Unexpected { peer: self.peer.clone(), kind, extent, expected }
    }

    fn compare(&self, window: &Window, mine: &[Digest], theirs: Option<&Known>) -> Vec<Run> {
        runs(window.extent, |index, chunk| {
            if let Some(Known::Digests(theirs)) = theirs
                && theirs.get(index) == mine.get(index)
            {
                return Fate::Equal;
            }
            match (window.data(), theirs) {
                (Some(bytes), _) if !is_zero(part(bytes, window.extent, chunk)) => Fate::Data,
                (_, Some(Known::Hole)) => Fate::Equal,
                _ => Fate::Zero,
            }
        })
    }

    async fn send(&mut self, run: Run, window: &Window, mine: &[Digest]) -> Result<(), Error> {
        if run.fate == Fate::Equal {
            return Ok(());
        }
        self.meter.count(Counter::ChunksDiffering, chunk_count(run.extent));
        if self.side.start.dry_run {
            return Ok(());
        }
        match window.data().filter(|_| run.fate == Fate::Data) {
            Some(bytes) => self.send_data(run.extent, window.extent, bytes, mine).await,
            None => Ok(self.sender.send(Header::bare(Kind::Zero, run.extent), &[]).await?),
        }
    }

    async fn send_data(
        &mut self,
        run: Extent,
        window: Extent,
        bytes: &[u8],
        mine: &[Digest],
    ) -> Result<(), Error> {
        let start = Instant::now();
        let (codec, packed) = self.packer.pack(part(bytes, window, run));
        self.meter.time(Stage::Compress, start);
        let first = to_usize(chunk_count(Extent::between(window.offset(), run.offset())));
        let digests: Vec<u8> =
            mine[first..first + to_usize(chunk_count(run))].iter().flat_map(|digest| digest.0).collect();
        let payload: [&[u8]; 2] = [&digests, packed];
        let payload_bytes = payload_length(&payload);
        self.side.throttle.admit(u64::from(payload_bytes)).await;
        let start = Instant::now();
        let header = Header { kind: Kind::Data, detail: codec as u8, payload_bytes, extent: run };
        self.sender.send(header, &payload).await?;
        let elapsed = start.elapsed();
        self.meter.record(Stage::Send, elapsed);
        self.meter.count(Counter::BytesSent, u64::from(payload_bytes));
        self.packer.observe_link(to_usize(u64::from(payload_bytes)), elapsed.as_secs_f64());
        Ok(())
    }

    async fn end_segment(&self, index: u64, digest: Digest) -> Result<(), Error> {
        let header = Header {
            kind: Kind::SegmentDone,
            detail: 1,
            payload_bytes: 16,
            extent: self.segments.extent(index),
        };
        Ok(self.sender.send(header, &[&digest.0]).await?)
    }
}

/// The bytes of `extent` within those of `whole`.
fn part(bytes: &[u8], whole: Extent, extent: Extent) -> &[u8] {
    let begin = to_usize(extent.offset() - whole.offset());
    &bytes[begin..begin + to_usize(extent.length())]
}

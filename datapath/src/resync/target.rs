//! The target's half of a lane: say what it holds, land what it is sent.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::lane_progress::LaneProgress;
use super::target_run::TargetRun;
use super::verify::{Expected, place};
use super::{Error, SegmentDigests};
use crate::disk::{HoleCursor, RingDisk};
use crate::landing::{Ticket, Writer};
use crate::limits;
use crate::pipeline::{
    Cancel, Codec, Digester, Pool, PooledBuffer, ReadAhead, Segments, Share, chunk_count, chunk_extents,
    unpack,
};
use crate::telemetry::{Counter, Meter, Stage};
use crate::unit::{Digest, Extent, to_usize};
use crate::wire::{self, End, Header, Kind, LinkReceiver, LinkSender, Start};

/// What all lanes of a target share.
#[derive(Clone)]
pub(super) struct TargetSide {
    pub(super) run: Arc<TargetRun>,
    pub(super) start: Start,
    pub(super) cancel: Cancel,
    pub(super) share: Arc<Share>,
    /// The source's digests of segments, for the verification.
    pub(super) expected: Arc<Mutex<Expected>>,
}

impl TargetSide {
    /// Runs lane `number` over a link whose other end is the source, and gives
    /// what the source's lane counted.
    pub(super) async fn run(
        &self,
        number: u32,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        meter: &Meter,
    ) -> Result<End, Error> {
        super::carry_lane(sender, receiver, &self.start).await;
        let credit = Credit::default();
        let mut lane = Lane::new(self, number, receiver, meter, &credit)?;
        let work = async { tokio::try_join!(announce(self, number, sender, meter, &credit), lane.receive()) };
        let ended = super::attend(work, sender, &self.cancel).await;
        // Nothing may be in flight when the state of the target is told.
        let drained = lane.writer.drain().await;
        let ((), end) = ended.inspect_err(|_| lane.spoil())?;
        drained?;
        let mine = End { counts: meter.counts(), latencies: meter.report(), live: false };
        sender.send_message(Kind::End, &mine).await?;
        Ok(end)
    }

    pub(super) fn digester(&self) -> Digester {
        Digester::new(self.start.digest, self.start.key)
    }
}

/// Windows that the source still takes.
struct Credit {
    windows: Cell<u64>,
    granted: Notify,
}

impl Default for Credit {
    fn default() -> Self {
        Self { windows: Cell::new(limits::DIGEST_CREDIT_WINDOWS), granted: Notify::new() }
    }
}

impl Credit {
    fn grant(&self, windows: u64) {
        self.windows.set(self.windows.get().saturating_add(windows).min(limits::DIGEST_CREDIT_WINDOWS));
        self.granted.notify_one();
    }

    async fn spend(&self) {
        while self.windows.get() == 0 {
            self.granted.notified().await;
        }
        self.windows.set(self.windows.get() - 1);
    }
}

/// Tells the source what the windows of this lane hold, as far as they are compared.
async fn announce(
    side: &TargetSide,
    number: u32,
    sender: &LinkSender,
    meter: &Meter,
    credit: &Credit,
) -> Result<(), Error> {
    let segments = Segments::new(side.start.size_bytes);
    let until = side.start.compare_until;
    let plan = segments
        .windows_of_lane(u64::from(number), u64::from(side.start.lanes))
        .take_while(move |window| window.offset() < until);
    let queue = side.share.queue(super::TARGET_POOLS[0]);
    let pool = Pool::new(if until == 0 { 1 } else { queue.buffers }).map_err(Error::memory)?;
    let mut windows = ReadAhead::new(RingDisk::new(Arc::clone(&side.run.disk)), plan, pool, queue.depth);
    let mut digests = SegmentDigests::new(side.digester(), segments);
    let mut hole: Option<Extent> = None;
    while let Some(window) = windows.next().await? {
        side.cancel.check()?;
        let extent = window.extent;
        if window.bytes.is_none() {
            hole = Some(Extent::between(hole.map_or(extent.offset(), Extent::offset), extent.end()));
        }
        // A hole ends with its segment: the next one of this lane lies elsewhere.
        let ends = segments.extent(Segments::index_of(extent.offset())).end() == extent.end();
        if let Some(whole) = hole.take_if(|_| ends || window.bytes.is_some()) {
            credit.spend().await;
            sender.send(Header::bare(Kind::Hole, whole), &[]).await?;
        }
        if window.bytes.is_some() {
            meter.count(Counter::BytesReadTarget, extent.length());
            meter.record(Stage::ReadTarget, window.elapsed);
            let start = Instant::now();
            let bytes: Vec<u8> =
                digests.window(extent, window.data()).iter().flat_map(|digest| digest.0).collect();
            meter.time(Stage::Digest, start);
            credit.spend().await;
            let header = Header {
                kind: Kind::Digests,
                detail: 0,
                payload_bytes: wire::payload_length(&[&bytes]),
                extent,
            };
            sender.send(header, &[&bytes]).await?;
        }
    }
    Ok(())
}

struct Lane<'a> {
    side: &'a TargetSide,
    receiver: &'a mut LinkReceiver,
    meter: &'a Meter,
    credit: &'a Credit,
    disk: RingDisk,
    holes: HoleCursor,
    writer: Writer,
    pool: Pool,
    packed: Vec<u8>,
    digester: Digester,
    segments: Segments,
    /// The segment whose frames are due; past the last one the lane is done.
    segment: u64,
    ticket: Option<Ticket>,
    progress: LaneProgress,
}

impl<'a> Lane<'a> {
    fn new(
        side: &'a TargetSide,
        number: u32,
        receiver: &'a mut LinkReceiver,
        meter: &'a Meter,
        credit: &'a Credit,
    ) -> Result<Self, Error> {
        let disk = RingDisk::new(Arc::clone(&side.run.disk));
        let buffers = side.share.queue(super::TARGET_POOLS[1]).buffers;
        Ok(Self {
            side,
            receiver,
            meter,
            credit,
            writer: Writer::new(disk.clone(), meter.clone()),
            disk,
            holes: HoleCursor::default(),
            pool: Pool::new(buffers).map_err(Error::memory)?,
            packed: Vec::new(),
            digester: side.digester(),
            segments: Segments::new(side.start.size_bytes),
            segment: u64::from(number),
            ticket: None,
            progress: LaneProgress::default(),
        })
    }

    /// Takes frames until the source has said that all of its lane was sent.
    async fn receive(&mut self) -> Result<End, Error> {
        loop {
            let header = self.receiver.receive().await?;
            // Whoever stops here stops between two frames.
            self.side.cancel.check()?;
            match header.kind {
                Kind::Data => self.take_data(header).await?,
                Kind::Zero => self.take_zero(header).await?,
                Kind::SegmentDone => self.end_segment(header).await?,
                Kind::Credit => self.credit.grant(header.extent.length()),
                Kind::End if self.segment >= self.segments.count() => {
                    return Ok(self.receiver.body(header).await?);
                }
                _ => return Err(self.receiver.unexpected(header, "data of this lane").into()),
            }
        }
    }

    async fn take_data(&mut self, header: Header) -> Result<(), Error> {
        self.admit(&header)?;
        let extent = header.extent;
        let mut buffer = self.pool.take().await;
        let mut digests = vec![0; to_usize(chunk_count(extent)) * Digest::BYTES];
        self.receiver.read(&mut digests).await?;
        let packed_bytes = to_usize(u64::from(header.payload_bytes)) - digests.len();
        let into = &mut buffer.bytes_mut()[..to_usize(extent.length())];
        match Codec::from_number(header.detail) {
            Some(Codec::Raw) if packed_bytes == into.len() => self.receiver.read(into).await?,
            Some(codec) if codec != Codec::Raw => {
                self.packed.resize(packed_bytes, 0);
                self.receiver.read(&mut self.packed).await?;
                let start = Instant::now();
                unpack(codec, &self.packed, into).map_err(|_| self.damaged(extent))?;
                self.meter.time(Stage::Decompress, start);
            }
            _ => return Err(self.receiver.unexpected(header, "as many bytes as the extent has").into()),
        }
        self.check_digests(extent, &buffer, &digests)?;
        self.count(extent);
        self.side.run.touch();
        let ticket = self.ticket();
        Ok(self.writer.write(extent.offset(), vec![extent], buffer, ticket).await?)
    }

    /// Digests are checked before anything is written.
    fn check_digests(&self, extent: Extent, buffer: &PooledBuffer, digests: &[u8]) -> Result<(), Error> {
        let start = Instant::now();
        for (chunk, digest) in chunk_extents(extent).zip(wire::digests(digests)) {
            let begin = to_usize(chunk.offset() - extent.offset());
            if self.digester.digest(&buffer.bytes()[begin..begin + to_usize(chunk.length())]) != digest {
                return Err(self.damaged(chunk).into());
            }
        }
        self.meter.time(Stage::Digest, start);
        Ok(())
    }

    async fn take_zero(&mut self, header: Header) -> Result<(), Error> {
        self.admit(&header)?;
        self.count(header.extent);
        // Without a comparison, a hole of the target is zero as it is.
        let compared = header.extent.offset() < self.side.start.compare_until;
        if !compared && self.holes.is_hole(&self.disk, header.extent)? {
            return Ok(());
        }
        self.side.run.touch();
        let ticket = self.ticket();
        Ok(self.writer.zero(header.extent, ticket).await?)
    }

    async fn end_segment(&mut self, header: Header) -> Result<(), Error> {
        let digest_bytes = if header.detail == 1 { 16 } else { 0 };
        if header.extent != self.segments.extent(self.segment) || header.payload_bytes != digest_bytes {
            return Err(self.receiver.unexpected(header, "the end of the segment at hand").into());
        }
        let mut digest = [0; Digest::BYTES];
        if header.detail == 1 {
            self.receiver.read(&mut digest).await?;
            if self.side.start.verify {
                let mut expected = self.side.expected.lock().unwrap_or_else(PoisonError::into_inner);
                place(&mut expected, vec![(self.segment, Digest(digest))]);
            }
        }
        self.writer.submit_zeroes().await?;
        drop(self.ticket());
        self.ticket = None;
        self.segment = self.segment.saturating_add(u64::from(self.side.start.lanes));
        self.count(header.extent);
        Ok(self.side.run.checkpoint.take_if_due(&self.disk, self.meter).await?)
    }

    /// All up to the end of `extent` is dealt with.
    fn count(&mut self, extent: Extent) {
        self.meter.count(Counter::BytesDone, self.progress.reach(extent));
    }

    /// Only chunks of the segment at hand may be written, in order, and none in
    /// a dry run.
    fn admit(&self, header: &Header) -> Result<(), Error> {
        self.receiver.check_chunks(header, self.side.start.size_bytes)?;
        let segment = self.segments.extent(self.segment);
        let inside = segment.intersection(header.extent) == Some(header.extent);
        if inside && self.progress.is_ahead(header.extent) && !self.side.start.dry_run {
            Ok(())
        } else {
            Err(self.receiver.unexpected(*header, "data of the segment at hand").into())
        }
    }

    fn ticket(&mut self) -> Ticket {
        let progress = self.side.run.checkpoint.progress();
        self.ticket.get_or_insert_with(|| progress.ticket(self.segment)).clone()
    }

    fn spoil(&self) {
        if let Some(ticket) = &self.ticket {
            ticket.spoil();
        }
    }

    fn damaged(&self, extent: Extent) -> wire::Error {
        wire::Error::Damaged { peer: self.receiver.peer().to_owned(), extent }
    }
}

//! Reading the log from a known place to its end, which a crash may have torn.
//!
//! ```text
//!   … [valid][valid] X ? ? [record that says "flushed up to here ▼"]
//!                    └─ before ▼: damage, an error that says where
//!   … [valid][valid] X ? ? (nothing that proves more)
//!                    └─ the log ends here: the rest is a torn tail
//! ```
//!
//! A record counts if its checksum fits, it lies where it says, and it continues
//! the one before. Payloads are read only where no later record proves that they
//! were flushed, so that a long epoch is opened by its heads.

use std::collections::VecDeque;

use super::batch;
use super::entry::Entry;
use super::files::{Files, Lease, RUN_BYTES};
use super::log::{Segments, segment_name};
use super::record::{BLOCK, Frame, HEAD_BYTES_MAX, LogPosition, RecordKind, payload_checksum};
use super::{Error, PointRecord, Volume};
use crate::delta::Manifest;
use crate::unit::{DeltaNumber, to_u64, to_usize};

/// What a record says, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A segment begins; the one before ended there.
    Segment {
        /// That byte.
        end_of_last: u32,
        /// The size that it was made with; 0 where that is not known.
        made_bytes: u32,
    },
    /// Before-images.
    Batch {
        /// The last delta that the batch belongs to.
        delta: DeltaNumber,
        /// Its chunks.
        entries: Vec<Entry>,
    },
    /// The target is durable up to this delta; the manifest of the epoch up to it.
    Landed(DeltaNumber, Manifest),
    /// A recovery point.
    Point(PointRecord),
    /// The open epoch was undone.
    RolledBack,
}

impl Record {
    /// Reads the body of the record with this frame; `None` for anything else.
    /// Places of images count within the segment then.
    pub(super) fn decode(frame: &Frame, body: &[u8]) -> Option<Self> {
        match frame.kind {
            RecordKind::Segment => {
                let (end_of_last, made_bytes) = body.split_first_chunk()?;
                let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
                let (end_of_last, made_bytes) = (number(end_of_last), number(made_bytes.try_into().ok()?));
                Some(Self::Segment { end_of_last, made_bytes })
            }
            RecordKind::Batch => {
                let (delta, mut entries) = batch::decode_body(body, frame.payload_bytes)?;
                let payload = frame.at.position.checked_add(frame.payload_offset())?;
                entries.iter_mut().for_each(|entry| batch::settle(entry, frame.at.segment, payload));
                Some(Self::Batch { delta, entries })
            }
            RecordKind::Landed => {
                let (delta, manifest) = body.split_first_chunk()?;
                let delta = DeltaNumber(u64::from_le_bytes(*delta));
                Some(Self::Landed(delta, Manifest(manifest.try_into().ok()?)))
            }
            RecordKind::Point => PointRecord::decode(body).map(Self::Point),
            RecordKind::RolledBack => body.is_empty().then_some(Self::RolledBack),
        }
    }
}

/// A record at its place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub frame: Frame,
    pub record: Record,
    /// Where the next one would lie.
    pub next: LogPosition,
}

/// The end of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// Where the next record goes. Its session is the highest one seen.
    pub at: LogPosition,
    /// Bytes given up.
    pub torn_bytes: u64,
    /// A last segment that was being made: it holds nothing.
    pub unborn: Option<u32>,
}

pub(super) struct Scan<'a, V: Volume> {
    files: &'a Files<V>,
    segments: &'a Segments,
    at: LogPosition,
    /// What the last record must be followed by is known.
    anchored: bool,
    /// The highest byte of this segment that a record proves flushed.
    proven: u32,
    /// Records whose payload nothing proves yet.
    unproven: VecDeque<Placed>,
    window: Option<Window<'a>>,
}

struct Window<'a> {
    segment: u32,
    start: u32,
    length: usize,
    lease: Lease<'a>,
}

impl<'a, V: Volume> Scan<'a, V> {
    /// From `start` on; from the beginning of the first segment where there is none.
    pub fn new(files: &'a Files<V>, segments: &'a Segments, start: Option<LogPosition>) -> Self {
        let first = segments.keys().next().copied().unwrap_or(1);
        let beginning = LogPosition { segment: first, position: 0, sequence: 0, previous: 0, session: 0 };
        Self {
            files,
            segments,
            at: start.unwrap_or(beginning),
            anchored: start.is_some(),
            proven: start.map_or(0, |start| start.position),
            unproven: VecDeque::new(),
            window: None,
        }
    }

    /// Hands every record to `take`, in order, and tells where the log ends.
    pub async fn run(
        mut self,
        mut take: impl AsyncFnMut(Placed) -> Result<(), Error>,
    ) -> Result<Tail, Error> {
        let start = self.at;
        loop {
            let found = self.record_at(self.at.segment, self.at.position).await?;
            if let Some(placed) = found.filter(|placed| self.continues(&placed.frame)) {
                self.advance(&placed);
                self.unproven.push_back(placed);
                while let Some(placed) = self.take_proven() {
                    take(placed).await?;
                }
            } else if self.next_segment().await? {
                while let Some(placed) = self.unproven.pop_front() {
                    take(placed).await?;
                }
            } else {
                break;
            }
        }
        let mut end = self.at;
        while let Some(placed) = self.unproven.pop_front() {
            if !self.payload_is_whole(&placed.frame).await? {
                end = placed.frame.at;
                break;
            }
            take(placed).await?;
        }
        let at = if end.sequence == 0 { start } else { end };
        self.tail(at).await
    }

    fn continues(&self, frame: &Frame) -> bool {
        let begins = frame.kind == RecordKind::Segment;
        let linked = frame.at.sequence == self.at.sequence && frame.at.previous == self.at.previous;
        begins == (self.at.position == 0)
            && (linked || !self.anchored)
            && frame.at.session >= self.at.session
            && frame.proven <= frame.at.position
    }

    fn advance(&mut self, placed: &Placed) {
        self.at = placed.next;
        self.anchored = true;
        self.proven = self.proven.max(placed.frame.proven);
    }

    fn take_proven(&mut self) -> Option<Placed> {
        let first = self.unproven.front()?;
        let is_proven = first.next.position <= self.proven || first.frame.payload_bytes == 0;
        if is_proven { self.unproven.pop_front() } else { None }
    }

    /// Goes on in the next segment, if there is one that begins where this ends.
    async fn next_segment(&mut self) -> Result<bool, Error> {
        let (at, number) = (self.at, self.at.segment.saturating_add(1));
        if !self.segments.contains_key(&number) {
            return Ok(false);
        }
        let damaged = |segment, offset: u32, reason: &str| {
            Err(Error::damaged(&segment_name(segment), u64::from(offset), reason))
        };
        let first = self.record_at(number, 0).await?;
        let Some(Placed { frame, record: Record::Segment { end_of_last, .. }, .. }) = first else {
            let is_last = !self.segments.contains_key(&number.saturating_add(1));
            if is_last && self.look_ahead(number, 0).await?.proven == 0 {
                return Ok(false);
            }
            return damaged(number, 0, "its first record is gone, and later ones were written after it");
        };
        self.give_up_after(end_of_last, &frame);
        if end_of_last != self.at.position || (self.anchored && frame.at.previous != self.at.previous) {
            return damaged(at.segment, at.position, "a record is gone that the next segment continues");
        }
        (self.at.segment, self.at.position, self.proven) = (number, 0, 0);
        Ok(true)
    }

    /// Drops records that an earlier open gave up as a torn tail, and that were not
    /// written over since: what came next did not fit in their segment. Their heads
    /// are valid, but the next segment continues the record before them.
    fn give_up_after(&mut self, end: u32, next: &Frame) {
        let is_first_given_up = |placed: &Placed| {
            let at = placed.frame.at;
            at.position == end && (at.sequence, at.previous) == (next.at.sequence, next.at.previous)
        };
        if let Some(kept) = self.unproven.iter().position(is_first_given_up) {
            self.at = self.unproven[kept].frame.at;
            self.unproven.truncate(kept);
        }
    }

    /// Makes sure that nothing after `at` proves that there was more.
    async fn tail(&self, at: LogPosition) -> Result<Tail, Error> {
        let beyond = self.look_ahead(at.segment, at.position).await?;
        let proven = beyond.proven.max(self.proven);
        if proven > at.position {
            let reason =
                format!("a record is damaged, and later ones prove that it was flushed (up to {proven})");
            return Err(Error::damaged(&segment_name(at.segment), u64::from(at.position), reason));
        }
        if proven > 0 {
            self.check_whole(at.segment).await?;
        }
        let session = at.session.max(beyond.session);
        let unborn = at.segment.checked_add(1).filter(|next| self.segments.contains_key(next));
        let torn_bytes = u64::from(beyond.end.saturating_sub(at.position));
        Ok(Tail { at: LogPosition { session, ..at }, torn_bytes, unborn })
    }

    /// Makes sure that a segment is as long as it was made, if a record of the session
    /// that made it proves a flush: its size was durable with that, and what was cut
    /// off since would pass for a tail that a crash tore.
    async fn check_whole(&self, segment: u32) -> Result<(), Error> {
        let (name, bytes) = (segment_name(segment), self.segments.get(&segment).copied().unwrap_or(0));
        let length = BLOCK.min(to_usize(bytes));
        let lease = self.files.read(&name, 0, length).await?;
        let first = Frame::open(&lease.bytes()[..length], self.files.identity.seed);
        let made = first.and_then(|(frame, _, body)| match Record::decode(&frame, body) {
            Some(Record::Segment { made_bytes, .. }) => Some(u64::from(made_bytes)),
            _ => None,
        });
        drop(lease);
        match made {
            Some(made) if bytes < made && self.look_ahead(segment, 0).await?.is_proven_by_its_maker => {
                Err(Error::damaged(&name, bytes, format!("it was made {made} bytes long, and ends here")))
            }
            _ => Ok(()),
        }
    }

    /// What the records in a segment from `position` on say, whatever they continue.
    async fn look_ahead(&self, segment: u32, position: u32) -> Result<Beyond, Error> {
        let (mut beyond, mut maker) = (Beyond::default(), None);
        let (name, size) = (segment_name(segment), self.size(segment));
        let mut start = position;
        while start < size {
            let length = (size - start).min(u32::try_from(RUN_BYTES).unwrap_or(u32::MAX));
            let lease = self.files.read(&name, u64::from(start), to_usize(u64::from(length))).await?;
            let blocks = lease.bytes()[..to_usize(u64::from(length))].chunks(BLOCK);
            let mut found = Vec::new();
            for (block, offset) in blocks.zip((start..).step_by(BLOCK)) {
                if Frame::peek(block).is_some_and(|frame| frame.at.segment == segment) {
                    found.push(offset);
                }
            }
            drop(lease);
            for offset in found {
                if let Some((frame, _)) = self.head_at(segment, offset).await? {
                    maker = maker.or((offset == 0).then_some(frame.at.session));
                    beyond.is_proven_by_its_maker |= frame.proven > 0 && maker == Some(frame.at.session);
                    beyond.proven = beyond.proven.max(frame.proven);
                    beyond.session = beyond.session.max(frame.at.session);
                    beyond.end = offset.saturating_add(frame.record_bytes()).min(size);
                }
            }
            start += length;
        }
        Ok(beyond)
    }

    fn size(&self, segment: u32) -> u32 {
        let size = self.segments.get(&segment).copied().unwrap_or(0);
        u32::try_from(size).unwrap_or(u32::MAX) & !(4096 - 1)
    }

    /// The valid head at a place, past the window.
    async fn head_at(&self, segment: u32, position: u32) -> Result<Option<(Frame, u64)>, Error> {
        let length = to_usize(u64::from(self.size(segment).saturating_sub(position))).min(HEAD_BYTES_MAX);
        let lease = self.files.read(&segment_name(segment), u64::from(position), length).await?;
        let opened = Frame::open(&lease.bytes()[..length], self.files.identity.seed);
        let here = opened.map(|(frame, checksum, _)| (frame, checksum));
        Ok(here.filter(|(frame, _)| self.lies_at(frame, segment, position)))
    }

    fn lies_at(&self, frame: &Frame, segment: u32, position: u32) -> bool {
        frame.at.segment == segment
            && frame.at.position == position
            && frame.incarnation == self.files.identity.incarnation
            && u64::from(position) + u64::from(frame.record_bytes()) <= u64::from(self.size(segment))
    }

    /// The valid record at a place; a head that fits around a body that does not
    /// is damage wherever it lies.
    async fn record_at(&mut self, segment: u32, position: u32) -> Result<Option<Placed>, Error> {
        let size = self.size(segment);
        if position >= size {
            return Ok(None);
        }
        let reach = to_usize(u64::from(size - position)).min(HEAD_BYTES_MAX);
        self.move_window(segment, position, reach, size).await?;
        let Some(window) = &self.window else { return Ok(None) };
        let from = to_usize(u64::from(position - window.start));
        let head = &window.lease.bytes()[from..from + reach];
        let Some((frame, checksum, body)) = Frame::open(head, self.files.identity.seed) else {
            return Ok(None);
        };
        if !self.lies_at(&frame, segment, position) {
            return Ok(None);
        }
        let record = Record::decode(&frame, body).ok_or_else(|| {
            Error::damaged(&segment_name(segment), u64::from(position), "its body is not one of its kind")
        })?;
        let next = LogPosition {
            segment,
            position: position + frame.record_bytes(),
            sequence: frame.at.sequence + 1,
            previous: checksum,
            session: frame.at.session,
        };
        Ok(Some(Placed { frame, record, next }))
    }

    /// Reads on, unless what is wanted is there already: small records come with
    /// those after them, large ones one by one.
    async fn move_window(
        &mut self,
        segment: u32,
        position: u32,
        reach: usize,
        size: u32,
    ) -> Result<(), Error> {
        let end = to_u64(reach) + u64::from(position);
        let holds = |window: &Window<'_>| {
            window.segment == segment
                && window.start <= position
                && end <= u64::from(window.start) + to_u64(window.length)
        };
        if self.window.as_ref().is_some_and(holds) {
            return Ok(());
        }
        self.window = None;
        let length = to_usize(u64::from(size - position)).min(2 * HEAD_BYTES_MAX);
        let lease = self.files.read(&segment_name(segment), u64::from(position), length).await?;
        self.window = Some(Window { segment, start: position, length, lease });
        Ok(())
    }

    async fn payload_is_whole(&self, frame: &Frame) -> Result<bool, Error> {
        let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(self.files.identity.seed);
        let (mut at, end) = (0, to_usize(u64::from(frame.payload_bytes)));
        if end == 0 {
            return Ok(frame.payload_checksum == payload_checksum(&[], 0));
        }
        let start = u64::from(frame.at.position) + u64::from(frame.payload_offset());
        while at < end {
            let length = (end - at).min(RUN_BYTES);
            let span = length.next_multiple_of(BLOCK);
            let lease = self.files.read(&segment_name(frame.at.segment), start + to_u64(at), span).await?;
            hasher.update(&lease.bytes()[..length]);
            at += length;
        }
        Ok(hasher.digest() == frame.payload_checksum)
    }
}

/// What lies past the end of the log.
#[derive(Clone, Copy, Debug, Default)]
struct Beyond {
    proven: u32,
    session: u64,
    /// Where the last record there ends.
    end: u32,
    /// Whether a record of the session that made the segment proves a flush; found
    /// where all of the segment is looked at.
    is_proven_by_its_maker: bool,
}

//! The end of the log: the segment that is written.
//!
//! ```text
//! segment-00000001   [segment][batch][batch][landed][batch][point]…
//!                     full ──> flush it, make the next one, flush the directory
//! segment-00000002   [segment: where the last one ended]…
//! ```
//!
//! A segment is flushed before the next one is made, so only the last one can
//! have a torn tail. The body of a `segment` record is the byte at which the
//! segment before it ended (4 bytes; zero for the first), and the size of its own
//! (4 bytes): a file that is shorter, and whose size was durable, lost its end to
//! somebody else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::batch::{self, Batch};
use super::entry::Entry;
use super::files::Files;
use super::record::{BLOCK, FRAME_BYTES, Frame, HEAD_BYTES_MAX, LogPosition, RecordKind, payload_checksum};
use super::tail::{Mark, Tail, Ticket};
use super::{Error, Volume, VolumeFile};
use crate::sys::Buffer;
use crate::unit::{Epoch, to_u64};

/// The name of segment `number`.
pub(super) fn segment_name(number: u32) -> String {
    format!("segment-{number:08}")
}

/// The number of the segment with this name.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The segments of a journal, with their sizes.
pub(super) type Segments = BTreeMap<u32, u64>;

/// A segment that was made, and all that there are with it.
type NewTail<V> = (Rc<Tail<<V as Volume>::File>>, Segments);

pub(super) struct Log<V: Volume> {
    tail: Rc<Tail<V::File>>,
    /// Size of new segments.
    segment_bytes: u32,
    pub segments: Segments,
    /// Where the next record goes.
    pub at: LogPosition,
}

/// A batch that has its place in the log, on its way there.
pub(super) struct Placed<F> {
    ticket: Ticket<F>,
    buffer: Buffer,
    range: Range<usize>,
}

impl<F: VolumeFile> Placed<F> {
    /// Bytes that its record takes.
    pub fn bytes(&self) -> u64 {
        to_u64(self.range.len())
    }

    /// Writes it. Its buffer comes back, and who knows when it is durable.
    pub async fn write(self) -> (Result<Mark<F>, Error>, Buffer) {
        let mark = self.ticket.mark();
        let (written, buffer) = self.ticket.write(self.buffer, self.range).await;
        (written.map(|()| mark), buffer)
    }
}

impl<V: Volume> Log<V> {
    /// A new log, whose first segment is durable.
    pub async fn create(files: &Files<V>, segment_bytes: u32) -> Result<Self, Error> {
        let at = LogPosition { segment: 0, position: 0, sequence: 1, previous: 0, session: 1 };
        let (tail, segments) = Self::new_tail(files, 1, u64::from(segment_bytes), Segments::new())?;
        let mut log = Self { tail, segment_bytes, segments, at };
        log.begin_segment(files, 1, 0).await?;
        log.flush().await?;
        Ok(log)
    }

    /// Makes durable what lies in the last segments, in case it is only in a cache
    /// since its process is gone. Nothing may be made of a record before: an index
    /// that outlives the images it points to would hide that they are lost.
    pub async fn flush_tail(files: &Files<V>, segments: &Segments) -> Result<(), Error> {
        // The last one may be no more than a name.
        for name in segments.keys().rev().take(2).map(|number| segment_name(*number)) {
            let file = files.volume.open(&name, true).map_err(|source| Error::file(&name, "open", source))?;
            file.flush().await.map_err(|source| Error::file(&name, "flush", source))?;
        }
        Ok(())
    }

    /// The log that ends at `at`, after [`Self::flush_tail`].
    pub fn resume(
        files: &Files<V>,
        segment_bytes: u32,
        segments: Segments,
        at: LogPosition,
    ) -> Result<Self, Error> {
        let name = segment_name(at.segment);
        let file = files.volume.open(&name, true).map_err(|source| Error::file(&name, "open", source))?;
        let tail = Rc::new(Tail::new(Rc::new(file), name, at.position));
        Ok(Self { tail, segment_bytes, segments, at })
    }

    fn new_tail(
        files: &Files<V>,
        number: u32,
        bytes: u64,
        mut segments: Segments,
    ) -> Result<NewTail<V>, Error> {
        let name = segment_name(number);
        let file = files.create(&name, bytes)?;
        files.flush_names()?;
        segments.insert(number, bytes);
        Ok((Rc::new(Tail::new(file, name, 0)), segments))
    }

    /// Left in the last segment.
    pub fn tail_bytes(&self) -> u64 {
        let size = self.segments.get(&self.at.segment).copied().unwrap_or(0);
        size.saturating_sub(u64::from(self.at.position))
    }

    /// Nothing may be written any more.
    pub fn is_broken(&self) -> bool {
        self.tail.is_broken()
    }

    /// A write outside of the log failed in a way that leaves its state unknown.
    pub fn give_up(&self) {
        self.tail.give_up();
    }

    /// Makes everything that has a place durable.
    pub async fn flush(&self) -> Result<(), Error> {
        self.tail.durable(self.at.position).await
    }

    /// Waits until everything that has a place can be read.
    pub async fn settle(&self) -> Result<(), Error> {
        self.tail.written(self.at.position).await
    }

    /// Writes a record without a payload.
    pub async fn append(
        &mut self,
        files: &Files<V>,
        kind: RecordKind,
        epoch: Epoch,
        body: &[u8],
    ) -> Result<(), Error> {
        self.make_room(files, FRAME_BYTES + body.len()).await?;
        self.write_small(files, kind, epoch, body).await
    }

    async fn write_small(
        &mut self,
        files: &Files<V>,
        kind: RecordKind,
        epoch: Epoch,
        body: &[u8],
    ) -> Result<(), Error> {
        let head_bytes = FRAME_BYTES + body.len();
        let whole = head_bytes.next_multiple_of(BLOCK);
        let mut lease = files.lease()?;
        let frame = self.frame(files, kind, epoch, head_bytes, &[])?;
        let bytes = &mut lease.bytes_mut()[..whole];
        bytes[FRAME_BYTES..head_bytes].copy_from_slice(body);
        bytes[head_bytes..].fill(0);
        let checksum = frame.seal(&mut bytes[..head_bytes], files.identity.seed);
        self.place(&frame, checksum).write_lease(&mut lease, 0..whole).await
    }

    /// Gives a batch its place, which makes it part of the log: [`Placed::write`]
    /// follows. Returns its entries too, each with the place of its image.
    pub async fn place_batch(
        &mut self,
        files: &Files<V>,
        epoch: Epoch,
        batch: &mut Batch,
    ) -> Result<(Vec<Entry>, Placed<V::File>), Error> {
        let head_bytes = batch.head_bytes();
        let head_span = head_bytes.next_multiple_of(BLOCK);
        let payload_span = batch.payload_bytes.next_multiple_of(BLOCK);
        self.make_room(files, head_span + payload_span).await?;
        let mut buffer = batch.take_buffer()?;
        let start = HEAD_BYTES_MAX - head_span;
        let payload_end = HEAD_BYTES_MAX + batch.payload_bytes;
        let end = HEAD_BYTES_MAX + payload_span;
        let bytes = buffer.bytes_mut();
        bytes[start + head_bytes..HEAD_BYTES_MAX].fill(0);
        bytes[payload_end..end].fill(0);
        let payload = &bytes[HEAD_BYTES_MAX..payload_end];
        let frame = match self.frame(files, RecordKind::Batch, epoch, head_bytes, payload) {
            Ok(frame) => frame,
            Err(error) => {
                batch.give_buffer(buffer);
                return Err(error);
            }
        };
        batch.encode_body(&mut bytes[start + FRAME_BYTES..start + head_bytes]);
        let checksum = frame.seal(&mut bytes[start..start + head_bytes], files.identity.seed);
        let payload_position = frame.at.position + frame.payload_offset();
        let mut entries = std::mem::take(&mut batch.entries);
        for entry in &mut entries {
            batch::settle(entry, frame.at.segment, payload_position);
        }
        let ticket = self.place(&frame, checksum);
        Ok((entries, Placed { ticket, buffer, range: start..end }))
    }

    fn frame(
        &self,
        files: &Files<V>,
        kind: RecordKind,
        epoch: Epoch,
        head_bytes: usize,
        payload: &[u8],
    ) -> Result<Frame, Error> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        let number = |bytes: usize| {
            u32::try_from(bytes)
                .map_err(|_| Error::Unfit { what: "this record", reason: format!("it has {bytes} bytes") })
        };
        Ok(Frame {
            kind,
            head_bytes: number(head_bytes)?,
            payload_bytes: number(payload.len())?,
            at: self.at,
            proven: self.tail.proven(),
            incarnation: files.identity.incarnation,
            epoch,
            payload_checksum: payload_checksum(payload, files.identity.seed),
        })
    }

    /// The next record goes behind this one. Gives its own place.
    fn place(&mut self, frame: &Frame, checksum: u64) -> Ticket<V::File> {
        let position = self.at.position;
        self.at.position += frame.record_bytes();
        self.at.sequence += 1;
        self.at.previous = checksum;
        self.tail.begin(position, self.at.position)
    }

    /// Goes on in a new segment where `bytes` do not fit in this one. On
    /// [`Error::Full`] nothing has changed.
    async fn make_room(&mut self, files: &Files<V>, bytes: usize) -> Result<(), Error> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        let record = to_u64(bytes.next_multiple_of(BLOCK));
        if record <= self.tail_bytes() {
            return Ok(());
        }
        self.flush().await?;
        let number = self.at.segment.checked_add(1).ok_or(Error::Broken)?;
        let size = u64::from(self.segment_bytes).max(record + to_u64(BLOCK));
        let (tail, segments) = match Self::new_tail(files, number, size, self.segments.clone()) {
            Ok(made) => made,
            Err(full @ Error::Full { .. }) => return Err(full),
            Err(error) => {
                self.give_up();
                return Err(error);
            }
        };
        (self.tail, self.segments) = (tail, segments);
        let end = self.at.position;
        self.begin_segment(files, number, end).await
    }

    async fn begin_segment(&mut self, files: &Files<V>, number: u32, end_of_last: u32) -> Result<(), Error> {
        (self.at.segment, self.at.position) = (number, 0);
        let mut body = [0; 8];
        body[..4].copy_from_slice(&end_of_last.to_le_bytes());
        let size = self.segments.get(&number).copied().unwrap_or(0);
        body[4..].copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        self.write_small(files, RecordKind::Segment, Epoch(0), &body).await
    }

    /// Drops the segments before `first`, oldest first.
    pub fn drop_before(&mut self, files: &Files<V>, first: u32) -> Result<u64, Error> {
        let mut freed = 0;
        while let Some((&number, &bytes)) = self.segments.first_key_value() {
            if number >= first.min(self.at.segment) {
                break;
            }
            files.remove(&segment_name(number))?;
            self.segments.remove(&number);
            freed += bytes;
        }
        Ok(freed)
    }

    /// What all segments take.
    pub fn bytes(&self) -> u64 {
        self.segments.values().sum()
    }
}

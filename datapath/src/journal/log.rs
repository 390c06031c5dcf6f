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
//! segment before it ended (4 bytes; zero for the first) and four zeroes.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::batch::{self, Batch};
use super::entry::Entry;
use super::files::Files;
use super::record::{BLOCK, FRAME_BYTES, Frame, HEAD_BYTES_MAX, LogPosition, RecordKind, payload_checksum};
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

pub(super) struct Log<V: Volume> {
    file: Rc<V::File>,
    /// Size of new segments.
    segment_bytes: u32,
    pub segments: Segments,
    /// Where the next record goes.
    pub at: LogPosition,
    /// Everything of the last segment before this byte is flushed.
    proven: u32,
    /// A write or flush failed: nobody knows what is on the volume.
    broken: bool,
}

impl<V: Volume> Log<V> {
    /// A new log, whose first segment is durable.
    pub async fn create(files: &Files<V>, segment_bytes: u32) -> Result<Self, Error> {
        let at = LogPosition { segment: 0, position: 0, sequence: 1, previous: 0, session: 1 };
        let (file, segments) = Self::new_file(files, 1, u64::from(segment_bytes), Segments::new())?;
        let mut log = Self { file, segment_bytes, segments, at, proven: 0, broken: false };
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
        Ok(Self { file: Rc::new(file), segment_bytes, segments, at, proven: at.position, broken: false })
    }

    fn new_file(
        files: &Files<V>,
        number: u32,
        bytes: u64,
        mut segments: Segments,
    ) -> Result<(Rc<V::File>, Segments), Error> {
        let file = files.create(&segment_name(number), bytes)?;
        files.flush_names()?;
        segments.insert(number, bytes);
        Ok((file, segments))
    }

    /// Left in the last segment.
    pub fn tail_bytes(&self) -> u64 {
        let size = self.segments.get(&self.at.segment).copied().unwrap_or(0);
        size.saturating_sub(u64::from(self.at.position))
    }

    /// Nothing may be written any more.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// A write outside of the log failed in a way that leaves its state unknown.
    pub const fn give_up(&mut self) {
        self.broken = true;
    }

    /// Makes everything written durable.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let end = self.at.position;
        if let Err(source) = self.file.flush().await {
            // The system tells a failed flush once: later ones prove nothing.
            self.broken = true;
            return Err(Error::file(&segment_name(self.at.segment), "flush", source));
        }
        self.proven = end;
        Ok(())
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
        let written = lease.write(&*self.file, u64::from(self.at.position), 0..whole).await;
        self.wrote(&frame, checksum, written)
    }

    /// Writes a batch and returns its entries, each with the place of its image,
    /// and the bytes that the record takes.
    pub async fn append_batch(
        &mut self,
        files: &Files<V>,
        epoch: Epoch,
        batch: &mut Batch,
    ) -> Result<(Vec<Entry>, u64), Error> {
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
        let frame =
            self.frame(files, RecordKind::Batch, epoch, head_bytes, &bytes[HEAD_BYTES_MAX..payload_end]);
        let written = match frame {
            Ok(frame) => {
                batch.encode_body(&mut bytes[start + FRAME_BYTES..start + head_bytes]);
                let checksum = frame.seal(&mut bytes[start..start + head_bytes], files.identity.seed);
                let (written, back) = self.write_at_end(buffer, start..end).await;
                buffer = back;
                self.wrote(&frame, checksum, written).map(|()| frame)
            }
            Err(error) => Err(error),
        };
        batch.give_buffer(buffer);
        let frame = written?;
        let payload_position = frame.at.position + frame.payload_offset();
        let mut entries = std::mem::take(&mut batch.entries);
        for entry in &mut entries {
            batch::settle(entry, frame.at.segment, payload_position);
        }
        Ok((entries, to_u64(end - start)))
    }

    async fn write_at_end(
        &self,
        buffer: Buffer,
        range: std::ops::Range<usize>,
    ) -> (std::io::Result<()>, Buffer) {
        self.file.write(u64::from(self.at.position), buffer, range).await
    }

    fn frame(
        &self,
        files: &Files<V>,
        kind: RecordKind,
        epoch: Epoch,
        head_bytes: usize,
        payload: &[u8],
    ) -> Result<Frame, Error> {
        if self.broken {
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
            proven: self.proven,
            incarnation: files.identity.incarnation,
            epoch,
            payload_checksum: payload_checksum(payload, files.identity.seed),
        })
    }

    fn wrote(&mut self, frame: &Frame, checksum: u64, written: std::io::Result<()>) -> Result<(), Error> {
        if let Err(source) = written {
            self.broken = true;
            return Err(Error::file(&segment_name(self.at.segment), "write", source));
        }
        self.at.position += frame.record_bytes();
        self.at.sequence += 1;
        self.at.previous = checksum;
        Ok(())
    }

    /// Goes on in a new segment where `bytes` do not fit in this one. On
    /// [`Error::Full`] nothing has changed.
    async fn make_room(&mut self, files: &Files<V>, bytes: usize) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let record = to_u64(bytes.next_multiple_of(BLOCK));
        if record <= self.tail_bytes() {
            return Ok(());
        }
        self.flush().await?;
        let number = self.at.segment.checked_add(1).ok_or(Error::Broken)?;
        let size = u64::from(self.segment_bytes).max(record + to_u64(BLOCK));
        let (file, segments) = match Self::new_file(files, number, size, self.segments.clone()) {
            Ok(made) => made,
            Err(full @ Error::Full { .. }) => return Err(full),
            Err(error) => {
                self.broken = true;
                return Err(error);
            }
        };
        (self.file, self.segments) = (file, segments);
        let end = self.at.position;
        self.begin_segment(files, number, end).await
    }

    async fn begin_segment(&mut self, files: &Files<V>, number: u32, end_of_last: u32) -> Result<(), Error> {
        (self.at.segment, self.at.position, self.proven) = (number, 0, 0);
        let mut body = [0; 8];
        body[..4].copy_from_slice(&end_of_last.to_le_bytes());
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

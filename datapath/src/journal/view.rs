//! A journal, looked at without a lock and without changing it.
//!
//! Whoever writes may go on meanwhile; what is looked at may then be gone, which
//! is an error that a second look does not have.

use serde::Serialize;

use super::contents::Contents;

use super::pair::Pair;
use super::record::Frame;
use super::retention::Space;
use super::scan::{Placed, Record, Scan};
use super::table::{Table, TableHeader};
use super::{Before, Entry, Error, PairState, PointKind, PointRecord, Volume};
use crate::unit::{DeltaNumber, Digest, Epoch};

/// A journal, to be looked at.
pub struct View<V: Volume> {
    contents: Contents<V>,
}

/// What a journal is, at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The pair; its key is left out.
    pub pair: PairSummary,
    /// Points, oldest first.
    pub points: Vec<PointSummary>,
    /// The epoch that is open.
    pub open_epoch: Epoch,
    /// The target is durable up to this delta of it.
    pub landed: DeltaNumber,
    /// Records of the open epoch.
    pub open_records: u64,
    /// Bytes of a torn tail.
    pub torn_bytes: u64,
    /// Files, by name and size.
    pub tables: Vec<TableSummary>,
    /// Segments: number and size.
    pub segments: Vec<(u32, u64)>,
    /// Files that a crash left.
    pub leftovers: Vec<String>,
    /// What it takes.
    pub space: Space,
}

/// A pair without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct PairSummary {
    #[serde(flatten)]
    fields: serde_json::Map<String, serde_json::Value>,
}

impl PairSummary {
    /// Of this pair.
    #[must_use]
    pub fn new(pair: &Pair) -> Self {
        let mut fields = match serde_json::to_value(pair) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        fields.remove("key");
        Self { fields }
    }
}

/// A point, and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct PointSummary {
    /// The point.
    #[serde(flatten)]
    pub record: PointRecord,
    /// Whether expiry leaves it alone.
    pub pinned: bool,
    /// Whether it was cut as the final one, and its source went on: it is a point
    /// like the others then.
    pub void: bool,
    /// Whether it reads back as it was cut: where others wrote to the target since,
    /// it may hold what they wrote.
    pub exact: bool,
    /// Bytes of whole chunks that its epoch changed.
    pub changed_bytes: u64,
}

/// A table's file.
#[derive(Clone, Debug, Serialize)]
pub struct TableSummary {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its header.
    pub header: TableHeader,
}

/// A record, and where it lies.
#[derive(Clone, Debug, Serialize)]
pub struct RecordSummary {
    /// Its frame.
    #[serde(flatten)]
    pub frame: Frame,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A segment begins.
    Segment {
        /// Where the last one ended.
        end_of_last: u32,
        /// The size that it was made with; 0 where that is not known.
        made_bytes: u32,
    },
    /// Before-images.
    Batch {
        /// The last delta.
        delta: DeltaNumber,
        /// Chunks.
        entries: Vec<EntrySummary>,
    },
    /// The target was flushed.
    Landed {
        /// Up to this delta.
        delta: DeltaNumber,
        /// Manifest of the epoch up to that delta.
        manifest: String,
    },
    /// A point.
    Point(PointRecord),
    /// The open epoch was undone.
    RolledBack,
}

/// A chunk in an epoch.
#[derive(Clone, Debug, Serialize)]
pub struct EntrySummary {
    /// The chunk.
    pub chunk: u32,
    /// What it held.
    pub before: Before,
    /// Digest of that, hexadecimal.
    pub old: String,
    /// Digest of what it holds now; none where that is not known.
    pub new: Option<String>,
}

impl From<&Entry> for EntrySummary {
    fn from(entry: &Entry) -> Self {
        let text = |digest: Digest| format!("{digest:?}");
        Self { chunk: entry.chunk, before: entry.before, old: text(entry.old), new: entry.new.map(text) }
    }
}

impl From<Placed> for RecordSummary {
    fn from(placed: Placed) -> Self {
        let body = match placed.record {
            Record::Segment { end_of_last, made_bytes } => Body::Segment { end_of_last, made_bytes },
            Record::Batch { delta, entries } => {
                Body::Batch { delta, entries: entries.iter().map(EntrySummary::from).collect() }
            }
            Record::Landed(delta, manifest) => {
                Body::Landed { delta, manifest: data_encoding::HEXLOWER.encode(&manifest.0) }
            }
            Record::Point(point) => Body::Point(point),
            Record::RolledBack => Body::RolledBack,
        };
        Self { frame: placed.frame, body }
    }
}

impl<V: Volume> View<V> {
    /// Opens a journal to look at it.
    ///
    /// # Errors
    /// As [`super::Journal::open`].
    pub async fn open(volume: V) -> Result<Self, Error> {
        Ok(Self { contents: Contents::read(volume).await? })
    }

    /// The pair.
    #[must_use]
    pub const fn pair(&self) -> &Pair {
        &self.contents.pair
    }

    /// Everything at a glance: reads the log of the open epoch.
    ///
    /// # Errors
    /// As [`super::Journal::open`].
    pub async fn summary(&self) -> Result<Summary, Error> {
        let Contents { files, pair, shelf, segments, leftovers } = &self.contents;
        let newest = shelf.newest().map_or(Epoch(0), |table| table.header.last);
        let mut points = Vec::new();
        let summarize = |record: &PointRecord, chunks: u64| PointSummary {
            pinned: pair.pins.contains(&record.epoch),
            void: false,
            exact: true,
            changed_bytes: chunks.saturating_mul(u64::from(pair.chunk_size.bytes())).min(pair.size_bytes),
            record: record.clone(),
        };
        for table in shelf.epochs.values() {
            points.extend(table.header.point.iter().map(|point| summarize(point, table.header.entries)));
        }
        let (mut open_epoch, mut landed, mut open_records) = (newest.next(), DeltaNumber(0), 0);
        let mut open_batches = 0;
        let scan = Scan::new(files, segments, self.contents.log_start());
        let tail = scan
            .run(async |placed| {
                open_records += 1;
                open_batches += u64::from(matches!(placed.record, Record::Batch { .. }));
                match &placed.record {
                    Record::Landed(delta, _) => landed = *delta,
                    Record::Point(point) => {
                        points.push(summarize(point, point.chunks));
                        (open_epoch, landed, open_records) = (point.epoch.next(), DeltaNumber(0), 0);
                        open_batches = 0;
                    }
                    Record::RolledBack => {
                        (open_epoch, landed, open_records) = (placed.frame.epoch.next(), DeltaNumber(0), 0);
                        open_batches = 0;
                    }
                    Record::Segment { .. } | Record::Batch { .. } => {}
                }
                Ok(())
            })
            .await?;
        mark_void(&mut points, pair, open_batches > 0);
        mark_inexact(&mut points, pair);
        let tables = shelf.epochs.values().chain(shelf.merged.values());
        Ok(Summary {
            pair: PairSummary::new(pair),
            points,
            open_epoch,
            landed,
            open_records,
            torn_bytes: tail.torn_bytes,
            tables: tables.map(summarize_table).collect(),
            segments: segments.iter().map(|(number, bytes)| (*number, *bytes)).collect(),
            leftovers: leftovers.clone(),
            space: self.space()?,
        })
    }

    fn space(&self) -> Result<Space, Error> {
        let Contents { files, pair, shelf, segments, .. } = &self.contents;
        let free = files.volume.free_bytes();
        Ok(Space {
            segment_bytes: segments.values().sum(),
            index_bytes: shelf.bytes(),
            digest_bytes: super::digests::DigestFile::<V>::bytes_for(pair.chunks()),
            tail_bytes: 0,
            free_bytes: free.map_err(|source| Error::file("the volume", "measure", source))?,
        })
    }

    /// Hands every record of the log that is still there to `take`, oldest first.
    ///
    /// # Errors
    /// As [`super::Journal::open`], and those of `take`.
    pub async fn records(
        &self,
        mut take: impl FnMut(RecordSummary) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Contents { files, segments, .. } = &self.contents;
        let scan = Scan::new(files, segments, None);
        scan.run(async |placed| take(placed.into())).await.map(drop)
    }

    /// Hands every entry of the table in `file` to `take`, in the order of chunks.
    ///
    /// # Errors
    /// [`Error::Damaged`], those of files, and those of `take`.
    pub async fn entries(
        &self,
        file: &str,
        mut take: impl FnMut(EntrySummary) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let table = Table::open(&self.contents.files, file).await?;
        let mut cursor = super::merge::Cursor::new(&table);
        while let Some(entry) = cursor.next(&self.contents.files).await? {
            take(EntrySummary::from(&entry))?;
        }
        Ok(())
    }
}

/// Marks final points after which something came of the same generation: a source
/// that stopped for good sends nothing, and what comes after a commit is of the next
/// one. Rewinds are of this host.
fn mark_void(points: &mut [PointSummary], pair: &Pair, is_open_epoch_begun: bool) {
    let is_of_source = is_open_epoch_begun && !matches!(pair.state, PairState::Rewinding { .. });
    let mut following = is_of_source.then_some(pair.generation);
    for point in points.iter_mut().rev() {
        let record = &point.record;
        point.void = record.kind == PointKind::Final && following == Some(record.generation);
        if !matches!(record.kind, PointKind::Rewind { .. }) {
            following = Some(record.generation);
        }
    }
}

/// Marks the points that others wrote into.
fn mark_inexact(points: &mut [PointSummary], pair: &Pair) {
    let records: Vec<PointRecord> = points.iter().map(|point| point.record.clone()).collect();
    let find =
        |epoch| records.binary_search_by_key(&epoch, |record| record.epoch).ok().map(|at| &records[at]);
    for (point, record) in points.iter_mut().zip(&records) {
        point.exact = pair.is_exact(record, find);
    }
}

fn summarize_table(table: &Table) -> TableSummary {
    TableSummary { file: table.name.clone(), bytes: table.bytes(), header: table.header.clone() }
}

//! The descriptor of a VMDK image: its header, its extents, its disk data base.

use super::SECTOR_BYTES;
use super::encoding::Encoding;
use super::error::{Advice, DescriptorError, Field, excerpt};
use super::extent_line::{ExtentLine, RawExtentLine};
use super::sniff::{BYTE_ORDER_MARK, is_descriptor};
use crate::limits;
use crate::unit::to_u64;

/// How the extents of an image that can be read are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateType {
    /// One file.
    MonolithicFlat,
    /// Files of at most 2 GiB.
    TwoGbMaxExtentFlat,
    /// One file on an ESXi host, thick or thin.
    Vmfs,
}

impl CreateType {
    /// The name in descriptors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MonolithicFlat => "monolithicFlat",
            Self::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Self::Vmfs => "vmfs",
        }
    }

    fn parse(line: usize, name: &[u8]) -> Result<Self, DescriptorError> {
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let advice = if is(&["monolithicFlat"]) {
            return Ok(Self::MonolithicFlat);
        } else if is(&["twoGbMaxExtentFlat", "2GbMaxExtentFlat"]) {
            return Ok(Self::TwoGbMaxExtentFlat);
        } else if is(&["vmfs"]) {
            return Ok(Self::Vmfs);
        } else if is(&["monolithicSparse", "twoGbMaxExtentSparse", "2GbMaxExtentSparse", "streamOptimized"]) {
            Advice::Convert
        } else if is(&["vmfsSparse", "seSparse"]) {
            Advice::Consolidate
        } else if is(&[
            "fullDevice",
            "partitionedDevice",
            "vmfsRaw",
            "vmfsRDM",
            "vmfsRDMP",
            "vmfsRawDeviceMap",
            "vmfsPassthroughRawDeviceMap",
        ]) {
            Advice::NameTheDevice
        } else {
            Advice::Unknown
        };
        Err(DescriptorError::UnsupportedCreateType { line, name: excerpt(name), advice })
    }
}

/// A `key = "value"` line that reading the disk does not depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, as written.
    pub key: String,
    /// The value, without its quotes; what is no text in the descriptor's
    /// encoding is replaced by U+FFFD.
    pub value: String,
}

/// What a descriptor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Version of the format, 1 to 3.
    pub version: u32,
    /// The encoding of its names.
    pub encoding: Encoding,
    /// `CID`, which changes whenever the disk is opened for writing.
    pub content_id: u32,
    /// How the extents are arranged.
    pub create_type: CreateType,
    /// The extents in the order of the disk: at least one, at most
    /// `limits::PIECES_MAX`.
    pub extents: Vec<ExtentLine>,
    /// The controller the disk was made for, such as `lsilogic`.
    pub adapter_type: Option<String>,
    /// The other lines of the disk data base: keys that begin with `ddb.`.
    pub database: Vec<Entry>,
    /// All other lines, such as `changeTrackPath`.
    pub remarks: Vec<Entry>,
}

impl Descriptor {
    /// A `parentCID` that says: no parent.
    pub const NO_PARENT: u32 = u32::MAX;

    /// Reads the text of a descriptor.
    ///
    /// # Errors
    /// Names the line and the field of what is missing, damaged, contradictory,
    /// or of a kind that is not read.
    pub fn parse(bytes: &[u8]) -> Result<Self, DescriptorError> {
        if to_u64(bytes.len()) > limits::DESCRIPTOR_BYTES_MAX {
            return Err(DescriptorError::TooLong { bytes: to_u64(bytes.len()) });
        }
        if !is_descriptor(bytes) {
            return Err(DescriptorError::NotADescriptor);
        }
        let text = text_of(bytes)?;
        let mut draft = Draft::default();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            draft.read_line(index + 1, line.trim_ascii())?;
        }
        draft.finish()
    }

    /// The size of the disk in bytes: a multiple of 512.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.extents.iter().map(ExtentLine::length).sum()
    }

    /// The value of a line of the disk data base or of the header that has no
    /// field of its own, by its key without regard to case.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&str> {
        let mut entries = self.database.iter().chain(&self.remarks);
        entries.find(|entry| entry.key.eq_ignore_ascii_case(key)).map(|entry| entry.value.as_str())
    }

    /// The file in which an ESXi host keeps which blocks changed. Whoever writes
    /// to the extents past that host makes it untrue.
    #[must_use]
    pub fn change_track_path(&self) -> Option<&str> {
        self.entry("changeTrackPath")
    }
}

/// Lines that reading the disk does not depend on: VMware writes some twenty.
/// Without a bound, a small file of short lines would take much memory.
pub(super) const ENTRIES_MAX: usize = 1024;

/// What may be left of a longer text behind the NUL byte that ends a shorter one.
const REMAINS_MAX: usize = 8;

/// The text of a file, up to its end or its first NUL byte.
///
/// qemu pads a descriptor with NUL bytes when it writes a new content
/// identifier; where that has fewer digits than the old one, the last bytes of
/// the old text stay behind the NUL byte. Anything more behind it is text that
/// was lost: qemu also puts a NUL byte into the middle of descriptors that are
/// longer than 10 KiB.
fn text_of(bytes: &[u8]) -> Result<&[u8], DescriptorError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, behind) = bytes.split_at(end);
    // No extent line is as short as what may remain.
    let remains_max = if text.ends_with(b"\n") { REMAINS_MAX } else { 0 };
    if behind.iter().skip(remains_max).any(|&byte| byte != 0) {
        let line = 1 + text.iter().filter(|&&byte| byte == b'\n').count();
        return Err(DescriptorError::NulByte { line });
    }
    Ok(text)
}

/// A value and the line it stands in.
#[derive(Clone, Copy)]
struct Noted<'a> {
    line: usize,
    value: &'a [u8],
}

/// What has been read of a descriptor so far.
#[derive(Default)]
struct Draft<'a> {
    version: Option<Noted<'a>>,
    encoding: Option<Noted<'a>>,
    content_id: Option<Noted<'a>>,
    parent_content_id: Option<Noted<'a>>,
    parent_file_name: Option<Noted<'a>>,
    create_type: Option<Noted<'a>>,
    adapter_type: Option<Noted<'a>>,
    extents: Vec<RawExtentLine<'a>>,
    sectors: u64,
    entries: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Draft<'a> {
    fn read_line(&mut self, line: usize, text: &'a [u8]) -> Result<(), DescriptorError> {
        if text.is_empty() || text.starts_with(b"#") {
            return Ok(());
        }
        if let Some(extent) = RawExtentLine::parse(line, text) {
            return self.add_extent(extent?);
        }
        let unknown = || DescriptorError::UnknownLine { line, text: excerpt(text) };
        let (key, value) = split_entry(text).ok_or_else(unknown)?;
        let Some(field) = field_of(key) else {
            if self.entries.len() == ENTRIES_MAX {
                return Err(DescriptorError::TooManyEntries { line });
            }
            self.entries.push((key, unquote(value).ok_or_else(unknown)?));
            return Ok(());
        };
        let value = unquote(value)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| DescriptorError::InvalidField { line, field, value: excerpt(value) })?;
        let noted = match field {
            Field::Version => &mut self.version,
            Field::Encoding => &mut self.encoding,
            Field::ContentId => &mut self.content_id,
            Field::ParentContentId => &mut self.parent_content_id,
            Field::ParentFileName => &mut self.parent_file_name,
            Field::CreateType => &mut self.create_type,
            _ => &mut self.adapter_type,
        };
        match noted.replace(Noted { line, value }) {
            Some(first) => Err(DescriptorError::RepeatedField { line, field, first_line: first.line }),
            None => Ok(()),
        }
    }

    fn add_extent(&mut self, extent: RawExtentLine<'a>) -> Result<(), DescriptorError> {
        if self.extents.len() == limits::PIECES_MAX {
            return Err(DescriptorError::TooManyExtents { line: extent.line() });
        }
        self.sectors = self
            .sectors
            .checked_add(extent.sectors())
            .filter(|&sectors| sectors <= limits::DISK_BYTES_MAX / SECTOR_BYTES)
            .ok_or(DescriptorError::TooLarge { line: extent.line() })?;
        self.extents.push(extent);
        Ok(())
    }

    fn finish(self) -> Result<Descriptor, DescriptorError> {
        let encoding = self
            .encoding
            .map_or(Encoding::Utf8, |noted| Encoding::named(&String::from_utf8_lossy(noted.value)));
        let show = |bytes: &[u8]| {
            encoding.decode(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())
        };
        let version = required(self.version, Field::Version)?;
        let version = parse_version(version)?;
        let content_id = parse_content_id(required(self.content_id, Field::ContentId)?, Field::ContentId)?;
        let parent = required(self.parent_content_id, Field::ParentContentId)?;
        let parent_id = parse_content_id(parent, Field::ParentContentId)?;
        if parent_id != Descriptor::NO_PARENT || self.parent_file_name.is_some() {
            return Err(DescriptorError::HasParent {
                line: self.parent_file_name.unwrap_or(parent).line,
                parent: self.parent_file_name.map(|noted| show(noted.value)),
            });
        }
        let create_type = required(self.create_type, Field::CreateType)?;
        let create_type = CreateType::parse(create_type.line, create_type.value)?;
        let extents: Vec<_> =
            self.extents.into_iter().map(|extent| extent.decode(&encoding)).collect::<Result<_, _>>()?;
        if extents.is_empty() {
            return Err(DescriptorError::NoExtents);
        }
        let (database, remarks) = self
            .entries
            .into_iter()
            .map(|(key, value)| Entry { key: show(key), value: show(value) })
            .partition(|entry| entry.key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("ddb.")));
        let adapter_type = self.adapter_type.map(|noted| show(noted.value));
        Ok(Descriptor {
            version,
            content_id,
            create_type,
            extents,
            adapter_type,
            database,
            remarks,
            encoding,
        })
    }
}

fn required(noted: Option<Noted<'_>>, field: Field) -> Result<Noted<'_>, DescriptorError> {
    noted.ok_or(DescriptorError::MissingField { field })
}

/// The fields that a disk cannot be read without, or that change how it is read.
fn field_of(key: &[u8]) -> Option<Field> {
    let fields: [(&[u8], Field); 7] = [
        (b"version", Field::Version),
        (b"encoding", Field::Encoding),
        (b"CID", Field::ContentId),
        (b"parentCID", Field::ParentContentId),
        (b"parentFileNameHint", Field::ParentFileName),
        (b"createType", Field::CreateType),
        (b"ddb.adapterType", Field::AdapterType),
    ];
    fields.into_iter().find(|(name, _)| key.eq_ignore_ascii_case(name)).map(|(_, field)| field)
}

/// `key = value`, each without spaces around; the value may be in quotes.
fn split_entry(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'=')?;
    let key = text[..at].trim_ascii();
    let plain = !key.is_empty() && !key.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'"');
    plain.then(|| (key, text[at + 1..].trim_ascii()))
}

/// A value without its quotes; `None` where only one end has one.
fn unquote(value: &[u8]) -> Option<&[u8]> {
    match value.strip_prefix(b"\"") {
        Some(inner) => inner.strip_suffix(b"\""),
        None => Some(value),
    }
}

fn parse_version(noted: Noted<'_>) -> Result<u32, DescriptorError> {
    match noted.value {
        b"1" => Ok(1),
        b"2" => Ok(2),
        b"3" => Ok(3),
        other => Err(DescriptorError::InvalidField {
            line: noted.line,
            field: Field::Version,
            value: excerpt(other),
        }),
    }
}

fn parse_content_id(noted: Noted<'_>, field: Field) -> Result<u32, DescriptorError> {
    let digits =
        std::str::from_utf8(noted.value).ok().filter(|text| text.bytes().all(|d| d.is_ascii_hexdigit()));
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| DescriptorError::InvalidField { line: noted.line, field, value: excerpt(noted.value) })
}

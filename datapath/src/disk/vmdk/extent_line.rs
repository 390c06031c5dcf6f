//! One line of a descriptor that describes an extent:
//! `RW 4194304 FLAT "disk-f001.vmdk" 0`.

use std::fmt;

use super::SECTOR_BYTES;
use super::encoding::Encoding;
use super::error::{Advice, DescriptorError, Field, excerpt};
use crate::limits;

/// What a machine may do with an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `RW`.
    ReadWrite,
    /// `RDONLY`.
    ReadOnly,
    /// `NOACCESS`: neither read nor write; [`super::locate`] refuses it.
    None,
}

impl Access {
    const fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "RW",
            Self::ReadOnly => "RDONLY",
            Self::None => "NOACCESS",
        }
    }

    fn named(word: &[u8]) -> Option<Self> {
        [Self::ReadWrite, Self::ReadOnly, Self::None]
            .into_iter()
            .find(|access| word.eq_ignore_ascii_case(access.word().as_bytes()))
    }
}

/// Where the bytes of an extent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// `FLAT`: plain bytes in a file.
    Flat {
        /// The file, as the descriptor names it.
        file_name: String,
        /// Its first sector in the file, in sectors of 512 bytes.
        offset_sectors: u64,
    },
    /// `VMFS`: the same, on an ESXi host.
    Vmfs {
        /// The file, as the descriptor names it.
        file_name: String,
        /// Its first sector in the file, in sectors of 512 bytes.
        offset_sectors: u64,
    },
    /// `ZERO`: nowhere, it reads as zero.
    Zero,
}

/// An extent of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentLine {
    /// The line of the descriptor, from 1.
    pub line: usize,
    /// What may be done with it.
    pub access: Access,
    /// Its size in sectors of 512 bytes; never zero.
    pub sectors: u64,
    /// Where its bytes are.
    pub kind: ExtentKind,
    /// What follows on the line, such as the identifiers of a device.
    pub rest: Option<String>,
}

impl ExtentLine {
    /// Its size in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.sectors * SECTOR_BYTES
    }

    /// The file it names and its first byte there; `None` for zeroes.
    #[must_use]
    pub fn place(&self) -> Option<(&str, u64)> {
        match &self.kind {
            ExtentKind::Flat { file_name, offset_sectors }
            | ExtentKind::Vmfs { file_name, offset_sectors } => {
                Some((file_name, offset_sectors * SECTOR_BYTES))
            }
            ExtentKind::Zero => None,
        }
    }
}

impl fmt::Display for ExtentLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.access.word(), self.sectors)?;
        match &self.kind {
            ExtentKind::Flat { file_name, offset_sectors } => {
                write!(f, "FLAT \"{file_name}\" {offset_sectors}")?;
            }
            // qemu takes no offset here, and VMware writes none.
            ExtentKind::Vmfs { file_name, offset_sectors: 0 } if self.rest.is_none() => {
                write!(f, "VMFS \"{file_name}\"")?;
            }
            ExtentKind::Vmfs { file_name, offset_sectors } => {
                write!(f, "VMFS \"{file_name}\" {offset_sectors}")?;
            }
            ExtentKind::Zero => f.write_str("ZERO")?,
        }
        match &self.rest {
            Some(rest) => write!(f, " {rest}"),
            None => Ok(()),
        }
    }
}

/// An extent line taken apart, with its names still in the descriptor's bytes:
/// the encoding may be said after it.
pub(super) struct RawExtentLine<'a> {
    line: usize,
    access: Access,
    sectors: u64,
    kind: RawKind<'a>,
    rest: &'a [u8],
}

enum RawKind<'a> {
    Flat(&'a [u8], u64),
    Vmfs(&'a [u8], u64),
    Zero,
    /// Kept until the rest is read: that the disk is a snapshot says more.
    Unsupported(&'a [u8]),
}

impl<'a> RawExtentLine<'a> {
    /// Takes apart `text`, the line numbered `line`; `None` where it is no extent
    /// line at all.
    pub(super) fn parse(line: usize, text: &'a [u8]) -> Option<Result<Self, DescriptorError>> {
        let (word, after) = split_word(text);
        let access = Access::named(word)?;
        // A key may be called RW; an extent's next word is a number.
        (!after.starts_with(b"=")).then(|| Self::parse_fields(line, access, after))
    }

    fn parse_fields(line: usize, access: Access, text: &'a [u8]) -> Result<Self, DescriptorError> {
        let invalid =
            |field, value: &[u8]| DescriptorError::InvalidField { line, field, value: excerpt(value) };
        let (size, text) = split_word(text);
        let sectors = parse_number(size)
            .filter(|&sectors| sectors > 0 && sectors <= limits::DISK_BYTES_MAX / SECTOR_BYTES)
            .ok_or_else(|| invalid(Field::ExtentSize, size))?;
        let (kind, text) = split_word(text);
        if kind.eq_ignore_ascii_case(b"ZERO") {
            return Ok(Self { line, access, sectors, kind: RawKind::Zero, rest: text });
        }
        let make: fn(&'a [u8], u64) -> RawKind<'a> = match kind {
            flat if flat.eq_ignore_ascii_case(b"FLAT") => RawKind::Flat,
            vmfs if vmfs.eq_ignore_ascii_case(b"VMFS") => RawKind::Vmfs,
            b"" => return Err(invalid(Field::ExtentKind, kind)),
            other => {
                return Ok(Self { line, access, sectors, kind: RawKind::Unsupported(other), rest: text });
            }
        };
        let (file_name, text) = split_quoted(text).ok_or_else(|| invalid(Field::ExtentFileName, text))?;
        if file_name.is_empty() {
            return Err(invalid(Field::ExtentFileName, file_name));
        }
        let (offset, rest) = split_word(text);
        let offset_sectors = if offset.is_empty() { Some(0) } else { parse_number(offset) }
            .filter(|&offset| ends_within_a_file(offset, sectors))
            .ok_or_else(|| invalid(Field::ExtentOffset, offset))?;
        Ok(Self { line, access, sectors, kind: make(file_name, offset_sectors), rest })
    }

    pub(super) const fn line(&self) -> usize {
        self.line
    }

    pub(super) const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Reads its names.
    pub(super) fn decode(self, encoding: &Encoding) -> Result<ExtentLine, DescriptorError> {
        let line = self.line;
        let decode = |name: &[u8]| {
            let undecodable =
                || DescriptorError::UndecodableName { line, name: excerpt(name), encoding: encoding.clone() };
            encoding.decode(name).filter(|name| !name.contains(char::is_control)).ok_or_else(undecodable)
        };
        let kind = match self.kind {
            RawKind::Flat(name, offset_sectors) => {
                ExtentKind::Flat { file_name: decode(name)?, offset_sectors }
            }
            RawKind::Vmfs(name, offset_sectors) => {
                ExtentKind::Vmfs { file_name: decode(name)?, offset_sectors }
            }
            RawKind::Zero => ExtentKind::Zero,
            RawKind::Unsupported(name) => {
                let advice = advice_on_kind(name);
                return Err(DescriptorError::UnsupportedExtentKind { line, name: excerpt(name), advice });
            }
        };
        let rest = (!self.rest.is_empty()).then(|| String::from_utf8_lossy(self.rest).into_owned());
        Ok(ExtentLine { line, access: self.access, sectors: self.sectors, kind, rest })
    }
}

/// The first word of `text`, and what follows it; both without spaces around.
fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii();
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii())
}

/// What stands in double quotes at the start of `text`, and what follows.
///
/// Nothing in the format says how a quote within a name is written, and qemu
/// writes it as it is. So the closing quote is the first that ends a word.
fn split_quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let ends = |at: usize| inner.get(at + 1).is_none_or(u8::is_ascii_whitespace);
    let end = (0..inner.len()).find(|&at| inner[at] == b'"' && ends(at))?;
    Some((&inner[..end], inner[end + 1..].trim_ascii()))
}

/// A decimal number, of digits alone.
fn parse_number(digits: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Whether an extent of `sectors` from `offset` (sectors) on can lie in a file.
fn ends_within_a_file(offset: u64, sectors: u64) -> bool {
    offset.checked_add(sectors).is_some_and(|end| end <= limits::DISK_BYTES_MAX / SECTOR_BYTES)
}

fn advice_on_kind(name: &[u8]) -> Advice {
    let is = |known: &[&[u8]]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
    if is(&[b"SPARSE"]) {
        Advice::Convert
    } else if is(&[b"VMFSSPARSE", b"SESPARSE"]) {
        Advice::Consolidate
    } else if is(&[b"VMFSRDM", b"VMFSRAW"]) {
        Advice::NameTheDevice
    } else {
        Advice::Unknown
    }
}

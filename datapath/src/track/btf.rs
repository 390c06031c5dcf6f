//! The types of the running kernel (BTF), as far as needed to know where a field
//! of a structure lies.
//!
//! In: `/sys/kernel/btf/vmlinux`. Out: offsets of fields in bytes, arguments of
//! tracepoints. Invariants: whatever the bytes are, nothing panics, loops for
//! ever or takes more memory than four bytes for twelve of them.
//!
//! ```text
//! header: magic 0xeb9f u16, version 1 u8, flags u8, header length u32,
//!         types offset, length u32, strings offset, length u32 (from the header's end)
//! type:   name u32, kind and count u32, size or type u32, then by kind
//! ```
//! (Documentation/bpf/btf.rst of Linux.)

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const ARGUMENT_BYTES: usize = 8;

const POINTER: u32 = 2;
const STRUCTURE: u32 = 4;
const UNION: u32 = 5;
const TYPEDEF: u32 = 8;
const SIGNATURE: u32 = 13;
/// `volatile`, `const`, `restrict`, and a type's tag: they stand before a type.
const QUALIFIERS: [u32; 4] = [9, 10, 11, 18];

/// Structures without a name within each other, and names for one type.
const DEPTH_MAX: u32 = 8;

/// Why a field is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypesError {
    /// The bytes are no BTF, or not of the version known here.
    #[error("the kernel's types cannot be read at byte {at}: {what}")]
    Malformed {
        /// Where, from the start.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A structure without the field.
    #[error("the kernel's types have no field `{field}` in `struct {structure}`")]
    NoField {
        /// The structure.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A tracepoint that is not there, or has other arguments.
    #[error("the kernel's tracepoint `{name}` {what}")]
    Tracepoint {
        /// The tracepoint.
        name: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// All types of a kernel.
pub(super) struct Types<'a> {
    bytes: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins, by its number less one.
    places: Vec<u32>,
}

/// The fixed head of a type.
#[derive(Clone, Copy)]
struct Head {
    at: usize,
    name: u32,
    kind: u32,
    count: usize,
    has_bit_fields: bool,
    refers_to: u32,
}

impl<'a> Types<'a> {
    /// Finds where each type begins.
    ///
    /// # Errors
    /// [`TypesError::Malformed`].
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, TypesError> {
        let malformed = |at, what| TypesError::Malformed { at, what };
        let [low, high, version, ..] = *bytes else { return Err(malformed(0, "no header")) };
        if u16::from_le_bytes([low, high]) != MAGIC || version != 1 {
            return Err(malformed(0, "neither magic nor version is known"));
        }
        let field = |at| word(bytes, at).map(wide).ok_or_else(|| malformed(at, "no header"));
        let header = field(4)?;
        if header < HEADER_BYTES {
            return Err(malformed(4, "a header that is too short"));
        }
        let section = |at: usize| -> Result<&'a [u8], TypesError> {
            let start = header.saturating_add(field(at)?);
            let end = start.saturating_add(field(at + 4)?);
            bytes.get(start..end).ok_or_else(|| malformed(at, "a section past the end"))
        };
        let mut types = Self { bytes: section(8)?, strings: section(16)?, places: Vec::new() };
        types.places = types.find_places()?;
        Ok(types)
    }

    /// The offset in bytes of `field` in a `struct structure`.
    ///
    /// # Errors
    /// [`TypesError::NoField`].
    pub(super) fn offset(&self, structure: &'static str, field: &'static str) -> Result<u32, TypesError> {
        let found = self.structures(structure).find_map(|head| self.bit_offset(head, field, DEPTH_MAX));
        let bits = found.filter(|bits| bits % 8 == 0);
        bits.map(|bits| bits / 8).ok_or(TypesError::NoField { structure, field })
    }

    /// Checks that raw programs of a tracepoint get `arguments` arguments, the
    /// first of them a `struct request *`.
    ///
    /// # Errors
    /// [`TypesError::Tracepoint`].
    pub(super) fn expect_request_first(
        &self,
        name: &'static str,
        arguments: usize,
    ) -> Result<(), TypesError> {
        let wrong = |what| TypesError::Tracepoint { name, what };
        let is_it = |head: &Head| {
            head.kind == TYPEDEF
                && self.text(head.name).and_then(|text| text.strip_prefix(b"btf_trace_".as_slice()))
                    == Some(name.as_bytes())
        };
        let typedef = self.heads().find(is_it).ok_or_else(|| wrong("is not there"))?;
        let signature = self.follow(typedef.refers_to).filter(|head| head.kind == POINTER);
        let signature = signature.and_then(|pointer| self.follow(pointer.refers_to));
        let signature =
            signature.filter(|head| head.kind == SIGNATURE).ok_or_else(|| wrong("is no function"))?;
        // The first argument of every probe is its own data, which raw programs
        // do not get.
        if signature.count != arguments + 1 {
            return Err(wrong("has other arguments (kernels before 5.11)"));
        }
        let first = word(self.bytes, signature.at + TYPE_BYTES + ARGUMENT_BYTES + 4);
        let pointer = first.and_then(|number| self.follow(number)).filter(|head| head.kind == POINTER);
        let target = pointer.and_then(|pointer| self.follow(pointer.refers_to));
        let is_request = target.is_some_and(|head| self.text(head.name) == Some(b"request"));
        if is_request { Ok(()) } else { Err(wrong("does not begin with a request")) }
    }

    fn find_places(&self) -> Result<Vec<u32>, TypesError> {
        let malformed = |at, what| TypesError::Malformed { at, what };
        let (mut at, mut places) = (0, Vec::new());
        while at < self.bytes.len() {
            let head = self.head(at).ok_or_else(|| malformed(at, "a type past the end"))?;
            let rest = match head.kind {
                1 | 14 | 17 => 4,
                3 => 12,
                STRUCTURE | UNION | 15 | 19 => 12 * head.count,
                6 | SIGNATURE => 8 * head.count,
                POINTER | 7..=12 | 16 | 18 => 0,
                _ => return Err(malformed(at, "an unknown kind of type")),
            };
            places.push(u32::try_from(at).map_err(|_| malformed(at, "too many types"))?);
            at += TYPE_BYTES + rest;
        }
        if at > self.bytes.len() { Err(malformed(at, "a type past the end")) } else { Ok(places) }
    }

    fn head(&self, at: usize) -> Option<Head> {
        let information = word(self.bytes, at + 4)?;
        Some(Head {
            at,
            name: word(self.bytes, at)?,
            kind: information >> 24 & 0x1f,
            count: wide(information & 0xffff),
            has_bit_fields: information >> 31 == 1,
            refers_to: word(self.bytes, at + 8)?,
        })
    }

    fn heads(&self) -> impl Iterator<Item = Head> {
        self.places.iter().filter_map(|at| self.head(wide(*at)))
    }

    fn structures(&self, name: &str) -> impl Iterator<Item = Head> {
        self.heads()
            .filter(move |head| head.kind == STRUCTURE && self.text(head.name) == Some(name.as_bytes()))
    }

    /// The type of a number, past what only qualifies it.
    fn follow(&self, mut number: u32) -> Option<Head> {
        for _ in 0..DEPTH_MAX {
            let place = *self.places.get(wide(number.checked_sub(1)?))?;
            let head = self.head(wide(place))?;
            if !QUALIFIERS.contains(&head.kind) {
                return Some(head);
            }
            number = head.refers_to;
        }
        None
    }

    /// Where `field` lies in a structure, or in what it holds without a name, in bits.
    fn bit_offset(&self, structure: Head, field: &str, depth: u32) -> Option<u32> {
        (0..structure.count).find_map(|index| {
            let at = structure.at + TYPE_BYTES + MEMBER_BYTES * index;
            let (name, number, place) =
                (word(self.bytes, at)?, word(self.bytes, at + 4)?, word(self.bytes, at + 8)?);
            let bits = if structure.has_bit_fields { place & 0x00ff_ffff } else { place };
            let text = self.text(name)?;
            if text == field.as_bytes() {
                return Some(bits);
            }
            if !text.is_empty() {
                return None;
            }
            let inner = self.follow(number).filter(|head| matches!(head.kind, STRUCTURE | UNION))?;
            self.bit_offset(inner, field, depth.checked_sub(1)?)?.checked_add(bits)
        })
    }

    /// A name, up to its zero byte.
    fn text(&self, at: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(wide(at)..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn wide(value: u32) -> usize {
    crate::unit::to_usize(u64::from(value))
}

#[cfg(test)]
mod tests;

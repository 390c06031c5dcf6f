//! The programs that mark what a request writes: one for each disk and event.
//!
//! In: the kernel's layout, the disk, the map. Out: instructions. Invariants: a
//! program leaves at once for reads and for other disks; what it cannot place is
//! counted as such, never passed over; there is one loop, over the pieces of a
//! discard, which ends after `limits::DISCARD_PIECES_MAX`.
//!
//! ```text
//! request ─ read? other disk? ─> exit
//!    │ count the event, the sectors
//!    ├─ no place known ─> unknown      ├─ past the end ─> out of range
//!    └─ extent ─> chunks ─> outer words at each level ─> next piece ─> exit
//!
//! level 0, a bit a chunk     ....:..##:####:####:####:####:#...   marked: ##  #
//! level 1, a bit a word              .###                       marked: ###
//! ```
//! The two outer words of an extent are marked bit by bit. The words between are
//! whole: each is one bit of the next level, where the same is done again. So the
//! largest request takes eight marks, without a loop.
//!
//! A discard may be made of pieces that lie anywhere (NVMe, virtio), of which the
//! request names only the first place: there each piece is marked.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::assembler::{Arithmetic, Assembler, Call, Condition, Label, Register, Width};
use super::kernel::KernelLayout;
use super::layout::{Geometry, HeaderWord, LEVELS, PAGE_BITS_SHIFT};
use crate::disk::storage::DeviceNumber;
use crate::limits;

use Arithmetic::{Add, And, ShiftLeft, ShiftRight, Subtract};
use Condition::{Above, AtMost, Equal, NotEqual};
use Register::{Frame, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
use Width::{Long, Word};

/// Operations of a request (`enum req_op`), which never change their numbers.
const READ: i32 = 0;
const WRITE: i32 = 1;
const FLUSH: i32 = 2;
const DISCARD: i32 = 3;
const SECURE_ERASE: i32 = 5;
const WRITE_ZEROES: i32 = 9;
/// Commands that read, as SCSI had them before 5.14, and as all have them since.
const SCSI_IN: i32 = 32;
const DRIVER_IN: i32 = 34;
const OPERATION_MASK: i32 = 0xff;

/// Places on the stack, from its end.
const KEY: i16 = -8;
const SCRATCH: i16 = -16;
const HEADER: i16 = -24;
const COPIES: i16 = -24;

/// Longest run of bytes that is copied from the kernel to reach some fields.
const SPAN_BYTES_MAX: u32 = 192;

/// When a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request goes to the device: it may be written from now on.
    Issue,
    /// It has completed: whoever waited for it may count on it.
    Completion,
}

impl Event {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Issue, Self::Completion];

    /// The kernel's name for it.
    pub(super) fn tracepoint(self) -> &'static CStr {
        match self {
            Self::Issue => c"block_rq_issue",
            Self::Completion => c"block_rq_complete",
        }
    }

    /// The name of its pins.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Completion => "completion",
        }
    }
}

/// What a program is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    pub(super) event: Event,
    pub(super) device: DeviceNumber,
    pub(super) geometry: Geometry,
    /// Whether a discard may have pieces that lie anywhere.
    pub(super) scattered_discards: bool,
}

/// Fields of a structure that are copied in one go: where they lie, and where
/// their copy lies on the stack.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    bytes: u32,
    place: i16,
}

impl Span {
    /// Over fields of at most eight bytes, below `above` on the stack.
    fn over(fields: &[u32], above: i16) -> Option<Self> {
        let start = *fields.iter().min()?;
        let bytes = (fields.iter().max()? - start + 8).next_multiple_of(8);
        let place = above.checked_sub_unsigned(u16::try_from(bytes).ok()?)?;
        (bytes <= SPAN_BYTES_MAX).then_some(Self { start, bytes, place })
    }

    /// Where the copy of `field` lies on the stack.
    fn of(self, field: u32) -> Option<i16> {
        self.place.checked_add_unsigned(u16::try_from(field.checked_sub(self.start)?).ok()?)
    }
}

/// Places that a program jumps to from several others.
#[derive(Clone, Copy)]
struct Ends {
    exit: Label,
    unknown: Label,
    out_of_range: Label,
    overrun: Label,
}

struct Writer<'a> {
    code: Assembler,
    kernel: &'a KernelLayout,
    purpose: Purpose,
    map: RawFd,
    /// Of the dirty marks of each level.
    first_pages: [i32; LEVELS],
    ends: Ends,
    request: Span,
    piece: Span,
}

/// The program; `None` where the kernel's structures are too far apart.
///
/// It is the same for each map, but for the descriptor in it.
pub(super) fn program(kernel: &KernelLayout, purpose: Purpose, map: RawFd) -> Option<Vec<u64>> {
    let mut code = Assembler::default();
    let ends =
        Ends { exit: code.label(), unknown: code.label(), out_of_range: code.label(), overrun: code.label() };
    let of = kernel.request;
    let request = Span::over(&[of.owner, of.flags, of.sector, of.bytes, of.pieces], COPIES)?;
    let of = kernel.piece;
    let piece = Span::over(&[of.next, of.sector, of.bytes], request.place)?;
    let mut first_pages = [0; LEVELS];
    for (level, page) in first_pages.iter_mut().enumerate() {
        *page = i32::try_from(purpose.geometry.first_page(level)).ok()?;
    }
    let mut writer = Writer { code, kernel, purpose, map, first_pages, ends, request, piece };
    writer.take_request()?;
    writer.leave_for_other_disks()?;
    writer.count();
    writer.choose_extent()?;
    writer.mark()?;
    writer.ends();
    writer.code.finish()
}

impl Writer<'_> {
    /// Copies the request; leaves for what changes nothing. `R6` is the request's
    /// address, `R7` its operation, `R8` at completion the bytes that completed.
    fn take_request(&mut self) -> Option<()> {
        let (request, flags) = (self.request, self.request.of(self.kernel.request.flags)?);
        let code = &mut self.code;
        code.load(Long, R6, R1, 0);
        if self.purpose.event == Event::Completion {
            code.load(Long, R8, R1, 16);
            code.set_lower_half(R8, R8);
        }
        code.set(R3, R6);
        copy(code, request);
        code.load(Word, R7, Frame, flags);
        code.compute(And, R7, OPERATION_MASK);
        for operation in [READ, FLUSH, SCSI_IN, DRIVER_IN] {
            code.jump_if(R7, Equal, operation, self.ends.exit);
        }
        Some(())
    }

    /// Follows the request to its disk and compares the disk's number.
    fn leave_for_other_disks(&mut self) -> Option<()> {
        let owner = self.request.of(self.kernel.request.owner)?;
        let exit = self.ends.exit;
        let DeviceNumber { major, minor } = self.purpose.device;
        let pointer = |start| Span { start, bytes: 8, place: SCRATCH };
        let code = &mut self.code;
        code.load(Long, R3, Frame, owner);
        code.jump_if(R3, Equal, 0, exit);
        if let Some(disk) = self.kernel.disk_of_queue {
            copy(code, pointer(disk));
            code.load(Long, R3, Frame, SCRATCH);
            code.jump_if(R3, Equal, 0, exit);
        }
        copy(code, pointer(self.kernel.disk_number));
        code.load(Long, R1, Frame, SCRATCH);
        code.set_long(R2, u64::from(major) | u64::from(minor) << 32);
        code.jump_if(R1, NotEqual, R2, exit);
        Some(())
    }

    /// Counts the event and, at completion, its sectors as the kernel does.
    fn count(&mut self) {
        let code = &mut self.code;
        code.set(R1, 0);
        lookup(code, self.map, R1);
        code.jump_if(R0, Equal, 0, self.ends.exit);
        code.store(Long, Frame, HEADER, R0);
        code.set(R1, 1);
        let events = match self.purpose.event {
            Event::Issue => HeaderWord::Issued,
            Event::Completion => HeaderWord::Completed,
        };
        code.atomic_add(R0, events.offset(), R1);
        if self.purpose.event == Event::Completion {
            let (discard, counted) = (code.label(), code.label());
            code.set(R1, R8);
            code.compute(ShiftRight, R1, 9);
            code.jump_if(R7, Equal, DISCARD, discard);
            code.atomic_add(R0, HeaderWord::WrittenSectors.offset(), R1);
            code.jump(counted);
            code.place(discard);
            code.atomic_add(R0, HeaderWord::DiscardedSectors.offset(), R1);
            code.place(counted);
        }
    }

    /// `R7`: first sector, `R8`: bytes, `R9`: the next piece or 0, `R6`: pieces left.
    fn choose_extent(&mut self) -> Option<()> {
        let of = self.kernel.request;
        let copies = [of.sector, of.bytes, of.pieces].map(|field| self.request.of(field));
        let [Some(sector), Some(bytes), Some(pieces)] = copies else { return None };
        let code = &mut self.code;
        let (placed, pieced) = (code.label(), code.label());
        code.set(R6, limits::DISCARD_PIECES_MAX);
        code.set(R9, 0);
        for operation in [WRITE, WRITE_ZEROES, SECURE_ERASE] {
            code.jump_if(R7, Equal, operation, placed);
        }
        code.jump_if(R7, NotEqual, DISCARD, self.ends.unknown);
        if self.purpose.scattered_discards {
            code.load(Long, R9, Frame, pieces);
            // Without pieces it has no place to go by but its own.
            code.jump_if(R9, Equal, 0, placed);
            code.set(R7, 0);
            code.set(R8, 0);
            code.jump(pieced);
        }
        code.place(placed);
        if self.purpose.event == Event::Issue {
            code.load(Word, R8, Frame, bytes);
        }
        code.load(Long, R7, Frame, sector);
        code.place(pieced);
        Some(())
    }

    /// Marks the extent, then the pieces behind it.
    fn mark(&mut self) -> Option<()> {
        let (extent, next) = (self.code.label(), self.code.label());
        self.code.place(extent);
        self.place_chunks(next);
        for level in 0..LEVELS {
            self.mark_level(level, next);
        }
        // More than a request can be.
        self.code.jump(self.ends.overrun);
        self.code.place(next);
        if self.purpose.scattered_discards {
            self.next_piece(extent)?;
        } else {
            self.code.jump(self.ends.exit);
        }
        Some(())
    }

    /// From sectors to the first and the last chunk: `R7`, `R8`.
    fn place_chunks(&mut self, nothing: Label) {
        let Geometry { size_bytes, chunk_size } = self.purpose.geometry;
        let shift = chunk_size.bytes().trailing_zeros().cast_signed() - 9;
        let code = &mut self.code;
        code.jump_if(R8, Equal, 0, nothing);
        code.compute(Add, R8, 511);
        code.compute(ShiftRight, R8, 9);
        code.compute(Add, R8, R7);
        code.jump_if(R7, Above, R8, self.ends.out_of_range);
        code.set_long(R1, size_bytes >> 9);
        code.jump_if(R8, Above, R1, self.ends.out_of_range);
        code.compute(Subtract, R8, 1);
        code.compute(ShiftRight, R7, shift);
        code.compute(ShiftRight, R8, shift);
    }

    /// Marks the bits `R7` to `R8` of `level`: those of one word or of the two
    /// outer words; `R7` and `R8` are then the bits of the next level that stand
    /// for the whole words between. Goes to `next` where there are none.
    fn mark_level(&mut self, level: usize, next: Label) {
        let several = self.code.label();
        self.code.set(R1, R7);
        self.code.compute(ShiftRight, R1, 6);
        self.code.set(R2, R8);
        self.code.compute(ShiftRight, R2, 6);
        self.code.jump_if(R1, NotEqual, R2, several);
        self.word_of(level, R7);
        from_bit(&mut self.code, R4, R7);
        up_to_bit(&mut self.code, R5, R8);
        self.code.compute(And, R4, R5);
        self.code.atomic_or(R0, 0, R4);
        self.code.jump(next);
        self.code.place(several);
        self.word_of(level, R7);
        from_bit(&mut self.code, R4, R7);
        self.code.atomic_or(R0, 0, R4);
        self.word_of(level, R8);
        up_to_bit(&mut self.code, R4, R8);
        self.code.atomic_or(R0, 0, R4);
        self.code.compute(ShiftRight, R7, 6);
        self.code.compute(Add, R7, 1);
        self.code.compute(ShiftRight, R8, 6);
        self.code.jump_if(R8, AtMost, R7, next);
        self.code.compute(Subtract, R8, 1);
    }

    /// `R0 ⟵` the place of the word of `level` with the bit; loses `R1` to `R5`.
    fn word_of(&mut self, level: usize, bit: Register) {
        let (map, first_page) = (self.map, self.first_pages[level]);
        let code = &mut self.code;
        code.set(R1, bit);
        code.compute(ShiftRight, R1, PAGE_BITS_SHIFT);
        code.compute(Add, R1, first_page);
        lookup(code, map, R1);
        code.jump_if(R0, Equal, 0, self.ends.out_of_range);
        code.set(R1, bit);
        code.compute(ShiftRight, R1, 3);
        // Words of eight bytes; it also tells the verifier that it stays within.
        code.compute(And, R1, 0xff8);
        code.compute(Add, R0, R1);
    }

    /// Takes the piece at `R9`, or ends.
    fn next_piece(&mut self, extent: Label) -> Option<()> {
        let of = self.kernel.piece;
        let copies = [of.next, of.sector, of.bytes].map(|field| self.piece.of(field));
        let [Some(next), Some(sector), Some(bytes)] = copies else { return None };
        let code = &mut self.code;
        code.jump_if(R9, Equal, 0, self.ends.exit);
        code.jump_if(R6, Equal, 0, self.ends.overrun);
        code.compute(Subtract, R6, 1);
        code.set(R3, R9);
        copy(code, self.piece);
        code.load(Long, R9, Frame, next);
        code.load(Long, R7, Frame, sector);
        code.load(Word, R8, Frame, bytes);
        code.jump(extent);
        Some(())
    }

    fn ends(&mut self) {
        let Ends { exit, unknown, out_of_range, overrun } = self.ends;
        let flags = [
            (unknown, HeaderWord::UnknownWrites),
            (out_of_range, HeaderWord::OutOfRange),
            (overrun, HeaderWord::Overruns),
        ];
        let code = &mut self.code;
        for (label, flag) in flags {
            code.place(label);
            code.load(Long, R1, Frame, HEADER);
            code.set(R2, 1);
            code.atomic_add(R1, flag.offset(), R2);
            code.jump(exit);
        }
        code.place(exit);
        code.set(R0, 0);
        code.exit();
    }
}

/// Copies `span` of the kernel's structure at `R3` to the stack; loses `R0` to `R5`.
fn copy(code: &mut Assembler, span: Span) {
    code.compute(Add, R3, span.start.cast_signed());
    code.set(R1, Frame);
    code.compute(Add, R1, i32::from(span.place));
    code.set(R2, span.bytes.cast_signed());
    code.call(Call::ReadKernel);
}

/// `R0 ⟵` the map's page whose number is in `page`, or 0; loses `R1` to `R5`.
pub(super) fn lookup(code: &mut Assembler, map: RawFd, page: Register) {
    code.store(Word, Frame, KEY, page);
    code.set_map(R1, map);
    code.set(R2, Frame);
    code.compute(Add, R2, i32::from(KEY));
    code.call(Call::MapLookup);
}

/// `mask ⟵` the bits of a word from number `bit` on.
fn from_bit(code: &mut Assembler, mask: Register, bit: Register) {
    code.set(R3, bit);
    code.compute(And, R3, 63);
    code.set(mask, -1);
    code.compute(ShiftLeft, mask, R3);
}

/// `mask ⟵` the bits of a word up to number `bit`, with it.
fn up_to_bit(code: &mut Assembler, mask: Register, bit: Register) {
    code.set(R2, bit);
    code.compute(And, R2, 63);
    code.set(R3, 63);
    code.compute(Subtract, R3, R2);
    code.set(mask, -1);
    code.compute(ShiftRight, mask, R3);
}

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;

//! Instructions of the kernel's BPF machine, as many kinds as the tracker needs.
//!
//! One instruction is eight bytes: operation, the two registers, a signed 16-bit
//! offset, a signed 32-bit number (RFC 9669). Jumps name a [`Label`], whose place
//! may come later.

use std::os::fd::RawFd;

/// A register of the machine. `R0` takes the result of a call, `R1` to `R5` its
/// arguments (which are lost by it); `FRAME` points past the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Frame,
}

/// How wide a load or a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Word,
    Long,
}

/// An operation on a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add = 0x07,
    Subtract = 0x17,
    And = 0x57,
    ShiftLeft = 0x67,
    ShiftRight = 0x77,
    Set = 0xb7,
}

/// When a jump is taken; comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal = 0x15,
    NotEqual = 0x55,
    Above = 0x25,
    AtMost = 0xb5,
}

/// What the kernel does for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `(map, key pointer)` → pointer to the value, or 0.
    MapLookup = 1,
    /// The number of this processor.
    Processor = 8,
    /// `(buffer, bytes, kernel address)` → 0, or the buffer is zeroed.
    ReadKernel = 113,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Register(Register),
    Number(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

/// A place in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

const OPERAND_IS_REGISTER: u8 = 0x08;
const ATOMIC_LONG: u8 = 0xdb;
const ATOMIC_ADD: i32 = 0x00;
/// On x86 a locked `or` is a full barrier. Elsewhere only the kind that fetches
/// the old value orders what comes before it.
const ATOMIC_OR: i32 = if cfg!(target_arch = "x86_64") { 0x40 } else { 0x41 };
/// In the field of the second register: the number is a map's descriptor.
const NUMBER_IS_MAP: u8 = 1;

const _: () = assert!(cfg!(target_endian = "little"), "instructions are laid out for little-endian machines");

/// A program in the making.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label, to be placed once.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The next instruction is where `label` is.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// `target ⟵ target operation operand`, in 64 bits.
    pub(super) fn compute(&mut self, operation: Arithmetic, target: Register, operand: impl Into<Operand>) {
        self.with_operand(operation as u8, target, 0, operand.into());
    }

    /// `target ⟵ operand`.
    pub(super) fn set(&mut self, target: Register, operand: impl Into<Operand>) {
        self.compute(Arithmetic::Set, target, operand);
    }

    /// `target ⟵` the lower half of `of`.
    pub(super) fn set_lower_half(&mut self, target: Register, of: Register) {
        self.push(0xbc, target, of as u8, 0, 0);
    }

    /// `target ⟵` a number of 64 bits.
    pub(super) fn set_long(&mut self, target: Register, number: u64) {
        let [lower, upper] = halves(number);
        self.push(0x18, target, 0, 0, lower);
        self.push(0, Register::R0, 0, 0, upper);
    }

    /// `target ⟵` the map.
    pub(super) fn set_map(&mut self, target: Register, map: RawFd) {
        self.push(0x18, target, NUMBER_IS_MAP, 0, map);
        self.push(0, Register::R0, 0, 0, 0);
    }

    /// `target ⟵ [base + offset]`.
    pub(super) fn load(&mut self, width: Width, target: Register, base: Register, offset: i16) {
        let operation = match width {
            Width::Word => 0x61,
            Width::Long => 0x79,
        };
        self.push(operation, target, base as u8, offset, 0);
    }

    /// `[base + offset] ⟵ value`.
    pub(super) fn store(&mut self, width: Width, base: Register, offset: i16, value: Register) {
        let operation = match width {
            Width::Word => 0x63,
            Width::Long => 0x7b,
        };
        self.push(operation, base, value as u8, offset, 0);
    }

    /// `[base + offset] ⟵ [base + offset] + value`, atomically.
    pub(super) fn atomic_add(&mut self, base: Register, offset: i16, value: Register) {
        self.push(ATOMIC_LONG, base, value as u8, offset, ATOMIC_ADD);
    }

    /// `[base + offset] ⟵ [base + offset] | value`, atomically, and in order. The
    /// register of `value` may hold something else afterwards.
    pub(super) fn atomic_or(&mut self, base: Register, offset: i16, value: Register) {
        self.push(ATOMIC_LONG, base, value as u8, offset, ATOMIC_OR);
    }

    /// Calls the kernel.
    pub(super) fn call(&mut self, call: Call) {
        self.push(0x85, Register::R0, 0, 0, call as i32);
    }

    /// Goes to `label`.
    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(0x05, Register::R0, 0, 0, 0);
    }

    /// Goes to `label` where `condition` holds of `left` and `right`.
    pub(super) fn jump_if(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<Operand>,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        self.with_operand(condition as u8, left, 0, right.into());
    }

    /// Ends the program.
    pub(super) fn exit(&mut self) {
        self.push(0x95, Register::R0, 0, 0, 0);
    }

    /// The program; `None` where a label was never placed or is too far away.
    pub(super) fn finish(mut self) -> Option<Vec<u64>> {
        for (at, label) in self.jumps {
            let place = i64::try_from(self.places[label.0]?).ok()?;
            let distance = i16::try_from(place - i64::try_from(at).ok()? - 1).ok()?;
            self.code[at] |= u64::from(distance.cast_unsigned()) << 16;
        }
        Some(self.code)
    }

    fn with_operand(&mut self, operation: u8, target: Register, offset: i16, operand: Operand) {
        match operand {
            Operand::Number(number) => self.push(operation, target, 0, offset, number),
            Operand::Register(register) => {
                self.push(operation | OPERAND_IS_REGISTER, target, register as u8, offset, 0);
            }
        }
    }

    fn push(&mut self, operation: u8, first: Register, second: u8, offset: i16, number: i32) {
        let registers = first as u8 | second << 4;
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = number.to_le_bytes();
        self.code.push(u64::from_le_bytes([operation, registers, low, high, a, b, c, d]));
    }
}

fn halves(number: u64) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_laid_out_as_the_kernel_reads_them() {
        let mut assembler = Assembler::default();
        let end = assembler.label();
        assembler.load(Width::Long, Register::R6, Register::R1, 0);
        assembler.jump_if(Register::R6, Condition::Equal, 0, end);
        assembler.set_long(Register::R1, 0x1122_3344_5566_7788);
        assembler.compute(Arithmetic::And, Register::R7, -2);
        assembler.jump_if(Register::R7, Condition::Above, Register::R8, end);
        assembler.place(end);
        assembler.exit();
        let code = assembler.finish().expect("every label is placed");
        assert_eq!(
            code,
            [
                0x0000_0000_0000_1679,
                0x0000_0000_0004_0615,
                0x5566_7788_0000_0118,
                0x1122_3344_0000_0000,
                0xffff_fffe_0000_0757,
                0x0000_0000_0000_872d,
                0x0000_0000_0000_0095,
            ]
        );
    }

    #[test]
    fn a_label_that_has_no_place_is_no_program() {
        let mut assembler = Assembler::default();
        let nowhere = assembler.label();
        assembler.jump(nowhere);
        assert!(assembler.finish().is_none());
    }

    #[test]
    fn a_jump_that_is_too_far_is_no_program() {
        let mut assembler = Assembler::default();
        let far = assembler.label();
        assembler.jump(far);
        (0..40_000).for_each(|_| assembler.exit());
        assembler.place(far);
        assert!(assembler.finish().is_none());
    }
}

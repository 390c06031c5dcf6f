//! The kernel's BPF machine in small: runs a program over made-up requests, so
//! that what no device of this machine does is tried as well.

use std::collections::BTreeMap;

use crate::sys::bpf::PAGE_BYTES;

const STACK: u64 = 0x1_0000_0000;
const STACK_BYTES: usize = 512;
const CONTEXT: u64 = 0x2_0000_0000;
pub(super) const MAP: u64 = 0x3_0000_0000;

/// Memory by address; an access outside is a failed test.
pub(super) struct Machine {
    pub(super) memory: BTreeMap<u64, Vec<u8>>,
    pub(super) steps: usize,
}

impl Machine {
    pub(super) fn new(pages: u32) -> Self {
        let pages = vec![0; usize::try_from(pages).unwrap() * PAGE_BYTES];
        Self { memory: BTreeMap::from([(MAP, pages), (STACK, vec![0xee; STACK_BYTES])]), steps: 0 }
    }

    pub(super) fn put(&mut self, address: u64, bytes: &[u8]) {
        self.memory.insert(address, bytes.to_vec());
    }

    pub(super) fn map_word(&self, index: usize) -> u64 {
        self.read(MAP + 8 * index as u64, 8)
    }

    fn find(&self, address: u64, bytes: usize) -> Option<(u64, usize)> {
        let (start, region) = self.memory.range(..=address).next_back()?;
        let at = usize::try_from(address - start).unwrap();
        (at + bytes <= region.len()).then_some((*start, at))
    }

    fn bytes(&mut self, address: u64, bytes: usize) -> &mut [u8] {
        let (start, at) = self.find(address, bytes).unwrap_or_else(|| panic!("no memory at {address:#x}"));
        &mut self.memory.get_mut(&start).unwrap()[at..at + bytes]
    }

    fn read(&self, address: u64, bytes: usize) -> u64 {
        let (start, at) = self.find(address, bytes).unwrap_or_else(|| panic!("no memory at {address:#x}"));
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&self.memory[&start][at..at + bytes]);
        u64::from_le_bytes(word)
    }

    fn write(&mut self, address: u64, bytes: usize, value: u64) {
        self.bytes(address, bytes).copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Runs to the end, with the arguments of the tracepoint.
    pub(super) fn run(&mut self, code: &[u64], arguments: &[u64]) {
        let context: Vec<u8> = arguments.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(CONTEXT, &context);
        let mut registers = [0xdead_u64; 11];
        registers[1] = CONTEXT;
        registers[10] = STACK + STACK_BYTES as u64;
        let mut at = 0_usize;
        loop {
            self.steps += 1;
            assert!(self.steps < 10_000_000, "the program does not end");
            let [operation, pair, low, high, number @ ..] = code[at].to_le_bytes();
            let offset = i64::from(i16::from_le_bytes([low, high]));
            let number = i64::from(i32::from_le_bytes(number)).cast_unsigned();
            let (first, second) = (usize::from(pair & 15), usize::from(pair >> 4));
            let operand = if operation & 8 == 0 { number } else { registers[second] };
            let base = |register: usize| registers[register].wrapping_add_signed(offset);
            at += 1;
            match operation {
                0x95 => return,
                0x18 => {
                    let upper = code[at] >> 32 << 32;
                    registers[first] = if second == 1 { MAP } else { number & 0xffff_ffff | upper };
                    at += 1;
                }
                0x61 => registers[first] = self.read(base(second), 4),
                0x79 => registers[first] = self.read(base(second), 8),
                0x63 => self.write(base(first), 4, registers[second]),
                0x7b => self.write(base(first), 8, registers[second]),
                0xdb => {
                    let (place, value) = (base(first), registers[second]);
                    assert_eq!(place % 8, 0, "atomic operations are aligned");
                    let old = self.read(place, 8);
                    let new = if number & 0x40 == 0 { old.wrapping_add(value) } else { old | value };
                    self.write(place, 8, new);
                    if number & 1 == 1 {
                        registers[second] = old;
                    }
                }
                0x85 => self.call(number, &mut registers),
                0xbc => registers[first] = registers[second] & 0xffff_ffff,
                _ if operation & 7 == 5 => {
                    let is_taken = match operation & 0xf0 {
                        0x00 => true,
                        0x10 => registers[first] == operand,
                        0x50 => registers[first] != operand,
                        0x20 => registers[first] > operand,
                        0xb0 => registers[first] <= operand,
                        other => panic!("no such jump: {other:#x}"),
                    };
                    if is_taken {
                        at = usize::try_from(i64::try_from(at).unwrap() + offset).unwrap();
                    }
                }
                _ => registers[first] = compute(operation, registers[first], operand),
            }
        }
    }

    fn call(&mut self, which: u64, registers: &mut [u64; 11]) {
        let result = match which {
            1 => {
                let page = self.read(registers[2], 4);
                let place = registers[1] + page * PAGE_BYTES as u64;
                if self.find(place, PAGE_BYTES).is_some() { place } else { 0 }
            }
            113 => {
                let bytes = usize::try_from(registers[2]).unwrap();
                let copy = match self.find(registers[3], bytes) {
                    Some((start, at)) => self.memory[&start][at..at + bytes].to_vec(),
                    None => vec![0; bytes],
                };
                self.bytes(registers[1], bytes).copy_from_slice(&copy);
                0
            }
            other => panic!("no such call: {other}"),
        };
        registers[..6].fill(0xdead_beef);
        registers[0] = result;
    }
}

fn compute(operation: u8, value: u64, operand: u64) -> u64 {
    let shift = u32::try_from(operand & 63).unwrap();
    match operation & 0xf7 {
        0x07 => value.wrapping_add(operand),
        0x17 => value.wrapping_sub(operand),
        0x57 => value & operand,
        0x67 => value << shift,
        0x77 => value >> shift,
        0xb7 => operand,
        other => panic!("no such operation: {other:#x}"),
    }
}

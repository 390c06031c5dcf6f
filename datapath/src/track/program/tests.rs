//! Programs over made-up requests, against what they must mark.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::machine::Machine;
use super::*;
use crate::track::kernel::{PieceLayout, RequestLayout};
use crate::track::layout::{Bitmap, PAGE_WORDS};
use crate::track::marks::Marks;
use crate::unit::ChunkSize;

const REQUEST: u64 = 0x1000;
const QUEUE: u64 = 0x2000;
const DISK: u64 = 0x3000;
const PIECES: u64 = 0x10_0000;

const KERNEL: KernelLayout = KernelLayout {
    request: RequestLayout { owner: 0, flags: 24, sector: 48, bytes: 44, pieces: 56 },
    disk_of_queue: Some(96),
    disk_number: 16,
    piece: PieceLayout { next: 0, sector: 32, bytes: 40 },
};

/// A request: operation, and its pieces as sector and bytes.
#[derive(Clone, Debug)]
struct Request {
    operation: u32,
    pieces: Vec<(u64, u32)>,
}

fn purpose(event: Event, size_bytes: u64, chunk_bytes: u32, scattered_discards: bool) -> Purpose {
    let chunk_size = ChunkSize::new(chunk_bytes).unwrap();
    let device = DeviceNumber { major: 7, minor: 3 };
    Purpose { event, device, geometry: Geometry { size_bytes, chunk_size }, scattered_discards }
}

fn machine(purpose: &Purpose, device: DeviceNumber, request: &Request) -> Machine {
    let mut machine = Machine::new(purpose.geometry.pages().unwrap());
    let long =
        |bytes: &mut [u8], at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let word =
        |bytes: &mut [u8], at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let mut bytes = [0; 64];
    long(&mut bytes, 0, QUEUE);
    word(&mut bytes, 24, request.operation | 0x1200);
    word(&mut bytes, 44, request.pieces.iter().map(|(_, bytes)| bytes).sum());
    long(&mut bytes, 48, request.pieces.first().map_or(0, |piece| piece.0));
    long(&mut bytes, 56, if request.pieces.is_empty() { 0 } else { PIECES });
    machine.put(REQUEST, &bytes);
    let mut queue = [0; 128];
    long(&mut queue, 96, DISK);
    machine.put(QUEUE, &queue);
    let mut disk = [0; 64];
    word(&mut disk, 16, device.major);
    word(&mut disk, 20, device.minor);
    machine.put(DISK, &disk);
    for (index, (sector, bytes)) in (1..).zip(&request.pieces) {
        let mut piece = [0; 48];
        let is_last = index == request.pieces.len() as u64;
        long(&mut piece, 0, if is_last { 0 } else { PIECES + 64 * index });
        long(&mut piece, 32, *sector);
        word(&mut piece, 40, *bytes);
        machine.put(PIECES + 64 * (index - 1), &piece);
    }
    machine
}

fn run(purpose: Purpose, request: &Request) -> Machine {
    let mut machine = machine(&purpose, purpose.device, request);
    let code = program(&KERNEL, purpose, 5).unwrap();
    let bytes: u32 = request.pieces.iter().map(|(_, bytes)| bytes).sum();
    machine.run(&code, &[REQUEST, 0, u64::from(bytes)]);
    machine
}

fn marked(machine: &Machine, geometry: Geometry) -> BTreeSet<u64> {
    let end = geometry.pages().unwrap() as usize * PAGE_WORDS;
    let words: Vec<_> = (0..end).map(|word| AtomicU64::new(machine.map_word(word))).collect();
    Marks::new(&words, geometry).unwrap().copy(Bitmap::Dirty).iter().collect()
}

fn header(machine: &Machine, word: HeaderWord) -> u64 {
    machine.map_word(word as usize)
}

fn expected(request: &Request, geometry: Geometry) -> BTreeSet<u64> {
    let chunk = u64::from(geometry.chunk_size.bytes());
    let bounds = |(sector, bytes): &(u64, u32)| (sector * 512, sector * 512 + u64::from(*bytes));
    let placed = request.pieces.iter().map(bounds).filter(|(start, end)| start < end);
    placed.flat_map(|(start, end)| start / chunk..=(end - 1) / chunk).collect()
}

#[test]
fn reads_flushes_and_other_disks_leave_nothing() {
    for (operation, device) in [(0, 3), (2, 3), (32, 3), (34, 3), (1, 4)] {
        let purpose = purpose(Event::Completion, 1 << 30, 4096, false);
        let request = Request { operation, pieces: vec![(0, 4096)] };
        let mut machine = machine(&purpose, DeviceNumber { major: 7, minor: device }, &request);
        machine.run(&program(&KERNEL, purpose, 5).unwrap(), &[REQUEST, 0, 4096]);
        assert!((0..32).all(|word| machine.map_word(word) == 0), "operation {operation}");
        assert!(marked(&machine, purpose.geometry).is_empty());
    }
}

#[test]
fn what_has_no_place_is_counted_as_such() {
    for operation in [7, 10, 13, 15, 17, 33, 35] {
        let purpose = purpose(Event::Issue, 1 << 30, 4096, true);
        let machine = run(purpose, &Request { operation, pieces: vec![(0, 4096)] });
        assert_eq!(header(&machine, HeaderWord::UnknownWrites), 1, "operation {operation}");
        assert!(marked(&machine, purpose.geometry).is_empty());
    }
}

#[test]
fn a_write_past_the_end_is_out_of_range() {
    for piece in [(8, 512), (7, 1024), (u64::MAX, 512), (u64::MAX - 1, 4096), (1 << 60, 512)] {
        let purpose = purpose(Event::Issue, 4096, 4096, false);
        let machine = run(purpose, &Request { operation: 1, pieces: vec![piece] });
        assert_eq!(header(&machine, HeaderWord::OutOfRange), 1, "{piece:?}");
    }
}

#[test]
fn the_largest_discard_fits_every_chunk_size() {
    for shift in 12..=20 {
        for sector in [1, 8, 8 * 64 - 1, 8 * 1023] {
            let purpose = purpose(Event::Completion, 16 << 30, 1 << shift, true);
            let request = Request { operation: 3, pieces: vec![(sector, !511)] };
            let machine = run(purpose, &request);
            assert_eq!(header(&machine, HeaderWord::Overruns), 0);
            assert_eq!(header(&machine, HeaderWord::DiscardedSectors), (1 << 23) - 1);
            assert_eq!(marked(&machine, purpose.geometry), expected(&request, purpose.geometry));
        }
    }
}

#[test]
fn a_discard_of_too_many_pieces_is_told() {
    let purpose = purpose(Event::Completion, 16 << 30, 4096, true);
    for (count, overruns) in [(256, 0), (257, 1), (1200, 1)] {
        let pieces = (0..count).map(|piece| (piece * 4096, 4096)).collect();
        let request = Request { operation: 3, pieces };
        let machine = run(purpose, &request);
        assert_eq!(header(&machine, HeaderWord::Overruns), overruns, "{count} pieces");
        assert!(overruns > 0 || marked(&machine, purpose.geometry) == expected(&request, purpose.geometry));
    }
}

#[test]
fn an_old_kernel_names_the_disk_in_the_request() {
    let kernel = KernelLayout { disk_of_queue: None, ..KERNEL };
    let purpose = purpose(Event::Issue, 1 << 30, 4096, false);
    let request = Request { operation: 1, pieces: vec![(16, 4096)] };
    let mut machine = machine(&purpose, purpose.device, &request);
    let mut bytes = machine.memory[&REQUEST].clone();
    bytes[..8].copy_from_slice(&DISK.to_le_bytes());
    machine.put(REQUEST, &bytes);
    machine.run(&program(&kernel, purpose, 5).unwrap(), &[REQUEST]);
    assert_eq!(marked(&machine, purpose.geometry), BTreeSet::from([2]));
}

#[test]
fn structures_too_far_apart_are_no_program() {
    let request = RequestLayout { pieces: 4000, ..KERNEL.request };
    let kernel = KernelLayout { request, ..KERNEL };
    assert!(program(&kernel, purpose(Event::Issue, 1 << 30, 4096, false), 5).is_none());
}

proptest! {
    #[test]
    fn exactly_the_touched_chunks_are_marked(
        shift in 12_u32..=20,
        is_discard in any::<bool>(),
        is_issue in any::<bool>(),
        pieces in prop::collection::vec((0_u64..1 << 22, prop_oneof![1_u32..64, 1_u32..1 << 15]), 1..8),
    ) {
        // A request other than a discard is one run, whatever its pieces are.
        let pieces: Vec<_> = pieces.into_iter().map(|(sector, sectors)| (sector, sectors * 512)).collect();
        let request = if is_discard {
            Request { operation: 3, pieces }
        } else {
            Request { operation: [1, 5, 9][pieces.len() % 3], pieces: pieces[..1].to_vec() }
        };
        let event = if is_issue { Event::Issue } else { Event::Completion };
        let purpose = purpose(event, 1 << 33, 1 << shift, true);
        let machine = run(purpose, &request);
        prop_assert_eq!(marked(&machine, purpose.geometry), expected(&request, purpose.geometry));
        let events = if is_issue { HeaderWord::Issued } else { HeaderWord::Completed };
        prop_assert_eq!(header(&machine, events), 1);
        let sectors: u64 = request.pieces.iter().map(|piece| u64::from(piece.1 / 512)).sum();
        let counted = if is_discard { HeaderWord::DiscardedSectors } else { HeaderWord::WrittenSectors };
        prop_assert_eq!(header(&machine, counted), if is_issue { 0 } else { sectors });
        let flags = [HeaderWord::UnknownWrites, HeaderWord::OutOfRange, HeaderWord::Overruns];
        prop_assert!(flags.iter().all(|flag| header(&machine, *flag) == 0));
    }
}

//! Bytes that nobody wrote: an error or nothing, never a panic.

use proptest::prelude::*;

use super::{now, pair, point};
use crate::journal::field::Room;
use crate::journal::record::{FRAME_BYTES, Frame};
use crate::journal::{Before, Entry, Journal, LogPosition, Pair, Place, PointRecord, RecordKind, loose};
use crate::unit::{Digest, Epoch};

fn entry() -> impl Strategy<Value = Entry> {
    let place = (any::<u32>(), any::<u32>(), 0..1_u32 << 24, any::<bool>());
    let place = place.prop_map(|(segment, position, length, packed)| {
        Before::Stored(Place { segment, position, length, packed })
    });
    let before = prop_oneof![place, Just(Before::Zero), Just(Before::Told), Just(Before::Unkept)];
    let digests = (any::<[u8; 16]>(), proptest::option::of(any::<[u8; 16]>()));
    (any::<u32>(), before, digests).prop_map(|(chunk, before, (old, new))| Entry {
        chunk,
        before,
        old: Digest(old),
        new: new.map(Digest),
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), kind in 0_u8..7) {
        let _ = (Pair::decode(&bytes), PointRecord::decode(&bytes));
        let _ = (loose::record(&bytes, None), loose::leaf(&bytes, None), loose::table_header(&bytes, None, 0));
        bytes.resize(4096, 0);
        // Past the magic numbers, and with lengths that nearly fit.
        let mut room = Room::new(&mut bytes);
        room.put(b"FBRECORD");
        room.u8(1);
        room.u8(kind);
        room.u16(0);
        let _ = loose::record(&bytes, None);
        let length = u32::from(bytes[100]) + 80;
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        let _ = loose::record(&bytes, None);
        prop_assert!(loose::record(&bytes, Some(1)).is_none());
        bytes[..8].copy_from_slice(b"FBTABLE\0");
        let _ = loose::table_header(&bytes, None, 0);
        prop_assert!(loose::table_header(&bytes, Some(1), 0).is_err());
        bytes[14] = 0;
        bytes[15] = 1;
        bytes[12..14].copy_from_slice(&85_u16.to_le_bytes());
        let _ = loose::leaf(&bytes, None);
    }

    #[test]
    fn entries_come_back(entry in entry()) {
        let mut bytes = [0; 48];
        entry.encode(&mut bytes);
        prop_assert_eq!(Entry::decode(&bytes), Some(entry));
    }

    #[test]
    fn frames_come_back_and_no_bit_may_change(
        numbers in any::<[u32; 3]>(), long in any::<[u64; 6]>(), seed in any::<u64>(), flip in 0_usize..100 * 8,
    ) {
        let [segment, position, proven] = numbers;
        let [sequence, session, incarnation, epoch, previous, payload_checksum] = long;
        let at = LogPosition { segment, position, sequence, previous, session };
        let kind = RecordKind::Landed;
        let frame = Frame {
            kind, head_bytes: 100, payload_bytes: 0, at, proven, incarnation, epoch: Epoch(epoch), payload_checksum,
        };
        let mut bytes = vec![7; 100];
        let checksum = frame.seal(&mut bytes, seed);
        prop_assert_eq!(Frame::open(&bytes, seed), Some((frame, checksum, &[7; 100 - FRAME_BYTES][..])));
        bytes[flip / 8] ^= 1 << (flip % 8);
        prop_assert_eq!(Frame::open(&bytes, seed), None);
    }
}

#[test]
fn points_come_back_with_the_longest_name() {
    let journal = now(Journal::create(super::memory::Memory::default(), pair(10, 1 << 20))).expect("created");
    let mut record = point(&journal, 5);
    record.name = "n".repeat(256);
    record.kind = crate::journal::PointKind::Rewind { to: Epoch(3) };
    let bytes = record.encode().expect("fits");
    assert_eq!(PointRecord::decode(&bytes), Some(record.clone()));
    for cut in 0..bytes.len() {
        assert_eq!(PointRecord::decode(&bytes[..cut]), None);
    }
    record.name.push('n');
    assert_eq!(record.encode(), None);
}

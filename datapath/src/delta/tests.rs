//! Bytes of deltas, and what becomes of bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::limits;
use crate::unit::{Chain, ChunkSize, DeltaNumber, Digest, Epoch, Extent, Generation};

const SHAPE: Shape = Shape { disk_bytes: 100_000, chunk: ChunkSize::MIN, algorithm: DigestAlgorithm::Xxh3 };

const PLACE: Place = Place {
    generation: Generation { incarnation: 0x0102_0304_0506_0708, number: 9 },
    epoch: Epoch(10),
    number: DeltaNumber(11),
};

/// A digest for tests: obvious, and different for different bytes.
fn digest(bytes: &[u8]) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    Digest(digest)
}

fn sample() -> Filled {
    let mut filling = Filling::new(SHAPE);
    let chunk = [7_u8; 4096];
    filling.push_data(Extent::between(4096, 8192), &chunk, digest(&chunk)).unwrap();
    filling.push_zero(Extent::between(8192, 12_288)).unwrap();
    filling.push_zero(Extent::between(12_288, 20_480)).unwrap();
    let last = [8_u8; 100_000 - 98_304];
    filling.push_data(Extent::between(98_304, 100_000), &last, digest(&last)).unwrap();
    filling.close(PLACE).unwrap()
}

/// A change here breaks every peer and every spool.
#[test]
fn golden_bytes() {
    let bytes = sample().raw().encode();
    let mut golden = b"FBDELTA\x01\x00\x00\x0c\x00\x03\x00\x00\x00".to_vec();
    golden.extend([8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend([10, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend([0xa0, 0x16, 0, 0, 0xa0, 0x16, 0, 0, 0xa0, 0x86, 1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[..64], golden);
    let checksum = [147, 220, 193, 60, 153, 200, 89, 15, 79, 128, 49, 209, 137, 101, 99, 225];
    assert_eq!(bytes[64..80], checksum);
    let mut entry = [0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0].to_vec();
    entry.extend([0; 16]);
    assert_eq!(bytes[120..160], entry, "zeroes side by side are one entry");
    assert_eq!(bytes.len(), 80 + 3 * 40 + 0x16a0);
    assert_eq!(Packed::decode(&bytes).unwrap().encode(), bytes);
}

#[test]
fn golden_manifest_and_chain() {
    let manifest = Manifest::EMPTY.with(sample().head());
    let chain = Chain::next(Chain::START, PLACE.generation, PLACE.epoch, manifest);
    assert_eq!(
        Chain(manifest.0).to_string(),
        "8642785bbe9e42faa0272dbd39211bdfc5a0424375163754583cd69312b11b5c"
    );
    assert_eq!(chain.to_string(), "4166a3773a407f47dd176cbfe8b1bc078ea4063aea6bc86cd2a14d7cf6768316");
    let (packed, _) = sample().packed(Codec::Lz4, vec![0; 100]);
    assert_eq!(packed.codec(), Codec::Lz4);
    assert_eq!(Manifest::EMPTY.with(packed.head()), manifest, "packing is not part of it");
    assert_ne!(manifest.with(packed.head()), manifest);
}

#[test]
fn what_was_filled_opens_with_its_bytes() {
    let (head, payload) = sample().raw().into_parts();
    let opened = Packed::open(head, payload, digest).unwrap();
    let extents: Vec<_> =
        opened.entries().iter().map(|entry| (entry.extent, opened.bytes(entry).len())).collect();
    let expected = [
        (Extent::between(4096, 8192), 4096),
        (Extent::between(8192, 20_480), 0),
        (Extent::between(98_304, 100_000), 1696),
    ];
    assert_eq!(extents, expected);
}

#[test]
fn a_chunk_without_its_digest_is_never_opened() {
    let (head, mut payload) = sample().raw().into_parts();
    payload[4096] ^= 1;
    let error = Packed::open(head, payload, digest).unwrap_err();
    assert_eq!(error, Error::Damaged { place: PLACE, extent: Extent::between(98_304, 100_000) });
}

#[test]
fn a_delta_takes_no_more_than_its_limits() {
    let shape = Shape { disk_bytes: 1 << 40, ..SHAPE };
    let mut filling = Filling::new(shape);
    let chunk = [1; 4096];
    for index in 0..1024 {
        filling.push_data(shape.chunk.extent(index * 2, shape.disk_bytes), &chunk, digest(&chunk)).unwrap();
    }
    let next = shape.chunk.extent(4000, shape.disk_bytes);
    assert!(filling.push_data(next, &chunk, digest(&chunk)).is_err() && filling.push_zero(next).is_err());
    assert_eq!(filling.plain_bytes() as u64, u64::from(limits::DELTA_BYTES_MAX));
    let bytes = filling.close(PLACE).unwrap().raw().encode();
    assert!(Packed::decode(&bytes).is_ok());
}

#[test]
fn chunks_out_of_order_or_outside_the_disk_have_no_room() {
    let mut filling = Filling::new(SHAPE);
    filling.push_zero(Extent::between(8192, 12_288)).unwrap();
    for (start, end) in [(8192, 12_288), (4096, 8192), (12_288, 12_289), (98_304, 102_400), (0, 0)] {
        assert!(filling.push_zero(Extent::between(start, end)).is_err(), "{start}..{end}");
    }
    let two = [0; 8192];
    assert!(filling.push_data(Extent::between(16_384, 24_576), &two, digest(&two)).is_err());
    assert!(Filling::new(SHAPE).close(PLACE).is_none());
}

#[test]
fn each_rule_of_the_layout_is_held() {
    let bytes = sample().raw().encode();
    let decode = |bytes: &[u8]| Packed::decode(bytes).unwrap_err().to_string();
    for (at, value) in [(0, 0), (7, 2), (8, 9), (8, 1), (9, 7), (10, 11), (10, 21), (10, 255), (11, 1)] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        let reason = decode(&bytes);
        assert!(reason.contains("header") || reason.contains("damaged"), "{at}: {reason}");
    }
    for at in [12, 16, 40, 48, 52, 56, 64, 80, 96, 97, 119] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        assert!(Packed::decode(&bytes).is_err(), "{at}");
    }
    assert!(decode(&bytes[..bytes.len() - 1]).contains("bytes where"));
    assert!(decode(&bytes[..100]).contains("bytes where"));
    assert!(decode(&bytes[..10]).contains("shorter"));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Packed::decode(&bytes);
        let mut dressed = sample().raw().encode();
        for (at, byte) in bytes.iter().enumerate().take(200) {
            dressed[at] ^= byte & 1;
        }
        let _ = Packed::decode(&dressed);
    }

    #[test]
    fn what_is_filled_travels(chunks in prop::collection::btree_map(0_u64..25, any::<Option<u8>>(), 1..25)) {
        let mut filling = Filling::new(SHAPE);
        for (index, fill) in &chunks {
            let extent = SHAPE.chunk.extent(*index, SHAPE.disk_bytes);
            match fill {
                Some(fill) => {
                    let bytes = vec![*fill; usize::try_from(extent.length()).unwrap()];
                    filling.push_data(extent, &bytes, digest(&bytes)).unwrap();
                }
                None => filling.push_zero(extent).unwrap(),
            }
        }
        let sent = filling.close(PLACE).unwrap().raw();
        let received = Packed::decode(&sent.encode()).unwrap();
        prop_assert_eq!(&sent, &received);
        let (head, payload) = received.into_parts();
        let opened = Packed::open(head, payload, digest).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for entry in opened.entries() {
            for chunk in entry.extent.split_at_multiples(4096) {
                seen.insert(chunk.offset() / 4096, opened.bytes(entry).first().copied());
            }
        }
        prop_assert_eq!(seen, chunks);
    }
}

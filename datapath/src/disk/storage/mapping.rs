//! What a line of a device-mapper table says about the devices below.
//!
//! In: one line, as text. Out: [`Part`]s. A line that we do not read in full is
//! [`Part::Whole`]: all of the devices below count as used. Never: I/O.

use super::host::DeviceNumber;
use crate::sys::MappedLine;
use crate::unit::Extent;

/// Device-mapper tables count in sectors of this many bytes.
const MAPPER_SECTOR_BYTES: u64 = 512;

/// Where a piece of a mapped device lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The bytes `piece` of the mapped device are those of `device` from `offset` on.
    Straight {
        /// Bytes of the mapped device.
        piece: Extent,
        /// The device below.
        device: DeviceNumber,
        /// The byte of the device below at which the piece begins.
        offset: u64,
    },
    /// Some bytes of the mapped device are spread over `range` of `device`.
    Spread {
        /// The device below.
        device: DeviceNumber,
        /// All of its bytes that can be touched.
        range: Extent,
    },
    /// The mapped device has bytes somewhere in `device`, which gives other
    /// volumes other bytes: thin pools, and origins of snapshots.
    Allocated {
        /// The device below.
        device: DeviceNumber,
    },
    /// All of `device`.
    All {
        /// The device below.
        device: DeviceNumber,
    },
    /// No telling: all of all devices below.
    Whole,
}

/// The parts that one line of a table consists of.
pub(super) fn parts(line: &MappedLine<'_>) -> Vec<Part> {
    let words: Vec<&str> = line.parameters.split_ascii_whitespace().collect();
    read(line, &words).unwrap_or_else(|| vec![Part::Whole])
}

fn read(line: &MappedLine<'_>, words: &[&str]) -> Option<Vec<Part>> {
    let piece = Extent::new(bytes(line.start)?, bytes(line.length)?)?;
    let straight = |device: &str, offset: &str| {
        let (device, offset) = (DeviceNumber::parse(device)?, bytes(offset.parse().ok()?)?);
        Some(vec![Part::Straight { piece, device, offset }])
    };
    let allocated = |device: &str| Some(Part::Allocated { device: DeviceNumber::parse(device)? });
    match (line.kind, words) {
        ("linear", [device, offset]) => straight(device, offset),
        ("crypt", [_cipher, _key, _first_vector, device, offset, ..]) => straight(device, offset),
        ("striped", [count, _chunk, stripes @ ..]) => striped(piece, count.parse().ok()?, stripes),
        ("zero" | "error", _) => Some(Vec::new()),
        ("thin", [pool, _volume]) => Some(vec![allocated(pool)?]),
        // Reads of what the volume does not hold go to the external origin.
        ("thin", [pool, _volume, origin]) => {
            Some(vec![allocated(pool)?, Part::All { device: DeviceNumber::parse(origin)? }])
        }
        // The origin keeps its bytes, and the snapshot keeps the old ones in
        // its own store, so neither sees what is written to the other.
        ("snapshot-origin", [origin]) => Some(vec![allocated(origin)?]),
        ("snapshot", [origin, store, ..]) => {
            Some(vec![allocated(origin)?, Part::All { device: DeviceNumber::parse(store)? }])
        }
        _ => None,
    }
}

fn striped(piece: Extent, count: u64, stripes: &[&str]) -> Option<Vec<Part>> {
    let (pairs, rest) = stripes.as_chunks::<2>();
    if !rest.is_empty() || crate::unit::to_u64(pairs.len()) != count || count == 0 {
        return None;
    }
    let length = piece.length().div_ceil(count);
    pairs
        .iter()
        .map(|[device, offset]| {
            let range = Extent::new(bytes(offset.parse().ok()?)?, length)?;
            Some(Part::Spread { device: DeviceNumber::parse(device)?, range })
        })
        .collect()
}

fn bytes(sectors: u64) -> Option<u64> {
    sectors.checked_mul(MAPPER_SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(minor: u32) -> DeviceNumber {
        DeviceNumber { major: 7, minor }
    }

    fn parts_of(kind: &str, parameters: &str) -> Vec<Part> {
        parts(&MappedLine { start: 8, length: 16, kind, parameters })
    }

    #[test]
    fn lines_that_are_read_in_full() {
        let piece = Extent::between(4096, 12_288);
        assert_eq!(
            parts_of("linear", "7:1 2048"),
            [Part::Straight { piece, device: device(1), offset: 1 << 20 }]
        );
        assert_eq!(
            parts_of("crypt", "aes-xts-plain64 :64:logon:k 0 7:2 4096 1 allow_discards"),
            [Part::Straight { piece, device: device(2), offset: 2 << 20 }]
        );
        let range = Extent::between(0, 4096);
        assert_eq!(
            parts_of("striped", "2 128 7:0 0 7:1 0"),
            [Part::Spread { device: device(0), range }, Part::Spread { device: device(1), range }]
        );
        assert_eq!(parts_of("thin", "7:3 17"), [Part::Allocated { device: device(3) }]);
        assert_eq!(
            parts_of("snapshot", "7:0 7:1 P 8"),
            [Part::Allocated { device: device(0) }, Part::All { device: device(1) }]
        );
        assert!(parts_of("zero", "").is_empty());
    }

    #[test]
    fn all_else_counts_as_everything_below() {
        for (kind, parameters) in [
            ("raid", "raid1 3 0 region_size 1024 2 7:0 7:1 7:2 7:3"),
            ("linear", "7:1"),
            ("linear", "/dev/sda 0"),
            ("linear", "7:1 99999999999999999999"),
            ("linear", "7:1 36028797018963968"),
            ("striped", "3 128 7:0 0 7:1 0"),
            ("striped", "0 128"),
            ("striped", "2 128 7:0 0 7:1"),
            ("", ""),
        ] {
            assert_eq!(parts_of(kind, parameters), [Part::Whole], "{kind} {parameters}");
        }
    }
}

//! Packing extents for the network: compressed where it pays.

use lz4_flex::block;
use serde::{Deserialize, Serialize};

use super::link_rate::LinkRate;
use crate::delta::Codec;
use crate::error::{Remediable, Remedy};

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// lz4 while the link is slower than the codec and the data shrinks.
    #[default]
    Auto,
    /// lz4 for everything that shrinks.
    Lz4,
    /// zstd, level 3, for everything that shrinks: for slow links.
    Zstd,
    /// Nothing is compressed.
    None,
}

/// Below this part saved, packing and unpacking cost more than they save.
const WORTHWHILE_NUMERATOR: usize = 15;
const WORTHWHILE_DENOMINATOR: usize = 16;

const ZSTD_LEVEL: i32 = 3;

/// Packs extents, and learns in `auto` mode whether that pays.
pub struct Packer {
    compression: Compression,
    packed: Vec<u8>,
    /// Extents to send raw before trying again, after some that did not shrink.
    skip: u32,
    failures: u32,
    is_sparing: bool,
    link: LinkRate,
}

impl Packer {
    /// A packer for one lane.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        let is_sparing = compression == Compression::Auto;
        Self { compression, packed: Vec::new(), skip: 0, failures: 0, is_sparing, link: LinkRate::new(None) }
    }

    /// The same for a run that sends so many bytes a second at most.
    #[must_use]
    pub fn limited_to(self, rate_limit: Option<u64>) -> Self {
        Self { link: LinkRate::new(rate_limit), ..self }
    }

    /// The same for who must not wait: after some extents that did not shrink it
    /// tries one in 33, as `auto` does. What cannot shrink costs the most.
    #[must_use]
    pub fn sparing(self) -> Self {
        Self { is_sparing: true, ..self }
    }

    /// Tells the packer that the link took `bytes` in `elapsed` seconds.
    pub fn observe_link(&mut self, bytes: usize, elapsed_seconds: f64) {
        self.link.observe(bytes, elapsed_seconds);
    }

    /// Packs `bytes`: the codec used, and the packed bytes (`bytes` itself for [`Codec::Raw`]).
    pub fn pack<'a>(&'a mut self, bytes: &'a [u8]) -> (Codec, &'a [u8]) {
        let Some(codec) = self.choose() else { return (Codec::Raw, bytes) };
        let packed = match codec {
            Codec::Raw => None,
            Codec::Lz4 => self.pack_lz4(bytes),
            Codec::Zstd => self.pack_zstd(bytes),
        };
        let worthwhile = bytes.len() / WORTHWHILE_DENOMINATOR * WORTHWHILE_NUMERATOR;
        match packed {
            Some(length) if length <= worthwhile => {
                self.failures = 0;
                (codec, &self.packed[..length])
            }
            _ => {
                self.failures = self.failures.saturating_add(1);
                self.skip = 1 << self.failures.min(5);
                (Codec::Raw, bytes)
            }
        }
    }

    fn choose(&mut self) -> Option<Codec> {
        let wanted = match self.compression {
            Compression::None => return None,
            Compression::Auto if !self.link.is_slow() => return None,
            Compression::Auto | Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        };
        if self.is_sparing && self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some(wanted)
    }

    fn pack_lz4(&mut self, bytes: &[u8]) -> Option<usize> {
        self.packed.resize(block::get_maximum_output_size(bytes.len()), 0);
        block::compress_into(bytes, &mut self.packed).ok()
    }

    fn pack_zstd(&mut self, bytes: &[u8]) -> Option<usize> {
        self.packed.resize(zstd::zstd_safe::compress_bound(bytes.len()), 0);
        zstd::bulk::compress_to_buffer(bytes, &mut self.packed, ZSTD_LEVEL).ok()
    }
}

/// A payload that does not unpack to what its frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed extent of {packed_bytes} bytes does not unpack to {expected_bytes} bytes")]
pub struct UnpackError {
    /// Bytes received.
    pub packed_bytes: usize,
    /// Bytes that its frame announced.
    pub expected_bytes: usize,
}

impl Remediable for UnpackError {
    fn remedy(&self) -> Remedy {
        Remedy::Reconnect
    }
}

/// Unpacks `packed` into exactly `into`.
///
/// # Errors
/// [`UnpackError`] where the payload is damaged or unpacks to another size.
/// `into` bounds what is written, whatever the payload claims.
pub fn unpack(codec: Codec, packed: &[u8], into: &mut [u8]) -> Result<(), UnpackError> {
    let expected_bytes = into.len();
    let unpacked = match codec {
        Codec::Raw if packed.len() == expected_bytes => {
            into.copy_from_slice(packed);
            Some(expected_bytes)
        }
        Codec::Raw => None,
        Codec::Lz4 => block::decompress_into(packed, into).ok(),
        Codec::Zstd => zstd::bulk::decompress_to_buffer(packed, into).ok(),
    };
    if unpacked == Some(expected_bytes) {
        Ok(())
    } else {
        Err(UnpackError { packed_bytes: packed.len(), expected_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(length: usize) -> Vec<u8> {
        b"the quick brown fox ".iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn text_shrinks_and_comes_back() {
        for (compression, codec) in [(Compression::Lz4, Codec::Lz4), (Compression::Zstd, Codec::Zstd)] {
            let bytes = text(100_000);
            let mut packer = Packer::new(compression);
            let (used, packed) = packer.pack(&bytes);
            assert_eq!(used, codec);
            assert!(packed.len() < 10_000);
            let mut back = vec![0; bytes.len()];
            assert_eq!(unpack(used, packed, &mut back), Ok(()));
            assert!(back == bytes);
        }
    }

    #[test]
    fn a_sparing_packer_soon_leaves_alone_what_does_not_shrink_and_finds_what_does() {
        let mut packer = Packer::new(Compression::Lz4).sparing();
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..4096).map(|_| noise()).collect();
        (0..200).for_each(|_| assert_eq!(packer.pack(&noise).0, Codec::Raw));
        let raw = (0..100).take_while(|_| packer.pack(&text(4096)).0 == Codec::Raw).count();
        assert!(raw <= 32, "{raw} extents that shrink were sent as they are");
        assert!((0..100).all(|_| packer.pack(&text(4096)).0 == Codec::Lz4));
    }

    #[test]
    fn auto_is_off_on_a_fast_link_and_on_for_a_slow_one() {
        let bytes = text(65_536);
        let mut packer = Packer::new(Compression::Auto);
        assert_eq!(packer.pack(&bytes).0, Codec::Raw, "not measured yet");
        let observe = |packer: &mut Packer, frames: usize, seconds| {
            (0..frames).for_each(|_| packer.observe_link(1 << 20, seconds));
        };
        observe(&mut packer, 4, 0.000_5);
        assert_eq!(packer.pack(&bytes).0, Codec::Raw);
        observe(&mut packer, 16, 0.1);
        assert_eq!(packer.pack(&bytes).0, Codec::Raw, "a target that holds it up is no slow link");
        observe(&mut packer, 32, 0.1);
        assert_eq!(packer.pack(&bytes).0, Codec::Lz4);
        observe(&mut packer, 4, 0.000_5);
        assert_eq!(packer.pack(&bytes).0, Codec::Raw, "and back");
    }

    #[test]
    fn auto_is_on_from_the_first_byte_where_the_user_makes_the_link_slow() {
        let bytes = text(65_536);
        let codec = |compression, rate| Packer::new(compression).limited_to(Some(rate)).pack(&bytes).0;
        assert_eq!(codec(Compression::Auto, 10 << 20), Codec::Lz4);
        assert_eq!(codec(Compression::Auto, 10 << 30), Codec::Raw);
        assert_eq!(codec(Compression::None, 10 << 20), Codec::Raw);
    }

    proptest! {
        #[test]
        fn hostile_payloads_never_panic(packed in prop::collection::vec(any::<u8>(), 0..2000), size in 0_usize..5000) {
            for codec in [Codec::Raw, Codec::Lz4, Codec::Zstd] {
                let _ = unpack(codec, &packed, &mut vec![0; size]);
            }
        }

        #[test]
        fn what_is_packed_unpacks(bytes in prop::collection::vec(0_u8..4, 0..20_000)) {
            for compression in [Compression::Lz4, Compression::Zstd, Compression::None] {
                let mut packer = Packer::new(compression);
                let (codec, packed) = packer.pack(&bytes);
                let mut back = vec![0; bytes.len()];
                prop_assert_eq!(unpack(codec, packed, &mut back), Ok(()));
                prop_assert!(back == bytes);
            }
        }
    }
}

//! From the chunks of a delta to its packed form, and back to verified chunks.

use super::{Digester, Packer, UnpackError, unpack};
use crate::delta::{self, Codec, Filled, Opened, Packed};
use crate::error::{Remediable, Remedy};
use crate::unit::to_usize;

/// Packs a delta as `packer` finds worthwhile. Also memory that it left over,
/// for [`delta::Filling::with_memory`].
#[must_use]
pub fn seal(filled: Filled, packer: &mut Packer) -> (Packed, Vec<u8>) {
    let (codec, packed) = packer.pack(filled.plain());
    if codec == Codec::Raw {
        return (filled.raw(), Vec::new());
    }
    let packed = packed.to_vec();
    filled.packed(codec, packed)
}

/// Unpacks a delta into `memory` and verifies every chunk of it. Also the memory
/// that it left over.
///
/// # Errors
/// [`UnsealError`]: nothing of this delta may be written.
pub fn unseal(
    packed: Packed,
    digester: &Digester,
    mut memory: Vec<u8>,
) -> Result<(Opened, Vec<u8>), UnsealError> {
    let codec = packed.codec();
    let (head, mut payload) = packed.into_parts();
    if codec == Codec::Raw {
        std::mem::swap(&mut payload, &mut memory);
    } else {
        memory.resize(to_usize(u64::from(head.header().plain_bytes)), 0);
        unpack(codec, &payload, &mut memory)?;
    }
    let opened = Packed::open(head, memory, |bytes| digester.digest(bytes))?;
    Ok((opened, payload))
}

/// A delta that does not hold what was read at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// It does not unpack.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A chunk does not have its digest.
    #[error(transparent)]
    Delta(#[from] delta::Error),
}

impl Remediable for UnsealError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Unpack(error) => error.remedy(),
            Self::Delta(error) => error.remedy(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compression, DigestAlgorithm};
    use super::*;
    use crate::delta::{Error, Filling, Place, Shape};
    use crate::unit::{ChunkSize, DeltaNumber, Epoch, Extent, Generation};

    fn filled(digester: &Digester) -> Filled {
        let shape = Shape { disk_bytes: 1 << 20, chunk: ChunkSize::MIN, algorithm: DigestAlgorithm::Xxh3 };
        let mut filling = Filling::new(shape);
        for index in [1, 5, 7] {
            let bytes = vec![u8::try_from(index).unwrap(); 4096];
            let extent = shape.chunk.extent(index, shape.disk_bytes);
            filling.push_data(extent, &bytes, digester.digest(&bytes)).unwrap();
        }
        let generation = Generation { incarnation: 1, number: 1 };
        filling.close(Place { generation, epoch: Epoch(1), number: DeltaNumber(1) }).unwrap()
    }

    #[test]
    fn a_delta_is_packed_and_comes_back_verified() {
        let digester = Digester::new(DigestAlgorithm::Xxh3, [3; 32]);
        for (compression, codec) in [
            (Compression::None, Codec::Raw),
            (Compression::Lz4, Codec::Lz4),
            (Compression::Zstd, Codec::Zstd),
        ] {
            let (packed, _) = seal(filled(&digester), &mut Packer::new(compression));
            assert_eq!(packed.codec(), codec);
            let packed = Packed::decode(&packed.encode()).unwrap();
            let (opened, _) = unseal(packed, &digester, vec![1; 10]).unwrap();
            let bytes: Vec<_> = opened.entries().iter().map(|entry| opened.bytes(entry)[4095]).collect();
            assert_eq!(bytes, [1, 5, 7]);
        }
    }

    #[test]
    fn other_bytes_or_another_key_are_damage() {
        let digester = Digester::new(DigestAlgorithm::Xxh3, [3; 32]);
        let (packed, _) = seal(filled(&digester), &mut Packer::new(Compression::Zstd));
        let mut bytes = packed.encode();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x10;
        assert!(unseal(Packed::decode(&bytes).unwrap(), &digester, Vec::new()).is_err());
        let stranger = Digester::new(DigestAlgorithm::Xxh3, [4; 32]);
        let error = unseal(packed, &stranger, Vec::new()).unwrap_err();
        assert!(
            matches!(error, UnsealError::Delta(Error::Damaged { extent, .. }) if extent == Extent::between(4096, 8192))
        );
    }
}

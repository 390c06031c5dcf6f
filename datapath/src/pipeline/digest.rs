//! Digests of chunks, and of lists of digests.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::delta::DigestAlgorithm;
use crate::unit::Digest;

/// Makes the digests of one run. Both sides hold the same key, so that equal
/// chunks have equal digests in this run and in no other.
#[derive(Clone)]
pub struct Digester {
    algorithm: DigestAlgorithm,
    key: [u8; 32],
}

impl Digester {
    /// A digester for a run with this key.
    #[must_use]
    pub const fn new(algorithm: DigestAlgorithm, key: [u8; 32]) -> Self {
        Self { algorithm, key }
    }

    /// The key, for the other end of a run.
    #[must_use]
    pub const fn key(&self) -> [u8; 32] {
        self.key
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        match self.algorithm {
            DigestAlgorithm::Xxh3 => Digest(xxh3_128_with_seed(bytes, self.seed()).to_le_bytes()),
            DigestAlgorithm::Blake3 => {
                let mut digest = [0; Digest::BYTES];
                digest.copy_from_slice(&blake3::keyed_hash(&self.key, bytes).as_bytes()[..Digest::BYTES]);
                Digest(digest)
            }
        }
    }

    /// The digest of the digests of a range, in the order of its chunks.
    #[must_use]
    pub fn fold(&self, digests: &[Digest]) -> Digest {
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
        self.digest(&bytes)
    }

    fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        seed.copy_from_slice(&self.key[..8]);
        u64::from_le_bytes(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_algorithm_key_and_bytes() {
        let bytes = [7_u8; 4096];
        let with = |algorithm, key| Digester::new(algorithm, [key; 32]).digest(&bytes);
        let all = [
            with(DigestAlgorithm::Xxh3, 1),
            with(DigestAlgorithm::Xxh3, 2),
            with(DigestAlgorithm::Blake3, 1),
            with(DigestAlgorithm::Blake3, 2),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one));
        }
        assert_eq!(with(DigestAlgorithm::Xxh3, 1), with(DigestAlgorithm::Xxh3, 1));
    }

    #[test]
    fn xxh3_is_the_published_one() {
        // XXH3_128bits of no bytes with seed 0, from the xxHash specification's test vectors.
        let empty = Digester::new(DigestAlgorithm::Xxh3, [0; 32]).digest(&[]);
        assert_eq!(u128::from_le_bytes(empty.0), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}

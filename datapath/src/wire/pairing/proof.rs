//! Proofs of knowing a token's secret, worth nothing outside their connection.
//!
//! In: the secret, and what both sides know of their TLS connection. Out: a
//! proof, or whether a proof holds. Invariants: a proof covers the connection's
//! exported keying material and both certificates, so it cannot be relayed into
//! another connection or spent for another certificate; a server's proof is no
//! client's; comparison takes the same time wherever the difference lies.
//! Never: puts the secret or the key into a message or a `Debug` text.
//!
//! ```text
//! key   = HMAC-SHA256(secret, "failback-pair/1 key")
//! proof = HMAC-SHA256(key, "failback-pair/1 client" or "failback-pair/1 server",
//!                     exporter (32 bytes, label "EXPORTER-failback-pair-1", no context),
//!                     client's fingerprint (32), server's fingerprint (32))
//! ```

use aws_lc_rs::hmac;

use super::token::Secret;
use crate::wire::identity::Fingerprint;

/// The label under which TLS exports keying material for pairing.
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-failback-pair-1";
const KEY_CONTEXT: &[u8] = b"failback-pair/1 key";

/// Which side makes a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prover {
    Client,
    Server,
}

impl Prover {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Client => b"failback-pair/1 client",
            Self::Server => b"failback-pair/1 server",
        }
    }
}

/// What a server keeps of a token's secret, enough to check and to make proofs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u8; Self::BYTES]);

impl Key {
    pub(super) const BYTES: usize = 32;

    pub(super) fn derive(secret: &Secret) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0), KEY_CONTEXT);
        Self(tag_bytes(&tag))
    }
}

/// The two sides of one TLS connection, as both of them see it.
#[derive(Clone, Copy)]
pub(super) struct Binding {
    pub(super) exporter: [u8; 32],
    pub(super) client: Fingerprint,
    pub(super) server: Fingerprint,
}

/// A proof as it travels.
pub(super) type Proof = [u8; PROOF_BYTES];
pub(super) const PROOF_BYTES: usize = 32;

impl Binding {
    pub(super) fn prove(&self, key: &Key, prover: Prover) -> Proof {
        tag_bytes(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), &self.message(prover)))
    }

    /// Whether `proof` is the one that `prover` makes; in constant time.
    pub(super) fn holds(&self, key: &Key, prover: Prover, proof: &Proof) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), &self.message(prover), proof).is_ok()
    }

    fn message(&self, prover: Prover) -> Vec<u8> {
        [prover.context(), &self.exporter, self.client.as_bytes(), self.server.as_bytes()].concat()
    }
}

fn tag_bytes(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            exporter: [1; 32],
            client: Fingerprint::from_bytes([2; 32]),
            server: Fingerprint::from_bytes([3; 32]),
        }
    }

    #[test]
    fn a_proof_holds_for_its_own_connection_side_and_secret_alone() {
        let key = Key::derive(&Secret([9; 32]));
        let proof = binding().prove(&key, Prover::Client);
        assert!(binding().holds(&key, Prover::Client, &proof));
        assert!(!binding().holds(&key, Prover::Server, &proof));
        assert!(!binding().holds(&Key::derive(&Secret([8; 32])), Prover::Client, &proof));
        let others = [
            Binding { exporter: [7; 32], ..binding() },
            Binding { client: Fingerprint::from_bytes([7; 32]), ..binding() },
            Binding { server: Fingerprint::from_bytes([7; 32]), ..binding() },
        ];
        assert!(others.iter().all(|other| !other.holds(&key, Prover::Client, &proof)));
    }

    /// The expected values were computed with Python's `hmac`.
    #[test]
    fn the_proofs_stay_what_they_were() {
        let key = Key::derive(&Secret([9; 32]));
        let golden = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(golden(&key.0), "692faed80f2dbe282bd07997f49dd69d3e2507766ec1f174623e4662042effca");
        assert_eq!(
            golden(&binding().prove(&key, Prover::Client)),
            "7c3fb2b383c153e12aeb6dfe64f0d8c26dfaeec1c62d236feed780436bd8a079"
        );
        assert_eq!(
            golden(&binding().prove(&key, Prover::Server)),
            "afd2b3066528a92743487c4cba038d2104dc4a9dab07817b828c4777098670e7"
        );
    }
}

//! What a session asks of the target that it serves.

use std::future::Future;

use crate::delta::{DigestAlgorithm, Manifest, Opened, Shape};
use crate::pipeline::Digester;
use crate::role::{LandingError, Pair};
use crate::unit::{Chain, DeltaNumber, Digest, Epoch, Extent};
use crate::wire::{Cut, Position};

/// Where a target stands.
#[derive(Clone)]
pub struct Standing {
    /// Generation, open epoch, last durable delta.
    pub position: Position,
    /// Of the open epoch, up to there.
    pub manifest: Manifest,
    /// At the newest point.
    pub chain: Chain,
    /// The newest point.
    pub newest: Option<Epoch>,
    /// The disk.
    pub shape: Shape,
    /// The key of its digests.
    pub key: [u8; 32],
    /// Where the pair stands without an agent.
    pub rest: Pair,
}

/// What looking after a journal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Points that were given up, oldest first.
    pub expired: Vec<Epoch>,
    /// What an operator should look at: what it is about, and why.
    pub alarm: Option<(&'static str, String)>,
}

impl Standing {
    /// Makes the digests of this pair.
    #[must_use]
    pub const fn digester(&self) -> Digester {
        Digester::new(self.algorithm(), self.key)
    }

    const fn algorithm(&self) -> DigestAlgorithm {
        self.shape.algorithm
    }
}

/// A target with its journal, as a session needs it. The seam between the wire
/// and the landing: a model in memory stands here in tests.
pub trait Landing {
    /// Where it stands.
    fn standing(&self) -> Standing;

    /// Notes durably that the disk is about to be compared as a whole.
    fn begin_synchronization(&mut self) -> impl Future<Output = Result<(), LandingError>>;

    /// For each chunk of `window` whether it differs from these digests. What it
    /// does not want is durable.
    fn want(
        &mut self,
        window: Extent,
        digests: &[Digest],
    ) -> impl Future<Output = Result<Vec<bool>, LandingError>>;

    /// Takes deltas that follow each other in.
    fn land(&mut self, deltas: &[Opened]) -> impl Future<Output = Result<(), LandingError>>;

    /// Makes durable what landed, and says up to which delta that is.
    fn checkpoint(&mut self) -> impl Future<Output = Result<DeltaNumber, LandingError>>;

    /// Makes the open epoch a point, if it is what the cut says; gives the head of
    /// the chain. Asked again for a point that exists it says the same.
    fn cut(&mut self, cut: &Cut) -> impl Future<Output = Result<Chain, LandingError>>;

    /// Gives points up that are too old or for which there is no space, and does
    /// the work on its journal that can wait.
    fn tend(&mut self) -> impl Future<Output = Result<Tended, LandingError>>;

    /// Its agent is gone: the target is left to itself.
    fn leave(&mut self) -> impl Future<Output = Result<(), LandingError>>;

    /// Takes nothing more, durably, if `epoch` is its newest point and a final one.
    fn fence(&mut self, epoch: Epoch) -> impl Future<Output = Result<(), LandingError>>;
}

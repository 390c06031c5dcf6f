//! A new pair: its target is taken, its journal made, and nothing is overwritten.

use super::replicas::{HOLDER, KeptReplica, Replicas, unready};
use super::{PairName, Visitor};
use crate::disk::{self, Disk, Purpose, RingDisk, WriteMark};
use crate::journal::{Directory, Pair, PairState, RetentionPolicy, SecretKey, Volume};
use crate::landing::replica::Replica;
use crate::limits;
use crate::resync::NewImage;
use crate::role::Error;
use crate::unit::Generation;

/// Segments of a journal on a small volume, in bytes: each holds a batch.
const SEGMENT_BYTES_MIN: u64 = 8 << 20;

/// A journal has room for this many segments, or smaller ones: expiry gives
/// space back by whole segments.
const SEGMENTS_MIN: u64 = 16;

impl Replicas {
    /// Makes a pair for the disk that its agent describes.
    pub(super) async fn create(&self, pair: &PairName, visitor: &Visitor) -> Result<KeptReplica, Error> {
        let protect = &visitor.protect;
        let (target, create) = (self.assigned(pair)?.target, self.assigned(pair)?.create);
        let folder = self.folder(pair);
        let mark = self.mark(pair)?;
        if mark.as_ref().is_some_and(|owner| owner.has_journal) {
            // Its points are of a target that must not be overwritten without them.
            let reason = format!(
                "its journal is not in {}: is the retention volume mounted? Nothing was changed. \
                 Where it is lost for good, take the pair away first: `failback master-target remove {pair}`",
                folder.display()
            );
            return Err(unready(pair)(reason));
        }
        let mut made = match create {
            Some(create) => NewImage::make(&target, create, protect.size_bytes).map_err(unready(pair))?,
            None => NewImage::default(),
        };
        let disk = disk::open(&target, Purpose::Target).map_err(unready(pair))?;
        if disk.size_bytes() != protect.size_bytes {
            return Err(Error::Unfit {
                peer: protect.machine.clone(),
                reason: format!(
                    "disk {} has {} bytes and its target {} has {}: give the target the size of the disk",
                    protect.disk,
                    protect.size_bytes,
                    target.display(),
                    disk.size_bytes()
                ),
            });
        }
        self.claim(pair, &disk)?;
        let directory = Directory::open(&folder, HOLDER).map_err(unready(pair))?;
        // Half a journal is there after a crash, and then the target is marked.
        if mark.is_none() && !directory.names().map_err(unready(pair))?.is_empty() {
            let reason = format!("{} is not empty and holds no journal: empty it first", folder.display());
            return Err(unready(pair)(reason));
        }
        let (identity, owner) = (disk.identity().clone(), self.owner(pair, &disk));
        let ownership = self.state.own(&identity, &owner).map_err(unready(pair))?;
        let files = directory.clone();
        match self.make(pair, visitor, disk, directory).await {
            Ok(kept) => {
                made.keep();
                self.state.own(&identity, &owner.with_journal()).map_err(unready(pair))?;
                Ok(kept)
            }
            Err(error) => {
                clear(&files).map_err(unready(pair))?;
                ownership.release().map_err(unready(pair))?;
                Err(error)
            }
        }
    }

    async fn make(
        &self,
        name: &PairName,
        visitor: &Visitor,
        disk: Disk,
        directory: Directory,
    ) -> Result<KeptReplica, Error> {
        let protect = &visitor.protect;
        disk.allocate().map_err(unready(name))?.iter().for_each(|notice| self.notice(notice));
        let free_bytes = directory.free_bytes().map_err(unready(name))?;
        let pair = Pair {
            generation: Generation { incarnation: u64::from_le_bytes(random(name)?), number: 1 },
            machine: name.machine().to_owned(),
            machine_identity: protect.machine_identity.clone(),
            machine_key: visitor.key.to_string(),
            disk: name.disk().to_owned(),
            target_identity: disk.identity().to_string(),
            target_path: disk.path().display().to_string(),
            size_bytes: protect.size_bytes,
            chunk_size: protect.chunk,
            digest_algorithm: protect.digest,
            key: SecretKey(random(name)?),
            state: PairState::Initial,
            pins: std::collections::BTreeSet::new(),
            segment_bytes: segment_bytes(&self.policy, free_bytes, protect.size_bytes),
            target_writes: WriteMark::default(),
            exact_from: None,
            awaits_comparison: false,
        };
        let disk = RingDisk::new(self.noticed(disk));
        let replica = Replica::create(disk, directory, pair).await.map_err(|error| {
            // Who has points gives it room until the agent comes again.
            error.needed_bytes().into_iter().for_each(|bytes| self.room.ask(bytes));
            unready(name)(error)
        })?;
        Ok(self.keep(replica))
    }
}

/// Takes away what is left of a journal that could not be made: the next attempt
/// is to find nothing that it would have to respect.
fn clear(directory: &Directory) -> std::io::Result<()> {
    let names = directory.names()?;
    if !names.iter().any(|name| name == Pair::FILE) {
        names.iter().try_for_each(|name| directory.remove(name))?;
    }
    Ok(())
}

/// Segments that are small beside what a journal may take, and no larger than
/// the disk.
fn segment_bytes(policy: &RetentionPolicy, free_bytes: u64, disk_bytes: u64) -> u32 {
    let room = policy.used_bytes_max.unwrap_or(u64::MAX).min(free_bytes);
    let fits = (room / SEGMENTS_MIN)
        .min(disk_bytes)
        .clamp(SEGMENT_BYTES_MIN, u64::from(limits::JOURNAL_SEGMENT_BYTES));
    u32::try_from(fits / 4096 * 4096).unwrap_or(limits::JOURNAL_SEGMENT_BYTES)
}

fn random<const N: usize>(pair: &PairName) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let filled = aws_lc_rs::rand::fill(&mut bytes);
    filled.map_err(|_| unready(pair)("the system has no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_small_beside_what_a_journal_may_take() {
        let policy = |most| RetentionPolicy { used_bytes_max: most, ..RetentionPolicy::default() };
        let (small, large) = (1 << 20, 1 << 40);
        assert_eq!(segment_bytes(&policy(None), 1 << 40, large), limits::JOURNAL_SEGMENT_BYTES);
        assert_eq!(segment_bytes(&policy(Some(1 << 30)), 1 << 40, large), 64 << 20);
        assert_eq!(segment_bytes(&policy(None), 100 << 20, large), 8 << 20);
        assert_eq!(segment_bytes(&policy(None), 1 << 40, small), 8 << 20);
        assert_eq!(segment_bytes(&policy(None), (256 << 20) + 12_345, large) % 4096, 0);
    }
}

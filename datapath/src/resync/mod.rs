//! Bringing two disks together: first copy and later differences.
//!
//! In: a source, a target, the settings of a run. Out: a target that holds what
//! the source held, a report, or a failure that says what state the target is
//! in. Invariants: nothing is written before both disks were checked and the
//! target was marked; the mark goes only after the last flush (and the
//! verification, where asked for); what an interrupted run left is trusted only
//! where the bytes or their digests agree. Never: opens a disk, prints.
//! Limits: `limits::DIGEST_CREDIT_WINDOWS`, and 16 bytes a segment to verify.
//!
//! ```text
//! local:    source ─read─┐
//!                        ├─compare─> runs ─> Writer ─> target
//!           target ─read─┘
//! ```

mod error;
mod initiate;
mod lane_progress;
mod local;
mod new_image;
mod pull;
mod push;
mod relay;
mod report;
mod runs;
mod segment_digests;
mod serve;
mod settings;
mod source;
mod target;
mod target_run;
mod verify;
mod view;

pub use error::{Error, Failure, TargetState};
pub use local::synchronize;
pub use new_image::NewImage;
pub use pull::pull;
pub use push::push;
pub use relay::relay;
pub use report::Report;
pub use runs::{Fate, Run, runs};
pub use serve::{Export, Exports, ServeEvent, Server};
pub use settings::{Phase, Settings, Watch};

use error::first_error;
use initiate::{attend, carry_lane, facts, full_name};
use segment_digests::SegmentDigests;

use std::path::Path;
use std::sync::Arc;

use crate::disk::{self, Disk, Purpose};
use crate::landing::StateDirectory;
use crate::pipeline::Digester;
use crate::telemetry::Notice;
use crate::wire::{Create, DiskFacts};

/// The pools of a lane of a source: its windows.
const SOURCE_POOLS: [usize; 1] = [1];

/// The pools of a lane of a target: its windows to compare, and data to land.
const TARGET_POOLS: [usize; 2] = [3, 2];

/// A digester with a key of this run's own, so that no digest of it can be
/// prepared or used again.
fn new_digester(settings: &Settings) -> Result<Digester, Error> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::Random(std::io::ErrorKind::Other.into()))?;
    Ok(Digester::new(settings.digest, key))
}

/// Checks that `target` can take what `source` holds, and tells what is worth knowing.
fn check_pair(
    source: &Arc<Disk>,
    target: &Arc<Disk>,
    settings: &Settings,
    watch: &Watch,
) -> Result<(), Error> {
    check_kind(&facts(target), settings)?;
    check_facts(&facts(source), &facts(target), watch)?;
    for notice in target.notices() {
        watch.notice(notice.clone());
    }
    announce_source(source, settings, watch)
}

/// Refuses a target that is the source by another name. Asked before the target
/// is opened as one: the source's own claim on it would keep us out, and would
/// be taken for somebody else's.
///
/// # Errors
/// [`Error::SameStorage`]. A target that cannot be looked at is no matter here:
/// opening it says why.
pub fn check_apart(source: &Disk, target: &Path) -> Result<(), Error> {
    let Ok(target) = disk::open(target, Purpose::Inspection) else { return Ok(()) };
    same_storage(&facts(source), &facts(&target))
}

/// Refuses a target that is there and is not what the user asked for.
fn check_kind(target: &DiskFacts, settings: &Settings) -> Result<(), Error> {
    match settings.format.map(Create::kind) {
        Some(wanted) if wanted != target.kind => {
            Err(Error::OtherKind { target: target.name.clone(), found: target.kind, wanted })
        }
        _ => Ok(()),
    }
}

fn same_storage(source: &DiskFacts, target: &DiskFacts) -> Result<(), Error> {
    source.storage.overlap(&target.storage).map_or(Ok(()), |overlap| {
        let (source_name, target) = (source.name.clone(), target.name.clone());
        Err(Error::SameStorage { source_name, target, overlap: overlap.to_string() })
    })
}

/// Checks what the two ends say of their disks.
fn check_facts(source: &DiskFacts, target: &DiskFacts, watch: &Watch) -> Result<(), Error> {
    same_storage(source, target)?;
    watch.set_size(source.size_bytes);
    check_sizes(&source.name, source.size_bytes, &target.name, target.size_bytes, watch)
}

fn check_sizes(
    source_name: &str,
    source: u64,
    target_name: &str,
    target: u64,
    watch: &Watch,
) -> Result<(), Error> {
    if target < source {
        return Err(Error::TargetSmaller {
            target: target_name.to_owned(),
            target_bytes: target,
            source_name: source_name.to_owned(),
            source_bytes: source,
        });
    }
    if target > source {
        let text = format!(
            "{target_name} is larger by {} bytes; what lies past the source's end stays as it is",
            target - source
        );
        watch.notice(Notice::new("larger-target", text));
    }
    Ok(())
}

/// Tells what is worth knowing of a source; one that is itself an unfinished
/// target holds half a disk.
fn announce_source(source: &Disk, settings: &Settings, watch: &Watch) -> Result<(), Error> {
    watch.set_size(source.size_bytes());
    for notice in source_notices(source, &settings.state)? {
        watch.notice(notice);
    }
    Ok(())
}

fn source_notices(source: &Disk, state: &StateDirectory) -> Result<Vec<Notice>, Error> {
    let mut notices = source.notices().to_vec();
    if let Some(mark) = state.mark(source.identity())? {
        notices.push(Notice::new("unfinished-source", mark.warning(source.path())));
    }
    let owner = state.owner(source.identity(), source.size_bytes())?;
    if let Some(text) = owner.and_then(|(_, owner)| owner.warning(source.path())) {
        notices.push(Notice::new("owned-source", text));
    }
    Ok(notices)
}

/// The notice of a run that goes on from where another stopped.
fn resuming(target: &str, cursor_bytes: u64) -> Notice {
    let text = format!(
        "{target}: an earlier run stopped at byte {cursor_bytes}; what lies before is compared again, not copied"
    );
    Notice::new("resuming", text)
}

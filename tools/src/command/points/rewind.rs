//! `points rewind` and `points commit`: under the journal's lock, by this command itself.

use failback_datapath::error::{Remediable, Remedy};
use failback_datapath::landing::replica::{self, OnForeignWrites};
use indicatif::BinaryBytes;
use serde_json::json;

use super::progress::Progress;
use super::{Place, Which};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Takes a target to a point.
pub fn rewind(
    place: &Place,
    pair: &str,
    which: &Which,
    foreign: OnForeignWrites,
    output: &Output,
) -> Result<(), Failed> {
    let desk = place.desk(pair, output)?;
    desk.work(async |kept| {
        let point = desk.point(which, kept.replica().journal())?;
        let progress = Progress::new(output, "rewound");
        let replica = kept.replica();
        replica.set_on_foreign_writes(foreign);
        replica.watch_restoration(move |done, of| progress.show(done, of));
        replica.rewind(point.epoch).await.map_err(failed)?;
        let rewound = replica.journal().newest_point().map_or(0, |newest| newest.epoch.0);
        output.line(
            &format!(
                "{}: holds point {} now, as point {rewound}; every other point stays within reach until \
                 `failback points commit {}`",
                desk.name, point.epoch, desk.name
            ),
            || json!({"event": "rewound", "pair": pair, "to": point.epoch, "epoch": rewound}),
        );
        Ok(())
    })
}

/// Says what a rewind would do.
pub fn rehearse(
    place: &Place,
    pair: &str,
    which: &Which,
    foreign: OnForeignWrites,
    output: &Output,
) -> Result<(), Failed> {
    let desk = place.desk(pair, output)?;
    desk.look(async |seen| {
        let point = desk.point(which, seen.journal())?;
        seen.set_on_foreign_writes(foreign);
        let bytes = seen.rehearse_rewind(point.epoch).await.map_err(failed)?;
        output.line(
            &format!(
                "{}: {} would be looked at, and what differs put back as it was at point {}; there is room for it",
                desk.name,
                BinaryBytes(bytes),
                point.epoch
            ),
            || json!({"event": "would-rewind", "pair": pair, "to": point.epoch, "bytes": bytes}),
        );
        Ok(())
    })
}

/// Settles on what a target holds.
pub fn commit(place: &Place, pair: &str, foreign: OnForeignWrites, output: &Output) -> Result<(), Failed> {
    let desk = place.desk(pair, output)?;
    desk.work(async |kept| {
        let generation = kept.replica().commit(foreign).await.map_err(failed)?;
        output.line(
            &format!(
                "{}: committed; generation {generation} begins, and its target is free to be run",
                desk.name
            ),
            || json!({"event": "committed", "pair": pair, "generation": generation.to_string()}),
        );
        Ok(())
    })
}

/// How a command ends at this error of a replica.
pub fn failed(error: replica::Error) -> Failed {
    let exit = match error.remedy() {
        Remedy::Refused | Remedy::Resync | Remedy::Reconnect => Exit::Refused,
        // Found out before anything was changed.
        _ if error.is_full() => Exit::Refused,
        Remedy::Retry | Remedy::Stop => Exit::Failed,
    };
    (exit, error.to_string())
}

//! `failback demo`: the whole of it on a disk made for the purpose.
//!
//! ```text
//! cloud: source.img ─loop─ ext4 ══ sync over TLS on loopback ══> home: home.vmdk, home-flat.vmdk
//!        files, then changes      all, then what differs              ─loop, read-only─ fsck, files
//! ```
//!
//! Then, as root, the same machine under live protection: see `live`.
//!
//! Everything lies in one temporary folder. Whatever is mounted, attached or
//! started belongs to a guard, so that an error, a panic or a signal takes the
//! same way out as success.

pub mod arguments;

mod attachment;
mod change;
mod compare;
mod error;
mod hosts;
mod live;
mod machine;
mod program;
mod record;
mod stage;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use failback_datapath::pipeline::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

pub use arguments::Demo;
use error::Error;
use hosts::Hosts;
use record::Record;
use stage::Stage;

use crate::exit::Exit;
use crate::output::{Output, Style};

/// Runs the command.
pub fn run(arguments: &Demo) -> Exit {
    let output = Output::new(Style::choose(arguments.json, false));
    let cancel = match cancel_on_signals() {
        Ok(cancel) => cancel,
        Err(error) => return output.error(Exit::Failed, &format!("cannot handle signals: {error}"), None),
    };
    let start = Instant::now();
    match perform(arguments, cancel, &output) {
        Ok(record) => {
            output.line(&record.text(start.elapsed()), || record.event(start.elapsed()));
            Exit::Success
        }
        Err(error) => output.error(error.exit(), &error.to_string(), None),
    }
}

/// A request to stop. Unlike elsewhere a second signal does not end the program
/// at once: what is mounted and attached has to go first, which takes no longer
/// than the guards' limits.
fn cancel_on_signals() -> io::Result<Cancel> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(Cancel::from_flag(asked))
}

/// Plays the demo, and takes away what it made.
fn perform(arguments: &Demo, cancel: Cancel, output: &Output) -> Result<Record, Error> {
    let keep = arguments.keep.as_deref();
    keep.map_or(Ok(()), stage::prepare_keep)?;
    let elsewhere = std::env::temp_dir();
    let stage = Stage::new(keep.unwrap_or(&elsewhere), arguments.size, cancel, output)?;
    let played = play(&stage);
    // What was kept of a demo that failed may say why; of one that was stopped it
    // says nothing.
    let keep = keep.filter(|_: &&Path| !matches!(played, Err(Error::Interrupted)));
    match (played, stage.clear(keep)) {
        (Ok(()), Ok(record)) => {
            record.tell_last(output);
            Ok(record)
        }
        (Ok(()), Err(error)) => Err(error),
        (Err(error), cleared) => {
            match (cleared, keep) {
                (Ok(_), Some(keep)) => output.warn(&format!("the images are in {}", keep.display())),
                (Ok(_), None) => {}
                // The first error is the one to see; what stays is told as well.
                (Err(another), _) => output.warn(&another.to_string()),
            }
            Err(error)
        }
    }
}

fn play(stage: &Stage<'_>) -> Result<(), Error> {
    let mut machine = machine::make(stage)?;
    machine.fill(stage)?;
    let hosts = stage.step("pair hosts", || Hosts::pair(stage))?;
    stage.step("first copy", || hosts.bring_home(machine.disk(), stage))?;
    machine.change(stage)?;
    stage.step("second sync", || hosts.bring_home(machine.disk(), stage))?;
    hosts.stop()?;
    machine.inspect(stage)?;
    machine.protect(stage)?;
    machine.put_away()
}

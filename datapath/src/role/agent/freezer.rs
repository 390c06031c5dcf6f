//! The machine's filesystems, frozen by a watchdog process: a thread holds the
//! freeze for as long as it lasts, so that a cut, a person who wants it thawed and
//! the end of the agent reach it alike.
//!
//! ```text
//! coordinator ─┐                        at rest ── Prepare ──> prepared ── Freeze ──> frozen
//! thaw by hand ┴── Ask (one at a time) ──>  ▲                      │                     │
//!                                           └──────── Thaw, or what went wrong ──────────┘
//! ```

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel as asks;

use super::cut::Freezer;
use crate::disk::storage::DeviceNumber;
use crate::limits;
use crate::quiesce::{Error, FreezePlan, Frozen, Limit, Prepared, SUBCOMMAND, Watchdog};

/// How a machine is frozen.
#[derive(Clone, Debug)]
pub struct FreezerSettings {
    /// The folder of the freeze record, in memory.
    pub run: PathBuf,
    /// How long a cut may stop writers.
    pub budget: Duration,
    /// Do everything but power the machine off.
    pub rehearse: bool,
}

/// What is asked of the thread, each with a place for the answer.
enum Ask {
    Prepare(Vec<DeviceNumber>, asks::Sender<Result<(), String>>),
    Freeze(Limit, asks::Sender<Result<Instant, String>>),
    Confirm(asks::Sender<bool>),
    Thaw(asks::Sender<bool>),
    PowerOff(asks::Sender<Result<(), String>>),
}

/// Freezes the filesystems on a machine's protected disks; cheap to clone, one
/// freeze for all clones. Whatever is frozen is thawed with the last of them.
#[derive(Clone)]
pub struct Standstill {
    asks: asks::Sender<Ask>,
    budget: Duration,
    /// The disks; they come and go.
    disks: Arc<Mutex<Vec<DeviceNumber>>>,
}

impl Standstill {
    /// Starts the thread, and the watchdog with it.
    ///
    /// # Errors
    /// [`Error::NoWatchdog`] and others of [`Watchdog::start`].
    pub fn start(settings: FreezerSettings) -> Result<Self, Error> {
        let budget = settings.budget;
        let watchdog = start_watchdog(&settings)?;
        let (asks, asked) = asks::bounded(1);
        let keeper = Keeper { settings, watchdog: Some(watchdog), asked };
        thread::Builder::new()
            .name("freezer".to_owned())
            .spawn(move || keeper.run())
            .map_err(|source| Error::NoWatchdog { source })?;
        Ok(Self { asks, budget, disks: Arc::default() })
    }

    /// Freezes what rests on these disks from now on.
    pub fn watch_over(&self, disks: Vec<DeviceNumber>) {
        *self.disks.lock().unwrap_or_else(PoisonError::into_inner) = disks;
    }

    /// Asks, and waits for the answer.
    fn ask<T>(&self, within: Duration, ask: impl FnOnce(asks::Sender<T>) -> Ask) -> Result<T, Silent> {
        let until = Instant::now() + within;
        let (answer, answered) = asks::bounded(1);
        self.asks.send_timeout(ask(answer), within).map_err(|error| match error {
            asks::SendTimeoutError::Timeout(_) => Silent::Late { within },
            asks::SendTimeoutError::Disconnected(_) => Silent::Gone,
        })?;
        answered.recv_deadline(until).map_err(|error| match error {
            asks::RecvTimeoutError::Timeout => Silent::Late { within },
            asks::RecvTimeoutError::Disconnected => Silent::Gone,
        })
    }

    /// Whether everything is frozen still.
    pub(super) fn look(&self) -> Result<bool, Silent> {
        self.ask(limits::FREEZER_ANSWERS_WITHIN, Ask::Confirm)
    }

    /// Thaws; whether it was frozen until now.
    pub(super) fn end(&self) -> Result<bool, Silent> {
        self.ask(limits::FREEZER_ANSWERS_WITHIN, Ask::Thaw)
    }
}

/// The thread that freezes does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silent {
    /// By a defect.
    #[error("the thread that freezes has ended; start the agent again")]
    Gone,
    /// The kernel has not come back from a filesystem, or from its disk.
    #[error(
        "freezing or thawing has not answered within {within:?}: a filesystem or its disk hangs (see the kernel's \
         log); the watchdog thaws by itself, and there is no cut until it answers again"
    )]
    Late {
        /// How long it was waited for.
        within: Duration,
    },
}

impl Freezer for Standstill {
    fn prepare(&mut self) -> Result<(), String> {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.ask(limits::FREEZE_PREPARED_WITHIN, |answer| Ask::Prepare(disks, answer))
            .unwrap_or_else(|silent| Err(silent.to_string()))
    }

    fn freeze(&mut self, hold: bool) -> Result<Instant, String> {
        let (limit, longest) = if hold {
            (Limit::Hold(limits::FREEZE_HOLD_MAX), limits::FREEZE_HOLD_MAX)
        } else {
            (Limit::Budget(self.budget), self.budget)
        };
        self.ask(longest + limits::FREEZER_ANSWERS_WITHIN, |answer| Ask::Freeze(limit, answer))
            .unwrap_or_else(|silent| Err(silent.to_string()))
    }

    fn holds(&mut self) -> bool {
        self.look().unwrap_or(false)
    }

    fn thaw(&mut self) -> bool {
        self.end().unwrap_or(false)
    }

    fn power_off(&mut self) -> Result<(), String> {
        self.ask(limits::FREEZER_ANSWERS_WITHIN, Ask::PowerOff)
            .unwrap_or_else(|silent| Err(silent.to_string()))
    }
}

fn start_watchdog(settings: &FreezerSettings) -> Result<Watchdog, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND);
    if settings.rehearse {
        command.arg("--rehearse");
    }
    Watchdog::start_as(command, &settings.run)
}

impl Ask {
    /// The answer while nothing is prepared or frozen.
    fn decline(self) {
        let nothing = || "nothing is frozen".to_owned();
        // Whoever asked may have given up waiting.
        match self {
            Self::Prepare(_, answer) => drop(answer.send(Err("a freeze is under way".to_owned()))),
            Self::Freeze(_, answer) => drop(answer.send(Err("nothing was prepared".to_owned()))),
            Self::Confirm(answer) | Self::Thaw(answer) => {
                let _gone = answer.send(false);
            }
            Self::PowerOff(answer) => drop(answer.send(Err(nothing()))),
        }
    }
}

/// The thread, with all that it holds.
struct Keeper {
    settings: FreezerSettings,
    /// Started anew where one was lost.
    watchdog: Option<Watchdog>,
    asked: asks::Receiver<Ask>,
}

impl Keeper {
    fn run(mut self) {
        while let Ok(ask) = self.asked.recv() {
            match ask {
                Ask::Prepare(disks, answer) => {
                    let asked = self.asked.clone();
                    if let Err(error) = self.cut(&disks, &answer, &asked) {
                        // What is lost is ended; another one is started for the next cut.
                        if matches!(error, Error::WatchdogLost { .. } | Error::StillFrozen { .. }) {
                            self.watchdog = None;
                        }
                        drop(answer.send(Err(error.to_string())));
                    }
                }
                other => other.decline(),
            }
        }
    }

    /// From the preparation to the thaw.
    fn cut(
        &mut self,
        disks: &[DeviceNumber],
        answer: &asks::Sender<Result<(), String>>,
        asked: &asks::Receiver<Ask>,
    ) -> Result<(), Error> {
        let watchdog = match self.watchdog.take() {
            Some(watchdog) => watchdog,
            None => start_watchdog(&self.settings)?,
        };
        let watchdog = self.watchdog.insert(watchdog);
        let prepared = FreezePlan::of(disks)?.prepare(watchdog)?;
        drop(answer.send(Ok(())));
        while_prepared(prepared, asked)
    }
}

fn while_prepared(mut prepared: Prepared<'_>, asked: &asks::Receiver<Ask>) -> Result<(), Error> {
    loop {
        match asked.recv() {
            Ok(Ask::Prepare(_, answer)) => match prepared.write_out() {
                Ok(()) => drop(answer.send(Ok(()))),
                Err(error) => {
                    drop(answer.send(Err(error.to_string())));
                    return Err(error);
                }
            },
            Ok(Ask::Freeze(limit, answer)) => return freeze(prepared, limit, &answer, asked),
            // Whatever else is asked gives the freeze up.
            Ok(other) => {
                drop(prepared);
                other.decline();
                return Ok(());
            }
            Err(asks::RecvError) => return Ok(()),
        }
    }
}

fn freeze(
    prepared: Prepared<'_>,
    limit: Limit,
    answer: &asks::Sender<Result<Instant, String>>,
    asked: &asks::Receiver<Ask>,
) -> Result<(), Error> {
    let begun = Instant::now();
    match prepared.freeze(limit) {
        // Nobody waits for it any more: it is thawed at once.
        Ok(frozen) if answer.send(Ok(begun)).is_err() => frozen.thaw().map(drop),
        Ok(frozen) => while_frozen(frozen, asked),
        Err(error) => {
            drop(answer.send(Err(error.to_string())));
            Err(error)
        }
    }
}

fn while_frozen(mut frozen: Frozen<'_>, asked: &asks::Receiver<Ask>) -> Result<(), Error> {
    while let Ok(ask) = asked.recv() {
        match ask {
            Ask::Confirm(answer) => {
                let holds = frozen.confirm();
                let _gone = answer.send(matches!(holds, Ok(true)));
                // Over for good; what a watchdog that is lost had frozen is undone.
                if !holds? {
                    return Ok(());
                }
            }
            Ask::Thaw(answer) => {
                let thawed = frozen.thaw();
                let _gone = answer.send(thawed.as_ref().is_ok_and(|thawed| thawed.still_valid));
                return thawed.map(drop);
            }
            Ask::PowerOff(answer) => match frozen.power_off() {
                Ok(rehearsed) => {
                    frozen = rehearsed;
                    drop(answer.send(Ok(())));
                }
                Err(error) => {
                    drop(answer.send(Err(error.to_string())));
                    return Err(error);
                }
            },
            other => other.decline(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standstill() -> (Standstill, asks::Receiver<Ask>) {
        let (asks, asked) = asks::bounded(1);
        (Standstill { asks, budget: Duration::from_secs(1), disks: Arc::default() }, asked)
    }

    #[test]
    fn nobody_waits_for_ever_for_a_thread_that_hangs() {
        let (standstill, asked) = standstill();
        let within = Duration::from_millis(1);
        let late = Err(Silent::Late { within });
        assert_eq!(standstill.ask(within, Ask::Confirm), late, "it takes the question and hangs");
        assert_eq!(standstill.ask(within, Ask::Thaw), late, "it takes no question");
        assert!(Silent::Late { within }.to_string().contains("hangs"));
        drop(asked);
        assert_eq!(standstill.end(), Err(Silent::Gone));
    }

    #[test]
    fn what_was_asked_too_early_is_declined() {
        let (mut standstill, asked) = standstill();
        let keeper = thread::spawn(move || asked.iter().for_each(Ask::decline));
        assert!(standstill.prepare().is_err_and(|reason| reason.contains("under way")));
        assert!(standstill.freeze(true).is_err() && standstill.power_off().is_err());
        assert!(!standstill.holds() && !standstill.thaw());
        drop(standstill);
        keeper.join().expect("it ends with the last who asks");
    }
}

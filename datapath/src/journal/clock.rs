//! The time, as far as it may be believed: a point that is dropped for its age by a
//! clock that is wrong is lost all the same.
//!
//! ```text
//! Unwatched ──what passed is plausible, or the kernel calls its clock synchronized──> Agreed
//! Agreed    ──wall and running clock went on alike──> Agreed, from now on
//! ```
//!
//! Whatever else is seen leaves the watch as it was: expiry by age is paused until
//! the wall clock is where it should be, or whoever looked at it accepts it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{limits, sys};

/// The time, twice: by the wall clock, which may be set, and by one that only
/// runs (`CLOCK_BOOTTIME`, which counts sleep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds of Unix time.
    pub wall_unix_ms: u64,
    /// Milliseconds since this boot.
    pub running_ms: u64,
    /// Whether the kernel was told that its wall clock is right, by a daemon that
    /// compares it with others.
    pub is_synchronized: bool,
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now() -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let running = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
        let running = running.map(Duration::from).unwrap_or_default();
        Self {
            wall_unix_ms: milliseconds(wall),
            running_ms: milliseconds(running),
            is_synchronized: sys::clock_is_synchronized(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Expiry by age is paused: raise an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paused {
    /// The wall clock jumped by so many milliseconds against the running one.
    ClockJumped {
        /// Forward is positive.
        by_ms: i64,
    },
    /// Nobody watched the clocks for a while, and the wall clock stands so many
    /// milliseconds off what was seen to pass.
    ClockUnproven {
        /// Forward is positive.
        by_ms: i64,
    },
}

impl std::fmt::Display for Paused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ClockJumped { by_ms } => write!(f, "the wall clock jumped by {} s", by_ms / 1000),
            Self::ClockUnproven { by_ms } => write!(
                f,
                "the wall clock stands {} s off where it was last known to be right, and nothing says that this host \
                 was off for that long",
                by_ms / 1000
            ),
        }?;
        f.write_str(
            ": no point is dropped for its age until the clock is right or synchronized again, or `failback \
             master-target accept-clock` says that it is right",
        )
    }
}

/// A moment of the past at which the wall clock was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Believed {
    /// Its time by the wall clock, in milliseconds of Unix time.
    pub wall_unix_ms: u64,
    /// The same moment by the clock that only runs; zero is where this boot began.
    pub running_ms: u64,
}

impl Believed {
    /// By how much more the wall clock went on since then than the running one.
    fn off_ms(self, now: Clock) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let wall = signed(now.wall_unix_ms).saturating_sub(signed(self.wall_unix_ms));
        let running = signed(now.running_ms).saturating_sub(signed(self.running_ms));
        wall.saturating_sub(running)
    }

    /// What the time should be at `now`, by the clock that only runs.
    fn at(self, now: Clock) -> Self {
        let passed = now.running_ms.saturating_sub(self.running_ms);
        Self { wall_unix_ms: self.wall_unix_ms.saturating_add(passed), running_ms: now.running_ms }
    }
}

/// Watches the wall clock by the running one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockWatch {
    /// There is nothing that a wrong clock could do harm to.
    #[default]
    New,
    /// Both were believed at this moment of this boot.
    Agreed(Believed),
    /// The wall clock was right then; the host may have been off since.
    Unwatched {
        /// When.
        since: Believed,
        /// For how long it may have been off without being asked about it.
        off_ms_max: u64,
    },
}

impl ClockWatch {
    /// Nobody watched since then. Off for an unknown time, a host may take what
    /// passed for more than it was: by as much as points then go too early,
    /// which is little beside `keep_seconds`.
    #[must_use]
    pub fn unwatched(since: Believed, keep_seconds: u64) -> Self {
        let little = keep_seconds.saturating_mul(1000) / 4;
        Self::Unwatched { since, off_ms_max: little.min(milliseconds(limits::HOST_OFF_MAX)) }
    }

    /// Whether the wall clock may be believed at `now`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn look(&mut self, now: Clock) -> Result<(), Paused> {
        let jump = i64::try_from(limits::CLOCK_JUMP_MAX.as_millis()).unwrap_or(i64::MAX);
        match *self {
            Self::New => {}
            Self::Agreed(at) => {
                let by_ms = at.off_ms(now);
                if by_ms.saturating_abs() > jump {
                    return Err(Paused::ClockJumped { by_ms });
                }
            }
            Self::Unwatched { since, off_ms_max } => {
                let by_ms = since.off_ms(now);
                let most = i64::try_from(off_ms_max).unwrap_or(i64::MAX).max(jump);
                if !now.is_synchronized && !(-jump..=most).contains(&by_ms) {
                    return Err(Paused::ClockUnproven { by_ms });
                }
            }
        }
        self.accept(now);
        Ok(())
    }

    /// Believes the wall clock from `now` on: whoever looked says it is right.
    pub const fn accept(&mut self, now: Clock) {
        *self = Self::Agreed(Believed { wall_unix_ms: now.wall_unix_ms, running_ms: now.running_ms });
    }

    /// What is known of the time at `now` whatever the wall clock says.
    #[must_use]
    pub fn known(&self, now: Clock) -> Option<Believed> {
        match self {
            Self::New => None,
            Self::Agreed(at) | Self::Unwatched { since: at, .. } => Some(at.at(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY_SECONDS: u64 = 24 * 3600;

    fn at(wall_unix_ms: u64, running_ms: u64) -> Clock {
        Clock { wall_unix_ms, running_ms, is_synchronized: false }
    }

    fn unwatched(wall_unix_ms: u64, running_ms: u64) -> ClockWatch {
        ClockWatch::unwatched(Believed { wall_unix_ms, running_ms }, DAY_SECONDS)
    }

    #[test]
    fn a_jump_is_a_jump_until_the_clock_is_right_or_accepted() {
        let mut watch = ClockWatch::New;
        watch.look(at(100 * HOUR, 5)).expect("there is nothing to compare with");
        watch.look(at(101 * HOUR, HOUR)).expect("both went on");
        for wall in [131 * HOUR, 71 * HOUR] {
            let jumped = watch.look(Clock { is_synchronized: true, ..at(wall, HOUR) });
            assert!(matches!(jumped, Err(Paused::ClockJumped { .. })), "{jumped:?}");
        }
        let mut right = watch;
        right.look(at(102 * HOUR, 2 * HOUR)).expect("it is right again");
        watch.accept(at(131 * HOUR, HOUR));
        watch.look(at(132 * HOUR, 2 * HOUR)).expect("it was accepted");
    }

    #[test]
    fn what_passed_while_nobody_watched_must_be_plausible() {
        let booted = HOUR / 20;
        let off = |by: u64| unwatched(100 * HOUR, 0).look(at(100 * HOUR + booted + by, booted));
        off(0).expect("it was not off");
        off(HOUR / 4).expect("a long boot");
        assert!(matches!(off(30 * HOUR), Err(Paused::ClockUnproven { by_ms }) if by_ms == 30 * 3_600_000));
        let back = unwatched(100 * HOUR, 0).look(at(70 * HOUR, booted));
        assert!(matches!(back, Err(Paused::ClockUnproven { by_ms }) if by_ms < -29 * 3_600_000), "{back:?}");
        let synchronized = Clock { is_synchronized: true, ..at(130 * HOUR, booted) };
        unwatched(100 * HOUR, 0).look(synchronized).expect("the kernel knows");
    }

    #[test]
    fn little_is_little_beside_what_is_kept() {
        let since = Believed { wall_unix_ms: HOUR, running_ms: 0 };
        let mut watch = ClockWatch::unwatched(since, 20 * 60);
        assert!(watch.look(at(HOUR + 6 * 60_000, 0)).is_err(), "more than a quarter of it");
        watch.look(at(HOUR + 4 * 60_000, 0)).expect("less");
    }

    #[test]
    fn a_doubt_does_not_pass_with_time() {
        let mut watch = unwatched(100 * HOUR, 0);
        for hours in 0..50 {
            assert!(watch.look(at((130 + hours) * HOUR, hours * HOUR)).is_err());
        }
        let known = watch.known(at(180 * HOUR, 50 * HOUR)).expect("something");
        assert_eq!((known.wall_unix_ms, known.running_ms), (150 * HOUR, 50 * HOUR));
    }
}

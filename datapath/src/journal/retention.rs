//! Which points are kept: by age, by space, and never by a clock that jumps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::unit::Epoch;

/// The time, twice: by the wall clock, which may be set, and by one that only
/// runs (`CLOCK_BOOTTIME`, which counts sleep).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds of Unix time.
    pub wall_unix_ms: u64,
    /// Milliseconds since some moment of this boot.
    pub running_ms: u64,
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now() -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let running = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
        let running = running.map(Duration::from).unwrap_or_default();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { wall_unix_ms: ms(wall), running_ms: ms(running) }
    }
}

/// For how long points are kept, and at which price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// A point older than this goes, unless it is the newest or pinned.
    pub keep_seconds: u64,
    /// Points go, oldest first, while less than this is free on the volume.
    pub free_bytes_min: u64,
    /// Points go, oldest first, while the journal takes more than this.
    pub used_bytes_max: Option<u64>,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { keep_seconds: 24 * 3600, free_bytes_min: 0, used_bytes_max: None }
    }
}

/// What an expiry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Points that are gone, oldest first.
    pub points: Vec<Epoch>,
    /// Why points were kept that age would have taken.
    pub paused: Option<Paused>,
    /// The volume is below its floor, and no point could be given up for it:
    /// what is left is the newest, or pinned from here on.
    pub short_of_space: bool,
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
    /// The wall clock stands before the newest point.
    ClockBehind {
        /// By so many milliseconds.
        by_ms: u64,
    },
}

impl std::fmt::Display for Paused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ClockJumped { by_ms } => write!(f, "the wall clock jumped by {} s", by_ms / 1000),
            Self::ClockBehind { by_ms } => {
                write!(f, "the wall clock is {} s behind the newest recovery point", by_ms / 1000)
            }
        }?;
        f.write_str(": no point is dropped for its age until the clock is right again or accepted")
    }
}

/// How far a pair's journal has filled the retention volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Segments.
    pub segment_bytes: u64,
    /// Indexes.
    pub index_bytes: u64,
    /// Digest file.
    pub digest_bytes: u64,
    /// Left in the segment that is written.
    pub tail_bytes: u64,
    /// Free on the volume.
    pub free_bytes: u64,
}

impl Space {
    /// All that the journal takes.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.segment_bytes + self.index_bytes + self.digest_bytes
    }
}

/// Watches the wall clock by the running one.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// A moment at which both were believed.
    agreed: Option<Clock>,
}

impl ClockWatch {
    /// Whether the wall clock may be believed at `now`.
    pub fn look(&mut self, now: Clock, newest_unix_ms: u64) -> Result<(), Paused> {
        let most = i64::try_from(limits::CLOCK_JUMP_MAX.as_millis()).unwrap_or(i64::MAX);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        if let Some(agreed) = self.agreed {
            let wall = signed(now.wall_unix_ms).saturating_sub(signed(agreed.wall_unix_ms));
            let running = signed(now.running_ms).saturating_sub(signed(agreed.running_ms));
            let by_ms = wall.saturating_sub(running);
            if by_ms.saturating_abs() > most {
                return Err(Paused::ClockJumped { by_ms });
            }
        }
        let behind = newest_unix_ms.saturating_sub(now.wall_unix_ms);
        if signed(behind) > most {
            return Err(Paused::ClockBehind { by_ms: behind });
        }
        self.agreed = Some(now);
        Ok(())
    }

    /// The last moment at which it was believed.
    pub const fn agreed(&self) -> Option<Clock> {
        self.agreed
    }

    /// Believes the wall clock from `now` on.
    pub const fn accept(&mut self, now: Clock) {
        self.agreed = Some(now);
    }
}

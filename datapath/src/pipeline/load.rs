//! Limits on what an agent takes from the machine that it protects.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::Throttle;
use crate::limits;
use crate::sys::{self, IoPriority};

/// Shorter pauses cost more than they save.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// A longer pause would hold up a cut.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// How long an idle time counts in favour of a busy one.
const MEMORY: Duration = Duration::from_secs(1);

/// What an agent may take at most. The default is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadLimits {
    /// Bytes a second that are read from protected disks.
    pub read_bytes_per_second: Option<u64>,
    /// How its reads rank among those of others.
    pub io_priority: Option<IoPriority>,
    /// Niceness of its threads, 0..=19.
    pub niceness: Option<u8>,
    /// Percent of one core, of all its threads together; may be above 100.
    pub cpu_percent: Option<u16>,
}

/// The limits at work; cheap to clone, one limit for all clones.
#[derive(Clone, Default)]
pub struct Load {
    limits: LoadLimits,
    reading: Throttle,
    duty: Option<Arc<Mutex<DutyCycle>>>,
}

impl Load {
    /// Begins to count.
    #[must_use]
    pub fn new(limits: LoadLimits) -> Self {
        let reading = Throttle::new(limits.read_bytes_per_second);
        let percent = limits.cpu_percent.filter(|percent| *percent > 0);
        let duty = percent.map(|percent| DutyCycle::new(percent, Instant::now(), cpu_time()));
        Self { limits, reading, duty: duty.map(|duty| Arc::new(Mutex::new(duty))) }
    }

    /// Ranks the calling thread; every lane does this once, when it begins.
    ///
    /// # Errors
    /// Where the kernel refuses. The thread then runs as any other.
    pub fn rank_thread(&self) -> io::Result<()> {
        if let Some(niceness) = self.limits.niceness {
            sys::rank_cpu(niceness)?;
        }
        self.limits.io_priority.map_or(Ok(()), sys::rank_io)
    }

    /// Waits until `bytes` may be read. Not for the reads within a freeze.
    pub async fn admit(&self, bytes: u64) {
        self.reading.admit(bytes).await;
        if let Some(pause) = self.pause(Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }

    /// The same in small pieces, so that whoever else reads comes between them:
    /// one who reads a few chunks does not wait for windows of another.
    pub async fn admit_in_turns(&self, bytes: u64) {
        let piece = u64::from(limits::CHUNK_BYTES);
        let mut left = bytes;
        while left > 0 {
            self.admit(left.min(piece)).await;
            left = left.saturating_sub(piece);
        }
    }

    fn pause(&self, now: Instant) -> Option<Duration> {
        let mut duty = self.duty.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        duty.pause(now, cpu_time())
    }
}

/// CPU time against time.
#[derive(Debug)]
struct DutyCycle {
    percent: u16,
    since: Instant,
    cpu_since: Duration,
}

impl DutyCycle {
    fn new(percent: u16, now: Instant, cpu: Duration) -> Self {
        Self { percent, since: now, cpu_since: cpu }
    }

    /// How long to rest after `cpu` was used up until `now`.
    fn pause(&mut self, now: Instant, cpu: Duration) -> Option<Duration> {
        let used = cpu.saturating_sub(self.cpu_since);
        let earned_by = self.since + used * 100 / u32::from(self.percent);
        match earned_by.checked_duration_since(now) {
            Some(rest) if rest >= PAUSE_MIN => Some(rest.min(PAUSE_MAX)),
            _ => {
                if now.saturating_duration_since(earned_by) > MEMORY {
                    *self = Self::new(self.percent, now, cpu);
                }
                None
            }
        }
    }
}

/// What all threads of this process have used.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_share_of_a_core_is_kept_over_time() {
        let start = Instant::now();
        let mut duty = DutyCycle::new(25, start, ms(1000));
        let (mut now, mut cpu) = (start, ms(1000));
        for _ in 0..1000 {
            // Ten milliseconds of work, then the rest that is asked for.
            now += ms(10);
            cpu += ms(10);
            now += duty.pause(now, cpu).unwrap_or_default();
        }
        let used = (cpu - ms(1000)).as_secs_f64() / (now - start).as_secs_f64();
        assert!((0.24..=0.26).contains(&used), "{used}");
    }

    #[test]
    fn idle_time_is_not_saved_up_and_pauses_are_bounded() {
        let start = Instant::now();
        let mut duty = DutyCycle::new(10, start, ms(0));
        assert_eq!(duty.pause(start + ms(60_000), ms(1)), None);
        assert_eq!(duty.pause(start + ms(60_100), ms(101)), Some(PAUSE_MAX), "a second is owed");
        let mut whole = DutyCycle::new(200, start, ms(0));
        assert_eq!(whole.pause(start + ms(10), ms(20)), None, "two cores may be used whole");
        assert_eq!(whole.pause(start + ms(10), ms(40)), Some(ms(10)));
    }

    #[test]
    fn a_thread_is_ranked_and_no_limit_is_none() -> io::Result<()> {
        let limits =
            LoadLimits { io_priority: Some(IoPriority::Idle), niceness: Some(19), ..LoadLimits::default() };
        std::thread::scope(|scope| {
            let ranked = scope.spawn(|| Load::new(limits).rank_thread()).join();
            ranked.unwrap_or_else(|_| unreachable!("the thread does not panic"))
        })?;
        assert_eq!(Load::default().pause(Instant::now()), None);
        Ok(())
    }
}

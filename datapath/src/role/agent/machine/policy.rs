//! When points are made without anybody asking, by the clock that never jumps.

use std::time::{Duration, Instant};

use super::settings::PointSettings;
use crate::limits;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A point.
    Crash,
    /// A point for which applications settle.
    App,
    /// A point, but a disk is not ready for one.
    Missed,
}

/// The clock of one machine's points.
#[derive(Debug)]
pub(super) struct Policy {
    crash: Option<Timer>,
    app: Option<Timer>,
    /// Disks wait for the first point since they were compared.
    is_first_due: bool,
    /// It is not tried again before, so that a machine that cannot be cut is not
    /// frozen time and again.
    first_after: Instant,
}

#[derive(Debug)]
struct Timer {
    every: Duration,
    next: Instant,
}

impl Timer {
    fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now + every }
    }

    /// Whether it is due; if so, from now on later.
    fn strikes(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.every;
        }
        is_due
    }
}

impl Policy {
    /// `has_hooks`: whether applications can be asked to settle.
    pub(super) fn new(points: PointSettings, has_hooks: bool, now: Instant) -> Self {
        let timer = |every: Duration| Timer::new(every, now);
        Self {
            crash: points.crash_every.map(timer),
            app: points.app_every.filter(|_| has_hooks).map(timer),
            is_first_due: false,
            first_after: now,
        }
    }

    /// A disk is being compared, or has no point: the next one is due at once.
    pub(super) fn is_comparing(&mut self) {
        self.is_first_due = self.crash.is_some();
    }

    /// A point was made, or tried, by somebody else.
    pub(super) fn was_cut(&mut self, now: Instant) {
        self.is_first_due = false;
        if let Some(crash) = &mut self.crash {
            crash.next = now + crash.every;
        }
    }

    /// What is due now, if anything is; `is_ready`: whether all disks are.
    pub(super) fn due(&mut self, now: Instant, is_ready: bool) -> Option<Due> {
        let first = is_ready && now >= self.first_after && std::mem::take(&mut self.is_first_due);
        if first {
            self.first_after = now + limits::FIRST_POINT_AGAIN_AFTER;
        }
        let crash = self.crash.as_mut().is_some_and(|timer| timer.strikes(now));
        let app = self.app.as_mut().is_some_and(|timer| timer.strikes(now));
        match (is_ready, app, crash || first) {
            (_, false, false) => None,
            (false, ..) => Some(Due::Missed),
            (true, true, _) => Some(Due::App),
            (true, false, true) => Some(Due::Crash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn points() -> PointSettings {
        let cycle = Duration::from_secs(2);
        PointSettings { cycle, crash_every: Some(5 * MINUTE), app_every: Some(12 * MINUTE) }
    }

    #[test]
    fn points_come_when_they_are_due_and_the_first_at_once() {
        let start = Instant::now();
        let mut policy = Policy::new(points(), true, start);
        policy.is_comparing();
        assert_eq!(policy.due(start, false), None, "nobody is ready");
        assert_eq!(policy.due(start + MINUTE, true), Some(Due::Crash), "the first");
        assert_eq!(policy.due(start + 2 * MINUTE, true), None);
        assert_eq!(policy.due(start + 5 * MINUTE, true), Some(Due::Crash));
        assert_eq!(policy.due(start + 10 * MINUTE, false), Some(Due::Missed));
        assert_eq!(policy.due(start + 11 * MINUTE, false), None, "told once");
        assert_eq!(policy.due(start + 15 * MINUTE, true), Some(Due::App), "which is a point as well");
        policy.is_comparing();
        assert_eq!(policy.due(start + 16 * MINUTE, true), Some(Due::Crash));
        policy.was_cut(start + 19 * MINUTE);
        assert_eq!(policy.due(start + 20 * MINUTE, true), None);
        assert_eq!(policy.due(start + 24 * MINUTE, true), Some(Due::Crash));
    }

    #[test]
    fn a_first_point_that_fails_is_not_tried_at_once() {
        let start = Instant::now();
        let mut policy = Policy::new(points(), false, start);
        policy.is_comparing();
        assert_eq!(policy.due(start, true), Some(Due::Crash));
        policy.is_comparing();
        assert_eq!(policy.due(start + limits::FIRST_POINT_AGAIN_AFTER / 2, true), None);
        assert_eq!(policy.due(start + limits::FIRST_POINT_AGAIN_AFTER, true), Some(Due::Crash));
    }

    #[test]
    fn what_nobody_wants_is_never_due() {
        let start = Instant::now();
        let only_app = PointSettings { crash_every: None, ..points() };
        let mut policy = Policy::new(only_app, false, start);
        policy.is_comparing();
        assert_eq!(policy.due(start + 99 * MINUTE, true), None, "no hook, no app-consistent point");
    }
}

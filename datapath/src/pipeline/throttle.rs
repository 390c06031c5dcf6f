//! A limit on the rate of bytes, shared by all lanes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of one tenth of a second's bytes: bursts stay short, and lanes
/// that sleep wake to something worth sending.
const BURST: f64 = 0.1;

/// Lets bytes through at a rate at most; cheap to clone, one limit for all clones.
#[derive(Clone, Default)]
pub struct Throttle(Option<Arc<Mutex<Bucket>>>);

struct Bucket {
    bytes_per_second: f64,
    /// When the bytes admitted so far are paid off.
    paid_until: Instant,
}

impl Throttle {
    /// At most `bytes_per_second`; `None` is no limit.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self(bytes_per_second.filter(|rate| *rate > 0).map(|rate| {
            #[expect(clippy::cast_precision_loss, reason = "a rate above 2^53 bytes a second is no limit")]
            let bytes_per_second = rate as f64;
            Arc::new(Mutex::new(Bucket { bytes_per_second, paid_until: Instant::now() }))
        }))
    }

    /// Waits until `bytes` may go.
    pub async fn admit(&self, bytes: u64) {
        if let Some(wait) = self.reserve(bytes, Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes `bytes` out of the bucket and says how long to wait for them.
    fn reserve(&self, bytes: u64, now: Instant) -> Option<Duration> {
        let mut bucket = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "extents are far below 2^53 bytes")]
        let cost = Duration::from_secs_f64(bytes as f64 / bucket.bytes_per_second);
        bucket.paid_until = bucket.paid_until.max(now) + cost;
        (bucket.paid_until - now).checked_sub(Duration::from_secs_f64(BURST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_many_small_extents() {
        let throttle = Throttle::new(Some(1000));
        let now = Instant::now();
        let waits: Vec<_> = (0..100).map(|_| throttle.reserve(50, now)).collect();
        assert_eq!(waits[0], None, "the first bytes go at once");
        let last = waits[99].unwrap_or_default().as_secs_f64();
        assert!((4.85..=4.95).contains(&last), "5000 bytes at 1000 a second, less the burst: {last}");
        assert_eq!(Throttle::new(None).reserve(u64::MAX, now), None);
    }
}

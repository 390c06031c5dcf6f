//! Whether the link is what a run waits for.

/// A link faster than this (bytes a second) outruns lz4 on one core.
const FAST_LINK: f64 = 500e6;
/// The link is measured over so many bytes: more than the buffers of a socket
/// take at once, whatever the link behind them.
const STRETCH_BYTES: usize = 4 << 20;
/// The link is as fast as in the fastest of so many stretches: in the others the
/// target's disk may have held it up, which packing would not help.
const STRETCHES: usize = 8;

/// How fast the link took bytes lately.
pub(super) struct LinkRate {
    /// The user lets the link take fewer bytes than a fast one does.
    is_limited: bool,
    /// Bytes and seconds of the stretch at hand.
    stretch: (usize, f64),
    /// Bytes a second of the stretches before it, the oldest to be replaced next.
    rates: [f64; STRETCHES],
    measured: usize,
}

impl LinkRate {
    /// Nothing is measured yet; the user lets the link take `limit` bytes a second.
    pub(super) fn new(limit: Option<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate above 2^53 bytes a second is no limit")]
        let is_limited = limit.is_some_and(|rate| rate as f64 <= FAST_LINK);
        Self { is_limited, stretch: (0, 0.0), rates: [0.0; STRETCHES], measured: 0 }
    }

    /// The link took `bytes` in `elapsed_seconds`.
    pub(super) fn observe(&mut self, bytes: usize, elapsed_seconds: f64) {
        let (bytes, seconds) = (self.stretch.0.saturating_add(bytes), self.stretch.1 + elapsed_seconds);
        self.stretch = (bytes, seconds);
        if bytes >= STRETCH_BYTES {
            #[expect(clippy::cast_precision_loss, reason = "a stretch is far below 2^53 bytes")]
            let rate = bytes as f64 / seconds.max(1e-6);
            self.rates[self.measured % STRETCHES] = rate;
            self.measured = self.measured.wrapping_add(1);
            self.stretch = (0, 0.0);
        }
    }

    /// Whether packing could make it faster: known of a limited one, else not
    /// before it is measured.
    pub(super) fn is_slow(&self) -> bool {
        self.is_limited || (self.measured > 0 && self.rates.iter().all(|rate| *rate <= FAST_LINK))
    }
}

//! The whole machine: what it is busy with.

use std::fs;

use super::process::ticks_per_second;
use crate::error::Error;

/// CPU seconds of all processors since boot that were not idle.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn busy_seconds() -> Result<f64, Error> {
    let text = fs::read_to_string("/proc/stat").map_err(Error::at("read", "/proc/stat"))?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq; what guests take is in user.
    let busy = ticks.iter().take(7).enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    Ok(busy.map(|(_, ticks)| ticks).sum::<f64>() / ticks_per_second())
}

//! How many rows of a long view are shown, and which.

use clap::Args;
use serde_json::json;

use crate::output::Output;

/// Which rows are shown.
#[derive(Args)]
pub struct Rows {
    /// Rows to pass over first
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Rows to show at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

/// Counts rows while they are shown.
pub struct Counter {
    skip: u64,
    limit: u64,
    seen: u64,
}

impl Rows {
    /// Before the first row.
    pub const fn count(&self) -> Counter {
        Counter { skip: self.skip, limit: self.limit, seen: 0 }
    }
}

impl Counter {
    /// Whether the next row is one that is shown.
    pub const fn takes(&mut self) -> bool {
        let row = self.seen;
        self.seen += 1;
        row >= self.skip && row - self.skip < self.limit
    }

    /// Whether rows are left behind the last one that is shown.
    pub const fn is_over(&self) -> bool {
        self.seen > self.skip.saturating_add(self.limit)
    }

    /// Says how to see the rows behind the last one.
    pub fn end(&self, output: &Output) {
        if self.is_over() {
            let next = self.skip + self.limit;
            let event = || json!({"event": "more", "skip": next});
            output.line(&format!("there is more: --skip {next} goes on"), event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_asked_for() {
        let mut counter = Rows { skip: 2, limit: 3 }.count();
        let taken: Vec<u64> = (0..8).filter(|_| counter.takes()).collect();
        assert_eq!(taken, [2, 3, 4]);
        assert!(counter.is_over());
        assert!(!Rows { skip: u64::MAX, limit: u64::MAX }.count().takes());
        assert!(!Rows { skip: 0, limit: 0 }.count().takes());
    }
}

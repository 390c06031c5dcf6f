//! `protection`: what keeping recovery points costs, side by side with what the
//! disk itself can do, in one run.
//!
//! ```text
//! for each row and round, in turns:
//!   fio      reads a byte, and writes two, of every byte that changes: the limit
//!   replica  deltas ─> before-images ─> journal ─> target, one point every 256 MiB
//! then: reopened after it was left in the middle; rewound to its first point
//! ```
//!
//! ```console
//! $ cargo build --release -p failback-protection
//! $ sudo target/release/protection --size 1G --rounds 5 --markdown
//! ```
//!
//! The deltas are made in memory while they land, digests of both ends included.
//! Nothing is left behind but after `kill -9`: the files go with their directory.

#![forbid(unsafe_code)]

mod arguments;
mod churn;
mod error;
mod field;
mod fio;
mod report;
mod rewind;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Pattern};
use error::Error;
use field::Field;
use report::Row;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "protection: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Error> {
    let mut rows = Vec::new();
    for pattern in [Pattern::Sequential, Pattern::Random] {
        let mut landed = Row::new(&format!("{pattern} churn with journaling"), "fio: read 1, write 2");
        let mut rewound = Row::new(&format!("rewind over {pattern} churn"), "fio: sequential write");
        let mut recovered = Row::new(&format!("recovery within {pattern} churn"), "");
        for round in 0..arguments.rounds {
            let field = Field::make(arguments)?;
            // Whoever comes second finds the disk busier: they take turns.
            let first = (round % 2 == 0).then(|| fio::churn(&field, pattern)).transpose()?;
            field.rest();
            let churn = churn::run(&field, pattern)?;
            field.rest();
            let limit = first.map_or_else(|| fio::churn(&field, pattern), Ok)?;
            landed.push(churn.seconds, Some(limit));
            recovered.push(rewind::recover(&field)?, None);
            let write = fio::write(&field)?;
            field.rest();
            rewound.push(rewind::rewind(&field)?, Some(write));
            report::say(&format!("{pattern}, round {} of {}", round + 1, arguments.rounds));
        }
        rows.extend([landed, rewound, recovered]);
    }
    report::write(arguments, &rows)
}

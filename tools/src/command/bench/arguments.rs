//! The command line of `failback bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use failback_datapath::limits;

/// Two halves of text, zeroes and random bytes, each 16 MiB: less would leave
/// one of them out.
const SIZE_LEAST: u64 = 64 << 20;

const EXAMPLES: &str = "\
Examples:
  failback bench                                        on temporary disks in /tmp
  failback bench --directory /srv --size 4G             on temporary disks of that filesystem
  failback bench --only read --source /dev/sdb          how fast can this disk be read?
  failback bench --source /dev/sdb --target /dev/sdc --i-know-this-destroys /dev/sdc
  failback bench --json --only copy,compare,push | tail -n1

Text is half of the generated data, zeroes a quarter, random bytes a quarter, in
turns of 16 MiB. Stages that need only a processor run on one core, the others
on as many as `failback sync` uses. Seconds are the median of the rounds;
processor seconds are those of this process, both ends of a connection together,
without the threads of the kernel.";

/// Measure on this host what `failback sync` is made of: each stage alone, and
/// the pipeline together.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Read from this disk instead of a temporary one; it is not changed
    #[arg(long, value_name = "DEV")]
    pub source: Option<PathBuf>,
    /// Write to this disk instead of a temporary one: WHAT IS ON IT IS LOST
    #[arg(long, value_name = "DEV")]
    pub target: Option<PathBuf>,
    /// The target once more, to say that you mean it
    #[arg(long = "i-know-this-destroys", value_name = "DEV", requires = "target")]
    pub destroys: Option<PathBuf>,
    /// Bytes that each stage walks, at most: 512M, 4G (powers of 1024)
    #[arg(long, default_value = "1G", value_parser = parse_size)]
    pub size: u64,
    /// Rounds; in each, every stage has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Only these stages
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    pub only: Vec<StageName>,
    /// Where temporary disks are made, as large as --size [default: TMPDIR, or /tmp]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Print JSON: a line for each stage, the last line a summary
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// The stages to run, in the order in which a block travels.
    pub fn stages(&self) -> Vec<StageName> {
        let all = StageName::value_variants().iter().copied();
        all.filter(|stage| self.only.is_empty() || self.only.contains(stage)).collect()
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StageName {
    /// Reading the source, several windows ahead
    Read,
    /// Digests of chunks with xxh3-128
    HashXxh3,
    /// Digests of chunks with BLAKE3
    HashBlake3,
    /// Finding zeroes, in zeroes: on data it stops at once
    ZeroScan,
    /// Packing text and random bytes with lz4
    CompressLz4,
    /// Packing text and random bytes with zstd
    CompressZstd,
    /// Unpacking what lz4 packed
    DecompressLz4,
    /// Unpacking what zstd packed
    DecompressZstd,
    /// Sending over TLS 1.3 on loopback, one connection, both ends here
    Tls,
    /// Writing the target, and its flush
    Write,
    /// The pipeline: a local copy without comparing (sync --whole)
    Copy,
    /// The pipeline: comparing two equal disks
    Compare,
    /// The pipeline: a copy over TLS on loopback, both ends here
    Push,
}

impl StageName {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it reads the source.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Copy | Self::Compare | Self::Push)
    }

    /// Whether it writes the target, or needs a target that was written.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Copy | Self::Compare | Self::Push)
    }

    /// Whether two hosts talk to each other.
    pub const fn connects(self) -> bool {
        matches!(self, Self::Tls | Self::Push)
    }

    /// Whether it runs on as many lanes as a synchronization does.
    pub const fn uses_lanes(self) -> bool {
        self.reads() || self.writes()
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new().with_binary().parse_size(text).map_err(|error| error.to_string())?;
    let whole = size.is_multiple_of(u64::from(limits::WINDOW_BYTES));
    if size >= SIZE_LEAST && whole { Ok(size) } else { Err("64M at least, and whole MiB".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_windows() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        assert!(parse_size("63M").is_err() && parse_size("1000000001").is_err() && parse_size("x").is_err());
    }

    #[test]
    fn stages_have_the_names_that_people_type() {
        let names: Vec<_> = StageName::value_variants().iter().map(|stage| stage.name()).collect();
        let expected = "read hash-xxh3 hash-blake3 zero-scan compress-lz4 compress-zstd decompress-lz4 \
                        decompress-zstd tls write copy compare push";
        assert_eq!(names.join(" "), expected);
    }
}

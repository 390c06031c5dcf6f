//! What `failback demo` can be told.

use std::path::PathBuf;

use clap::Args;

const MIB: u64 = 1 << 20;

/// Less has no room for some hundreds of files and a journal.
const SIZE_MIN: u64 = 64 * MIB;

/// More shows nothing that less does not show.
const SIZE_MAX: u64 = 64 << 30;

const EXAMPLES: &str = "\
As root it uses loop devices and mounts; as an ordinary user it works on image
files, and says what it left out. It touches nothing that it did not make. All of
that lies in one folder where temporary files go (TMPDIR), and is taken away again,
also when the demo is interrupted.

Examples:
  failback demo
  failback demo --size 2G --keep /srv/demo              and leave the two images there
  TMPDIR=/var/tmp failback demo --json | tail -n1       what was done, and how fast";

/// Show on disks made for the purpose what failback does: copy one to a VMDK
/// image over loopback TLS, change files, synchronize again, verify, check; then
/// protect one that is being written, cut recovery points, go home, rewind.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// Size of the disk, from 64M to 64G (powers of 1024)
    #[arg(long, default_value = "512M", value_parser = parse_size)]
    pub size: u64,
    /// Leave the images in DIR, which is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print events as JSON lines, the last one a summary
    #[arg(long)]
    pub json: bool,
}

/// A text that is no size for the demo's disk.
#[derive(Debug, thiserror::Error)]
enum InvalidSize {
    #[error(transparent)]
    Text(#[from] parse_size::Error),
    #[error("{0} bytes: from 64M to 64G, a whole number of MiB")]
    Range(u64),
}

fn parse_size(text: &str) -> Result<u64, InvalidSize> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text)?;
    let fits = (SIZE_MIN..=SIZE_MAX).contains(&bytes) && bytes.is_multiple_of(MIB);
    if fits { Ok(bytes) } else { Err(InvalidSize::Range(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(parse_size("64M").ok(), Some(64 * MIB));
        assert_eq!(parse_size("2G").ok(), Some(2048 * MIB));
        for text in ["", "63M", "65G", "100000001", "much"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}

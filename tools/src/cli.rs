//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use failback_datapath::limits::FRAME_RATE_MIN;
use failback_datapath::pipeline::{Compression, DigestAlgorithm};
use failback_datapath::unit::SectorSize;
use failback_datapath::wire::{Create, Location};

use crate::exit;

/// Bring machines home after a disaster: replicate disks, verify them, fail back.
#[derive(Parser)]
#[command(name = "failback", version, max_term_width = 100, after_help = exit::HELP)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Make TARGET hold what SOURCE holds: a first copy, or what changed since.
    Sync(Sync),
    /// Serve disks to paired peers, or to an ssh client.
    Serve(Serve),
    /// Pair two hosts without a certificate authority.
    Pair(Pair),
    /// Inspect, make, attach and detach disk images.
    Image(Image),
    /// Protect the disks of this machine while it runs, and take it home.
    Agent(crate::command::agent::Agent),
    /// Serve the agents of machines whose disks come home.
    MasterTarget(crate::command::master_target::MasterTargetCommand),
    /// List, show, copy, rewind to and commit the recovery points of protected disks.
    Points(crate::command::points::Points),
    /// Show what the files and maps of live protection hold.
    Inspect(crate::command::inspect::Inspect),
    /// Measure on this host what `sync` is made of: each stage alone, and the whole.
    Bench(crate::command::bench::Bench),
    /// Show all of it on disks made for the purpose: copies, then live protection, the way home, a
    /// rewind.
    Demo(crate::command::demo::Demo),
    /// Thaw what an agent froze, whatever happens to the agent.
    #[command(hide = true)]
    FreezeWatchdog(crate::command::freeze_watchdog::FreezeWatchdog),
}

const SYNC_EXAMPLES: &str = "\
Examples:
  failback sync /dev/sdb /dev/sdc                       copy a disk, later only what changed
  failback sync --verify disk.img backup.vmdk --create --format vmdk-flat
  failback sync --live /dev/vda failback://home:9444/web-1
  failback sync ssh://root@cloud/dev/vda /dev/sdb --limit-rate 50M
  failback sync --dry-run --json /dev/sdb /dev/sdc | tail -n1";

/// Make TARGET hold what SOURCE holds.
///
/// SOURCE and TARGET are block devices, raw images, VMDK descriptors with flat
/// extents, failback://HOST:PORT/EXPORT, or ssh://USER@HOST:PORT/PATH (user and
/// port may be left out). By default both sides are compared in chunks of 64 KiB
/// and only what differs is written. An interrupted run is continued by the same
/// command.
#[derive(Args)]
#[command(after_help = SYNC_EXAMPLES)]
pub struct Sync {
    /// Where to read.
    pub source: Location,
    /// Where to write.
    pub target: Location,
    /// Copy everything without comparing: for a target known to differ everywhere
    #[arg(long)]
    pub whole: bool,
    /// Digest of chunks; blake3 where somebody may craft blocks to collide
    #[arg(long, value_enum, default_value_t = Digest::Xxh3)]
    pub digest: Digest,
    /// Compression over the network; auto: lz4 while the link is slower than the codec
    #[arg(long, value_enum, default_value_t = CompressionChoice::Auto)]
    pub compression: CompressionChoice,
    /// Number of lanes, each a thread with a ring and a connection [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub streams: Option<u8>,
    /// Bytes a second at most, of data sent or written: 50M, 1G (powers of 1024)
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit_rate: Option<u64>,
    /// Read the target back from the device and compare every digest
    #[arg(long)]
    pub verify: bool,
    /// Change nothing; report what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Accept a source that is mounted or otherwise being written; the copy is then fuzzy
    #[arg(long)]
    pub live: bool,
    /// Make TARGET where there is none, as large as the source
    #[arg(long)]
    pub create: bool,
    /// What --create makes [default: vmdk-flat for a name that ends in .vmdk, else raw]
    #[arg(long, value_enum, requires = "create")]
    pub format: Option<Format>,
    /// Print events as JSON lines, the last one a summary
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(long, short)]
    pub quiet: bool,
    /// A token from `failback pair`, spent if the other host of a failback:// end is not known yet
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The ssh program with options of its own
    #[arg(long, value_name = "COMMAND", default_value = "ssh", env = "FAILBACK_SSH")]
    pub ssh: String,
    /// The failback program on the host that ssh reaches
    #[arg(long, value_name = "PROGRAM", default_value = "failback", value_parser = parse_remote_program)]
    pub remote_failback: String,
    /// Folder for the state of targets, keys and peers [default: /var/lib/failback, or the XDG state folder]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  failback serve --listen 10.0.0.2:9444 --export web-1=/dev/sdb
  failback serve --export golden=/srv/golden.img,ro --json";

/// Serve disks to paired peers over TLS 1.3, or to an ssh client.
#[derive(Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct Serve {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9444", conflicts_with = "stdio")]
    pub listen: std::net::SocketAddr,
    /// A disk that peers may reach as NAME; with `,ro` only to read. May be given often
    #[arg(long = "export", value_name = "NAME=PATH[,ro]", value_parser = parse_export, conflicts_with = "stdio")]
    pub exports: Vec<NamedExport>,
    /// Serve the ssh client that started this, over standard input and output
    #[arg(long)]
    pub stdio: bool,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Folder for the state of targets, keys and peers
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// `NAME=PATH[,ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedExport {
    /// The name.
    pub name: String,
    /// The path.
    pub path: PathBuf,
    /// Whether it may only be read.
    pub read_only: bool,
}

const PAIR_EXAMPLES: &str = "\
Examples:
  failback pair --address home.example:9444 --output token   on the host that serves
  failback pair --spend token                                on the other host, or:
  failback sync --token-file token /dev/vda failback://home.example:9444/web-1";

/// Pair two hosts: the one that serves prints a one-time token, valid for 15
/// minutes; the other one spends it. Then each knows the other's certificate.
#[derive(Args)]
#[command(after_help = PAIR_EXAMPLES)]
pub struct Pair {
    /// Where the other host reaches `failback serve` of this one: HOST:PORT
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9444")]
    pub address: failback_datapath::wire::peers::Address,
    /// Write the token to FILE, a new file that only you may read, not to standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spend", "list", "forget"])]
    pub output: Option<PathBuf>,
    /// Spend the token in FILE (- for standard input)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "forget"])]
    pub spend: Option<PathBuf>,
    /// List the known peers
    #[arg(long, conflicts_with = "forget")]
    pub list: bool,
    /// Forget the peer with this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub forget: Option<failback_datapath::wire::identity::Fingerprint>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Folder for the state of targets, keys and peers
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Inspect, make, attach and detach disk images.
#[derive(Args)]
pub struct Image {
    /// What to do.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What to do with an image.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Show what a disk or image is made of.
    Info {
        /// The disk or image.
        path: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Folder for the state of targets.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Make a new image, all zero and sparse.
    Create {
        /// The image; a descriptor's name ends in .vmdk.
        path: PathBuf,
        /// Its size: 10G, 512M (powers of 1024).
        #[arg(long, value_parser = parse_size)]
        size: u64,
        /// What to make [default: vmdk-flat for a name that ends in .vmdk, else raw]
        #[arg(long, value_enum)]
        format: Option<ImageFormat>,
    },
    /// Attach a raw image or a flat extent as a loop device, and print the device.
    Attach {
        /// The image.
        path: PathBuf,
        /// Attach it read-only.
        #[arg(long, alias = "ro")]
        read_only: bool,
        /// Sector size of the device: 512 or 4096, as disks have.
        #[arg(long, value_name = "BYTES", default_value = "512", value_parser = parse_sector_size)]
        sector_size: SectorSize,
        /// Go through the page cache.
        #[arg(long)]
        buffered: bool,
        /// Make devices of its partitions too.
        #[arg(long)]
        partitions: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Folder for the state of targets.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Detach a loop device.
    Detach {
        /// The device.
        device: PathBuf,
    },
}

/// Digests to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Digest {
    /// xxh3-128
    Xxh3,
    /// BLAKE3
    Blake3,
}

impl From<Digest> for DigestAlgorithm {
    fn from(digest: Digest) -> Self {
        match digest {
            Digest::Xxh3 => Self::Xxh3,
            Digest::Blake3 => Self::Blake3,
        }
    }
}

/// Compressions to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionChoice {
    /// lz4 while the link is slower than the codec
    Auto,
    /// lz4
    Lz4,
    /// zstd
    Zstd,
    /// Nothing
    None,
}

impl From<CompressionChoice> for Compression {
    fn from(choice: CompressionChoice) -> Self {
        match choice {
            CompressionChoice::Auto => Self::Auto,
            CompressionChoice::Lz4 => Self::Lz4,
            CompressionChoice::Zstd => Self::Zstd,
            CompressionChoice::None => Self::None,
        }
    }
}

/// Images that `sync` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Nothing but the disk's bytes
    Raw,
    /// A VMDK descriptor and one flat extent
    VmdkFlat,
}

impl From<Format> for Create {
    fn from(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::VmdkFlat => Self::VmdkFlat,
        }
    }
}

/// Images that `image create` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Nothing but the disk's bytes
    Raw,
    /// VMDK: a descriptor and one flat extent (monolithicFlat)
    VmdkFlat,
    /// VMDK: flat extents of 2 GiB (twoGbMaxExtentFlat)
    VmdkSplit,
    /// VMDK: as on VMFS
    VmdkVmfs,
}

fn parse_size(text: &str) -> Result<u64, parse_size::Error> {
    parse_size::Config::new().with_binary().parse_size(text)
}

fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("a rate of nothing would never end; leave --limit-rate out for no limit".to_owned()),
        Ok(rate) if rate < u64::from(FRAME_RATE_MIN) => Err(format!(
            "the other end would take a run that slow for a stuck one; at least {FRAME_RATE_MIN}"
        )),
        Ok(rate) => Ok(rate),
        Err(error) => Err(error.to_string()),
    }
}

/// Loop devices take what lies between, too, and no guest expects it.
fn parse_sector_size(text: &str) -> Result<SectorSize, String> {
    match text {
        "512" => Ok(SectorSize::BYTES_512),
        "4096" => Ok(SectorSize::BYTES_4096),
        _ => Err("512 or 4096".to_owned()),
    }
}

fn parse_export(text: &str) -> Result<NamedExport, String> {
    let form = || format!("{text:?}: write NAME=PATH or NAME=PATH,ro");
    let (name, path) = text.split_once('=').ok_or_else(form)?;
    let (path, read_only) = path.strip_suffix(",ro").map_or((path, false), |path| (path, true));
    let good = !name.is_empty() && !path.is_empty() && !name.contains(|letter: char| letter.is_control());
    good.then(|| NamedExport { name: name.to_owned(), path: PathBuf::from(path), read_only }).ok_or_else(form)
}

/// It reaches a shell on the other host, so it is a plain path or nothing.
fn parse_remote_program(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/+ ".contains(letter);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?}: letters, digits, '.', '_', '-', '+', '/' and spaces only"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sectors_are_those_of_disks() {
        assert_eq!(parse_sector_size("4096"), Ok(SectorSize::BYTES_4096));
        assert!(["0", "1024", "2048", "0512", "4k"].iter().all(|text| parse_sector_size(text).is_err()));
    }

    #[test]
    fn a_rate_below_what_a_peer_waits_for_is_refused() {
        assert_eq!(parse_rate("4K"), Ok(4096));
        assert!(parse_rate("4095").is_err() && parse_rate("0").is_err());
    }

    #[test]
    fn exports_are_names_and_paths() {
        let export = |name: &str, path: &str, read_only| NamedExport {
            name: name.into(),
            path: path.into(),
            read_only,
        };
        assert_eq!(parse_export("a=/dev/sdb"), Ok(export("a", "/dev/sdb", false)));
        assert_eq!(parse_export("a=/x,ro"), Ok(export("a", "/x", true)));
        assert!(parse_export("=/x").is_err() && parse_export("a=").is_err() && parse_export("a").is_err());
    }

    #[test]
    fn the_remote_program_is_no_shell_text() {
        assert!(parse_remote_program("/usr/bin/failback").is_ok());
        assert!(parse_remote_program("failback; rm x").is_err() && parse_remote_program("$(x)").is_err());
    }
}

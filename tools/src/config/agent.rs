//! `agent.toml`: a machine and the disks that are protected on it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use failback_datapath::limits;
use failback_datapath::pipeline::{Compression, DigestAlgorithm, LoadLimits};
use failback_datapath::quiesce::{HookCommand, Hooks};
use failback_datapath::role::agent::{DiskSettings, OnDoubt, PointSettings, Tracking};
use failback_datapath::sys::IoPriority;
use failback_datapath::unit::ChunkSize;
use failback_datapath::wire::peers::Address;
use indicatif::BinaryBytes;
use serde::Deserialize;

use super::quantity::{Bytes, Share, Span};
use crate::control::Failed;
use crate::exit::Exit;

/// Where commands reach an agent that says nothing else.
pub const CONTROL: &str = "/run/failback/agent.sock";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentConfig {
    /// Folder of the state, the keys and the binding.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// Socket for commands.
    #[serde(default = "control")]
    pub control: PathBuf,
    /// Folder of the freeze record, in memory.
    #[serde(default = "run")]
    pub run: PathBuf,
    /// The BPF filesystem that trackers are pinned in.
    #[serde(default = "pins")]
    pub pins: PathBuf,
    /// The machine's name.
    pub name: String,
    /// Where the master target listens.
    pub master_target: Address,
    /// A token to pair with it, spent at the first start.
    pub token_file: Option<PathBuf>,
    /// The disks, one by one.
    #[serde(default)]
    disk: Vec<Disk>,
    /// All disks instead.
    disks: Option<All>,
    /// Disks that are none of all.
    #[serde(default)]
    pub exclude: Exclude,
    #[serde(default)]
    points: Points,
    #[serde(default)]
    freeze: Freeze,
    #[serde(default)]
    hooks: HookTable,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    on_doubt: Doubted,
    #[serde(default)]
    compression: Packing,
    #[serde(default)]
    digest: Digest,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Disk {
    device: PathBuf,
    name: String,
    #[serde(default)]
    tracking: Track,
    chunk: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum All {
    All,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Track {
    #[default]
    Auto,
    Ebpf,
    Digest,
}

/// What is left out of all disks.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Exclude {
    /// These.
    pub devices: Vec<PathBuf>,
    /// Disks that hold nothing but swap.
    pub swap: bool,
    /// Disks that a cloud gives and forgets.
    pub temporary: bool,
}

impl Default for Exclude {
    fn default() -> Self {
        Self { devices: Vec::new(), swap: true, temporary: true }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Points {
    cycle: Span,
    crash_consistent: Span,
    app_consistent: Span,
}

impl Default for Points {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self { cycle: seconds(2), crash_consistent: seconds(5 * 60), app_consistent: seconds(60 * 60) }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Freeze {
    budget: Span,
    remainder: Bytes,
}

impl Default for Freeze {
    fn default() -> Self {
        Self { budget: Span(limits::FREEZE_BUDGET), remainder: Bytes(limits::REMAINDER_BYTES_MAX) }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct HookTable {
    pre: Hook,
    post: Hook,
    time_limit: Option<Span>,
}

/// A program with its arguments, or a line for a shell.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Hook {
    Program(Vec<String>),
    Shell(String),
}

impl Default for Hook {
    fn default() -> Self {
        Self::Program(Vec::new())
    }
}

impl From<Hook> for Option<HookCommand> {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Program(words) if words.is_empty() => None,
            Hook::Program(words) => Some(HookCommand::Program(words)),
            Hook::Shell(line) => Some(HookCommand::Shell(line)),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Limits {
    read_rate: Option<Bytes>,
    io_priority: Option<String>,
    niceness: Option<u8>,
    cpu: Option<Share>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Doubted {
    #[default]
    Resync,
    Stop,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Packing {
    #[default]
    Auto,
    Lz4,
    Zstd,
    None,
}

/// How chunks of new pairs are compared.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Digest {
    #[default]
    Xxh3,
    Blake3,
}

fn state() -> PathBuf {
    PathBuf::from("/var/lib/failback/agent")
}

fn control() -> PathBuf {
    PathBuf::from(CONTROL)
}

fn run() -> PathBuf {
    PathBuf::from("/run/failback")
}

fn pins() -> PathBuf {
    PathBuf::from("/sys/fs/bpf")
}

impl AgentConfig {
    /// Reads the file; a token file that is not absolute lies beside it.
    pub fn read(path: &Path) -> Result<Self, Failed> {
        let mut config: Self = super::read(path)?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        config.token_file = config.token_file.map(|file| folder.join(file));
        config.check().map_err(|reason| (Exit::Refused, format!("{}: {reason}", path.display())))?;
        Ok(config)
    }

    /// Values with which nothing would ever work.
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, span: Span, least: Duration, most: Duration| {
            let fits = (least..=most).contains(&span.0);
            fits.then_some(()).ok_or_else(|| format!("{what}: from {least:?} to {most:?}"))
        };
        let (moment, longest) = (limits::SETTING_SPAN_MIN, limits::FREEZE_HOLD_MAX);
        within("points.cycle", self.points.cycle, moment, longest)?;
        within("freeze.budget", self.freeze.budget, moment, longest)?;
        if let Some(limit) = self.hooks.time_limit {
            within("hooks.time-limit", limit, moment, longest)?;
        }
        let (least, most) = (u64::from(limits::WINDOW_BYTES), limits::REMAINDER_SETTING_MAX);
        let fits = (least..=most).contains(&self.freeze.remainder.0);
        fits.then_some(()).ok_or_else(|| {
            format!(
                "freeze.remainder: from {} to {}: it is memory that is locked",
                BinaryBytes(least),
                BinaryBytes(most)
            )
        })
    }

    /// The disks that are named; `None` where all are meant.
    pub fn disks(&self) -> Result<Option<Vec<DiskSettings>>, Failed> {
        let refused = |what: &str| Err((Exit::Refused, what.to_owned()));
        match (self.disks, self.disk.is_empty()) {
            (Some(All::All), true) => Ok(None),
            (Some(All::All), false) => refused("`disks = \"all\"` and [[disk]] exclude each other: keep one"),
            (None, true) => refused("no disk is named: add [[disk]], or `disks = \"all\"`"),
            (None, false) => self.disk.iter().map(disk).collect::<Result<_, _>>().map(Some),
        }
    }

    /// When changes are sent, and points made; a span of 0 s means never.
    pub fn points(&self) -> PointSettings {
        let some = |span: Span| Some(span.0).filter(|span| !span.is_zero());
        PointSettings {
            cycle: self.points.cycle.0,
            crash_every: some(self.points.crash_consistent),
            app_every: some(self.points.app_consistent),
        }
    }

    /// How long a cut may stop writers.
    pub const fn freeze_budget(&self) -> Duration {
        self.freeze.budget.0
    }

    /// What may be left to read then.
    pub const fn remainder_bytes(&self) -> u64 {
        self.freeze.remainder.0
    }

    /// What makes applications settle.
    pub fn hooks(&self) -> Hooks {
        Hooks {
            pre: self.hooks.pre.clone().into(),
            post: self.hooks.post.clone().into(),
            time_limit: self.hooks.time_limit.map_or(limits::HOOK_TIME_LIMIT, |limit| limit.0),
        }
    }

    /// What the agent may take from the machine.
    pub fn limits(&self) -> Result<LoadLimits, Failed> {
        Ok(LoadLimits {
            read_bytes_per_second: self.limits.read_rate.map(|rate| rate.0),
            io_priority: self.limits.io_priority.as_deref().map_or(Ok(None), io_priority)?,
            niceness: self.limits.niceness,
            cpu_percent: self.limits.cpu.map(|share| u16::from(share.0)),
        })
    }

    /// What follows a doubt.
    pub const fn on_doubt(&self) -> OnDoubt {
        match self.on_doubt {
            Doubted::Resync => OnDoubt::Resync,
            Doubted::Stop => OnDoubt::Stop,
        }
    }

    /// How deltas are packed.
    pub const fn compression(&self) -> Compression {
        match self.compression {
            Packing::Auto => Compression::Auto,
            Packing::Lz4 => Compression::Lz4,
            Packing::Zstd => Compression::Zstd,
            Packing::None => Compression::None,
        }
    }

    /// How chunks of new pairs are digested.
    pub const fn digest(&self) -> DigestAlgorithm {
        match self.digest {
            Digest::Xxh3 => DigestAlgorithm::Xxh3,
            Digest::Blake3 => DigestAlgorithm::Blake3,
        }
    }
}

fn disk(disk: &Disk) -> Result<DiskSettings, Failed> {
    let wrong =
        || (Exit::Refused, format!("disk {}: a chunk is a power of two from 4KiB to 1MiB", disk.name));
    let chunk = |bytes: Bytes| u32::try_from(bytes.0).ok().and_then(ChunkSize::new).ok_or_else(wrong);
    Ok(DiskSettings {
        name: disk.name.clone(),
        device: disk.device.clone(),
        tracking: match disk.tracking {
            Track::Auto => Tracking::Auto,
            Track::Ebpf => Tracking::Ebpf,
            Track::Digest => Tracking::Digest,
        },
        chunk: disk.chunk.map(chunk).transpose()?,
    })
}

fn io_priority(text: &str) -> Result<Option<IoPriority>, Failed> {
    let level = text.strip_prefix("best-effort-").and_then(|level| level.parse().ok());
    match (text, level) {
        ("none", _) => Ok(None),
        ("idle", _) => Ok(Some(IoPriority::Idle)),
        (_, Some(level @ 0..=7)) => Ok(Some(IoPriority::BestEffort(level))),
        _ => {
            let forms = "write idle, none, or best-effort-0 to best-effort-7";
            Err((Exit::Refused, format!("io-priority {text:?}: {forms}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<AgentConfig, Failed> {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).expect("a file");
        AgentConfig::read(&path)
    }

    const LEAST: &str = "name = \"web-1\"\nmaster-target = \"home.example:9445\"\n";

    #[test]
    fn everything_can_be_said() {
        let text = concat!(
            "state = \"/s\"\ncontrol = \"/c\"\nrun = \"/r\"\npins = \"/p\"\nname = \"web-1\"\n",
            "master-target = \"home.example:9445\"\ntoken-file = \"token\"\non-doubt = \"stop\"\ncompression = \"zstd\"\n",
            "digest = \"blake3\"\n",
            "[[disk]]\ndevice = \"/dev/vda\"\nname = \"root\"\ntracking = \"ebpf\"\nchunk = \"32KiB\"\n",
            "[points]\ncycle = \"1s\"\ncrash-consistent = \"1m\"\napp-consistent = \"0s\"\n",
            "[freeze]\nbudget = \"500ms\"\nremainder = \"32MiB\"\n",
            "[hooks]\npre = [\"/bin/checkpoint\", \"now\"]\npost = \"echo done\"\ntime-limit = \"30s\"\n",
            "[limits]\nread-rate = \"200M\"\nio-priority = \"best-effort-7\"\ncpu = \"50%\"\n",
        );
        let config = config(text).expect("it is right");
        let disks = config.disks().expect("they are right").expect("they are named");
        assert_eq!(
            (disks[0].tracking, disks[0].chunk.map(ChunkSize::bytes)),
            (Tracking::Ebpf, Some(32 << 10))
        );
        assert!(config.token_file.as_ref().is_some_and(|file| file.is_absolute() && file.ends_with("token")));
        let points = config.points();
        assert_eq!((points.crash_every, points.app_every), (Some(Duration::from_secs(60)), None));
        assert_eq!((config.freeze_budget().as_millis(), config.remainder_bytes()), (500, 32 << 20));
        let hooks = config.hooks();
        assert!(matches!(hooks.pre, Some(HookCommand::Program(words)) if words.len() == 2));
        assert!(matches!(hooks.post, Some(HookCommand::Shell(_))));
        let limits = config.limits().expect("they are right");
        assert_eq!((limits.io_priority, limits.cpu_percent), (Some(IoPriority::BestEffort(7)), Some(50)));
        assert_eq!((config.on_doubt(), config.compression()), (OnDoubt::Stop, Compression::Zstd));
        assert_eq!(config.digest(), DigestAlgorithm::Blake3);
    }

    #[test]
    fn little_need_be_said() {
        let all = config(&format!("{LEAST}disks = \"all\"\n[exclude]\ndevices = [\"/dev/vdb\"]\n"));
        let all = all.expect("it is right");
        assert!(all.disks().expect("it is right").is_none() && all.exclude.swap && all.exclude.temporary);
        assert_eq!(all.points().crash_every, Some(Duration::from_secs(300)));
        assert!(all.hooks().pre.is_none() && all.state == Path::new("/var/lib/failback/agent"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let disk = "[[disk]]\ndevice = \"/dev/vda\"\nname = \"root\"\n";
        assert!(config(LEAST).expect("it is read").disks().is_err(), "no disk");
        let both = format!("{LEAST}disks = \"all\"\n{disk}");
        assert!(config(&both).expect("it is read").disks().is_err());
        let odd = format!("{LEAST}{disk}chunk = \"5000\"\n");
        assert!(config(&odd).expect("it is read").disks().is_err());
        let rank = format!("{LEAST}{disk}[limits]\nio-priority = \"high\"\n");
        assert!(config(&rank).expect("it is read").limits().is_err());
        for wrong in [
            "on-doubt = \"ask\"\n",
            "disks = \"some\"\n",
            "[point]\n",
            "[points]\ncycle = \"0s\"\n",
            "[freeze]\nbudget = \"0s\"\n",
            "[freeze]\nbudget = \"2h\"\n",
            "[freeze]\nremainder = \"900GiB\"\n",
            "[hooks]\ntime-limit = \"0s\"\n",
        ] {
            assert!(config(&format!("{LEAST}{wrong}")).is_err(), "{wrong}");
        }
    }
}

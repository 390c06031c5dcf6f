//! A machine and its home on one host, with real processes:
//!
//! ```text
//! source loop devices ── agent run ══ TLS ══ master-target run ── target loop devices
//!        (writers)         │ pins, state, socket      └─ retention folder
//!                          └──── all of it in one scratch directory ────┘
//! ```
//!
//! The agent only ever rehearses the power-off.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::Value;

use super::oracle::Window;
use crate::fixture::{
    LONG, LoopDevice, Mount, Need, Outcome, Random, Running, Scratch, binary, eventually, need, program, run,
    supervised,
};

const NANOSECONDS: u64 = 1_000_000;

/// What every one of these tests needs.
pub fn able(programs: &[&'static str]) -> Option<()> {
    let programs: Vec<Need> = programs.iter().map(|name| Need::Program(name)).collect();
    need(&[&[Need::LoopDevices][..], &programs].concat())
}

/// How the processes are set up; lines of TOML where they are text.
#[derive(Clone, Debug)]
pub struct Setup {
    pub tracking: &'static str,
    pub cycle: &'static str,
    /// Crash-consistent points by policy.
    pub points_every: &'static str,
    /// The hook before an app-consistent cut.
    pub hook: Vec<String>,
    pub freeze_budget: &'static str,
    /// Disks that are compared by digests, whatever the others are.
    pub untracked: &'static [&'static str],
    /// What follows `[limits]`.
    pub limits: &'static str,
    /// More lines of the machine's settings.
    pub machine: &'static str,
    /// What follows `[keep]`.
    pub keep: &'static str,
    /// What the agent's settings end with.
    pub more: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tracking: "auto",
            cycle: "200ms",
            points_every: "1h",
            hook: Vec::new(),
            freeze_budget: "5s",
            untracked: &[],
            limits: "",
            machine: "",
            keep: "",
            more: "",
        }
    }
}

/// A disk of the machine with its target.
pub struct Protected {
    pub name: String,
    pub bytes: u64,
    pub source: LoopDevice,
    /// A loop device, or a raw image.
    pub target: PathBuf,
    _attached: Option<LoopDevice>,
    /// What lies below them: source, target.
    pub files: [PathBuf; 2],
}

/// A recovery point, as it is listed.
#[derive(Clone, Debug)]
pub struct Listed {
    pub epoch: u64,
    pub kind: String,
    pub name: String,
    pub window: Window,
}

/// Machine and home. Processes are dropped before it.
pub struct Rig {
    pub disks: Vec<Protected>,
    pub setup: Setup,
    /// Where the master target listens, and where the agent looks for it.
    address: String,
    pub reached_at: String,
    // Last: it takes away what is left of the others.
    pub scratch: Scratch,
}

impl Rig {
    /// A rig with disks of these names and sizes.
    pub fn new(disks: &[(&str, u64)], setup: Setup) -> Self {
        let scratch = Scratch::new();
        let disks = disks.iter().map(|(name, bytes)| {
            let [source, target] =
                ["source", "target"].map(|end| scratch.image(&format!("{name}-{end}"), *bytes));
            Protected::new(name, *bytes, &source, &target)
        });
        let disks = disks.collect();
        Self::with(scratch, disks, setup)
    }

    /// A rig with disks that lie somewhere else.
    pub fn with(scratch: Scratch, disks: Vec<Protected>, setup: Setup) -> Self {
        for folder in ["home", "machine", "retention", "bpf", "run"] {
            scratch.folder(folder);
        }
        // The record of a freeze lies in memory.
        run(program("mount").args(["-t", "tmpfs", "run"]).arg(scratch.path("run")));
        let address = free_address();
        let rig = Self { disks, setup, reached_at: address.clone(), address, scratch };
        rig.write_target_settings();
        rig
    }

    /// `127.0.0.1:PORT` of the master target.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn retention(&self) -> PathBuf {
        self.scratch.path("retention")
    }

    /// `web/NAME`.
    pub fn pair(&self, disk: &str) -> String {
        format!("web/{disk}")
    }

    fn target_settings(&self) -> PathBuf {
        self.scratch.path("target.toml")
    }

    pub fn agent_settings(&self) -> PathBuf {
        self.scratch.path("agent.toml")
    }

    fn write_target_settings(&self) {
        let root = self.scratch.root().display();
        let mut text = format!(
            "state = \"{root}/home\"\ncontrol = \"{root}/home.sock\"\nlisten = \"{}\"\n\
             retention = \"{root}/retention\"\n[keep]\n{}\n",
            self.address, self.setup.keep
        );
        for disk in &self.disks {
            let (pair, target) = (self.pair(&disk.name), disk.target.display());
            text += &format!("[[pair]]\nname = \"{pair}\"\ntarget = \"{target}\"\n");
        }
        self.scratch.file("target.toml", text);
    }

    /// Writes the agent's settings anew.
    pub fn write_agent_settings(&self) {
        let (root, setup) = (self.scratch.root().display(), &self.setup);
        let hook = serde_json::to_string(&setup.hook).expect("words are JSON");
        let mut text = format!(
            "state = \"{root}/machine\"\ncontrol = \"{root}/machine.sock\"\nrun = \"{root}/run\"\n\
             pins = \"{root}/bpf\"\nname = \"web\"\nmaster-target = \"{}\"\n\
             {}token-file = \"{root}/token\"\n",
            self.reached_at, setup.machine
        );
        for disk in &self.disks {
            let (name, device) = (&disk.name, disk.source.path().display());
            let is_untracked = setup.untracked.contains(&disk.name.as_str());
            let tracking = if is_untracked { "digest" } else { setup.tracking };
            text +=
                &format!("[[disk]]\nname = \"{name}\"\ndevice = \"{device}\"\ntracking = \"{tracking}\"\n");
        }
        text += &format!(
            "[points]\ncycle = \"{}\"\ncrash-consistent = \"{}\"\n[freeze]\nbudget = \"{}\"\n",
            setup.cycle, setup.points_every, setup.freeze_budget
        );
        if !setup.limits.is_empty() {
            text += &format!("[limits]\n{}\n", setup.limits);
        }
        if !setup.hook.is_empty() {
            text += &format!("[hooks]\npre = {hook}\n");
        }
        self.scratch.file("agent.toml", text + setup.more);
    }

    /// Starts the master target; the first time also pairs the agent with it.
    pub fn start_target(&self) -> Running {
        self.start_target_as(|_| {})
    }

    /// The same, with changes to the command: another environment.
    pub fn start_target_as(&self, change: impl FnOnce(&mut Command)) -> Running {
        let mut command = supervised(binary());
        command.args(["master-target", "run", "--json", "--config"]).arg(self.target_settings());
        change(&mut command);
        let running = Running::start(&mut command);
        running.wait_for(LONG, |line| event(line).filter(|event| event["event"] == "listening"));
        if !self.agent_settings().exists() {
            self.pair_hosts();
        }
        running
    }

    /// Makes a token, and settings of an agent that spends it.
    fn pair_hosts(&self) {
        let (token, state) = (self.scratch.path("token"), self.scratch.path("home"));
        let arguments = ["pair", "--address", &self.reached_at, "--state", path_text(&state)];
        failback(&[&arguments[..], &["--output", path_text(&token)]].concat()).expect_success();
        self.write_agent_settings();
    }

    /// Starts the agent, and waits until it can be talked to.
    pub fn start_agent(&self) -> Running {
        self.start_agent_as(supervised(binary()))
    }

    /// The same, by a command that takes the arguments of failback: one of another
    /// environment.
    pub fn start_agent_as(&self, failback: Command) -> Running {
        let running = self.launch_agent_as(failback);
        running.wait_for(LONG, |line| event(line).filter(|event| event["event"] == "started"));
        running
    }

    /// Starts the agent.
    pub fn launch_agent(&self) -> Running {
        self.launch_agent_as(supervised(binary()))
    }

    fn launch_agent_as(&self, mut failback: Command) -> Running {
        let run = ["agent", "run", "--rehearse", "--json", "--config"];
        Running::start(failback.args(run).arg(self.agent_settings()))
    }

    /// `failback agent ARGUMENTS --json`.
    pub fn agent(&self, arguments: &[&str]) -> Outcome {
        self.launch(arguments).finish(LONG)
    }

    /// The same, not waited for.
    pub fn launch(&self, arguments: &[&str]) -> Running {
        let settings = self.agent_settings();
        let place = ["--json", "--config", path_text(&settings)];
        Running::start(supervised(binary()).args([&["agent"], arguments, &place].concat()))
    }

    /// `failback master-target ARGUMENTS --json`.
    pub fn master_target(&self, arguments: &[&str]) -> Outcome {
        let settings = self.target_settings();
        let place = ["--json", "--config", path_text(&settings)];
        failback(&[&["master-target"], arguments, &place].concat())
    }

    /// Waits until all disks are in the state called `state`.
    pub fn wait_for_state(&self, state: &str) {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.agent(&["status"]);
            let is_there = status.code() == Some(0) && {
                let status = status.summary();
                let disks = status["disks"].as_array().cloned().unwrap_or_default();
                disks.len() == self.disks.len() && disks.iter().all(|disk| disk["state"] == state)
            };
            if is_there {
                return;
            }
            assert!(Instant::now() < deadline, "not {state} in time: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until every disk has a point.
    pub fn wait_for_points(&self) {
        let deadline = Instant::now() + LONG;
        while self.disks.iter().any(|disk| self.points(&disk.name).is_empty()) {
            assert!(Instant::now() < deadline, "no first point in time: {}", self.agent(&["status"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks for a cut, again where one is skipped; the names of all disks' points
    /// are then `name`. Gives how many were skipped before.
    pub fn cut(&self, name: &str, options: &[&str]) -> usize {
        let deadline = Instant::now() + LONG;
        for skipped in 0.. {
            let outcome = self.agent(&[&["cut", "--name", name], options].concat());
            if outcome.code() == Some(0) {
                return skipped;
            }
            assert!(Instant::now() < deadline, "no cut in time: {outcome}");
            std::thread::sleep(Duration::from_millis(100));
        }
        unreachable!("the deadline ends it")
    }

    /// The points of a disk, oldest first; none where there is no journal yet.
    pub fn points(&self, disk: &str) -> Vec<Listed> {
        let (pair, retention) = (self.pair(disk), self.retention());
        if !retention.join(&pair).join("pair").exists() {
            return Vec::new();
        }
        let arguments = ["points", "list", &pair, "--json", "--retention", path_text(&retention)];
        let outcome = failback(&arguments).expect_success();
        let listed = outcome.summary()["points"].as_array().expect("points are listed").clone();
        listed.iter().map(Listed::new).collect()
    }

    /// The point called `name`.
    pub fn point(&self, disk: &str, name: &str) -> Listed {
        let points = self.points(disk);
        let found = points.iter().find(|point| point.name == name);
        found.unwrap_or_else(|| panic!("no point {name} among {points:?}")).clone()
    }

    /// The disk as it was at a point, in a file of its own.
    pub fn copy(&self, disk: &str, epoch: u64) -> PathBuf {
        let copy = self.scratch.path(&format!("{disk}-{epoch}.raw"));
        let (pair, settings, point) = (self.pair(disk), self.target_settings(), epoch.to_string());
        let arguments = ["points", "copy", &pair, &point, path_text(&copy)];
        let place = ["--json", "--config", path_text(&settings)];
        failback(&[&arguments[..], &place].concat()).expect_success();
        let protected = self.disk(disk);
        let length = fs::metadata(&copy).expect("it was made").len();
        assert_eq!(length, protected.bytes, "a copy is as long as its disk");
        copy
    }

    /// Takes a fenced target back, or forward, to a point.
    pub fn rewind(&self, disk: &str, epoch: u64) {
        self.launch_rewind(disk, epoch).finish(LONG).expect_success();
    }

    /// The same, not waited for.
    pub fn launch_rewind(&self, disk: &str, epoch: u64) -> Running {
        let (pair, settings) = (self.pair(disk), self.target_settings());
        let arguments = ["points", "rewind", &pair, &epoch.to_string()];
        let place = ["--json", "--config", path_text(&settings)];
        Running::start(supervised(binary()).args([&arguments[..], &place].concat()))
    }

    pub fn disk(&self, name: &str) -> &Protected {
        self.disks.iter().find(|disk| disk.name == name).expect("a disk of this rig")
    }
}

impl Protected {
    /// A disk whose both ends are loop devices over files.
    pub fn new(name: &str, bytes: u64, source: &Path, target: &Path) -> Self {
        let attached = LoopDevice::attach(target, 512);
        let onto_image = Self::onto_image(name, bytes, source, target);
        Self { target: attached.path().to_path_buf(), _attached: Some(attached), ..onto_image }
    }

    /// A disk whose target is a raw image.
    pub fn onto_image(name: &str, bytes: u64, source: &Path, target: &Path) -> Self {
        let files = [source, target].map(Path::to_path_buf);
        let (source, target) = (LoopDevice::attach(source, 512), target.to_path_buf());
        Self { name: name.to_owned(), bytes, source, target, _attached: None, files }
    }
}

impl Listed {
    /// Of what `points list --json` says.
    pub fn new(point: &Value) -> Self {
        let number = |key: &str| point[key].as_u64().unwrap_or_else(|| panic!("no {key} in {point}"));
        let text = |key: &str| point[key].as_str().unwrap_or_default().to_owned();
        // Frozen from before `cut_unix_ms` on, for `freeze_ms` in all.
        let cut_ns = number("cut_unix_ms") * NANOSECONDS;
        let to_ns = cut_ns + (number("freeze_ms") + 2) * NANOSECONDS;
        let window = Window { from_ns: cut_ns, to_ns };
        Self { epoch: number("epoch"), kind: text("kind"), name: text("name"), window }
    }
}

/// A mounted filesystem of a source, thawed and unmounted when it is dropped.
pub struct Filesystem {
    mount: Option<Mount>,
    device: PathBuf,
    pub point: PathBuf,
}

impl Filesystem {
    /// Makes one of `kind` on `device`, and mounts it at the folder `point`.
    pub fn make(kind: &str, device: &Path, point: PathBuf) -> Self {
        let force = if kind == "ext4" { "-F" } else { "-f" };
        run(program(&format!("mkfs.{kind}")).args(["-q", force]).arg(device));
        let mount = Some(Mount::new(device, &point, ""));
        Self { mount, device: device.to_path_buf(), point }
    }

    /// Unmounts it, whatever cuts are made meanwhile. What is on the disk then stays.
    pub fn unmount(mut self) {
        self.mount.take().expect("it is mounted").unmount();
        // A mount namespace that another test has just made holds it for a moment.
        let exclusively = || OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.device);
        eventually("nobody has it mounted", || exclusively().is_ok());
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        let Some(mount) = self.mount.take() else { return };
        // Unmounted while it is frozen it would stay so, out of everybody's reach.
        let _ = program("fsfreeze").arg("--unfreeze").arg(&self.point).output();
        drop(mount);
    }
}

/// Runs a command that comes to an end.
pub fn failback(arguments: &[&str]) -> Outcome {
    Running::start(supervised(binary()).args(arguments)).finish(LONG)
}

/// A line as JSON.
pub fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are ASCII")
}

/// An address that stays ours while nobody listens there. Not of those that the
/// kernel gives to whoever connects: a client that tries again and again there
/// would one day be connected to itself.
fn free_address() -> String {
    let mut random = Random::with_seed(u64::from(std::process::id()) ^ seed_of_address());
    loop {
        let address = format!("127.0.0.1:{}", 15_000 + random.below(16_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Another one for each rig of this process.
fn seed_of_address() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed) << 40
}

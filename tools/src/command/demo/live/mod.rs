//! The second act: a machine goes on working while its disk is protected, gets
//! recovery points, goes home in one short stop, and could go back in time.
//!
//! ```text
//! cloud: ext4 with a writer ── agent run ══ TLS ══ master-target run ── live.img, journal :home
//!        cut, cut, cut, finish                     rewind to the second point, look, commit
//! ```

mod exact;
mod process;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failback_datapath::disk::image;
use failback_datapath::track;
use indicatif::BinaryBytes;
use nix::mount::{MntFlags, umount2};
use serde_json::Value;
use tempfile::TempDir;

use self::process::{Process, ask};
use self::writer::Writer;
use super::attachment::{Device, Mount};
use super::error::Error;
use super::stage::{Done, Stage};
use super::tree::{self, Plan};

/// What is protected, as `MACHINE/DISK`.
const PAIR: &str = "cloud/disk";

/// The image at home.
const IMAGE: &str = "live.img";

/// Where a freeze is recorded: a filesystem in memory.
const MEMORY: &str = "/dev/shm";

/// Points before the last one.
const POINTS: usize = 3;

/// For how long the machine works between two points.
const WORKS_FOR: Duration = Duration::from_millis(300);

/// How often something is looked at that takes its time.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// Plays it on `device` with its empty filesystem, which gets the files of
/// `plans`. Where the kernel cannot follow a disk's changes, it is left out.
///
/// # Errors
/// Those of the steps.
pub fn play(device: &Path, plans: &[Plan], size_bytes: u64, stage: &Stage<'_>) -> Result<(), Error> {
    if let Some(fact) = track::facts(device).into_iter().find(|fact| fact.is_required && !fact.is_met) {
        stage.leave_out("live protection", format!("{}: {}", fact.what, fact.detail));
        return Ok(());
    }
    let mount = Mount::new(device, &stage.path("cloud-live"), false)?;
    tree::write(mount.point(), plans, &stage.cancel)?;
    let writer = Writer::start(mount.point())?;
    let scene = stage.step("protect", || Scene::set(device, size_bytes, stage))?;
    let mut written = Vec::new();
    for number in 1..=POINTS {
        std::thread::sleep(WORKS_FOR);
        written.push(stage.step("recovery point", || scene.cut(number, &writer, stage))?);
    }
    stage.step("go home", || scene.finish(device, stage))?;
    scene.agent.end()?;
    writer.stop();
    mount.unmount()?;
    stage.step("rewind", || scene.home.rewind(&written[1], stage))?;
    stage.step("commit", || scene.home.commit(stage))?;
    scene.home.target.end()?;
    ask(&["agent", "uninstall"], &scene.home.agent_settings, stage).map(drop)
}

/// What the writer had written before a point was asked for, and after it was made.
struct Around {
    before: u64,
    after: u64,
}

/// Both processes at work. In this order they go.
struct Scene {
    agent: Process,
    home: Home,
}

/// Where things lie.
struct Home {
    target: Process,
    agent_settings: PathBuf,
    target_settings: PathBuf,
    image: PathBuf,
    _pins: Pins,
    _run: TempDir,
}

/// The BPF filesystem that the agent mounts for its trackers: they end with it.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        // Not mounted where nothing came that far.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
}

impl Scene {
    /// Starts the master target and the agent, and waits for the first
    /// synchronization.
    fn set(device: &Path, size_bytes: u64, stage: &Stage<'_>) -> Result<(Self, Done), Error> {
        let image = stage.path(IMAGE);
        image::create_raw(&image, size_bytes)?;
        let (retention, pins) = (stage.make_folder("retention")?, Pins(stage.make_folder("bpf")?));
        let run = tempfile::Builder::new().prefix("failback-demo-").tempdir_in(MEMORY);
        let run = run.map_err(Error::at("make a folder in", Path::new(MEMORY)))?;
        let folder = stage.folder().display();
        let target_settings = stage.path("target.toml");
        let settings = format!(
            "state = \"{folder}/home-state\"\ncontrol = \"{folder}/home.sock\"\nlisten = \"127.0.0.1:0\"\n\
             retention = \"{}\"\n[keep]\nfree = \"1MiB\"\n[[pair]]\nname = \"{PAIR}\"\ntarget = \"{}\"\n",
            retention.display(),
            image.display()
        );
        fs::write(&target_settings, settings).map_err(Error::at("write", &target_settings))?;
        let target = Process::start(&["master-target", "run"], &target_settings, stage)?;
        let listening = target.wait_for("listening", stage)?;
        let address = listening["address"].as_str().unwrap_or_default();
        process::issue_token(address, &stage.path("home-state"), &stage.path("token"), stage)?;

        let agent_settings = stage.path("agent.toml");
        let settings = format!(
            "state = \"{folder}/cloud-state\"\ncontrol = \"{folder}/cloud.sock\"\nrun = \"{}\"\n\
             pins = \"{}\"\nname = \"cloud\"\nmaster-target = \"{address}\"\ntoken-file = \"{folder}/token\"\n\
             [[disk]]\nname = \"disk\"\ndevice = \"{}\"\ntracking = \"ebpf\"\n[points]\ncycle = \"200ms\"\n",
            run.path().display(),
            pins.0.display(),
            device.display()
        );
        fs::write(&agent_settings, settings).map_err(Error::at("write", &agent_settings))?;
        let agent = Process::start(&["agent", "run", "--rehearse"], &agent_settings, stage)?;
        agent.wait_for("started", stage)?;
        let home = Home { target, agent_settings, target_settings, image, _pins: pins, _run: run };
        let scene = Self { agent, home };
        let status = scene.wait_until_protected(stage)?;
        let sent = status["sent_bytes"].as_u64().unwrap_or_default();
        let what = "first synchronization while the machine writes; its changes are tracked by eBPF";
        let done = Done { bytes_moved: sent, bytes_covered: size_bytes, ..Done::saying(what) };
        Ok((scene, done))
    }

    fn wait_until_protected(&self, stage: &Stage<'_>) -> Result<Value, Error> {
        loop {
            let status = ask(&["agent", "status"], &self.home.agent_settings, stage)?;
            if status["disks"][0]["state"] == "protecting" {
                return Ok(status);
            }
            self.agent.check(stage)?;
            std::thread::sleep(LOOKS_EVERY);
        }
    }

    fn cut(&self, number: usize, writer: &Writer, stage: &Stage<'_>) -> Result<(Around, Done), Error> {
        let before = writer.written();
        let name = format!("demo-{number}");
        let cut = ask(&["agent", "cut", "--name", &name], &self.home.agent_settings, stage)?;
        let around = Around { before, after: writer.written() };
        let what = format!("{name}, crash-consistent; the machine stood still for {} ms", cut["freeze_ms"]);
        Ok((around, Done::saying(what)))
    }

    /// The last point; the machine stays frozen, and its disk is held against the
    /// image, byte by byte.
    fn finish(&self, device: &Path, stage: &Stage<'_>) -> Result<((), Done), Error> {
        let cut = ask(&["agent", "finish"], &self.home.agent_settings, stage)?;
        exact::compare(device, &self.home.image, stage)?;
        let what = format!(
            "frozen, last delta, final point, fenced: {} ms of downtime; both disks are equal",
            cut["downtime_ms"]
        );
        Ok(((), Done::saying(what)))
    }
}

impl Home {
    /// Takes the image back to the second point, and looks what its files say.
    fn rewind(&self, written: &Around, stage: &Stage<'_>) -> Result<((), Done), Error> {
        ask(&["points", "rewind", PAIR, "demo-2"], &self.target_settings, stage)?;
        let copy = Device::attach(&self.image, true)?;
        let mount = Mount::new(copy.path(), &stage.path("home-live"), true)?;
        let last = writer::last(mount.point())?;
        mount.unmount()?;
        copy.detach()?;
        let Around { before, after } = *written;
        if !(before..=after).contains(&last) {
            return Err(Error::OtherPoint { last, before, after });
        }
        let what = format!(
            "to demo-2: mounted read-only, its last line is {last}; it was cut between lines {before} and {after}"
        );
        Ok(((), Done::saying(what)))
    }

    fn commit(&self, stage: &Stage<'_>) -> Result<((), Done), Error> {
        ask(&["points", "rewind", PAIR, "demo-3"], &self.target_settings, stage)?;
        ask(&["points", "commit", PAIR], &self.target_settings, stage)?;
        let listed = ask(&["points", "list", PAIR], &self.target_settings, stage)?;
        let parts = ["segment_bytes", "index_bytes", "digest_bytes"];
        let bytes = parts.iter().filter_map(|part| listed["space"][part].as_u64()).sum();
        let what = format!("forward to demo-3, and settled on it; the journal takes {}", BinaryBytes(bytes));
        Ok(((), Done::saying(what)))
    }
}

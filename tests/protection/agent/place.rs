//! A machine with a master target on one host, each as a process of its own.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::rig::{failback, path_text};
use crate::fixture::{LONG, LoopDevice, Mount, Outcome, Running, Scratch, binary, program, run, supervised};

/// Where both keep what they keep.
pub struct Place {
    pub scratch: Scratch,
    address: String,
}

impl Place {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        for folder in ["home", "retention", "machine", "bpf", "run"] {
            scratch.folder(folder);
        }
        // The record of a freeze lies in memory.
        run(program("mount").args(["-t", "tmpfs", "run"]).arg(scratch.path("run")));
        Self { scratch, address: String::new() }
    }

    /// A disk of 32 MiB, its target and its name in the settings.
    pub fn disk(&self, name: &str) -> Disk {
        let [source, target] = ["source", "target"]
            .map(|end| LoopDevice::attach(&self.scratch.image(&format!("{name}-{end}"), 32 << 20), 512));
        Disk { name: name.to_owned(), source, target }
    }

    /// Starts the master target, pairs the agent with it and writes its settings.
    pub fn home(&mut self, disks: &[&Disk]) -> Running {
        let root = self.scratch.root().display();
        let listen = if self.address.is_empty() { "127.0.0.1:0" } else { &self.address };
        let mut text = format!(
            "state = \"{root}/home\"\ncontrol = \"{root}/home.sock\"\nlisten = \"{listen}\"\n\
             retention = \"{root}/retention\"\n[keep]\nfree = \"1MiB\"\n"
        );
        for disk in disks {
            let target = disk.target.path().display();
            text += &format!("[[pair]]\nname = \"web/{}\"\ntarget = \"{target}\"\n", disk.name);
        }
        let settings = self.scratch.file("target.toml", text);
        let mut command = supervised(binary());
        command.args(["master-target", "run", "--json", "--config"]).arg(settings);
        let running = Running::start(&mut command);
        let address = running.wait_for(LONG, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["address"].as_str().filter(|_| event["event"] == "listening").map(str::to_owned)
        });
        if self.address.is_empty() {
            let (token, home) = (self.scratch.path("token"), self.scratch.path("home"));
            let pair = ["pair", "--address", &address, "--state", path_text(&home)];
            failback(&[&pair[..], &["--output", path_text(&token)]].concat()).expect_success();
        }
        self.address = address;
        running
    }

    /// Writes the agent's settings; `more` follows the disks.
    pub fn settings(&self, disks: &[&Disk], more: &str) {
        let root = self.scratch.root().display();
        let mut text = format!(
            "state = \"{root}/machine\"\ncontrol = \"{root}/machine.sock\"\nrun = \"{root}/run\"\n\
             pins = \"{root}/bpf\"\nname = \"web\"\nmaster-target = \"{}\"\ntoken-file = \"token\"\n",
            self.address
        );
        for disk in disks {
            let device = disk.source.path().display();
            text += &format!("[[disk]]\nname = \"{}\"\ndevice = \"{device}\"\nchunk = \"4KiB\"\n", disk.name);
        }
        let points = "[points]\ncycle = \"50ms\"\ncrash-consistent = \"1h\"\n[freeze]\nbudget = \"5s\"\n";
        self.scratch.file("agent.toml", format!("{text}{points}{more}"));
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.path("agent.toml")
    }

    /// Starts the agent, and waits until it can be asked.
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    pub fn start_with(&self, options: &[&str]) -> Running {
        let mut command = supervised(binary());
        command.args(["agent", "run", "--rehearse", "--json", "--config"]).arg(self.config()).args(options);
        let running = Running::start(&mut command);
        running.wait_for(LONG, |line| line.contains("\"started\"").then_some(()));
        running
    }

    /// `failback agent ARGUMENTS`.
    pub fn agent(&self, arguments: &[&str]) -> Outcome {
        let config = self.config();
        failback(&[&["agent"], arguments, &["--json", "--config", path_text(&config)]].concat())
    }

    pub fn status(&self) -> Value {
        self.agent(&["status"]).expect_success().summary()
    }

    /// Waits until all disks are in the state of this name.
    pub fn reaches(&self, state: &str) -> Value {
        let until = Instant::now() + LONG;
        loop {
            let status = self.status();
            let disks = status["disks"].as_array().expect("disks are listed");
            if disks.iter().all(|disk| disk["state"] == state) {
                return status;
            }
            assert!(Instant::now() < until, "not {state} in time: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes a point, trying again where one is skipped; gives its event.
    pub fn cut(&self, options: &[&str]) -> Value {
        let until = Instant::now() + LONG;
        loop {
            let outcome = self.agent(&[&["cut"], options].concat());
            if outcome.code() == Some(0) {
                return outcome.summary();
            }
            assert!(Instant::now() < until, "no point in time: {outcome}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the disk held at the point of an epoch.
    pub fn copy(&self, disk: &Disk, epoch: u64) -> Vec<u8> {
        let file = self.scratch.path(&format!("{}-{epoch}", disk.name));
        let (pair, epoch) = (format!("web/{}", disk.name), epoch.to_string());
        let retention = self.scratch.path("retention");
        let copy = ["points", "copy", &pair, &epoch, path_text(&file), "--retention", path_text(&retention)];
        failback(&copy).expect_success();
        fs::read(file).expect("it was made")
    }
}

/// A disk that is protected.
pub struct Disk {
    pub name: String,
    pub source: LoopDevice,
    pub target: LoopDevice,
}

impl Disk {
    /// An ext4 on the source.
    pub fn filesystem(&self, scratch: &Scratch) -> Mounted {
        run(program("mkfs.ext4").args(["-q", "-F"]).arg(self.source.path()));
        Mounted(Mount::new(self.source.path(), &scratch.folder(&format!("{}-mount", self.name)), ""))
    }

    /// What lies on a device, past its page cache.
    pub fn bytes(device: &LoopDevice) -> Vec<u8> {
        run(program("blockdev").arg("--flushbufs").arg(device.path()));
        fs::read(device.path()).expect("a device can be read")
    }
}

/// A filesystem that is thawed before it is unmounted: frozen, nobody could.
pub struct Mounted(pub Mount);

impl Mounted {
    /// Writes a file of `pages` pages that hold `fill`, down to the disk.
    pub fn write(&self, name: &str, pages: usize, fill: u8) {
        let path = self.0.point().join(name);
        fs::write(&path, vec![fill; pages * 4096]).expect("there is room");
        fs::File::open(path).and_then(|file| file.sync_all()).expect("it is flushed");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = program("fsfreeze").arg("--unfreeze").arg(self.0.point()).output();
    }
}

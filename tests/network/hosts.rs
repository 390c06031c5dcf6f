//! Two hosts: one that serves, and one that begins runs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{Failback, LoopDevice, Model, Outcome, Scratch, Server, run};

/// Two hosts with a state each, in one kernel.
pub struct Hosts {
    /// The one that serves.
    pub home: Scratch,
    /// The one that begins.
    pub away: Scratch,
}

impl Hosts {
    pub fn new() -> Self {
        Self { home: Scratch::new(), away: Scratch::new() }
    }

    /// A server at home that knows the other host.
    pub fn serve<A: AsRef<str>>(&self, exports: &[A]) -> Server {
        let server = Server::start(&self.home, exports);
        pair(&self.home, server.address(), &self.away);
        server
    }

    /// `failback sync` on the host that begins.
    pub fn sync(&self, source: &str, target: &str, options: &[&str]) -> Failback {
        sync(&self.away, source, target, options)
    }
}

/// `failback sync --json SOURCE TARGET OPTIONS` on one host.
pub fn sync(host: &Scratch, source: &str, target: &str, options: &[&str]) -> Failback {
    Failback::new(host, ["sync", "--json", source, target].iter().chain(options))
}

/// A token of `server`, which is reached at `address`, in a file of `client`.
pub fn token(server: &Scratch, address: &str, client: &Scratch) -> PathBuf {
    let token = Failback::new(server, ["pair", "--address", address]).run().expect_success().stdout;
    client.file("token", token)
}

/// Pairs two hosts.
pub fn pair(server: &Scratch, address: &str, client: &Scratch) {
    let token = token(server, address, client);
    Failback::new(client, ["pair", "--spend", path_text(&token)]).run().expect_success();
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are ASCII")
}

/// What a summary says of a counter.
pub fn counter(outcome: &Outcome, name: &str) -> u64 {
    let summary = outcome.summary();
    summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}"))
}

/// What the last event, an error, says.
pub fn error(outcome: &Outcome) -> Value {
    let event = outcome.summary();
    assert!(event["event"] == "error", "no error: {outcome}");
    event
}

/// Whether the message of the last event holds all of `parts`.
pub fn assert_message(outcome: &Outcome, parts: &[&str]) {
    let message = error(outcome)["message"].to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

/// Whether `path` is marked as unfinished on its host.
pub fn is_unfinished(host: &Scratch, path: &Path) -> bool {
    let info = Failback::new(host, ["image", "info", path_text(path)]).run().expect_success();
    info.stdout.contains("UNFINISHED")
}

/// The most memory, in bytes, that a process ever held.
pub fn memory_peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells it");
    let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kibibytes << 10
}

/// A disk of any kind, with the file or device that shows its bytes.
pub struct Disk {
    /// What failback is told.
    pub path: PathBuf,
    /// Where its bytes are.
    pub bytes: PathBuf,
    _device: Option<LoopDevice>,
}

/// What a disk can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Loop512,
    Loop4096,
    Raw,
    Vmdk,
}

impl Kind {
    /// Those that this user can make.
    pub fn all() -> Vec<Self> {
        let loops: &[Self] = if crate::fixture::need(&[crate::fixture::Need::LoopDevices]).is_some() {
            &[Self::Loop512, Self::Loop4096]
        } else {
            &[]
        };
        [loops, &[Self::Raw, Self::Vmdk]].concat()
    }

    /// An empty disk of `size` bytes on `host`.
    pub fn make(self, host: &Scratch, name: &str, size: u64) -> Disk {
        match self {
            Self::Raw => {
                let path = host.image(name, size);
                Disk { bytes: path.clone(), path, _device: None }
            }
            Self::Vmdk => {
                let path = host.path(&format!("{name}.vmdk"));
                let size = size.to_string();
                let arguments = ["image", "create", path_text(&path), "--size", &size];
                // The command has no state.
                run(std::process::Command::new(crate::fixture::binary()).args(arguments));
                Disk { bytes: host.path(&format!("{name}-flat.vmdk")), path, _device: None }
            }
            Self::Loop512 | Self::Loop4096 => {
                let file = host.image(&format!("{name}.back"), size);
                let device = LoopDevice::attach(&file, if self == Self::Loop512 { 512 } else { 4096 });
                let path = device.path().to_path_buf();
                Disk { bytes: path.clone(), path, _device: Some(device) }
            }
        }
    }
}

impl Disk {
    pub fn text(&self) -> &str {
        path_text(&self.path)
    }

    /// `NAME=PATH`.
    pub fn export(&self, name: &str) -> String {
        crate::fixture::export(name, &self.path)
    }

    pub fn fill(&self, model: &Model) {
        model.write_over(&self.bytes);
    }
}

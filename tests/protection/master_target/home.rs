//! A master target of one test, with one pair.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use failback_datapath::wire::Remote;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::{Address, KnownPeers, Peer};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Outcome, Running, Scratch, binary, supervised};

const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Home {
    scratch: Scratch,
    client: Identity,
    running: Option<(Running, String)>,
}

impl Home {
    /// A target of `bytes` for `web-1/root`, and `keep` for its points.
    pub fn new(bytes: u64, keep: &str) -> Self {
        let scratch = Scratch::new();
        scratch.image("target.img", bytes);
        scratch.folder("retention");
        let client = Identity::load_or_create(&scratch.path("client")).expect("a key");
        let home = Self { scratch, client, running: None };
        home.configure(keep);
        home
    }

    /// Writes the settings.
    pub fn configure(&self, keep: &str) {
        let place = |name: &str| self.scratch.path(name).display().to_string();
        let text = format!(
            "state = \"{}\"\ncontrol = \"{}\"\nlisten = \"127.0.0.1:0\"\nretention = \"{}\"\n[keep]\n{keep}\n\
             [[pair]]\nname = \"web-1/root\"\ntarget = \"{}\"\n",
            place("state"),
            place("run/control.sock"),
            place("retention"),
            place("target.img")
        );
        fs::write(self.config(), text).expect("written");
    }

    pub fn config(&self) -> PathBuf {
        self.scratch.path("target.toml")
    }

    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub fn start(&mut self) {
        let mut command = supervised(binary());
        command.args(["master-target", "run", "--json", "--config"]).arg(self.config());
        let running = Running::start(&mut command);
        let address = running.wait_for(TIMEOUT, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["event"] == "listening").then(|| event["address"].as_str().map(str::to_owned))?
        });
        self.pair_with("web-1", &self.client);
        self.running = Some((running, address));
    }

    /// Lets whoever has these keys connect.
    pub fn pair_with(&self, name: &str, client: &Identity) {
        let peer = Peer::client(name, client.fingerprint(), SystemTime::now());
        KnownPeers::remember(&self.scratch.path("state/identity"), &peer).expect("remembered");
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Outcome {
        let (running, _) = self.running.take().expect("it runs");
        running.signal(Signal::SIGTERM);
        running.finish(TIMEOUT)
    }

    pub fn signal(&self, signal: Signal) {
        self.running.as_ref().expect("it runs").0.signal(signal);
    }

    pub fn kill(&mut self) {
        let (running, _) = self.running.take().expect("it runs");
        running.kill();
    }

    pub fn address(&self) -> &str {
        &self.running.as_ref().expect("it runs").1
    }

    /// Waits until it tells an event for which `wanted` has an answer.
    pub fn hears<T>(&self, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let running = &self.running.as_ref().expect("it runs").0;
        running.wait_for(TIMEOUT, |line| wanted(&serde_json::from_str(line).ok()?))
    }

    /// Waits for an alarm that says `text`.
    pub fn alarms(&self, text: &str) {
        self.hears(|event| {
            let says = event["reason"].as_str().is_some_and(|reason| reason.contains(text));
            (event["event"] == "alarm" && says).then_some(())
        });
    }

    /// How an agent reaches it.
    pub fn remote(&self) -> Remote {
        self.remote_of(&self.client)
    }

    /// How an agent with these keys reaches it.
    pub fn remote_of(&self, client: &Identity) -> Remote {
        let server = Identity::load_or_create(&self.scratch.path("state/identity")).expect("a key");
        Remote::Served {
            address: self.address().parse::<Address>().expect("an address"),
            export: "the master target".to_owned(),
            identity: client.clone(),
            fingerprint: server.fingerprint(),
        }
    }

    /// Runs `failback ARGUMENTS --json --config …`.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = supervised(binary());
        command.args(arguments).args(["--json", "--config"]).arg(self.config());
        finish(&mut command)
    }

    /// Runs `failback ARGUMENTS` with the state of this host.
    pub fn run_plain(&self, arguments: &[&str]) -> Outcome {
        let mut command = supervised(binary());
        command.args(arguments).arg("--state").arg(self.scratch.path("state"));
        finish(&mut command)
    }

    /// What the target holds.
    pub fn target(&self) -> Vec<u8> {
        fs::read(self.scratch.path("target.img")).expect("read")
    }

    pub fn path(&self, name: &str) -> String {
        self.scratch.path(name).to_str().expect("in UTF-8").to_owned()
    }

    /// What `status` says of the pair.
    pub fn status(&self) -> Value {
        let mut status = self.run(&["master-target", "status"]).expect_success().summary();
        status["pairs"][0].take()
    }
}

fn finish(command: &mut Command) -> Outcome {
    Running::start(command).finish(TIMEOUT)
}

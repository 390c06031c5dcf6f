//! Runs over ssh that are stopped: by a signal, by the end of ssh, or killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hosts::{Hosts, error, is_unfinished, path_text};
use crate::fixture::{
    Failback, LONG, Model, Need, Random, Running, Scratch, Sshd, assert_same_bytes, binary, eventually, need,
};

const NEEDS: [Need; 3] = [Need::Program("sshd"), Need::Program("ssh"), Need::Program("ssh-keygen")];
const SIZE: usize = 24 << 20;
/// A slow run between two hosts of which one is reached over ssh.
struct OverSsh {
    hosts: Hosts,
    sshd: Sshd,
    remote: PathBuf,
    source: PathBuf,
    target: PathBuf,
    is_push: bool,
}

impl OverSsh {
    fn new(is_push: bool) -> Self {
        let (hosts, mut random) = (Hosts::new(), Random::new());
        let sshd = Sshd::start(&hosts.home);
        let (from, to) = if is_push { (&hosts.away, &hosts.home) } else { (&hosts.home, &hosts.away) };
        let (source, target) = (from.path("source"), to.path("target"));
        Model::random(SIZE, &mut random).save(&source);
        Model::random(SIZE, &mut random).save(&target);
        let remote = remote_failback(&hosts.home);
        Self { hosts, sshd, remote, source, target, is_push }
    }

    fn sync(&self, options: &[&str]) -> Failback {
        let (source, target) = (path_text(&self.source), path_text(&self.target));
        let options = [&["--remote-failback", path_text(&self.remote)], options].concat();
        let run = if self.is_push {
            self.hosts.sync(source, &self.sshd.url(&self.target), &options)
        } else {
            self.hosts.sync(&self.sshd.url(&self.source), target, &options)
        };
        run.programs(&self.sshd.programs())
    }

    fn target_host(&self) -> &Scratch {
        if self.is_push { &self.hosts.home } else { &self.hosts.away }
    }

    /// Starts, and waits until some of the disk has arrived.
    fn start(&self) -> Running {
        let running = self.sync(&["--limit-rate", "8M"]).start();
        let source = fs::read(&self.source).expect("it was saved");
        eventually("data arrives", || {
            let target = fs::read(&self.target).expect("it was saved");
            target[3 << 20..4 << 20] == source[3 << 20..4 << 20]
        });
        running
    }

    /// Marked at the target's host; the same command again ends exact.
    fn ends_equal(&self) {
        assert!(is_unfinished(self.target_host(), &self.target), "no mark");
        let mut outcome = self.sync(&[]).run();
        for _ in 0..100 {
            // The far failback may still be leaving the target in order.
            if outcome.code() != Some(3) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            outcome = self.sync(&[]).run();
        }
        let outcome = outcome.expect_success();
        assert!(outcome.stdout.contains("\"resuming\""), "{outcome}");
        assert_same_bytes(&self.source, &self.target, SIZE as u64);
        assert!(!is_unfinished(self.target_host(), &self.target), "the mark stays");
    }
}

/// A `failback` for the far end whose state lies in its scratch directory.
fn remote_failback(host: &Scratch) -> PathBuf {
    let (state, program) = (host.path("state"), binary());
    let script = format!(
        "#!/bin/sh\nverb=$1\nshift\nexec '{}' \"$verb\" --state '{}' \"$@\"\n",
        program.display(),
        state.display()
    );
    let path = host.file("failback-here", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// The `ssh` that a run started.
fn ssh_of(running: &Running) -> Pid {
    let process = running.identifier();
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children
        .flat_map(|line| line.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    let [child] = children[..] else { panic!("one ssh, not {children:?}") };
    Pid::from_raw(child)
}

#[test]
fn a_signal_stops_a_run_over_ssh() {
    let Some(()) = need(&NEEDS) else { return };
    for (is_push, signal) in [(true, Signal::SIGINT), (false, Signal::SIGTERM)] {
        let run = OverSsh::new(is_push);
        let running = run.start();
        running.signal(signal);
        let outcome = running.finish(LONG).expect_code(4);
        assert_eq!(error(&outcome)["code"], "interrupted", "{outcome}");
        assert!(outcome.stderr.contains("unfinished"), "{outcome}");
        run.ends_equal();
    }
}

#[test]
fn the_end_of_ssh_ends_a_run() {
    let Some(()) = need(&NEEDS) else { return };
    for is_push in [true, false] {
        let run = OverSsh::new(is_push);
        let running = run.start();
        kill(ssh_of(&running), Signal::SIGKILL).expect("it runs");
        let outcome = running.finish(LONG).expect_code(6);
        assert!(outcome.stderr.contains("unfinished"), "{outcome}");
        run.ends_equal();
    }
}

#[test]
fn a_killed_run_over_ssh_goes_on() {
    let Some(()) = need(&NEEDS) else { return };
    for is_push in [true, false] {
        let run = OverSsh::new(is_push);
        run.start().kill();
        run.ends_equal();
    }
}

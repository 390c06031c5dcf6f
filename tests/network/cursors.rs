//! Runs that are killed behind a checkpoint: the mark holds a cursor, the next
//! run goes on from it, and ends exact.
//!
//! ```text
//! round: slow run ── checkpoint (5 s) ── kill ─[source changes]─ kill a resumed run ─ … ─ finish ─ cmp
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::hosts::{Hosts, counter, is_unfinished, pair, path_text};
use super::proxy::Proxy;
use crate::fixture::{
    Failback, LONG, Random, Running, Scratch, Server, assert_same_bytes, eventually, export,
};

const SEGMENT: u64 = 64 << 20;
const SEGMENTS: u64 = 8;
/// Bytes at the start of each segment; the rest of it is a hole.
const DATA: usize = 2 << 20;
const SIZE: u64 = SEGMENTS * SEGMENT - 4096 * 5;
const ROUNDS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Local,
    Push,
    Pull,
}

struct Run {
    way: Way,
    hosts: Hosts,
    proxy: Proxy,
    server: Option<Server>,
    source: PathBuf,
    target: PathBuf,
    random: Random,
}

/// Changes the disk at random places of the segments' beginnings.
fn scribble(disk: &Path, places: usize, random: &mut Random) {
    let file = OpenOptions::new().write(true).open(disk).expect("it was made");
    for _ in 0..places {
        let mut piece = vec![0; 1 + random.index_below(100 << 10)];
        if random.happens(80) {
            random.fill(&mut piece);
        }
        let at = random.below(SEGMENTS) * SEGMENT + random.below((DATA - piece.len()) as u64);
        file.write_all_at(&piece, at).expect("the filesystem has room");
    }
    file.sync_all().expect("the filesystem works");
}

/// A disk with random bytes at the start of each segment.
fn make(path: &Path, random: &mut Random) {
    let file = File::create(path).expect("the scratch directory has room");
    file.set_len(SIZE).expect("the filesystem makes sparse files");
    for segment in 0..SEGMENTS {
        let mut bytes = vec![0; DATA];
        random.fill(&mut bytes);
        file.write_all_at(&bytes, segment * SEGMENT).expect("the filesystem has room");
    }
}

impl Run {
    fn new(way: Way) -> Self {
        let (hosts, proxy, mut random) = (Hosts::new(), Proxy::new(), Random::new());
        let (from, to) =
            if way == Way::Pull { (&hosts.home, &hosts.away) } else { (&hosts.away, &hosts.home) };
        let to = if way == Way::Local { from } else { to };
        let (source, target) = (from.path("source"), to.path("target"));
        make(&source, &mut random);
        make(&target, &mut random);
        let mut run = Self { way, hosts, proxy, server: None, source, target, random };
        if way != Way::Local {
            run.serve();
            pair(&run.hosts.home, run.proxy.address(), &run.hosts.away);
        }
        run
    }

    fn serve(&mut self) {
        let far = if self.way == Way::Push { &self.target } else { &self.source };
        let server = Server::start(&self.hosts.home, &[export("far", far)]);
        self.proxy.lead_to(server.address());
        self.server = Some(server);
    }

    fn sync(&self, options: &[&str]) -> Failback {
        let (source, target, url) = (path_text(&self.source), path_text(&self.target), self.proxy.url("far"));
        match self.way {
            Way::Local => self.hosts.sync(source, target, options),
            Way::Push => self.hosts.sync(source, &url, options),
            Way::Pull => self.hosts.sync(&url, target, options),
        }
    }

    /// The host that has the target, and its mark.
    fn target_host(&self) -> &Scratch {
        if self.way == Way::Push { &self.hosts.home } else { &self.hosts.away }
    }

    /// The cursor in the target's mark; `None` where nothing is marked.
    fn cursor(&self) -> Option<u64> {
        let marks = fs::read_dir(self.target_host().path("state/targets")).ok()?.flatten();
        let mut marks =
            marks.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        let mark: Value = serde_json::from_str(&fs::read_to_string(marks.next()?).ok()?).ok()?;
        mark["cursor_bytes"].as_u64()
    }

    /// The machine works on until the next run, or not.
    fn perhaps_change_source(&mut self) {
        if self.random.happens(60) {
            scribble(&self.source, 12, &mut self.random);
        }
    }

    /// A slow run onto a marked target. The server may still be leaving the
    /// target in order after a client was killed: then once more.
    fn resume_slowly(&self, options: &[&str]) -> Running {
        for _ in 0..100 {
            let running = self.sync(options).start();
            let has_begun = running.wait_for(LONG, |line| {
                let has_ended = line.contains("\"error\"");
                (has_ended || line.contains("\"resuming\"")).then_some(!has_ended)
            });
            if has_begun {
                return running;
            }
            running.finish(LONG).expect_code(3);
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the target is never free again");
    }

    /// Kills one end, either of the two where there are two.
    fn kill(&mut self, running: Running) {
        if self.way != Way::Local && self.random.happens(50) {
            self.server.take().expect("it is served").kill();
            running.finish(LONG).expect_code(6);
            self.serve();
        } else {
            running.kill();
        }
    }

    /// The same command again to its end: where it went on from.
    fn finish(&self, options: &[&str]) -> u64 {
        let outcome = self.resume_slowly(options).finish(LONG).expect_success();
        assert_same_bytes(&self.source, &self.target, SIZE);
        assert!(!is_unfinished(self.target_host(), &self.target), "the mark stays");
        counter(&outcome, "resumed_from")
    }
}

fn goes_on_from_its_cursor(way: Way) {
    let mut run = Run::new(way);
    let mut kills = 0;
    for round in 0..ROUNDS {
        // Only a whole copy trusts that something lies behind the cursor at
        // all; one that compares must not be led astray by it either.
        let manner: &[&str] = if round % 2 == 0 { &["--whole", "--compression", "none"] } else { &[] };
        let streams = (1 + run.random.below(2)).to_string();
        let slowly = [manner, &["--streams", &streams, "--limit-rate", "1500000"]].concat();
        let running = run.sync(&slowly).start();
        eventually("a checkpoint moves the cursor", || run.cursor().is_some_and(|cursor| cursor > 0));
        std::thread::sleep(Duration::from_millis(run.random.below(500)));
        run.kill(running);
        kills += 1;
        // A run that goes on is killed in its turn, within what it compares or
        // past it: the cursor stays.
        for _ in 0..run.random.below(2) {
            let before = run.cursor().expect("it was killed in the middle");
            assert!(before > 0 && before < SIZE, "a cursor of {before}");
            run.perhaps_change_source();
            let running = run.resume_slowly(&slowly);
            std::thread::sleep(Duration::from_millis(run.random.below(1000)));
            run.kill(running);
            kills += 1;
            let after = run.cursor().expect("it was killed in the middle");
            assert!(after >= before, "the cursor went back from {before} to {after}");
        }
        run.perhaps_change_source();
        let resumed_from = run.finish(manner);
        println!("{way:?}, round {round}: {kills} kills, went on from byte {resumed_from}");
        assert!(resumed_from > 0, "no cursor was left");
        // The next round begins with other disks.
        scribble(&run.source, 60, &mut run.random);
        make(&run.target, &mut run.random);
    }
}

/// All ways at once: what takes time is that checkpoints come every 5 s.
#[test]
fn killed_runs_go_on_from_their_cursors() {
    std::thread::scope(|scope| {
        for way in [Way::Local, Way::Push, Way::Pull] {
            scope.spawn(move || goes_on_from_its_cursor(way));
        }
    });
}

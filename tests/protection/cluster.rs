//! A PostgreSQL cluster of one test: an ordinary user's, reached by a socket in
//! its scratch directory, in an IPC namespace of its own so that nothing of it
//! stays in the kernel when it is killed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fixture::{Running, Scratch, postgresql, program, run, supervised};

/// PostgreSQL refuses to be run by root.
const NOBODY: u32 = 65_534;
const TIMEOUT: Duration = Duration::from_secs(90);

/// Few and small buffers; checkpoints only when they are asked for.
const SETTINGS: &str = "
listen_addresses = ''
shared_buffers = 16MB
max_connections = 20
max_wal_senders = 0
wal_level = minimal
checkpoint_timeout = 1d
max_wal_size = 4GB
dynamic_shared_memory_type = mmap
logging_collector = off
autovacuum = off
log_min_messages = log
";

/// A cluster that is not running.
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    socket: PathBuf,
}

/// A running one, killed when dropped.
pub struct Serving {
    pub cluster: Cluster,
    process: Running,
}

impl Cluster {
    /// The cluster in the folder `data`, with its socket in a folder of `scratch`
    /// called `socket`.
    pub fn at(scratch: &Scratch, data: PathBuf, socket: &str) -> Self {
        let programs = postgresql().expect("need() was asked for it");
        // The user must be able to pass.
        fs::set_permissions(scratch.root(), fs::Permissions::from_mode(0o711)).expect("it is ours");
        let socket = scratch.folder(socket);
        chown(&socket, Some(NOBODY), Some(NOBODY)).expect("root can give away");
        Self { programs, data, socket }
    }

    /// Makes it, in a folder below the root of a new filesystem.
    pub fn create(&self) {
        fs::create_dir(&self.data).expect("the filesystem has room");
        chown(&self.data, Some(NOBODY), Some(NOBODY)).expect("root can give away");
        let options = ["--auth=trust", "--username=bench", "--no-instructions", "--locale=C", "--no-sync"];
        run(self.command("initdb").arg("--pgdata").arg(&self.data).args(options));
        let path = self.data.join("postgresql.conf");
        let given = fs::read_to_string(&path).expect("initdb wrote it");
        fs::write(&path, given + SETTINGS).expect("the filesystem has room");
    }

    /// Starts it; it recovers first, where it was not shut down.
    pub fn start(self) -> Serving {
        let mut command = supervised(Path::new(program("unshare").get_program()));
        command.args(["--ipc", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.programs.join("postgres"));
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.socket).current_dir("/");
        let process = Running::start(&mut command);
        let ready = |line: &str| line.contains("ready to accept connections").then_some(());
        let is_ready = process.notice(TIMEOUT, ready).is_some();
        assert!(is_ready, "PostgreSQL does not start: {}", process.finish(Duration::ZERO));
        Serving { cluster: self, process }
    }

    /// One of its programs, as its user.
    fn command(&self, name: &str) -> Command {
        let mut command = program("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(self.programs.join(name)).current_dir("/").env("HOME", &self.socket);
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = self.command(name);
        command.args(["--username=bench", "--host"]).arg(&self.socket);
        command
    }

    /// A shell command that makes a checkpoint, for a hook.
    pub fn checkpoint_hook(&self) -> Vec<String> {
        let mut hook = self.client("psql");
        hook.args(["--no-psqlrc", "--dbname=postgres", "--command=CHECKPOINT"]);
        let words = std::iter::once(hook.get_program()).chain(hook.get_args());
        words.map(|word| word.to_str().expect("paths of tests are ASCII").to_owned()).collect()
    }
}

impl Serving {
    /// Makes the tables of pgbench.
    pub fn fill(&self) {
        let options = ["--initialize", "--quiet", "--scale=1", "postgres"];
        run(self.cluster.client("pgbench").args(options));
    }

    /// A load until it is dropped. `-n`: or it would empty the history.
    pub fn load(&self) -> Running {
        let mut pgbench = self.cluster.client("pgbench");
        pgbench.args(["-n", "--client=2", "--rate=150", "--time=3600", "postgres"]);
        let mut command = supervised(Path::new(pgbench.get_program()));
        command.args(pgbench.get_args()).current_dir("/");
        Running::start(&mut command)
    }

    /// What a query of one value answers.
    pub fn ask(&self, query: &str) -> String {
        let mut psql = self.cluster.client("psql");
        run(psql.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--dbname=postgres",
            "--command",
            query,
        ]))
    }

    pub fn number(&self, query: &str) -> i64 {
        let answer = self.ask(query);
        answer.parse().unwrap_or_else(|_| panic!("{query} answers {answer}"))
    }

    /// Bytes of log since the last checkpoint began: what a recovery would redo.
    pub fn redo_bytes(&self) -> i64 {
        self.number("select pg_current_wal_lsn() - redo_lsn from pg_control_checkpoint()")
    }

    /// Waits until so much would have to be redone.
    pub fn wait_for_redo(&self, bytes: i64) {
        let deadline = Instant::now() + TIMEOUT;
        while self.redo_bytes() < bytes {
            assert!(Instant::now() < deadline, "pgbench writes too little");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Transactions that have committed.
    pub fn committed(&self) -> i64 {
        self.number("select count(*) from pgbench_history")
    }

    /// # Panics
    /// Where the sums of all four tables are not the same.
    pub fn assert_balanced(&self) {
        let sums = self.ask(
            "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
             (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)",
        );
        let sums: Vec<&str> = sums.split('|').collect();
        assert!(sums.len() == 4 && sums.iter().all(|sum| *sum == sums[0]), "the four sums: {sums:?}");
    }

    /// Bytes that were redone at the start, as the server tells.
    pub fn redone_bytes(&self) -> u64 {
        let place = |line: &str, after: &str| {
            let text = line.split_once(after)?.1.split_whitespace().next()?;
            let (high, low) = text.split_once('/')?;
            Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
        };
        let tell = |after| self.process.notice(Duration::ZERO, |line| place(line, after));
        match (tell("redo starts at "), tell("redo done at ")) {
            (Some(start), Some(end)) => end - start,
            _ => 0,
        }
    }

    /// Shuts it down at once; the clients are sent away.
    pub fn stop(self) {
        // The process is `unshare`'s own, which became `postgres`.
        self.process.signal(Signal::SIGINT);
        self.process.finish(TIMEOUT).expect_success();
    }
}

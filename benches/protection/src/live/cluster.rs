//! PostgreSQL under pgbench: a cluster of an ordinary user, reached by a socket.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::ground::process::supervised;
use crate::ground::{Process, Scratch};

/// PostgreSQL refuses to be run by root.
const NOBODY: u32 = 65_534;
const START_WITHIN: Duration = Duration::from_secs(90);

/// As Debian sets it up, but for what would be seen outside, and a log that
/// stays within the disk.
const SETTINGS: &str = "
listen_addresses = ''
dynamic_shared_memory_type = mmap
max_wal_size = 256MB
";

/// A running cluster.
pub struct Cluster<'a> {
    scratch: &'a Scratch,
    programs: PathBuf,
    socket: PathBuf,
    server: Process,
}

impl<'a> Cluster<'a> {
    /// Makes a cluster in a folder of the filesystem at `root`, and starts it.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not start.
    pub fn start(scratch: &'a Scratch, root: &Path) -> Result<Self, Error> {
        let programs =
            programs().ok_or(Error::Answer { program: "/usr/lib/postgresql", what: "PostgreSQL" })?;
        let (data, socket) = (root.join("data"), scratch.folder("socket")?);
        fs::create_dir(&data).map_err(Error::at("make", &data))?;
        for folder in [&data, &socket] {
            chown(folder, Some(NOBODY), Some(NOBODY)).map_err(Error::at("give away", folder))?;
        }
        // Its user must be able to pass.
        let pass = fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o711));
        pass.map_err(Error::at("open", scratch.path("")))?;
        let mut create = as_nobody(&programs.join("initdb"));
        create.arg("--pgdata").arg(&data).args([
            "--auth=trust",
            "--username=bench",
            "--locale=C",
            "--no-sync",
        ]);
        scratch.run(&mut create)?;
        let path = data.join("postgresql.conf");
        let given = fs::read_to_string(&path).map_err(Error::at("read", &path))?;
        fs::write(&path, given + SETTINGS).map_err(Error::at("write", &path))?;
        let mut command = as_nobody(&programs.join("postgres"));
        let mut server = Process::start(command.arg("-D").arg(&data).arg("-k").arg(&socket))?;
        scratch.wait("PostgreSQL", START_WITHIN, || {
            server.check()?;
            let said = server.said();
            Ok(if said.contains("ready to accept connections") { Ok(()) } else { Err(said) })
        })?;
        Ok(Self { scratch, programs, socket, server })
    }

    /// Makes the tables of pgbench.
    ///
    /// # Errors
    /// pgbench fails.
    pub fn fill(&self, scale: u32) -> Result<(), Error> {
        let mut fill = self.client("pgbench");
        fill.args(["--initialize", "--quiet", &format!("--scale={scale}"), "postgres"]);
        self.scratch.run(&mut fill).map(drop)
    }

    /// Clients that do as much as they can, until they are dropped.
    ///
    /// # Errors
    /// There is no pgbench.
    pub fn load(&self, clients: u32) -> Result<Process, Error> {
        let mut load = self.client("pgbench");
        // `-n`: or it would empty the history.
        load.args(["-n", "--time=86400", &format!("--client={clients}"), "postgres"]);
        Process::start(&mut load)
    }

    /// Transactions that have committed.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn committed(&self) -> Result<u32, Error> {
        let mut ask = self.client("psql");
        ask.args(["--no-psqlrc", "--tuples-only", "--no-align", "--dbname=postgres", "--command"]);
        let answer = self.scratch.run(ask.arg("select count(*) from pgbench_history"))?;
        answer.trim().parse().map_err(|_| Error::Answer { program: "psql", what: "a number" })
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> Result<(), Error> {
        self.server.check()
    }

    fn client(&self, name: &str) -> Command {
        let mut client = as_nobody(&self.programs.join(name));
        client.args(["--username=bench", "--host"]).arg(&self.socket);
        client
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // SIGTERM waits for clients, and these are sent away.
        self.server.interrupt();
    }
}

fn as_nobody(program: &Path) -> Command {
    let mut command = supervised("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--pdeathsig", "KILL", "--"]);
    command.arg(program).current_dir("/");
    command
}

/// The folder with the programs of the newest PostgreSQL here: Debian keeps them
/// off everybody's `PATH`.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| folder.join("postgres").is_file() && folder.join("pgbench").is_file());
    folders.sort();
    folders.pop()
}

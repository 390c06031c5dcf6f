//! The command lines of `failback`, all in one place.

use crate::plan::{Command, Pipeline, Plan, Server};
use std::path::{Path, PathBuf};

/// The name under which the target is exported.
const EXPORT: &str = "target";
/// The name of a small export that only serves to spend the pairing token.
const PAIRING_EXPORT: &str = "pairing";

/// `failback` with the places it keeps its state in.
#[derive(Debug, Clone)]
pub(crate) struct Failback {
    /// The binary.
    pub(crate) program: PathBuf,
    /// `--state` of the sending side.
    pub(crate) client_state: PathBuf,
    /// `--state` of the serving side.
    pub(crate) server_state: PathBuf,
    /// Where it serves, on 127.0.0.1: the same in all runs, as pairing binds to it.
    pub(crate) port: u16,
}

impl Failback {
    /// Both sides on this host, everything copied.
    pub(crate) fn copy(&self, source: &str, target: &str) -> Command {
        self.sync(&["--whole"], source, target)
    }

    /// Both sides on this host, differences only.
    pub(crate) fn resync(&self, source: &str, target: &str) -> Command {
        self.sync(&[], source, target)
    }

    /// Into a new image file.
    pub(crate) fn create(&self, source: &str, target: &str) -> Command {
        self.sync(&["--create"], source, target)
    }

    /// Everything copied to the server's export.
    pub(crate) fn copy_to_server(&self, source: &str) -> Command {
        self.sync(&["--whole"], source, &self.address_of(EXPORT))
    }

    /// Differences sent to the server's export.
    pub(crate) fn resync_to_server(&self, source: &str) -> Command {
        self.sync(&[], source, &self.address_of(EXPORT))
    }

    /// The server of `target`.
    pub(crate) fn serve(&self, target: &str) -> Server {
        self.serve_exports(&[format!("{EXPORT}={target}")])
    }

    /// Makes a token on the serving side and keeps it in the file `token`.
    pub(crate) fn make_token(&self, token: PathBuf, logs: PathBuf) -> Plan {
        let address = format!("127.0.0.1:{}", self.port);
        let state = self.server_state.display().to_string();
        let command = self.command(&["pair", "--state", &state, "--address", &address]);
        let sender = Pipeline { commands: vec![command], output: Some(token) };
        Plan::new(sender, None, logs)
    }

    /// Spends the token by copying the small file `scratch` onto `scratch_target`.
    pub(crate) fn spend_token(
        &self,
        token: &Path,
        scratch: &str,
        scratch_target: &str,
        logs: PathBuf,
    ) -> Plan {
        let token = token.display().to_string();
        let options = ["--whole", "--token-file", &token];
        let sync = self.sync(&options, scratch, &self.address_of(PAIRING_EXPORT));
        let mut plan = Plan::new(Pipeline::new(vec![sync]), None, logs);
        plan.servers = vec![self.serve_exports(&[format!("{PAIRING_EXPORT}={scratch_target}")])];
        plan
    }

    fn sync(&self, options: &[&str], source: &str, target: &str) -> Command {
        let state = self.client_state.display().to_string();
        let mut arguments = vec!["sync", "--json", "--quiet", "--state", &state];
        arguments.extend(options);
        arguments.extend([source, target]);
        self.command(&arguments)
    }

    fn serve_exports(&self, exports: &[String]) -> Server {
        let state = self.server_state.display().to_string();
        let listen = format!("127.0.0.1:{}", self.port);
        let mut arguments = vec!["serve", "--state", &state, "--listen", &listen];
        for export in exports {
            arguments.extend(["--export", export]);
        }
        Server { command: self.command(&arguments), port: self.port }
    }

    fn address_of(&self, export: &str) -> String {
        format!("failback://127.0.0.1:{}/{export}", self.port)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        Command::new(&self.program.display().to_string(), arguments)
    }
}

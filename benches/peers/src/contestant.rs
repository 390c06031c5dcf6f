//! Who takes part in a row: `failback`, its peers, and programs shown beside
//! them that set no standard.

use crate::plan::{Phase, Pipeline, Plan, Receiver, Server};
use serde::Serialize;
use std::path::PathBuf;

/// In which role a contestant takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// What is being judged.
    Failback,
    /// A standard: the fastest peer of a row has the ratio 1.
    Peer,
    /// Shown beside them, no standard.
    Extra,
}

/// One contestant of a row.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// How the report calls it.
    pub(crate) name: &'static str,
    /// Its role.
    pub(crate) role: Role,
    /// Programs it cannot do without.
    pub(crate) needs: Vec<&'static str>,
    /// What a run of it starts.
    pub(crate) plan: Plan,
    /// Whether it writes the target, which is then compared with the source.
    pub(crate) writes_target: bool,
}

impl Contestant {
    /// Runs `sender`, writes the target, and is a peer unless told otherwise.
    pub(crate) fn new(name: &'static str, needs: &[&'static str], place: &Place, sender: Pipeline) -> Self {
        let plan = Plan::new(sender, Some(place.target.clone().into()), place.logs.clone());
        Self { name, role: Role::Peer, needs: needs.to_vec(), plan, writes_target: true }
    }

    /// The same with a server behind it.
    pub(crate) fn served_by(mut self, server: Server) -> Self {
        self.plan.servers.push(server);
        self
    }

    /// The same with a listening pipeline at the other end of its last phase.
    pub(crate) fn received_by(mut self, pipeline: Pipeline, port: u16) -> Self {
        if let Some(phase) = self.plan.phases.last_mut() {
            phase.receiver = Some(Receiver { pipeline, port });
        }
        self
    }

    /// The same with something to do before the last phase.
    pub(crate) fn after(mut self, phase: Phase) -> Self {
        let last = self.plan.phases.len().saturating_sub(1);
        self.plan.phases.insert(last, phase);
        self
    }

    /// The same in another role.
    pub(crate) fn playing(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

/// What the contestants' command lines speak of.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The device to read.
    pub(crate) source: String,
    /// The device to write.
    pub(crate) target: String,
    /// The target's name below `/dev`.
    pub(crate) target_name: String,
    /// Ports of 127.0.0.1 for two connections at a time.
    pub(crate) ports: [u16; 2],
    /// A directory for contestants' own files.
    pub(crate) directory: PathBuf,
    /// Where programs' stderr goes.
    pub(crate) logs: PathBuf,
}

impl Place {
    /// A file of a contestant, as an argument.
    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// The first port, as an argument.
    pub(crate) fn port(&self) -> String {
        self.ports[0].to_string()
    }
}

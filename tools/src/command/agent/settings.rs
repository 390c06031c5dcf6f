//! From a configuration to what the agent is told.

use std::path::Path;

use failback_datapath::role::agent::MachineSettings;
use failback_datapath::wire::Remote;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::KnownPeers;

use super::disks;
use crate::command::pair;
use crate::config::agent::AgentConfig;
use crate::control::Failed;
use crate::exit::Exit;
use crate::paths;

/// What the command line adds to a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Additions {
    /// Everything but the power-off.
    pub rehearse: bool,
    /// The machine is accepted as it is.
    pub bind_anew: bool,
}

/// What the agent is told, and what a user should know about it.
pub fn machine(config: &AgentConfig, additions: Additions) -> Result<(MachineSettings, Vec<String>), Failed> {
    let (disks, notices) = match config.disks()? {
        Some(disks) => (disks, Vec::new()),
        None => disks::protected(&config.exclude)?,
    };
    let settings = MachineSettings {
        name: config.name.clone(),
        remote: remote(config)?,
        state: config.state.clone(),
        run: config.run.clone(),
        pins: config.pins.clone(),
        disks,
        points: config.points(),
        freeze_budget: config.freeze_budget(),
        remainder_bytes: config.remainder_bytes(),
        hooks: config.hooks(),
        limits: config.limits()?,
        compression: config.compression(),
        digest: config.digest(),
        on_doubt: config.on_doubt(),
        rehearse: additions.rehearse,
        bind_anew: additions.bind_anew,
    };
    Ok((settings, notices))
}

/// Pairs with the master target by the token, unless that is done.
///
/// # Errors
/// [`Exit::Network`] or [`Exit::Failed`] where trying again may help.
pub fn pair(config: &AgentConfig) -> Result<(), Failed> {
    let Some(token) = config.token_file.as_ref().filter(|_| !is_paired(config)) else { return Ok(()) };
    let directory = directory(config);
    pair::spend_unless_known(&directory, &identity(&directory)?, token)
}

/// Whether the master target's certificate is known.
fn is_paired(config: &AgentConfig) -> bool {
    KnownPeers::load(&directory(config)).is_ok_and(|peers| peers.server_at(&config.master_target).is_some())
}

fn directory(config: &AgentConfig) -> std::path::PathBuf {
    paths::identity(Some(&config.state))
}

fn identity(directory: &Path) -> Result<Identity, Failed> {
    Identity::load_or_create(directory).map_err(|error| (Exit::Refused, error.to_string()))
}

fn remote(config: &AgentConfig) -> Result<Remote, Failed> {
    let (directory, address) = (directory(config), &config.master_target);
    let peers = KnownPeers::load(&directory).map_err(|error| (Exit::Refused, error.to_string()))?;
    let peer = peers.server_at(address).ok_or_else(|| {
        let text = format!(
            "{address} is not known yet: run `failback pair --address {address}` there and name its token \
             as `token-file`"
        );
        (Exit::Refused, text)
    })?;
    Ok(Remote::Served {
        address: address.clone(),
        export: "the master target".to_owned(),
        identity: identity(&directory)?,
        fingerprint: peer.fingerprint,
    })
}

//! Where failback keeps its state.

use std::path::PathBuf;

use failback_datapath::landing::StateDirectory;

/// The folder for the state of targets, keys and peers: as told, else
/// `/var/lib/failback` for root, else failback's part of the XDG state folder.
pub fn state(told: Option<&PathBuf>) -> PathBuf {
    if let Some(path) = told {
        return path.clone();
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/failback");
    }
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    named("XDG_STATE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("failback")
}

/// The marks of targets.
pub fn targets(told: Option<&PathBuf>) -> StateDirectory {
    StateDirectory::new(state(told))
}

/// Keys, peers and tokens, readable by their owner only.
pub fn identity(told: Option<&PathBuf>) -> PathBuf {
    state(told).join("identity")
}

//! `failback agent uninstall`: nothing of an agent stays.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use clap::Args;
use failback_datapath::role::agent::{Uninstall, uninstall};
use serde_json::json;

use super::{CONTROL, ask};
use crate::config::agent::AgentConfig;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::{Output, Style};

/// Where an agent has left what it left.
#[derive(Args)]
pub struct Remains {
    /// The agent's configuration, which names the places
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "run", "pins"])]
    config: Option<PathBuf>,
    /// The folder of its state
    #[arg(long, value_name = "DIR", default_value = "/var/lib/failback/agent")]
    state: PathBuf,
    /// The folder of its freeze record
    #[arg(long, value_name = "DIR", default_value = "/run/failback")]
    run: PathBuf,
    /// The BPF filesystem in which its trackers are pinned
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pins: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Remains {
    pub fn output(&self) -> Output {
        Output::new(Style::choose(self.json, false))
    }

    /// Takes it away.
    pub fn take_away(&self, output: &Output) -> Result<(), Failed> {
        let (state, run, pins, control) = match &self.config {
            Some(file) => {
                let config = AgentConfig::read(file)?;
                (config.state, config.run, config.pins, config.control)
            }
            None => (self.state.clone(), self.run.clone(), self.pins.clone(), PathBuf::from(CONTROL)),
        };
        let disks = uninstall(&Uninstall { state, run, pins }).map_err(ask::failed)?;
        // An agent that was killed left its socket; one that runs is refused above.
        if std::fs::symlink_metadata(&control).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(&control)
                .map_err(|error| (Exit::Failed, format!("{}: {error}", control.display())))?;
        }
        let text = if disks.is_empty() {
            "no disk was protected here, and nothing is left".to_owned()
        } else {
            format!("nothing is left of the protection of {}", disks.join(", "))
        };
        output.line(&text, || json!({"event": "uninstalled", "disks": disks}));
        Ok(())
    }
}

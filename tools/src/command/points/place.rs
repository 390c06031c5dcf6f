//! Where the journals lie, and the targets that they belong to.

use std::path::PathBuf;

use clap::Args;
use failback_datapath::error::Remediable;
use failback_datapath::journal::{Journal, Pair, PointRecord, RetentionPolicy, Volume};
use failback_datapath::ring;
use failback_datapath::role::Error;
use failback_datapath::role::master_target::{Assignment, KeptReplica, PairName, Replicas, SeenReplica};

use super::retention::Retention;
use super::{Found, Which};
use crate::config::master_target::Settings;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;
use crate::paths;

/// Where the journals lie.
#[derive(Args)]
pub struct Place {
    /// The settings of the master target
    #[arg(long, value_name = "FILE", conflicts_with = "retention")]
    pub config: Option<PathBuf>,
    /// The retention directory of the master target, where there are no settings
    #[arg(long, value_name = "DIR", default_value = "/mnt/retention")]
    pub retention: PathBuf,
    /// Folder for the state of targets, where there are no settings
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Place {
    fn settings(&self) -> Result<Option<Settings>, Failed> {
        self.config.as_deref().map(Settings::read).transpose()
    }

    /// The retention directory.
    pub fn retention(&self) -> Result<Retention, Failed> {
        let settings = self.settings()?;
        Ok(Retention::new(settings.map_or_else(|| self.retention.clone(), |settings| settings.retention)))
    }

    /// The journal of `pair`, with its target: to be opened by this command.
    pub fn desk(&self, pair: &str, output: &Output) -> Result<Desk, Failed> {
        let refused = |error: &dyn std::fmt::Display| (Exit::Refused, error.to_string());
        let found = self.retention()?.pair(pair)?;
        let name: PairName = pair.parse().map_err(|error| refused(&error))?;
        let settings = self.settings()?;
        let known = Pair::read(&found.directory).map_err(|error| refused(&error))?;
        let target = known.map(|known| PathBuf::from(known.target_path)).unwrap_or_default();
        let (mut assignment, mut policy) = (Assignment { target, create: None }, RetentionPolicy::default());
        let mut state = self.state.clone();
        let mut retention = self.retention.clone();
        if let Some(settings) = settings {
            policy = settings.policy();
            let assigned = settings.pairs.iter().find(|pair| pair.name == name);
            assignment = assigned.map_or(assignment, |pair| pair.assignment());
            (state, retention) = (settings.state, settings.retention);
        }
        let log = output.clone();
        let observe = move |notice: &_| log.notice(notice);
        let replicas = Replicas::new(paths::targets(state.as_ref()), &retention, policy, observe)
            .map_err(|error| refused(&format!("{}: {error}", retention.display())))?;
        replicas.assign(name.clone(), assignment);
        Ok(Desk { replicas, name, found })
    }
}

/// A pair that a command works on or looks at: nobody else writes journal or target meanwhile.
pub struct Desk {
    replicas: Replicas,
    /// The pair.
    pub name: PairName,
    /// Its journal.
    pub found: Found,
}

impl Desk {
    /// Opens the target with its journal and does `work`, on a ring of its own.
    pub fn work<T>(
        &self,
        work: impl AsyncFnOnce(&mut KeptReplica) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let done = ring::run(async {
            let mut kept = self.replicas.enter(&self.name).await.map_err(|error| self.not_opened(&error))?;
            work(&mut kept).await
        });
        done.map_err(|error| (Exit::Failed, error.to_string()))?
    }

    /// Opens the target with its journal to look at it and does `work`, on a ring of
    /// its own: no byte of either is changed.
    pub fn look<T>(
        &self,
        work: impl AsyncFnOnce(&mut SeenReplica) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let done = ring::run(async {
            let mut seen = self.replicas.see(&self.name).await.map_err(|error| self.not_opened(&error))?;
            work(&mut seen).await
        });
        done.map_err(|error| (Exit::Failed, error.to_string()))?
    }

    /// The point that is meant.
    pub fn point<V: Volume>(&self, which: &Which, journal: &Journal<V>) -> Result<PointRecord, Failed> {
        let points: Vec<&PointRecord> = journal.points().collect();
        which.of(&points, &self.found).cloned()
    }

    fn not_opened(&self, error: &Error) -> Failed {
        let hint = match error {
            Error::Unready { .. } => format!(
                "; nothing was changed. While its agent is connected the master target has it: \
                 `failback master-target fence {}` ends that",
                self.name
            ),
            _ => String::new(),
        };
        let exit = match Exit::of_remedy(error.remedy()) {
            Exit::Failed => Exit::Refused,
            exit => exit,
        };
        (exit, format!("{error}{hint}"))
    }
}

/// There is no such point.
pub fn no_such_point(pair: &Found) -> Failed {
    let message = format!("{}: no such point; `failback points list` shows those that are kept", pair.name);
    (Exit::Refused, message)
}

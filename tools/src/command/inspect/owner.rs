//! Which master target owns a disk, running or not.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use failback_datapath::disk::storage::{Identity, identity};
use failback_datapath::error::Remediable;
use failback_datapath::landing;
use nix::fcntl::OFlag;
use serde_json::json;

use super::fields;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;
use crate::paths;

/// A disk.
#[derive(Args)]
pub struct Of {
    /// The block device or image
    disk: PathBuf,
    /// Folder for the state of targets
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Of {
    /// Shows who owns the disk or a part of it, and whether its last `sync` ended.
    pub fn show(&self, output: &Output) -> Result<(), Failed> {
        let (identity, size_bytes) = self.look()?;
        let state = paths::targets(self.state.as_ref());
        let failed = |error: landing::Error| (Exit::of_remedy(error.remedy()), error.to_string());
        let mark = state.mark(&identity).map_err(failed)?.map(|mark| mark.warning(&self.disk));
        let owner = state.owner(&identity, size_bytes).map_err(failed)?.map(|(mark, owner)| {
            let pair = format!("{}/{}", owner.machine, owner.disk);
            (owner.target, owner.retention, pair, mark)
        });
        let text = |value: Option<String>| value.unwrap_or_else(|| "nobody".to_owned());
        let of = owner.as_ref().map(|(target, retention, pair, _)| {
            format!("{pair}: journal in {}, target {}", retention.display(), target.display())
        });
        let lines = fields::lines(&[
            ("disk", format!("{}, {size_bytes} bytes", self.disk.display())),
            ("identity", identity.to_string()),
            ("owner", text(of)),
            ("unfinished", mark.clone().unwrap_or_else(|| "no".to_owned())),
        ]);
        output.line(&lines, || {
            let owner = owner.map(|(target, retention, pair, mark)| {
                json!({"target": target, "retention": retention, "pair": pair, "mark": mark})
            });
            json!({
                "event": "owner", "disk": self.disk, "identity": identity.to_string(), "size_bytes": size_bytes,
                "owner": owner, "unfinished": mark,
            })
        });
        Ok(())
    }

    /// What the disk is, and its size; none of its bytes are read.
    fn look(&self) -> Result<(Identity, u64), Failed> {
        let refused =
            |error: &dyn std::fmt::Display| (Exit::Refused, format!("{}: {error}", self.disk.display()));
        // A pipe in its place is refused, not waited for.
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.disk);
        let mut file = opened.map_err(|error| refused(&error))?;
        let identity = identity(&self.disk, &file).map_err(|error| refused(&error))?;
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(|error| refused(&error))?;
        Ok((identity, size_bytes))
    }
}

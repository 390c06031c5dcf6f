//! What this machine can do, disk by disk, and why not.

use std::path::{Path, PathBuf};

use failback_datapath::quiesce::FreezePlan;
use failback_datapath::track::{self, Device, Fact};
use failback_datapath::unit::ChunkSize;
use indicatif::BinaryBytes;
use serde_json::json;

use super::disks;
use crate::config::agent::AgentConfig;
use crate::exit::Exit;
use crate::output::Output;

/// What was found about one disk.
struct Findings {
    disk: PathBuf,
    size_bytes: Option<u64>,
    facts: Vec<Fact>,
    /// Filesystems that a cut freezes, top first; or why that cannot be said.
    frozen: Result<Vec<String>, String>,
    /// What writes on through a freeze; the last look before the thaw decides.
    unquiesced: Vec<String>,
}

/// Looks at `disks`, or at those of `config`, or at all of the machine.
pub fn run(disks: &[PathBuf], config: Option<&PathBuf>, output: &Output) -> Result<(), (Exit, String)> {
    let disks = match (disks.is_empty(), config) {
        (false, _) => disks.to_vec(),
        (true, Some(config)) => configured(config)?,
        (true, None) => disks::all()?,
    };
    if disks.is_empty() {
        return Err((Exit::Refused, "no disk found; name one".to_owned()));
    }
    for disk in &disks {
        let found = Findings::of(disk);
        output.line(&found.text(), || found.event());
    }
    Ok(())
}

fn configured(config: &Path) -> Result<Vec<PathBuf>, (Exit, String)> {
    let config = AgentConfig::read(config)?;
    let disks = match config.disks()? {
        Some(disks) => disks,
        None => disks::protected(&config.exclude)?.0,
    };
    Ok(disks.into_iter().map(|disk| disk.device).collect())
}

impl Findings {
    fn of(disk: &Path) -> Self {
        let facts = track::facts(disk);
        let device = Device::find(disk).ok();
        let plan = match &device {
            Some(device) => FreezePlan::of(&[device.number]).map_err(|error| error.to_string()),
            None => Err("it is no disk that can be followed".to_owned()),
        };
        let unquiesced = plan.iter().flat_map(|plan| plan.unquiesced().iter().map(ToString::to_string));
        Self {
            disk: disk.to_owned(),
            size_bytes: device.map(|device| device.size_bytes),
            facts,
            unquiesced: unquiesced.collect(),
            frozen: plan.map(|plan| plan.superblocks().iter().map(ToString::to_string).collect()),
        }
    }

    /// How its changes can be found.
    fn tracking(&self) -> &'static str {
        if self.facts.iter().all(|fact| fact.is_met || !fact.is_required) { "ebpf" } else { "digest" }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.disk.display().to_string()];
        if let Some(size) = self.size_bytes {
            let chunk = ChunkSize::for_disk(size);
            lines.push(format!("  size:      {}, in chunks of {chunk}", BinaryBytes(size)));
        }
        let how = match self.tracking() {
            "ebpf" => "eBPF: changes are known as they are made",
            _ => "digests: every cycle reads the whole disk",
        };
        lines.push(format!("  tracking:  {how}"));
        for fact in &self.facts {
            let met = match (fact.is_met, fact.is_required) {
                (true, _) => "yes",
                (false, true) => "NO",
                (false, false) => "no",
            };
            lines.push(format!("    {met:<4} {}: {}", fact.what, fact.detail));
        }
        match &self.frozen {
            Ok(frozen) if frozen.is_empty() => lines.push("  freeze:    nothing is mounted on it".to_owned()),
            Ok(frozen) => lines.push(format!("  freeze:    {}", frozen.join(", then "))),
            Err(reason) => lines.push(format!("  freeze:    not known: {reason}")),
        }
        for writer in &self.unquiesced {
            lines.push(format!("  writes on: {writer}"));
        }
        lines.join("\n")
    }

    fn event(&self) -> serde_json::Value {
        let facts = self.facts.iter().map(|fact| {
            json!({"what": fact.what, "met": fact.is_met, "required": fact.is_required, "detail": fact.detail})
        });
        json!({
            "event": "disk", "disk": self.disk.display().to_string(), "size_bytes": self.size_bytes,
            "chunk_bytes": self.size_bytes.map(|size| ChunkSize::for_disk(size).bytes()),
            "tracking": self.tracking(), "facts": facts.collect::<Vec<_>>(),
            "freezes": self.frozen.as_ref().ok(), "freezes_unknown": self.frozen.as_ref().err(),
            "unquiesced": self.unquiesced,
        })
    }
}

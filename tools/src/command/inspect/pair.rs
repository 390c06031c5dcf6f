//! Whose journal it is.

use std::path::Path;

use failback_datapath::error::Remediable;
use failback_datapath::journal::{Pair, PairSummary};
use failback_datapath::limits::PAIR_BYTES_MAX;
use indicatif::BinaryBytes;
use serde_json::json;

use super::fields;
use super::looked::Looked;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Shows the pair without its key.
pub fn show(directory: &Path, output: &Output) -> Result<(), Failed> {
    let pair = read(directory)?;
    output.line(&text(&pair), || json!({"event": "pair", "pair": PairSummary::new(&pair)}));
    Ok(())
}

/// Reads the pair of the journal in `directory`.
pub fn read(directory: &Path) -> Result<Pair, Failed> {
    let file = Looked::open(&directory.join("pair"))?;
    let bytes = file.whole(usize::try_from(PAIR_BYTES_MAX).unwrap_or(usize::MAX))?;
    Pair::decode(&bytes).map_err(|error| {
        let exit = Exit::of_remedy(error.remedy());
        (exit, format!("{}: {error}", directory.display()))
    })
}

fn text(pair: &Pair) -> String {
    let pins: Vec<String> = pair.pins.iter().map(ToString::to_string).collect();
    let pins = if pins.is_empty() { "none".to_owned() } else { pins.join(", ") };
    fields::lines(&[
        ("pair", format!("{}/{}", pair.machine, pair.disk)),
        ("state", pair.state.to_string()),
        ("generation", pair.generation.to_string()),
        ("target", pair.target_path.clone()),
        ("target's identity", pair.target_identity.clone()),
        ("size", format!("{} ({} bytes)", BinaryBytes(pair.size_bytes), pair.size_bytes)),
        ("chunks", format!("{} of {}", pair.chunks(), pair.chunk_size)),
        ("digests", format!("{:?}, with a key that is not shown", pair.digest_algorithm)),
        ("segments", BinaryBytes(u64::from(pair.segment_bytes)).to_string()),
        ("pinned points", pins),
    ])
}

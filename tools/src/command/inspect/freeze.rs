//! The record of a freeze: what a restarted agent must undo.

use std::path::Path;

use failback_datapath::error::Remediable;
use failback_datapath::quiesce::FreezeLook;
use serde_json::json;

use super::fields;
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Shows the record in `folder`, or that there is none.
pub fn show(folder: &Path, output: &Output) -> Result<(), Failed> {
    let look =
        FreezeLook::at(folder).map_err(|error| (Exit::of_remedy(error.remedy()), error.to_string()))?;
    let text = look.as_ref().map_or_else(|| format!("{}: no freeze is recorded", folder.display()), text);
    output.line(&text, || json!({"event": "freeze", "record": look}));
    Ok(())
}

fn text(look: &FreezeLook) -> String {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let frozen: Vec<String> =
        look.filesystems.iter().map(|(number, state)| format!("{number} {state}")).collect();
    fields::lines(&[
        (
            "watchdog",
            format!("process {}, {}", look.watchdog, if look.is_watched { "alive" } else { "gone" }),
        ),
        ("of this boot", yes(look.is_of_this_boot)),
        ("settled", yes(look.is_settled)),
        ("filesystems", frozen.join(", ")),
    ])
}

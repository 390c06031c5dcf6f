//! What commands ask of a running agent, and what it answers.

use std::time::Duration;

use failback_datapath::error::Remediable;
use failback_datapath::limits;
use failback_datapath::role::agent::{MachineError, MachineHandle, Thaw};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reach, status};
use crate::control::{self, Failed};
use crate::exit::Exit;
use crate::output::Output;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// All that is known.
    Status,
    /// A point now.
    Cut {
        /// Whether applications are asked to settle.
        #[serde(default)]
        app: bool,
        /// What it is called.
        #[serde(default)]
        name: String,
    },
    /// The last point.
    Finish {
        /// Whether the machine is then powered off.
        #[serde(default)]
        power_off: bool,
    },
    /// The end of a freeze.
    Thaw,
    /// A comparison.
    Resync {
        /// Of which disk.
        disk: String,
    },
    /// Oblivion.
    Remove {
        /// Of which disk.
        disk: String,
    },
    /// The configuration read again.
    Reload,
}

/// How long a question is waited for that needs nothing but a look.
const LOOKS_WITHIN: Duration = Duration::from_secs(10);

/// Answers a request by the machine; `reload` reads the configuration again.
pub fn answer(
    request: Request,
    machine: &MachineHandle,
    reload: impl Fn() -> Result<Vec<String>, Failed>,
) -> Result<Value, Failed> {
    let value = |value: Result<Value, serde_json::Error>| {
        value.map_err(|error| (Exit::Failed, format!("the answer cannot be written: {error}")))
    };
    match request {
        Request::Status => value(serde_json::to_value(machine.status())),
        Request::Cut { app, name } => value(serde_json::to_value(machine.cut(app, &name).map_err(failed)?)),
        Request::Finish { power_off } => {
            value(serde_json::to_value(machine.finish(power_off).map_err(failed)?))
        }
        Request::Thaw => {
            let after_fence = machine.thaw().map_err(failed)? == Thaw::AfterFence;
            Ok(json!({"thawed": true, "after_fence": after_fence}))
        }
        Request::Resync { disk } => machine.resync(&disk).map_err(failed).map(|()| json!({"disk": disk})),
        Request::Remove { disk } => machine.remove(&disk).map_err(failed).map(|()| json!({"disk": disk})),
        Request::Reload => reload().map(|changes| json!({"changes": changes})),
    }
}

/// How a command ends that the machine did not do.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub fn failed(error: MachineError) -> Failed {
    (Exit::of_remedy(error.remedy()), error.to_string())
}

impl Request {
    /// How long an answer may take.
    const fn within(&self) -> Duration {
        match self {
            Self::Status | Self::Thaw => LOOKS_WITHIN,
            // The agent answers first; this is for one that has lost its thread.
            Self::Cut { .. } | Self::Finish { .. } => {
                limits::CUT_ANSWERED_WITHIN.saturating_add(limits::POINT_WITHIN)
            }
            Self::Resync { .. } | Self::Remove { .. } | Self::Reload => {
                limits::ORDER_ANSWERED_WITHIN.saturating_add(limits::POINT_WITHIN)
            }
        }
    }
}

/// Asks, and tells the answer.
pub fn run(request: &Request, reach: &Reach) -> (Output, Result<(), Failed>) {
    let output = reach.output();
    let answer = reach.socket().and_then(|socket| control::ask(&socket, request, request.within()));
    let told = answer.and_then(|answer| tell(request, &answer, &output));
    (output, told)
}

fn tell(request: &Request, answer: &Value, output: &Output) -> Result<(), Failed> {
    match request {
        Request::Status => status::tell(answer, output),
        Request::Cut { .. } | Request::Finish { .. } => return status::tell_cut(answer, output),
        Request::Thaw if answer["after_fence"] == true => output.line(
            "thawed after the final point, and the targets take nothing more: \
             the machine at home may be running; power one of the two off",
            || json!({"event": "thawed", "after_fence": true}),
        ),
        Request::Thaw => output.line(
            "thawed; the cut that was under way is void",
            || json!({"event": "thawed", "after_fence": false}),
        ),
        Request::Resync { disk } => output.line(
            &format!("disk {disk} will be compared with its target"),
            || json!({"event": "resync", "disk": disk}),
        ),
        Request::Remove { disk } => {
            output.line(&format!("disk {disk} is forgotten"), || json!({"event": "removed", "disk": disk}))
        }
        Request::Reload => {
            let changes = answer["changes"].as_array().cloned().unwrap_or_default();
            let text: Vec<_> = changes.iter().filter_map(Value::as_str).collect();
            let text = if text.is_empty() { "no disk came or went".to_owned() } else { text.join("\n") };
            output.line(&text, || json!({"event": "reloaded", "changes": changes}));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_that_people_can_write() {
        let read = |text: &str| serde_json::from_str::<Request>(text).expect("a request");
        assert_eq!(read(r#"{"do":"status"}"#), Request::Status);
        assert_eq!(read(r#"{"do":"cut"}"#), Request::Cut { app: false, name: String::new() });
        assert_eq!(read(r#"{"do":"finish","power_off":true}"#), Request::Finish { power_off: true });
        let text =
            serde_json::to_string(&Request::Resync { disk: "root".to_owned() }).expect("it has a text");
        assert_eq!(text, r#"{"do":"resync","disk":"root"}"#);
    }
}

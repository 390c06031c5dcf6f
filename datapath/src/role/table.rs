//! A state machine as a table, and two ways to look at one.

use std::fmt::{Debug, Write};

/// A state of a machine that is a pure table.
pub trait Table: Copy + PartialEq + Debug + 'static {
    /// What may happen.
    type Event: Copy + Debug + 'static;
    /// What is then to be done.
    type Action: Copy + Debug + 'static;
    /// Every state, the first one first.
    const STATES: &'static [Self];
    /// Every event.
    const EVENTS: &'static [Self::Event];

    /// What follows when `event` happens in this state.
    fn on(self, event: Self::Event) -> Step<Self>;
}

/// The answer of a table.
pub struct Step<S: Table> {
    /// The state from now on.
    pub next: S,
    /// What is to be done, in this order.
    pub actions: &'static [S::Action],
}

impl<S: Table> Step<S> {
    /// Goes to `next` and does `actions`.
    #[must_use]
    pub const fn to(next: S, actions: &'static [S::Action]) -> Self {
        Self { next, actions }
    }
}

/// Every state with every event, a line each, as a test holds it.
#[must_use]
pub fn listing<S: Table>() -> String {
    let mut text = String::new();
    for state in S::STATES {
        for event in S::EVENTS {
            let step = state.on(*event);
            let (state, event, next) = (name(state), name(event), name(&step.next));
            let next = if next == state { "=".to_owned() } else { next };
            let actions: Vec<_> = step.actions.iter().map(name).collect();
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{}",
                format!("{state:<32} {event:<20} {next:<32} {}", actions.join(", ")).trim_end()
            );
        }
    }
    text
}

/// The changes of state as a diagram in the language of Mermaid. States that
/// differ only in what they carry are one.
#[must_use]
pub fn diagram<S: Table>() -> String {
    let mut text = "stateDiagram-v2\n".to_owned();
    if let Some(first) = S::STATES.first() {
        let _ = writeln!(text, "    [*] --> {}", node(first));
    }
    let mut arrows: Vec<(String, String, Vec<String>)> = Vec::new();
    for state in S::STATES {
        for event in S::EVENTS {
            let (from, to, on) = (node(state), node(&state.on(*event).next), name(event));
            if from == to {
                continue;
            }
            match arrows.iter_mut().find(|(known, other, _)| *known == from && *other == to) {
                Some((_, _, events)) if events.contains(&on) => {}
                Some((_, _, events)) => events.push(on),
                None => arrows.push((from, to, vec![on])),
            }
        }
    }
    for (from, to, events) in arrows {
        let _ = writeln!(text, "    {from} --> {to} : {}", events.join(", "));
    }
    text
}

fn name<T: Debug>(value: &T) -> String {
    format!("{value:?}")
}

/// A state without what it carries.
fn node<T: Debug>(value: &T) -> String {
    name(value).split('(').next().unwrap_or_default().to_owned()
}

//! What an agent that runs tells on its standard output.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use failback_datapath::limits;
use failback_datapath::role::agent::Event;
use serde_json::json;

use super::status;
use crate::output::Output;

/// Takes events from the agent's threads, none of which waits for whoever reads
/// the output: it may lie on a disk that is frozen.
pub struct Events {
    waiting: Sender<Event>,
    lost: AtomicU64,
}

impl Events {
    /// Both ends.
    pub fn new() -> (Self, Receiver<Event>) {
        let (waiting, told) = crossbeam_channel::bounded(limits::EVENTS_WAITING);
        (Self { waiting, lost: AtomicU64::new(0) }, told)
    }

    /// Takes one; where nobody reads, those that do not fit are counted.
    pub fn take(&self, event: Event) {
        if self.waiting.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} events were not told, because nobody read them in time");
            if self.waiting.try_send(Event::Alarm { text }).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

/// Tells one.
pub fn tell(event: &Event, output: &Output) {
    match event {
        Event::Started { machine, disks } => output.line(
            &format!("{machine}: protecting {}", disks.join(", ")),
            || json!({"event": "started", "machine": machine, "disks": disks}),
        ),
        Event::Disk { disk, state, reason } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            output.line(
                &format!("{disk}: {}{why}", state.name()),
                || json!({"event": "disk", "disk": disk, "state": state.name(), "reason": reason}),
            );
        }
        Event::Doubt { disk, doubt } => output.line(
            &format!("{disk}: changes may have been missed: {doubt}"),
            || json!({"event": "doubt", "disk": disk, "reason": doubt}),
        ),
        Event::Trouble { disk, text } => output
            .line(&format!("{disk}: {text}"), || json!({"event": "trouble", "disk": disk, "text": text})),
        Event::Notice(notice) => output.notice(notice),
        Event::Cut(cut) => {
            let cut = serde_json::to_value(cut).unwrap_or_default();
            output.line(&status::cut_text(&cut), || status::event(&cut));
            if cut["finished"] == true {
                output.line("finished", || json!({"event": "finished", "downtime_ms": cut["downtime_ms"]}));
            }
        }
        Event::Alarm { text } => {
            output.line(&format!("ALARM: {text}"), || json!({"event": "alarm", "text": text}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_nobody_reads_are_counted_and_told_later() {
        let (events, told) = Events::new();
        let alarm = || Event::Alarm { text: "x".to_owned() };
        for _ in 0..limits::EVENTS_WAITING + 3 {
            events.take(alarm());
        }
        assert_eq!(told.try_iter().count(), limits::EVENTS_WAITING);
        events.take(alarm());
        let texts: Vec<_> = told.try_iter().map(|event| format!("{event:?}")).collect();
        assert!(texts.len() == 2 && texts[1].contains("3 events were not told"), "{texts:?}");
    }
}

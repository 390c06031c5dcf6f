//! What people and machines read: notices, progress, summaries, errors.
//!
//! People read results on standard output and everything else on standard
//! error; machines read one JSON object a line on standard output.

mod progress;
mod summary;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crossbeam_channel::Receiver;
use failback_datapath::resync::{Report, TargetState, Watch};
use failback_datapath::telemetry::Notice;
use serde_json::{Value, json};

use crate::exit::Exit;

/// How much is told, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// People at a terminal: a progress bar.
    Terminal,
    /// People who read a log: plain lines.
    Plain,
    /// Machines.
    Json,
    /// Nothing but errors.
    Errors,
}

impl Style {
    /// The style for these options and this standard error.
    pub fn choose(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            (false, true) => Self::Errors,
            (false, false) if std::io::stderr().is_terminal() => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

/// Where everything is told.
#[derive(Clone)]
pub struct Output {
    style: Style,
}

impl Output {
    /// An output of this style.
    pub const fn new(style: Style) -> Self {
        Self { style }
    }

    /// How much is told, and to whom.
    pub const fn style(&self) -> Style {
        self.style
    }

    /// A result: `text` for people, `event` for machines.
    pub fn line(&self, text: &str, event: impl FnOnce() -> Value) {
        match self.style {
            Style::Json => print_line(&event().to_string()),
            Style::Terminal | Style::Plain => print_line(&printable(text)),
            Style::Errors => {}
        }
    }

    /// Something worth knowing.
    pub fn notice(&self, notice: &Notice) {
        match self.style {
            Style::Json => {
                print_line(&json!({"event": "notice", "name": notice.name, "text": notice.text}).to_string())
            }
            Style::Terminal | Style::Plain => eprintln!("note: {}", printable(&notice.text)),
            Style::Errors => {}
        }
    }

    /// A notice of the program itself.
    pub fn warn(&self, text: &str) {
        self.notice(&Notice::new("warning", text.to_owned()));
    }

    /// The end, when it is not a good one.
    pub fn error(&self, exit: Exit, message: &str, target: Option<&TargetState>) -> Exit {
        if self.style == Style::Json {
            let (state, cursor) = match target {
                None => (None, None),
                Some(TargetState::Untouched) => (Some("untouched"), None),
                Some(TargetState::Unfinished { cursor_bytes }) => (Some("unfinished"), Some(*cursor_bytes)),
                Some(TargetState::Remote) => (Some("unknown"), None),
            };
            let event = json!({
                "event": "error", "code": exit.name(), "exit_code": exit as u8, "message": message,
                "target_state": state, "target_cursor_bytes": cursor,
            });
            print_line(&event.to_string());
        }
        eprintln!("failback: {}", printable(message));
        if let Some(target) = target {
            eprintln!("failback: {target}");
        }
        exit
    }

    /// The end of a synchronization that went well.
    pub fn summary(&self, report: &Report, elapsed: Duration) {
        match self.style {
            Style::Json => print_line(&summary::event(report, elapsed).to_string()),
            Style::Terminal | Style::Plain => print_line(&summary::text(report, elapsed)),
            Style::Errors => {}
        }
    }

    /// Runs `work` while telling its progress and its notices.
    pub fn while_watching<T: Send>(
        &self,
        watch: &Watch,
        notices: &Receiver<Notice>,
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let (end, ended) = crossbeam_channel::bounded::<()>(0);
        std::thread::scope(|scope| {
            scope.spawn(move || progress::follow(self, watch, notices, &ended));
            let result = work();
            drop(end);
            result
        })
    }
}

/// `text` without what a terminal would obey: some of it comes from other hosts.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Prints a line; a reader that went away (`| head`) is no reason to panic.
fn print_line(text: &str) {
    let mut standard_output = std::io::stdout().lock();
    let _gone = writeln!(standard_output, "{text}").and_then(|()| standard_output.flush());
}

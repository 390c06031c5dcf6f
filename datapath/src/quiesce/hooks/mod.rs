//! Commands before and after a cut, by which applications make their files whole.
//!
//! In: what to run, and the cut. Out: whether the point may be called
//! app-consistent, and what the commands said. Invariants: the command after the
//! cut runs if the one before it was started, also when that one failed or the
//! cut was given up; each ends within its time. Never: a shell, unless asked for.
//! Limits: `limits::HOOK_OUTPUT_BYTES_MAX`, `limits::HOOK_TIME_LIMIT`.

mod child;

use std::ffi::OsStr;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use crate::limits;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCommand {
    /// A program and its arguments.
    Program(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// The commands around a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Before the freeze.
    pub pre: Option<HookCommand>,
    /// After the thaw.
    pub post: Option<HookCommand>,
    /// How long each of them may run.
    pub time_limit: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { pre: None, post: None, time_limit: limits::HOOK_TIME_LIMIT }
    }
}

/// What the commands are told of a cut, in the variables `FAILBACK_CUT_NAME`,
/// `FAILBACK_CUT_KIND` and `FAILBACK_DISKS` (one to a line). `FAILBACK_HOOK` is
/// `pre` or `post`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occasion {
    /// The name that was given to it, or nothing.
    pub name: String,
    /// `app`, `final`, …
    pub kind: String,
    /// The disks that are cut together.
    pub disks: Vec<String>,
}

/// What a point may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Applications were told, and agreed.
    App,
    /// As after a power cut.
    Crash {
        /// Why it is not more.
        reason: String,
    },
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookStatus {
    /// With 0.
    Success,
    /// With another code.
    Code(i32),
    /// By a signal of somebody else.
    Signal(i32),
    /// It was killed when its time was over.
    Late(Duration),
    /// It could not be started or followed.
    Failed(String),
}

impl fmt::Display for HookStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("succeeded"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(number) => write!(f, "was ended by signal {number}"),
            Self::Late(limit) => write!(f, "was killed after {} s", limit.as_secs_f64()),
            Self::Failed(reason) => write!(f, "could not be run: {reason}"),
        }
    }
}

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// How it ended.
    pub status: HookStatus,
    /// The first of what it printed, standard output and error as they came.
    pub output: String,
    /// Whether it printed more.
    pub is_cut_off: bool,
    /// How long it took.
    pub took: Duration,
}

impl Hooks {
    /// Runs the command before the cut.
    #[must_use]
    pub fn begin<'h>(&'h self, cut: &'h Occasion) -> Running<'h> {
        let Some(command) = &self.pre else {
            let consistency = Consistency::Crash { reason: "no pre hook is set".to_owned() };
            return Running { hooks: self, cut, pre: None, consistency, is_post_due: false };
        };
        let (report, was_started) = child::run(&mut command.build("pre", cut), self.time_limit);
        let consistency = match &report.status {
            HookStatus::Success => Consistency::App,
            status => Consistency::Crash { reason: format!("the pre hook {status}") },
        };
        Running { hooks: self, cut, pre: Some(report), consistency, is_post_due: was_started }
    }

    /// Runs the command after a cut that was [left](Running::leave): a machine
    /// that stayed frozen and is thawed after all. `None` where none is set.
    pub fn end(&self, cut: &Occasion) -> Option<HookReport> {
        let command = self.post.as_ref()?;
        Some(child::run(&mut command.build("post", cut), self.time_limit).0)
    }
}

/// A cut whose command before it was run. Dropped, it runs the one after it.
#[derive(Debug)]
pub struct Running<'h> {
    hooks: &'h Hooks,
    cut: &'h Occasion,
    pre: Option<HookReport>,
    consistency: Consistency,
    is_post_due: bool,
}

impl Running<'_> {
    /// What the point may be called.
    #[must_use]
    pub fn consistency(&self) -> &Consistency {
        &self.consistency
    }

    /// What became of the command before the cut; `None` where none is set.
    #[must_use]
    pub fn pre(&self) -> Option<&HookReport> {
        self.pre.as_ref()
    }

    /// Leaves the command after the cut to be run later: see [`Hooks::end`].
    pub fn leave(mut self) {
        self.is_post_due = false;
    }

    /// Runs the command after the cut; `None` where none is set or due.
    pub fn finish(mut self) -> Option<HookReport> {
        self.run_post()
    }

    fn run_post(&mut self) -> Option<HookReport> {
        if !std::mem::take(&mut self.is_post_due) {
            return None;
        }
        self.hooks.end(self.cut)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _unseen = self.run_post();
    }
}

impl HookCommand {
    fn build(&self, hook: &str, cut: &Occasion) -> Command {
        let mut command = match self {
            Self::Program(words) => {
                // Without any word there is nothing to start, which starting tells.
                let mut words = words.iter().map(OsStr::new);
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words);
                command
            }
            Self::Shell(line) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", line]);
                command
            }
        };
        command.env("FAILBACK_HOOK", hook);
        command.env("FAILBACK_CUT_NAME", &cut.name).env("FAILBACK_CUT_KIND", &cut.kind);
        command.env("FAILBACK_DISKS", cut.disks.join("\n"));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Option<HookCommand> {
        Some(HookCommand::Shell(line.to_owned()))
    }

    fn cut() -> Occasion {
        Occasion {
            name: "before-upgrade".into(),
            kind: "app".into(),
            disks: vec!["/dev/a".into(), "/dev/b c".into()],
        }
    }

    fn outcome(pre: Option<HookCommand>, seconds: u64) -> (HookReport, Consistency) {
        let hooks = Hooks { pre, post: None, time_limit: Duration::from_secs(seconds) };
        let cut = cut();
        let running = hooks.begin(&cut);
        (
            running.pre().cloned().unwrap_or_else(|| unreachable!("a hook is set")),
            running.consistency().clone(),
        )
    }

    #[test]
    fn a_hook_that_succeeds_is_told_of_the_cut() {
        let line = "echo $FAILBACK_HOOK $FAILBACK_CUT_NAME $FAILBACK_CUT_KIND; echo \"$FAILBACK_DISKS\" >&2";
        let (report, consistency) = outcome(shell(line), 60);
        assert_eq!(report.output, "pre before-upgrade app\n/dev/a\n/dev/b c\n");
        assert_eq!((report.status, consistency), (HookStatus::Success, Consistency::App));
        let words = ["printf", "%s.", "$HOME", "two words"].map(str::to_owned).to_vec();
        assert_eq!(outcome(Some(HookCommand::Program(words)), 60).0.output, "$HOME.two words.", "no shell");
    }

    #[test]
    fn a_hook_that_fails_downgrades_the_point_and_says_why() {
        let reason = |consistency| match consistency {
            Consistency::Crash { reason } => reason,
            Consistency::App => String::new(),
        };
        let (report, consistency) = outcome(shell("echo no; exit 3"), 60);
        assert_eq!((report.status, report.output.as_str()), (HookStatus::Code(3), "no\n"));
        assert_eq!(reason(consistency), "the pre hook ended with code 3");
        assert_eq!(outcome(shell("kill -TERM $$"), 60).0.status, HookStatus::Signal(15));
        let (report, consistency) = outcome(Some(HookCommand::Program(vec!["/no/such/program".into()])), 60);
        assert!(matches!(report.status, HookStatus::Failed(_)));
        assert!(reason(consistency).starts_with("the pre hook could not be run: "));
        assert!(matches!(
            outcome(Some(HookCommand::Program(Vec::new())), 60).0.status,
            HookStatus::Failed(_)
        ));
    }

    #[test]
    fn a_hook_that_is_late_is_killed_with_what_it_started() {
        let limit = Duration::from_millis(200);
        let hooks =
            Hooks { pre: shell("echo begun; sleep 1000 & echo $!; wait"), post: None, time_limit: limit };
        let cut = cut();
        let running = hooks.begin(&cut);
        let report = running.pre().cloned().unwrap_or_else(|| unreachable!("a hook is set"));
        assert_eq!(report.status, HookStatus::Late(limit));
        let child = report.output.lines().nth(1).unwrap_or_default().to_owned();
        // The kernel needs a moment for the grandchild, which nobody waits for here.
        let is_gone = || {
            std::fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |line| line.contains(") Z "))
        };
        while !is_gone() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn output_is_bounded_and_a_background_child_delays_nothing() {
        let line = "sleep 1000 & echo $!; head -c 1000000 /dev/zero | tr '\\0' x";
        let (report, _) = outcome(shell(line), 600);
        assert_eq!(report.status, HookStatus::Success);
        assert!(report.output.len() == limits::HOOK_OUTPUT_BYTES_MAX && report.is_cut_off);
        let child = report.output.lines().next().and_then(|line| line.parse().ok());
        let child = nix::unistd::Pid::from_raw(child.unwrap_or_else(|| unreachable!("the shell names it")));
        assert_eq!(nix::sys::signal::kill(child, nix::sys::signal::SIGKILL), Ok(()), "it was left alone");
        let (report, _) = outcome(shell("printf '\\377\\n'"), 60);
        assert!(!report.output.is_empty() && !report.is_cut_off);
    }

    #[test]
    fn the_post_hook_runs_if_and_only_if_the_pre_hook_was_started() {
        let run = |pre, post| {
            let hooks = Hooks { pre, post, time_limit: Duration::from_secs(60) };
            let cut = cut();
            hooks.begin(&cut).finish().map(|report| (report.status, report.output))
        };
        let done = || Some((HookStatus::Success, "post\n".to_owned()));
        assert_eq!(run(shell("true"), shell("echo $FAILBACK_HOOK")), done());
        assert_eq!(run(shell("exit 1"), shell("echo $FAILBACK_HOOK")), done());
        assert_eq!(run(Some(HookCommand::Program(vec!["/no".into()])), shell("echo x")), None);
        assert_eq!(run(None, shell("echo x")), None);
        assert_eq!(run(shell("true"), None), None);
    }

    #[test]
    fn a_cut_that_is_given_up_runs_the_post_hook_too() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ran");
        let post = shell(&format!("touch {}", file.display()));
        let hooks = Hooks { pre: shell("true"), post, time_limit: Duration::from_secs(60) };
        drop(hooks.begin(&cut()));
        assert!(file.exists());
        Ok(())
    }
}

//! Exit codes: what a script may rely on.

use std::process::ExitCode;

use failback_datapath::error::{Remediable, Remedy};
use failback_datapath::resync;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Failed while it ran; the message says what state the target is in.
    Failed = 1,
    /// Refused before anything was changed; 2 is a wrong command line, by clap.
    Refused = 3,
    /// Stopped by a signal.
    Interrupted = 4,
    /// The verification found differences.
    Differs = 5,
    /// The other host is not reachable, or the connection broke.
    Network = 6,
}

/// The table in the help texts and in the README.
pub const HELP: &str = "Exit codes:\n  \
    0  done\n  \
    1  failed while it ran; the message says what state the target is in\n  \
    2  the command line is wrong\n  \
    3  refused: nothing was changed\n  \
    4  stopped by a signal; the target is marked as unfinished if anything was written\n  \
    5  the verification found differences\n  \
    6  the other host is not reachable, or the connection broke";

impl Exit {
    /// The code for a failed run.
    pub fn of(failure: &resync::Failure) -> Self {
        match &failure.error {
            resync::Error::Interrupted => Self::Interrupted,
            resync::Error::Differs { .. } => Self::Differs,
            error => match Self::of_remedy(error.remedy()) {
                // Refused means that nothing was changed, and here something was.
                Self::Refused if failure.target != resync::TargetState::Untouched => Self::Failed,
                exit => exit,
            },
        }
    }

    /// The code for an error with this remedy.
    pub const fn of_remedy(remedy: Remedy) -> Self {
        match remedy {
            Remedy::Refused => Self::Refused,
            Remedy::Reconnect => Self::Network,
            Remedy::Resync => Self::Differs,
            Remedy::Retry | Remedy::Stop => Self::Failed,
        }
    }

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::Differs => "differs",
            Self::Network => "network",
        }
    }

    /// The one with this name in JSON.
    pub fn named(name: &str) -> Option<Self> {
        let all =
            [Self::Success, Self::Failed, Self::Refused, Self::Interrupted, Self::Differs, Self::Network];
        all.into_iter().find(|exit| exit.name() == name)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

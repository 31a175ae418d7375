//! The outcomes of a reload, and their wording everywhere.

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// All workers are of the new generation.
    Done,
    /// The new configuration cannot be used. Nothing was changed.
    Misconfigured,
    /// The first worker of the new generation did not boot, or did not live. Nothing was changed.
    CanaryFailed,
    /// Workers of the new generation died. All workers that serve are of the old generation again.
    Halted,
    /// The server stopped or was paused.
    Abandoned,
}

impl ReloadOutcome {
    /// The name in `/status` and in the response to a client that waits for the reload.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Misconfigured => "misconfigured",
            Self::CanaryFailed => "canary-failed",
            Self::Halted => "halted",
            Self::Abandoned => "abandoned",
        }
    }

    /// The meaning for the server.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "all workers are new",
            Self::Misconfigured => "the new configuration cannot be used; nothing was changed",
            Self::CanaryFailed => {
                "the first new worker did not boot, or did not live; nothing was changed"
            }
            Self::Halted => "new workers died; all that serve are of the old generation again",
            Self::Abandoned => "the server stops or is paused",
        }
    }

    /// The status line for the service manager afterwards.
    pub const fn service_status(self) -> &'static str {
        match self {
            Self::Done => "Serving",
            Self::Abandoned => "Serving; the reload was given up",
            Self::Misconfigured | Self::CanaryFailed | Self::Halted => {
                "Serving; the reload failed, and the old workers go on"
            }
        }
    }

    /// Whether the new configuration or code was at fault.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Misconfigured | Self::CanaryFailed | Self::Halted => true,
            Self::Done | Self::Abandoned => false,
        }
    }
}

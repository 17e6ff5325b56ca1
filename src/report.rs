//! What became of each target.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use super::process::ProcessId;

/// How a target that is gone came to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// There was no such process, or only its zombie, before anything was sent.
    AlreadyGone,
    /// It ended on the first signal, or by itself.
    Exited,
    /// It needed SIGKILL.
    Killed,
}

/// What the way the targets were found can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// Everything that belongs to what was to be killed was found. For a tree or a search: it was
    /// closed while no process was born, or only strangers were.
    Exact,
    /// A member may have been missed: the machine kept forking while a tree or a search was closed, or
    /// orphans of the caller's children go to another process, or /proc hides other users' processes
    /// (`hidepid`).
    BestEffort,
}

/// What happened, target by target, in the order first named or found, each once.
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) targets: Vec<(u32, Outcome)>,
    pub(crate) elapsed: Duration,
    pub(crate) coverage: Coverage,
}

impl Report {
    pub(crate) fn empty() -> Report {
        Report {
            targets: Vec::new(),
            elapsed: Duration::ZERO,
            coverage: Coverage::BestEffort,
        }
    }

    /// Every target that is gone, with its outcome.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Outcome)> + '_ {
        self.targets.iter().copied()
    }

    /// The targets with this outcome.
    #[must_use]
    pub fn pids(&self, outcome: Outcome) -> Vec<u32> {
        self.iter()
            .filter_map(|(pid, of)| (of == outcome).then_some(pid))
            .collect()
    }

    /// How many targets are gone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there was nothing to do, or nothing is gone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// From the call to the verdict.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether a member of what was to be killed can have been missed.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// Why a target is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// 0 or above `i32::MAX`: it names no process, and nothing was sent.
    InvalidPid,
    /// Pid 1: nothing was sent.
    Init,
    /// The calling process: nothing was sent.
    Caller,
    /// An ancestor of the calling process: nothing was sent; see
    /// [`Kill::even_ancestors`](super::Kill::even_ancestors).
    Ancestor,
    /// The number of a thread that is no process: nothing was sent, for kill(2) would take the
    /// whole process that the thread belongs to.
    Thread,
    /// A kernel thread: nothing was sent.
    KernelThread,
    /// `EPERM`. It is not waited for, but was watched while others were, and did not end by itself.
    NotPermitted,
    /// Held by a debugger (ptrace(2)), as in `PTRACE_EVENT_EXIT`, or by a dead thread that the debugger
    /// has not waited for.
    Traced {
        /// The debugger's pid; 0 if it lives outside the caller's PID namespace.
        by: u32,
    },
    /// State D (proc_pid_stat(5) field 3): a hung file system, a frozen v1 cgroup.
    Uninterruptible,
    /// It took the signal and its memory is still being given back.
    StillExiting,
    /// It still runs.
    StillRunning,
    /// It could not be told. Never counted as gone.
    Unverifiable,
}

/// What is said of a process: "32 (sleep) is the calling process".
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::InvalidPid => "is no process number (1 to 2147483647)",
            Reason::Init => "is init, which is never signalled",
            Reason::Caller => "is the calling process",
            Reason::Ancestor => "is an ancestor of the calling process",
            Reason::Thread => "is a thread, not a process",
            Reason::KernelThread => "is a kernel thread",
            Reason::NotPermitted => "may not be signalled by this user",
            Reason::Traced { by: 0 } => "is held by a debugger outside this PID namespace",
            Reason::Traced { by } => return write!(f, "is held by debugger {by}"),
            Reason::Uninterruptible => "is in uninterruptible sleep",
            Reason::StillExiting => "is still exiting",
            Reason::StillRunning => "is still running",
            Reason::Unverifiable => "cannot be verified",
        })
    }
}

/// A target that is not gone: the time was up, or it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub(crate) pid: u32,
    pub(crate) id: Option<ProcessId>,
    pub(crate) reason: Reason,
    pub(crate) state: Option<char>,
    pub(crate) name: Option<OsString>,
}

impl Survivor {
    /// The number as it was given or found.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its identity, to try again later or to write down; `None` where it could not be read.
    #[must_use]
    pub fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// Why it is not gone.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Its state at the verdict (proc_pid_stat(5) field 3); `None` where /proc did not tell.
    #[must_use]
    pub fn state(&self) -> Option<char> {
        self.state
    }

    /// Its name at the verdict (proc_pid_stat(5) field 2); `None` where /proc did not tell.
    #[must_use]
    pub fn name(&self) -> Option<&OsStr> {
        self.name.as_deref()
    }
}

impl Reason {
    /// Nothing was sent, and nothing was waited for.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(
            self,
            Reason::InvalidPid
                | Reason::Init
                | Reason::Caller
                | Reason::Ancestor
                | Reason::Thread
                | Reason::KernelThread
        )
    }
}

impl Survivor {
    /// "32 (sleep)".
    pub(crate) fn fmt_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)?;
        match &self.name {
            // A name may hold any byte, a newline or an escape sequence included.
            Some(name) => write!(f, " ({})", name.as_encoded_bytes().escape_ascii()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_name(f)?;
        write!(f, " {}", self.reason)
    }
}

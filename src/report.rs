//! What became of each target.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

use super::process::ProcessId;

/// How a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Before anything was sent there was no such process, or only its zombie.
    AlreadyGone,
    /// It ended after the first signal, or by itself.
    Exited,
    /// It ended after SIGKILL.
    Killed,
}

/// Whether the call found every process that it should kill. How it can know:
/// [`guide::searches`](super::guide::searches).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// All were found. For a tree or a search: no process was born while it was closed, or only
    /// strangers were.
    Exact,
    /// One may have been missed, for example because the machine kept forking while a tree or a
    /// search was closed, a member ended before its children were listed, a debugger holds a member,
    /// orphans of the caller's children go to another process, /proc hides other users' processes
    /// (`hidepid`), or something may not be read. Each call lists its own cases.
    BestEffort,
}

/// What became of the targets that are gone, in the order first named or found, each once.
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

    /// Whether no target is gone, or there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The time from the call to the verdict.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether the call found every process that it should kill.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// Why a target is not gone. What to do about it: [`guide::survivors`](super::guide::survivors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// 0 or above `i32::MAX`: the number names no process. Nothing was sent.
    InvalidPid,
    /// Pid 1: nothing was sent.
    Init,
    /// The calling process: nothing was sent.
    Caller,
    /// An ancestor of the calling process: nothing was sent; see
    /// [`Kill::even_ancestors`](super::Kill::even_ancestors).
    Ancestor,
    /// The number of a thread that is not the first of its process. Nothing was sent, because
    /// kill(2) would hit the whole process of the thread.
    Thread,
    /// A kernel thread: nothing was sent.
    KernelThread,
    /// `EPERM`. The call does not wait for it. It still ran at the last look.
    NotPermitted,
    /// A debugger holds it (ptrace(2)): it is stopped, as in `PTRACE_EVENT_EXIT`, or one of its
    /// threads is dead and the debugger has not waited for that thread.
    Traced {
        /// The debugger's pid; 0 if it lives outside the caller's PID namespace.
        by: u32,
    },
    /// State D (proc_pid_stat(5) field 3), for example on a hung file system or in a frozen v1
    /// cgroup.
    Uninterruptible,
    /// It is exiting, and its memory is still being given back.
    ///
    /// The init of a container (pid 1 of a PID namespace) stays in this state until every zombie of
    /// its namespace is reaped (pid_namespaces(7)). The zombie of a process that was started into
    /// the namespace from outside (nsenter(1), setns(2)) is reaped only by the process that started
    /// it.
    StillExiting,
    /// It still runs.
    StillRunning,
    /// The kernel did not tell whether it is gone. It never counts as gone.
    Unverifiable,
}

/// Completes a sentence about the process: "32 (sleep) is the calling process".
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

/// A target that is not gone, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    pub(crate) pid: u32,
    pub(crate) id: Option<ProcessId>,
    pub(crate) reason: Reason,
    pub(crate) state: Option<char>,
    pub(crate) name: Option<OsString>,
}

impl Survivor {
    /// Its pid, as it was named or found.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its identity, to try again later or to write to a file; `None` if it could not be read.
    #[must_use]
    pub fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// Why it is not gone.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Its state at the verdict (proc_pid_stat(5) field 3); `None` if it could not be read.
    #[must_use]
    pub fn state(&self) -> Option<char> {
        self.state
    }

    /// Its name at the verdict (proc_pid_stat(5) field 2); `None` if it could not be read.
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

//! The one escalation loop, and the plain functions.

use std::time::Duration;

use super::error::Result;
use super::process::{Pinned, ProcessId, check_signal};
use super::report::{Coverage, Outcome, Reason, Report};
use super::sys::{Pid, SIGCONT, SIGKILL, SIGTERM};
use super::wait::{Batch, Deadline};

/// How to kill: first signal, grace, SIGKILL, verify.
///
/// Plain data: keep one and use it as often as you like.
///
/// ```
/// # use std::time::Duration;
/// # use process_kill::{Kill, Outcome};
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// let report = Kill::graceful().grace(Duration::from_secs(1)).pids(&[child.id()])?;
/// assert_eq!(report.pids(Outcome::Exited), [child.id()]);
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is killed until one of its methods names the targets"]
pub struct Kill {
    first: i32,
    grace: Duration,
    verify: Duration,
}

impl Kill {
    /// SIGKILL at once; verify within 2 s.
    pub const fn now() -> Kill {
        Kill {
            first: SIGTERM,
            grace: Duration::ZERO,
            verify: Duration::from_secs(2),
        }
    }

    /// SIGTERM, then SIGCONT, for a stopped process acts on no other signal; up to 5 s of grace; then
    /// SIGKILL, and verify within 2 s.
    pub const fn graceful() -> Kill {
        Kill::now().grace(Duration::from_secs(5))
    }

    /// The signal that opens the grace, `1..=64`; SIGTERM unless set. With SIGKILL there is no grace.
    pub const fn first_signal(mut self, signal: i32) -> Kill {
        self.first = signal;
        self
    }

    /// How long the targets may take after the first signal; it ends when the last one is gone. With
    /// zero SIGKILL is sent at once and the first signal is not; `Duration::MAX` means for ever.
    pub const fn grace(mut self, grace: Duration) -> Kill {
        self.grace = grace;
        self
    }

    /// How long after SIGKILL the targets may take to be gone. It ends when the last one is gone;
    /// `Duration::MAX` means for ever.
    pub const fn verify_within(mut self, verify: Duration) -> Kill {
        self.verify = verify;
        self
    }

    /// Kills these processes and verifies that they are gone, under one deadline for all.
    ///
    /// All of them are pinned before the first is signalled, so a pid that is given to another
    /// process meanwhile is not signalled. A bad number does not protect the others: it comes back
    /// as a survivor while they are killed. The caller's own children are not reaped.
    ///
    /// # Errors
    /// `Survivors`: not all are gone, or some were refused: 0, 1, numbers above `i32::MAX`, the
    /// caller, threads, kernel threads. `Refused`: the first signal is not in `1..=64`.
    ///
    /// # Kernel versions
    /// Linux 5.3 for pidfds. Where there are none, kill(2) and /proc do, and a pid that is used again
    /// within one clock tick cannot be told apart.
    pub fn pids(&self, pids: &[u32]) -> Result<Report> {
        self.run(pids.iter().map(|&pid| (pid, None)))
    }

    /// As [`Kill::pids`], but never a successor that got the same pid: such a target is gone.
    ///
    /// # Errors
    /// As [`Kill::pids`].
    pub fn processes(&self, ids: &[ProcessId]) -> Result<Report> {
        self.run(ids.iter().map(|id| (id.pid(), Some(id))))
    }

    fn run<'a>(&self, named: impl Iterator<Item = (u32, Option<&'a ProcessId>)>) -> Result<Report> {
        check_signal(self.first)?;
        let mut batch = Batch::of(named, refusal);
        self.escalate(&mut batch);
        batch.finish(Coverage::Exact)
    }

    fn escalate(&self, batch: &mut Batch) {
        if !self.grace.is_zero() && self.first != SIGKILL {
            batch.signal(&[self.first, SIGCONT]);
            batch.wait(Deadline::after(self.grace), Outcome::Exited);
        }
        batch.signal(&[SIGKILL]);
        batch.wait(Deadline::after(self.verify), Outcome::Killed);
    }
}

/// Who is never signalled, whoever asks.
fn refusal(pid: Pid, pinned: Option<&Pinned>) -> Option<Reason> {
    match pinned {
        _ if pid.is_init() => Some(Reason::Init),
        _ if pid.is_caller() => Some(Reason::Caller),
        // It would ignore SIGKILL or, if it has asked for it, obey.
        Some(pinned) if pinned.is_kernel_thread => Some(Reason::KernelThread),
        _ => None,
    }
}

/// Sends SIGKILL to each and verifies within 2 s that they are gone: [`Kill::now`]`().`[`pids`](Kill::pids).
///
/// `Ok`: all are gone, and with them their descriptors, locks, ports and memory. The caller's own
/// children stay zombies for `Child::wait` to reap.
///
/// # Errors
/// As [`Kill::pids`].
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait()?), Some(9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sigkill_pids_and_verify(pids: &[u32]) -> Result<Report> {
    Kill::now().pids(pids)
}

/// Waits until all of these are gone and sends nothing. It may wait for anyone, init and kernel
/// threads included.
///
/// # Errors
/// `Survivors`: not all are gone, or a number is 0, above `i32::MAX` or a thread's.
///
/// ```
/// # use std::time::Duration;
/// let mut child = std::process::Command::new("true").spawn()?;
/// process_kill::wait_until_gone(&[child.id()], Duration::from_secs(10))?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_until_gone(pids: &[u32], within: Duration) -> Result<Report> {
    let deadline = Deadline::after(within);
    let mut batch = Batch::of(pids.iter().map(|&pid| (pid, None)), |_, _| None);
    batch.wait(deadline, Outcome::Exited);
    batch.finish(Coverage::Exact)
}

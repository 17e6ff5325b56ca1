//! Processes that are never signalled: init, the caller, kernel threads and, unless the call allows
//! it, the caller's ancestors.

use std::collections::HashSet;
use std::os::fd::AsFd;

use super::super::proc::MaybeProc;
use super::super::process::PidRef;
use super::super::report::Reason;
use super::super::sys::{self, Pid};

/// What is spared in one call.
pub(crate) struct Spared {
    /// The caller's ancestors may be signalled too.
    pub(crate) even_ancestors: bool,
    caller: u32,
    /// `None`: not read yet. If all targets are children of the caller, they are never read.
    ancestors: Option<HashSet<Pid>>,
}

impl Spared {
    pub(crate) fn new(even_ancestors: bool) -> Spared {
        Spared {
            even_ancestors,
            caller: std::process::id(),
            ancestors: None,
        }
    }

    /// Why a target is never signalled. It runs twice: before opening (number only) and after (the
    /// process).
    pub(super) fn refusal(
        &mut self,
        pid: Pid,
        held: Option<&PidRef>,
        proc: &mut MaybeProc,
    ) -> Option<Reason> {
        if pid.is_init() {
            return Some(Reason::Init);
        }
        if pid.get() == self.caller {
            return Some(Reason::Caller);
        }
        let held = held?;
        // A kernel thread ignores SIGKILL or, if it allows the signal, ends.
        if held.is_kernel_thread {
            return Some(Reason::KernelThread);
        }
        // A child of the caller is no ancestor of it.
        let is_child = held.parent_when_opened() == Some(self.caller);
        (!is_child && self.is_spared_ancestor(pid, proc)).then_some(Reason::Ancestor)
    }

    fn is_spared_ancestor(&mut self, pid: Pid, proc: &mut MaybeProc) -> bool {
        !self.even_ancestors && self.ancestors(proc).contains(&pid)
    }

    /// Why this process is spared; `None`: it is not.
    pub(crate) fn reason(&mut self, pid: Pid, proc: &mut MaybeProc) -> Option<Reason> {
        match pid {
            _ if pid.is_init() => Some(Reason::Init),
            _ if pid.get() == self.caller => Some(Reason::Caller),
            _ => self
                .is_spared_ancestor(pid, proc)
                .then_some(Reason::Ancestor),
        }
    }

    /// The parent of the caller, the parent's parent and so on, up to the first process without a
    /// parent in this PID namespace.
    pub(crate) fn ancestors(&mut self, proc: &mut MaybeProc) -> &HashSet<Pid> {
        self.ancestors.get_or_insert_with(|| {
            let mut ancestors = HashSet::new();
            let mut parent = Pid::new(std::os::unix::process::parent_id());
            // A pid that is used again meanwhile could make a cycle.
            while let Some(pid) = parent.filter(|&pid| ancestors.insert(pid)) {
                parent = parent_of(pid, proc).and_then(Pid::new);
            }
            ancestors
        })
    }
}

/// Reads the parent from a pidfd (Linux 6.13), which works under hidepid, or from /proc.
fn parent_of(pid: Pid, proc: &mut MaybeProc) -> Option<u32> {
    let pidfd = sys::pidfd_open(pid).ok();
    let parent = pidfd.and_then(|pidfd| sys::pidfd_get_parent(pidfd.as_fd()).ok());
    parent.or_else(|| {
        let mut buf = Vec::new();
        let stat = proc.get()?.process(pid).stat(&mut buf).ok().flatten()?;
        Some(stat.parent)
    })
}

//! Processes that are never signalled: init, the caller, kernel threads and, unless the call allows
//! it, the caller's ancestors.
//!
//! The ancestors are read once, upwards from the parent of the caller. One of them can end meanwhile.
//! The kernel gives its children to another ancestor or to init, so the caller loses ancestors and
//! gets no new one. So a list that was complete once stays complete. It is complete if it ends at a
//! process without a parent in this PID namespace, and the caller still has the parent with which the
//! list begins. If an ancestor has gone instead, the list is read again from the start.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;

use super::super::proc::{self, MaybeProc};
use super::super::process::{PidRef, is_nobody};
use super::super::report::Reason;
use super::super::sys::{self, Pid};

/// What is spared in one call.
pub(crate) struct Spared {
    /// The caller's ancestors may be signalled too.
    pub(crate) even_ancestors: bool,
    caller: u32,
    /// Those that were read. More of them than live now does no harm.
    ancestors: HashSet<Pid>,
    /// All ancestors were read. If all targets are children of the caller, they are never read.
    is_complete: bool,
}

impl Spared {
    pub(crate) fn new(even_ancestors: bool) -> Spared {
        Spared {
            even_ancestors,
            caller: std::process::id(),
            ancestors: HashSet::new(),
            is_complete: false,
        }
    }

    /// Why a target is never signalled. It runs twice: before opening (number only) and after (the
    /// process).
    ///
    /// An error: this depends on the ancestors, and they cannot be read now.
    pub(super) fn refusal(
        &mut self,
        pid: Pid,
        held: Option<&PidRef>,
        proc: &mut MaybeProc,
    ) -> io::Result<Option<Reason>> {
        if pid.is_init() {
            return Ok(Some(Reason::Init));
        }
        if pid.get() == self.caller {
            return Ok(Some(Reason::Caller));
        }
        let Some(held) = held else {
            return Ok(None);
        };
        // A kernel thread ignores SIGKILL or, if it allows the signal, ends.
        if held.is_kernel_thread {
            return Ok(Some(Reason::KernelThread));
        }
        // A child of the caller is no ancestor of it.
        if self.even_ancestors || held.parent_when_opened() == Some(self.caller) {
            return Ok(None);
        }
        self.read_ancestors(proc)?;
        Ok(self.ancestors.contains(&pid).then_some(Reason::Ancestor))
    }

    /// Why this process is spared; `None`: it is not. An error as of [`Spared::refusal`].
    pub(super) fn reason(&mut self, pid: Pid, proc: &mut MaybeProc) -> io::Result<Option<Reason>> {
        match pid {
            _ if pid.is_init() => Ok(Some(Reason::Init)),
            _ if pid.get() == self.caller => Ok(Some(Reason::Caller)),
            _ if self.even_ancestors => Ok(None),
            _ => {
                self.read_ancestors(proc)?;
                Ok(self.ancestors.contains(&pid).then_some(Reason::Ancestor))
            }
        }
    }

    /// The parent of the caller, the parent's parent and so on, up to the first process without a
    /// parent in this PID namespace, or one whose parent is hidden. Before
    /// [`Spared::read_ancestors`] some are missing.
    pub(super) fn ancestors(&self) -> &HashSet<Pid> {
        &self.ancestors
    }

    /// Reads the ancestors, if they are not known yet. An error: they cannot be read now, for example
    /// because no descriptor is free.
    pub(super) fn read_ancestors(&mut self, proc: &mut MaybeProc) -> io::Result<()> {
        // Each repetition needs the end of an ancestor.
        while !self.is_complete {
            self.is_complete = self.climb(proc)?;
        }
        Ok(())
    }

    /// Reads the ancestors once. False: one of them has gone meanwhile, so others may be missing.
    fn climb(&mut self, proc: &mut MaybeProc) -> io::Result<bool> {
        let first = parent_id();
        let mut seen = HashSet::new();
        let mut at = Pid::new(first);
        while let Some(pid) = at {
            // A cycle: the number of one that has gone was used again.
            if !seen.insert(pid) {
                return Ok(false);
            }
            self.ancestors.insert(pid);
            at = match parent_of(pid, proc)? {
                Parent::Pid(parent) => Pid::new(parent),
                Parent::Gone => return Ok(false),
                Parent::Hidden => None,
            };
        }
        Ok(parent_id() == first)
    }
}

/// The parent of a process.
enum Parent {
    /// 0: it has none in this PID namespace.
    Pid(u32),
    /// The process itself was reaped.
    Gone,
    /// Neither a pidfd nor /proc tells it to this caller.
    Hidden,
}

/// Whether the next look at /proc would fail in the same way.
fn is_for_good(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData
    )
}

/// Reads the parent from a pidfd (Linux 6.13), which works under hidepid, or from /proc. An error: it
/// cannot be read now.
fn parent_of(pid: Pid, proc: &mut MaybeProc) -> io::Result<Parent> {
    let ask = || sys::pidfd_get_parent(sys::pidfd_open(pid)?.as_fd());
    let asked = match ask() {
        // Its spare descriptors are closed for it.
        Err(e) if proc::is_no_room(&e) => proc.get().map_or(Err(e), |proc| proc.with_room(ask)),
        asked => asked,
    };
    let failed = match asked {
        Ok(parent) => return Ok(Parent::Pid(parent)),
        Err(e) => e,
    };
    let mut buf = Vec::new();
    match proc.get().map(|proc| proc.process(pid).stat(&mut buf)) {
        Some(Ok(Some(stat))) => Ok(Parent::Pid(stat.parent)),
        Some(Ok(None)) => Ok(Parent::Gone),
        Some(Err(e)) if !is_for_good(&e) => Err(e),
        None if proc::is_no_room(&failed) || !proc.is_missing() => Err(failed),
        _ if is_nobody(pid) => Ok(Parent::Gone),
        _ => Ok(Parent::Hidden),
    }
}

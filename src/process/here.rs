//! The boot and the PID namespace of the caller: they decide what an identity means here.
//!
//! Another boot: the process is gone. The same boot and namespace: the process is looked for.
//! Everything else is unverifiable. One case is gone all the same: the namespace is the same, and
//! no process has the pid.

use std::io;
use std::sync::Mutex;

use super::super::proc::{MaybeProc, Proc};
use super::super::report::Reason;
use super::{Owner, Pin, ProcessId, is_nobody};

/// The boot and the PID namespace of the caller; `None` if /proc does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Here {
    pub(super) boot: Option<u128>,
    pub(super) namespace: Option<u64>,
}

impl Here {
    pub(crate) const UNKNOWN: Here = Here {
        boot: None,
        namespace: None,
    };

    pub(crate) fn read(proc: &Proc) -> io::Result<Here> {
        let here = Here {
            boot: proc.boot_id()?,
            namespace: proc.pid_namespace()?,
        };
        here.remember();
        Ok(here)
    }

    /// As /proc shows it now. If /proc is missing or a read fails: as this process has read it before,
    /// because the boot and the PID namespace of a process never change.
    pub(crate) fn look(proc: &mut MaybeProc) -> Here {
        let now = proc.get().and_then(|proc| Here::read(proc).ok());
        now.or_else(Here::recall).unwrap_or(Here::UNKNOWN)
    }

    fn remember(self) {
        // It does not wait for the lock: in a forked copy of the process, a thread that no longer
        // exists may hold it.
        let Ok(mut seen) = SEEN.try_lock() else {
            return;
        };
        if seen.is_none_or(|(by, here)| here != self || !by.is_caller()) {
            *seen = Some((Owner::current(), self));
        }
    }

    fn recall() -> Option<Here> {
        let (by, here) = (*SEEN.try_lock().ok()?)?;
        by.is_caller().then_some(here)
    }

    /// What boot and namespace alone say about an identity; `None`: the process must be looked for.
    pub(crate) fn judge(&self, id: &ProcessId) -> Option<Pin> {
        match (id.here().boot, self.boot) {
            (Some(then), Some(now)) if then != now => return Some(Pin::Gone),
            (then, now) if then != now => return Some(unverifiable_unless_nobody(id, self)),
            _ => {}
        }
        match (id.here().namespace, self.namespace) {
            (then, now) if then == now => None,
            // Here its pid means another process, or none.
            (Some(_), Some(_)) => Some(Pin::Refused(Reason::Unverifiable)),
            _ => Some(unverifiable_unless_nobody(id, self)),
        }
    }

    pub(super) fn is_elsewhere(&self, id: &ProcessId) -> bool {
        let both = id.here().namespace.zip(self.namespace);
        both.is_some_and(|(then, now)| then != now)
    }
}

/// What was last read, and by which process.
static SEEN: Mutex<Option<(Owner, Here)>> = Mutex::new(None);

/// In the same namespace a pid without a process says that the process is gone, whatever its boot.
fn unverifiable_unless_nobody(id: &ProcessId, here: &Here) -> Pin {
    match id.here().namespace.is_some()
        && id.here().namespace == here.namespace
        && is_nobody(id.number())
    {
        true => Pin::Gone,
        false => Pin::Refused(Reason::Unverifiable),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sys::Pid;
    use super::*;

    #[test]
    fn a_boot_or_namespace_that_only_one_side_knows_tells_nothing() {
        let here = Here::look(&mut MaybeProc::default());
        let me = Pid::new(std::process::id()).unwrap();
        let judged = |boot, namespace| {
            let there = Here { boot, namespace };
            here.judge(&ProcessId::new(me, 0, None, there))
        };
        let (Some(boot), Some(namespace)) = (here.boot, here.namespace) else {
            panic!("/proc tells both");
        };
        let unverifiable = |pin| matches!(pin, Some(Pin::Refused(Reason::Unverifiable)));
        assert!(judged(Some(boot), Some(namespace)).is_none());
        assert!(matches!(judged(Some(!boot), None), Some(Pin::Gone)));
        assert!(unverifiable(judged(None, Some(namespace))));
        assert!(unverifiable(judged(Some(boot), None)));
        assert!(unverifiable(judged(Some(boot), Some(namespace + 1))));
    }
}

//! Cheap processes that do nothing.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, pause};

/// A forked child that is asleep. Dropped, it is killed and reaped.
pub(crate) struct Idle(Pid);

impl Idle {
    /// Returns when the child is asleep.
    pub(crate) fn start() -> Idle {
        Idle::with(|| {})
    }

    /// As [`Idle::start`], after `first` was done in the child.
    pub(crate) fn with(first: impl FnOnce()) -> Idle {
        // SAFETY: the child has one thread, the only one that this program has, so no lock is held.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                set_pdeathsig(Signal::SIGKILL).unwrap();
                first();
                loop {
                    pause();
                }
            }
            ForkResult::Parent { child } => {
                let idle = Idle(child);
                while stat(idle.pid()).is_none_or(|(state, _)| state != 'S') {
                    std::thread::yield_now();
                }
                idle
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It is still ours, so the number is; a child that was killed before is a zombie.
        nix::sys::signal::kill(self.0, Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(self.0, None).unwrap();
    }
}

/// State and parent (proc_pid_stat(5) fields 3 and 4).
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|&b| b == b')')?;
    let mut fields = std::str::from_utf8(&stat[end + 1..])
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

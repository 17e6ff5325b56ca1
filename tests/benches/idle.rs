//! Cheap processes that do nothing.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, pause};

/// A forked child that is asleep. Dropping it kills and reaps the child.
pub(crate) struct Idle(Pid);

impl Idle {
    /// Returns when the child is asleep.
    pub(crate) fn start() -> Idle {
        Idle::with(|| {})
    }

    /// As [`Idle::start`]. The child does `first` before it sleeps.
    pub(crate) fn with(first: impl FnOnce()) -> Idle {
        // SAFETY: this program has only one thread, and the child has only one too. So no lock is
        // held.
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
        // The child is still ours, so its number is too. A child that was killed before is a
        // zombie.
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

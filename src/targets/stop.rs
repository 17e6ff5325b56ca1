//! SIGSTOP, and the wait until a target has stopped.
//!
//! A process that is seen stopped forks no more. Only its parent is told when it stops, so every
//! other process must look again and again.

use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::{Seen, Stillness};
use super::super::report::Outcome;
use super::super::sys::{self, Pid, SIGKILL, SIGSTOP};
use super::super::wait::{Backoff, Deadline};
use super::{State, Targets};

impl Targets<'_> {
    /// Sends SIGSTOP to a target, and does not wait.
    ///
    /// If SIGSTOP failed, SIGCONT is never sent: SIGCONT may be permitted within the same session
    /// (kill(2)), and another process may have stopped the target.
    pub(crate) fn send_sigstop(&mut self, index: usize) {
        if self.targets[index].is_frozen {
            return;
        }
        if self.is_half_born(index) {
            self.signal_one(index, &[SIGKILL], Outcome::Killed);
        } else {
            let is_sent = self.signal_one(index, &[SIGSTOP], Outcome::Exited);
            self.targets[index].is_frozen = is_sent;
        }
    }

    /// Whether it is a child of the caller on its way to execve(2) (posix_spawn(3) in another thread).
    /// It still shares the caller's memory. It is killed and not stopped, because its parent thread
    /// stops with it, and can hold a lock of libc that is needed here.
    fn is_half_born(&self, index: usize) -> bool {
        let State::Live(held) = &self.targets[index].state else {
            return false;
        };
        held.parent_when_opened() == Some(self.caller)
            && Pid::new(self.caller).is_some_and(|caller| {
                sys::process::share_memory(caller, held.pid()).unwrap_or(false)
            })
    }

    /// Stops a target and waits until every thread of it has stopped, or it is gone. Returns at
    /// once if it is traced or cannot be signalled. If the patience or the time is over, stops it once
    /// more and returns how still it is then.
    pub(crate) fn await_stopped(&mut self, index: usize, deadline: Deadline) -> Result<Seen> {
        const PATIENCE: Duration = Duration::from_millis(100);
        /// A fork may take long, and a vfork(2) parent sleeps until its child is done. The next
        /// pass looks at both again.
        const UNINTERRUPTIBLE: Duration = Duration::from_millis(10);
        self.send_sigstop(index);
        let patience = deadline.or_after(PATIENCE);
        let uninterruptible = deadline.or_after(UNINTERRUPTIBLE);
        let mut backoff = Backoff::new(Duration::from_micros(20), Duration::from_millis(1));
        while let Some(pid) = self.live(index) {
            let seen = self.proc()?.process(pid).look();
            let seen = seen.map_err(|e| Error::io(format!("read process {}", pid.get()), e))?;
            let is_final = match seen.stillness {
                Stillness::Gone | Stillness::Stopped => true,
                // SIGSTOP is pending, so it stops again if its tracer continues it.
                Stillness::Traced => true,
                Stillness::Uninterruptible => uninterruptible.has_passed(),
                Stillness::Running => patience.has_passed(),
            };
            if is_final && seen.stillness == Stillness::Running && self.targets[index].is_frozen {
                // Someone may have continued it.
                self.signal_one(index, &[SIGSTOP], Outcome::Exited);
            }
            if is_final || self.is_doubtful(index) {
                return Ok(seen);
            }
            backoff.pause(patience, &mut *self.wait);
        }
        Ok(Seen::GONE)
    }
}

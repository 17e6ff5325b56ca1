//! Deadlines, pauses, and the wait for one process.
//!
//! If a pidfd holds the process, the wait polls the pidfd. If not, nothing tells when the process
//! ends, so the wait looks again and again, with growing pauses. Either way one [`Deadline`] is set
//! once, and the last look is made at or after it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::proc::MaybeProc;
use super::process::PidRef;
use super::sys::{self, Event};

/// A point in time. Retries and interruptions do not move it.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Deadline = Deadline(None);

    /// A time that is too far away for the clock, such as `Duration::MAX`, never comes.
    pub(crate) fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    /// The time that is left; `None`: it never comes.
    pub(crate) fn left(self) -> Option<Duration> {
        let at = self.0?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// The point at three quarters of the way from now to this deadline.
    pub(crate) fn three_quarters(self) -> Deadline {
        let left = self.left();
        Deadline(left.and_then(|left| Instant::now().checked_add(left / 4 * 3)))
    }

    pub(crate) fn earlier(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(this), Some(other)) => Deadline(Some(this.min(other))),
            (this, other) => Deadline(this.or(other)),
        }
    }

    /// This deadline, or the time from now if that is earlier.
    pub(crate) fn or_after(self, time: Duration) -> Deadline {
        self.earlier(Deadline::after(time))
    }
}

/// How to wait. The engine itself waits only for a pidfd. `child` also reads the pipes of its child
/// while it waits: a child that cannot write cannot end.
pub(crate) trait Wait {
    /// Waits until the pidfd is readable; true: it is. Without a pidfd it waits for the time alone.
    /// It may return early, also with `EINTR`, because only its caller knows how much time is left.
    fn wait(
        &mut self,
        pidfd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool>;
}

/// Waits by ppoll(2), for the pidfd alone.
pub(crate) struct Ppoll;

impl Wait for Ppoll {
    fn wait(
        &mut self,
        pidfd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        sys::ppoll([pidfd], Event::Readable, timeout).map(|[is_readable]| is_readable)
    }
}

/// The pauses between looks, if there is nothing to poll.
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(next: Duration, longest: Duration) -> Backoff {
        Backoff { next, longest }
    }

    /// Pauses twice as long each time, but not beyond the deadline.
    pub(crate) fn pause(&mut self, deadline: Deadline, wait: &mut dyn Wait) {
        let pause = deadline.left();
        let pause = pause.map_or(self.next, |left| left.min(self.next));
        // A signal or the bytes of a pipe may cut the pause short. Then the next look is early.
        drop(wait.wait(None, Some(pause)));
        self.next = (self.next * 2).min(self.longest);
    }
}

/// Waits until a process is gone; false: it was not gone by the deadline.
pub(crate) fn is_gone_by(
    process: &PidRef,
    deadline: Deadline,
    proc: &mut MaybeProc,
    wait: &mut dyn Wait,
) -> io::Result<bool> {
    match process.pidfd() {
        Some(pidfd) => pidfd_is_gone(pidfd, deadline, wait),
        None => is_seen_gone(process, deadline, proc, wait),
    }
}

pub(crate) fn pidfd_is_gone(
    pidfd: BorrowedFd<'_>,
    deadline: Deadline,
    wait: &mut dyn Wait,
) -> io::Result<bool> {
    loop {
        let left = deadline.left();
        match wait.wait(Some(pidfd), left) {
            Ok(true) => return Ok(true),
            Ok(false) if left == Some(Duration::ZERO) => return Ok(false),
            // The poll may end early. Only the clock says that the time is up.
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn is_seen_gone(
    process: &PidRef,
    deadline: Deadline,
    proc: &mut MaybeProc,
    wait: &mut dyn Wait,
) -> io::Result<bool> {
    let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
    loop {
        // The clock is read before the look, so the last look is not older than the deadline.
        let was_last = deadline.has_passed();
        if process.is_gone(proc)? {
            return Ok(true);
        }
        if was_last {
            return Ok(false);
        }
        backoff.pause(deadline, wait);
    }
}

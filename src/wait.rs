//! Deadlines, pauses, and waiting for one process: the only clock arithmetic.
//!
//! A process is waited for by its pidfd. Without one, nothing tells when a stranger ends, and it is
//! looked at again and again with growing pauses. Either way there is one [`Deadline`], set once, and
//! the last look is never older than it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::proc::MaybeProc;
use super::process::PidRef;
use super::sys::{self, Event};

/// A point in time that retries and interruptions do not move.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Deadline = Deadline(None);

    /// A time too far away to be told, as `Duration::MAX`, never comes.
    pub(crate) fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    /// What is left; `None` for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        let at = self.0?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// Three quarters of the way from now to then.
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

    /// The earlier of this and a time from now.
    pub(crate) fn or_after(self, time: Duration) -> Deadline {
        self.earlier(Deadline::after(time))
    }
}

/// How to wait. The engine only waits for a pidfd; a caller that has to read pipes meanwhile, so that
/// the process can go on and end, brings its own way.
pub(crate) trait Wait {
    /// Waits for the pidfd to be readable; true: it is. With none it waits for the time alone. It may
    /// return early: `EINTR` is for the caller, who knows what is left of its time.
    fn wait(
        &mut self,
        pidfd: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool>;
}

/// By ppoll(2), of nothing else.
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

/// The pauses between looks where nothing can be waited on.
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(next: Duration, longest: Duration) -> Backoff {
        Backoff { next, longest }
    }

    /// Twice as long each time, but not beyond the deadline.
    pub(crate) fn pause(&mut self, deadline: Deadline, wait: &mut dyn Wait) {
        let pause = deadline.left();
        let pause = pause.map_or(self.next, |left| left.min(self.next));
        // Cut short by a signal or by bytes of a pipe, it only makes the next look early.
        drop(wait.wait(None, Some(pause)));
        self.next = (self.next * 2).min(self.longest);
    }
}

/// Waits until a process is gone; false: it was not by the deadline.
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
            // The poll may end early; only the clock says that the time is up.
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
        // Read before the look, so that the last look is not older than the deadline.
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

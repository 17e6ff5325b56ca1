//! Waiting: ppoll(2), and the clock of start times.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::check;

/// What ppoll(2) waits for.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// `POLLIN`.
    Readable,
    /// `POLLPRI`: a file of cgroup v2 has changed.
    Changed,
    /// `POLLHUP` alone: of a pidfd, that the process was reaped (Linux 6.9).
    HungUp,
}

/// ppoll(2): which are ready, or hung up; `None` is never. Without a timeout it waits for ever.
/// `EINTR` is returned, and is possible even without a wait: the caller knows what is left of its
/// time.
pub(crate) fn ppoll<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    event: Event,
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let events = match event {
        Event::Readable => libc::POLLIN,
        Event::Changed => libc::POLLPRI,
        Event::HungUp => 0,
    };
    let mut polls = fds.map(|fd| libc::pollfd {
        // A negative one is passed over.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    });
    let timeout = timeout.map(|left| libc::timespec {
        // After 68 years it wakes early, which every caller must allow for anyway.
        tv_sec: i32::try_from(left.as_secs()).unwrap_or(i32::MAX).into(),
        // Below a billion, which fits tv_nsec whatever its type.
        tv_nsec: left.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    let count = libc::nfds_t::try_from(N).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `count` valid pollfds, a timespec that outlives the call or null, no signal mask.
    check(unsafe { libc::ppoll(polls.as_mut_ptr(), count, timeout, std::ptr::null()) })?;
    Ok(polls.map(|poll| poll.revents & (events | libc::POLLHUP | libc::POLLERR) != 0))
}

/// The time since boot, suspension included: the clock of start times.
pub(crate) fn since_boot() -> io::Result<Duration> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec to write to.
    check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) })?;
    let seconds = u64::try_from(now.tv_sec).map_err(io::Error::other)?;
    let nanos = u32::try_from(now.tv_nsec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanos))
}

/// Sleeps, by ppoll(2) of nothing. `std::thread::sleep` resumes with the time that is left, to which
/// the kernel adds the timer slack again and again: in a storm of signals it never ends.
pub(crate) fn sleep(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
    {
        // However this ends, the clock tells whether it was enough.
        drop(ppoll([], Event::Readable, Some(left)));
    }
}

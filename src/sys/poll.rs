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
    /// `POLLHUP` alone: the process of a pidfd was reaped (Linux 6.9).
    HungUp,
}

/// ppoll(2): which descriptors are ready or hung up. `None` in place of a descriptor is never
/// ready. Without a timeout it waits for ever. It may return `EINTR`, even if it does not wait:
/// only its caller knows how much time is left.
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
        // ppoll ignores negative descriptors.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    });
    let timeout = timeout.map(|left| libc::timespec {
        // More than 68 years are cut to 68 years. Every caller allows for an early return.
        tv_sec: i32::try_from(left.as_secs()).unwrap_or(i32::MAX).into(),
        // Below a billion, which fits every type of tv_nsec.
        tv_nsec: left.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    let count = libc::nfds_t::try_from(N).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `count` valid pollfds, a timespec that outlives the call or null, no signal mask.
    check(unsafe { libc::ppoll(polls.as_mut_ptr(), count, timeout, std::ptr::null()) })?;
    Ok(polls.map(|poll| poll.revents & (events | libc::POLLHUP | libc::POLLERR) != 0))
}

/// sysconf(3) `_SC_CLK_TCK`, at least 1. The procfs crate panics before Linux 6.4 if no descriptor is free.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: an integer.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(0).max(1)
}

/// The time since boot, suspension included: start times use this clock.
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

/// Sleeps by ppoll(2) of nothing. `std::thread::sleep` resumes with the time that is left, and the
/// kernel adds the timer slack to each part: under a storm of signals it never ends.
pub(crate) fn sleep(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
    {
        // The clock tells whether the sleep was long enough, however the call ended.
        drop(ppoll([], Event::Readable, Some(left)));
    }
}

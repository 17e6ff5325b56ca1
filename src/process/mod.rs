//! One process, and never a successor that gets its number: what pidfds tell, and what replaces
//! them if there are none.
//!
//! | file | what it holds |
//! |---|---|
//! | `here` | [`Here`]: the boot and the PID namespace in which an identity means something |
//! | `id` | [`ProcessId`]: a name that can be written to a file |
//! | `pidref` | [`PidRef`]: holds one process for the engine, with a pidfd or without |
//! | `handle` | [`Process`]: the public handle, a pidfd and an identity |
//! | `owner` | [`Owner`]: the process that made something, told from its forked copies |
//! | `group` | [`ProcessGroup`]: a group, told from a later one of the same number |

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::error::{Error, Result};
use super::report::Reason;
use super::sys::{self, Event, Pid, Scope};

pub(crate) mod group;
mod handle;
mod here;
mod id;
mod owner;
mod pidref;

pub(crate) use group::ProcessGroup;
pub use handle::Process;
pub(crate) use here::Here;
pub use id::ProcessId;
pub(crate) use owner::Owner;
pub(crate) use pidref::{PidRef, Pin};

/// Signals are numbered from 1 to 64 on all architectures but MIPS (signal(7)).
pub(crate) fn check_signal(signal: i32) -> Result<()> {
    match signal {
        1..=64 => Ok(()),
        _ => Err(Error::refused(format!(
            "{signal} is not a signal (1 to 64)"
        ))),
    }
}

/// The number of a process, group or session.
pub(crate) fn pid_of(number: u32) -> Result<Pid> {
    Pid::new(number).ok_or_else(|| Error::refused(format!("{number} {}", Reason::InvalidPid)))
}

/// The answers of pidfd_open(2), told apart.
enum Opened {
    Pidfd(OwnedFd),
    Nobody,
    Thread,
    /// No descriptor or no memory is free.
    NoRoom(io::Error),
    /// `ENOSYS`, or `EPERM` from a seccomp filter: pidfd_open itself never gives `EPERM`.
    Unsupported,
}

fn open_pidfd(pid: Pid) -> Opened {
    let error = match sys::pidfd_open(pid) {
        Ok(fd) => return Opened::Pidfd(fd),
        Err(e) => e,
    };
    match error.raw_os_error() {
        Some(libc::ESRCH) => Opened::Nobody,
        // Older kernels give the same error if the leader was reaped and its group still has the
        // number.
        Some(libc::ENOENT | libc::EINVAL) if is_nobody(pid) => Opened::Nobody,
        Some(libc::ENOENT | libc::EINVAL) => Opened::Thread,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Opened::NoRoom(error),
        _ => Opened::Unsupported,
    }
}

/// Whether no process and no thread has this number. kill(2) with signal 0 finds zombies and
/// threads too, so `ESRCH` is proof.
pub(crate) fn is_nobody(pid: Pid) -> bool {
    matches!(sys::kill(pid, 0), Err(e) if e.raw_os_error() == Some(libc::ESRCH))
}

fn was_reaped(pidfd: BorrowedFd<'_>) -> bool {
    match sys::pidfd_send_signal(pidfd, 0, Scope::Process) {
        // `EPERM` may come from a filter or from the process of another user, so POLLHUP decides.
        Err(e) if is_filtered(&e) => {
            polls([Some(pidfd)], Event::HungUp).is_ok_and(|[is_reaped]| is_reaped)
        }
        sent => matches!(sent, Err(e) if e.raw_os_error() == Some(libc::ESRCH)),
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    polls([Some(pidfd)], Event::Readable).map(|[has_ended]| has_ended)
}

/// Which of these processes are seen to have ended.
pub(crate) fn have_ended<const N: usize>(pidfds: [Option<BorrowedFd<'_>>; N]) -> [bool; N] {
    // `EINVAL`: the program may not have so many descriptors (RLIMIT_NOFILE).
    polls(pidfds, Event::Readable).unwrap_or_else(|_| {
        pidfds.map(|pidfd| pidfd.is_some_and(|pidfd| has_ended(pidfd).unwrap_or(false)))
    })
}

fn polls<const N: usize>(
    pidfds: [Option<BorrowedFd<'_>>; N],
    event: Event,
) -> io::Result<[bool; N]> {
    loop {
        match sys::ppoll(pidfds, event, Some(Duration::ZERO)) {
            // A pending signal interrupts even a poll that does not wait.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            polled => return polled,
        }
    }
}

/// Signals the process of a pidfd; `Ok(false)`: it is gone. `EPERM`: the caller may not signal it.
fn signal_by_pidfd(pidfd: BorrowedFd<'_>, pid: Pid, signal: i32) -> io::Result<bool> {
    let sent = match sys::pidfd_send_signal(pidfd, signal, Scope::Process) {
        // A filter may forbid pidfd_send_signal alone. If kill(2) is permitted, it sends the
        // signal. Before that a poll shows that the process has not ended, so the number is its
        // own.
        Err(e) if is_filtered(&e) => match sys::kill(pid, 0) {
            Ok(()) if has_ended(pidfd)? => return Ok(false),
            Ok(()) => sys::kill(pid, signal),
            refused => refused,
        },
        sent => sent,
    };
    unless_nobody(sent)
}

/// `Ok(false)`: no process was there to be signalled.
fn unless_nobody(sent: io::Result<()>) -> io::Result<bool> {
    match sent {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

/// `ENOSYS` or `EPERM`: what a seccomp filter answers.
fn is_filtered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

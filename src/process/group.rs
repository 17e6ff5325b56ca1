//! A process group, told from a later group that got the same number.
//!
//! | the leader, at the start | the group is named by | the number went to another process if |
//! |---|---|---|
//! | has its number | a pidfd of the leader | the leader is reaped and the number is in use |
//! | was reaped, and no member is left | nothing: it is empty for good | |
//! | was reaped | a file that the group owns | the group has no member |
//! | was reaped, before Linux 5.12 or no room | its number, while a member is left | the number is in use |
//! | has its number, no pidfds or no room | its number, and the leader's start time | the start time differs |
//!
//! A pidfd names the group even after the leader is reaped. While a group has a member, the kernel
//! gives its number to no process. Whether the group has a member still, the pidfd tells in one of two
//! ways: signal 0 to the group (Linux 6.9), or the group as the owner of the file (Linux 5.12). Before
//! that, a daemon of a stranger that got the number, and whose leader was reaped, looks the same.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::proc::Proc;
use super::super::proc::fork_counter::Newest;
use super::super::sys::{self, Pid, Scope};
use super::{Opened, is_filtered, is_nobody, open_pidfd, unless_nobody, was_reaped};

/// A process group, told from a later group that got the same number.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    pub(crate) pgid: Pid,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    /// A pidfd of the leader. It names the group even after the leader was reaped.
    Held {
        fd: OwnedFd,
        /// The group is the owner of the file (fcntl(2) `F_SETOWN`).
        owns_file: bool,
    },
    /// It was reaped before. No process can get its number while the group has members. The group is
    /// the owner of the file (fcntl(2) `F_SETOWN`); `None`: no file could be opened for it.
    Reaped(Option<OwnedFd>),
    /// It was reaped before, and the group had no member. A later group of this number is another one.
    Empty,
    /// It has its number, and there are no pidfds, or no descriptor for one. `None`: its start time
    /// could not be read.
    Unheld(Option<u64>),
}

impl Leader {
    /// No process had the number. `open` opens a file for the group.
    fn without_number(pgid: Pid, open: impl FnOnce(Pid) -> Option<OwnedFd>) -> Leader {
        let file = open(pgid);
        match is_group(pgid) {
            true => Leader::Reaped(file),
            false => Leader::Empty,
        }
    }
}

impl ProcessGroup {
    pub(crate) fn open(pgid: Pid) -> io::Result<ProcessGroup> {
        let leader = match open_pidfd(pgid) {
            Opened::Pidfd(fd) => Leader::Held {
                // The leader is not reaped afterwards, so the number was its own. An error: a filter.
                owns_file: sys::set_owner_group(fd.as_fd(), pgid).is_ok()
                    && !was_reaped(fd.as_fd()),
                fd,
            },
            Opened::Nobody | Opened::Thread => Leader::without_number(pgid, file_of_group),
            Opened::NoRoom(e) => return Err(e),
            Opened::Unsupported => return ProcessGroup::open_unheld(pgid),
        };
        Ok(ProcessGroup { pgid, leader })
    }

    /// As [`ProcessGroup::open`], and keeps no descriptor.
    pub(crate) fn open_unheld(pgid: Pid) -> io::Result<ProcessGroup> {
        let leader = match is_nobody(pgid) {
            true => Leader::without_number(pgid, |_| None),
            false => Leader::Unheld(start_time_of(pgid)),
        };
        Ok(ProcessGroup { pgid, leader })
    }

    /// Whether another process has the number now. Then the group is empty, because the kernel does
    /// not give away a number that still names a group.
    pub(crate) fn was_replaced(&self) -> bool {
        match &self.leader {
            Leader::Held { fd, .. } => was_reaped(fd.as_fd()) && !is_nobody(self.pgid),
            Leader::Reaped(_) | Leader::Empty => !is_nobody(self.pgid),
            Leader::Unheld(then) => {
                let times = then.zip(start_time_of(self.pgid));
                times.is_some_and(|(then, now)| then != now)
            }
        }
    }

    /// Whether the number still names this group. Asked after something was read under the number, it
    /// says that what was read is of this group: an empty group is so for good. `None`: no process
    /// has the number, and whether it was given away meanwhile cannot be told.
    fn has_number(&self) -> Option<bool> {
        match &self.leader {
            Leader::Held { fd, owns_file } if was_reaped(fd.as_fd()) => {
                match sys::pidfd_send_signal(fd.as_fd(), 0, Scope::Group) {
                    Ok(()) => return Some(true),
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Some(false),
                    // Linux before 6.9, or a seccomp filter.
                    Err(_) if *owns_file => {
                        if let Ok(has_member) = sys::has_owner_group(fd.as_fd()) {
                            return Some(has_member);
                        }
                    }
                    Err(_) => {}
                }
            }
            Leader::Held { .. } => return Some(true),
            Leader::Reaped(Some(file)) => {
                if let Ok(has_member) = sys::has_owner_group(file.as_fd()) {
                    return Some(has_member);
                }
            }
            Leader::Reaped(None) => {}
            Leader::Empty => return Some(false),
            Leader::Unheld(_) if self.has_leader() => return Some(true),
            Leader::Unheld(_) => {}
        }
        self.was_replaced().then_some(false)
    }

    /// Whether the process that had the number when this was opened still has it, a zombie too.
    pub(crate) fn has_leader(&self) -> bool {
        match &self.leader {
            Leader::Held { fd, .. } => !was_reaped(fd.as_fd()),
            Leader::Reaped(_) | Leader::Empty => false,
            Leader::Unheld(then) => then.is_some() && *then == start_time_of(self.pgid),
        }
    }

    /// Whether its number may name a stranger's group by now: the leader was reaped since this was
    /// opened, and the kernel does not tell whether a member is left.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.leader, Leader::Held { .. }) && self.has_number().is_none()
    }

    /// Signals every member; `Ok(false)`: there is no member, not even a zombie.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<bool> {
        if self.was_replaced() {
            return Ok(false);
        }
        let sent = match &self.leader {
            Leader::Held { fd, .. } => {
                match sys::pidfd_send_signal(fd.as_fd(), signal, Scope::Group) {
                    // `EINVAL`: Linux before 6.9. The others: a seccomp filter.
                    Err(e) if e.raw_os_error() == Some(libc::EINVAL) || is_filtered(&e) => {
                        if self.has_number() == Some(false) {
                            return Ok(false);
                        }
                        sys::kill_group(self.pgid, signal)
                    }
                    sent => sent,
                }
            }
            Leader::Empty => return Ok(false),
            Leader::Reaped(_) if self.has_number() == Some(false) => return Ok(false),
            Leader::Reaped(_) | Leader::Unheld(_) => sys::kill_group(self.pgid, signal),
        };
        unless_nobody(sent)
    }
}

/// A file that is owned by the group that has this number now. A pidfd of the caller serves, because it
/// can be opened without /proc.
fn file_of_group(pgid: Pid) -> Option<OwnedFd> {
    let file = sys::pidfd_open(Pid::new(std::process::id())?).ok()?;
    sys::set_owner_group(file.as_fd(), pgid).ok()?;
    // Another process that has the number by now may lead another group.
    is_nobody(pgid).then_some(file)
}

/// Whether a group has this number.
fn is_group(pgid: Pid) -> bool {
    !matches!(unless_nobody(sys::kill_group(pgid, 0)), Ok(false))
}

/// `None`: no process has the pid, or /proc does not tell.
fn start_time_of(pid: Pid) -> Option<u64> {
    let proc = Proc::open().ok()?;
    let mut buf = Vec::new();
    let stat = proc.process(pid).stat(&mut buf).ok()??;
    Some(stat.start_time)
}

/// A number that names a group or session, and when it was last seen to do so. The kernel gives a
/// number away only after its group and session are empty.
#[derive(Debug)]
pub(crate) struct Number {
    pub(crate) of: Arc<ProcessGroup>,
    /// What the fork counter showed then. `None`: the number is its own at the first look.
    seen: Option<Newest>,
}

impl Number {
    pub(crate) fn of_group(of: Arc<ProcessGroup>) -> Number {
        Number { of, seen: None }
    }

    /// A group that was opened before the call. If its leader was reaped since, only the kernel or a
    /// live target shows that the number is its own.
    pub(crate) fn of_owned_group(of: Arc<ProcessGroup>) -> Number {
        let seen = of.is_lost().then_some(Newest::UNKNOWN);
        Number { of, seen }
    }

    /// A session, as long as its leader or a live target shows that the number is its own.
    pub(crate) fn of_session(of: Arc<ProcessGroup>) -> Number {
        let seen = Some(Newest::UNKNOWN);
        Number { of, seen }
    }

    /// Whether the number still names the group. `None`: only a live member can tell. `now` is what
    /// the fork counter showed before the question.
    pub(crate) fn names_group(&self, now: Newest) -> Option<bool> {
        self.of
            .has_number()
            .or_else(|| self.was_kept(now).then_some(true))
    }

    /// As [`Number::names_group`], for a session.
    pub(crate) fn names_session(&self, now: Newest) -> Option<bool> {
        if self.of.has_leader() {
            return Some(true);
        }
        match self.of.has_number() {
            // The group of the leader lies within its session, and keeps the number in use.
            Some(true) => Some(true),
            // The number names something else now, so the session is empty.
            Some(false) if self.of.was_replaced() || is_group(self.of.pgid) => Some(false),
            // The session may have members in other groups.
            _ => self.was_kept(now).then_some(true),
        }
    }

    /// Whether no process can have been given the number since it was last seen to be its own.
    fn was_kept(&self, now: Newest) -> bool {
        self.seen
            .is_none_or(|seen| !now.may_include(seen, self.of.pgid))
    }

    /// Notes that the number was its own at this time.
    pub(crate) fn note(&mut self, now: Newest) {
        self.seen = Some(now);
    }
}

/// A group that was made for a child, so that all its members may be killed. It may also be a
/// session of the same number.
#[derive(Clone, Debug)]
pub(crate) struct OwnedGroup {
    pub(crate) group: Arc<ProcessGroup>,
    pub(crate) is_session: bool,
}

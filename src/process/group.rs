//! A process group, told from a later one that got the same number.
//!
//! | the leader | what names the group | a later group of that number |
//! |---|---|---|
//! | has its number | a pidfd of the leader, also after it was reaped | is told by the pidfd |
//! | was reaped before | the number, which no process can get while a member is left | is told by a process that has the number |
//! | has its number, no pidfds | the leader's identity | is told by another identity |

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::sys::{self, Pid, Scope};
use super::{Opened, ProcessId, is_filtered, is_nobody, open_pidfd, unless_nobody, was_reaped};

/// A process group, told from a later one that got the same number.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    pub(crate) pgid: Pid,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    /// A pidfd of the leader, which names the group even after the leader was reaped.
    Held(OwnedFd),
    /// It was reaped before. While the group has members, no process can get its number.
    Reaped,
    /// It has its number, and there are no pidfds.
    Unheld(Option<ProcessId>),
}

impl ProcessGroup {
    pub(crate) fn open(pgid: Pid) -> io::Result<ProcessGroup> {
        let leader = match open_pidfd(pgid) {
            Opened::Pidfd(fd) => Leader::Held(fd),
            Opened::Nobody => Leader::Reaped,
            Opened::Thread => Leader::Reaped,
            Opened::NoRoom(e) => return Err(e),
            Opened::Unsupported if is_nobody(pgid) => Leader::Reaped,
            Opened::Unsupported => Leader::Unheld(ProcessId::of(pgid.get()).unwrap_or(None)),
        };
        Ok(ProcessGroup { pgid, leader })
    }

    /// Whether the number now belongs to another process, and so to another group if to any: the
    /// kernel gives out no number that still names a group.
    pub(crate) fn was_replaced(&self) -> bool {
        match &self.leader {
            Leader::Held(fd) => was_reaped(fd.as_fd()) && !is_nobody(self.pgid),
            Leader::Reaped => !is_nobody(self.pgid),
            Leader::Unheld(then) => match ProcessId::of(self.pgid.get()) {
                Ok(Some(now)) => then.is_some_and(|then| !then.is_same(&now)),
                Ok(None) | Err(_) => false,
            },
        }
    }

    /// Signals every member; `Ok(false)`: there is none, not even a zombie.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<bool> {
        if self.was_replaced() {
            return Ok(false);
        }
        let sent = match &self.leader {
            Leader::Held(fd) => match sys::pidfd_send_signal(fd.as_fd(), signal, Scope::Group) {
                // Before Linux 6.9, or filtered.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) || is_filtered(&e) => {
                    sys::kill_group(self.pgid, signal)
                }
                sent => sent,
            },
            Leader::Reaped | Leader::Unheld(_) => sys::kill_group(self.pgid, signal),
        };
        unless_nobody(sent)
    }
}

/// A group that holds nothing but what was meant, and perhaps a session of the same number: it was
/// made for a child.
#[derive(Clone, Debug)]
pub(crate) struct OwnedGroup {
    pub(crate) group: Arc<ProcessGroup>,
    pub(crate) is_session: bool,
}

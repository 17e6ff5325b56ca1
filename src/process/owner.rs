//! The process that made something, told from a forked copy of it.
//!
//! A forked copy holds all that its parent held, but it is another process: the parent's children are
//! not its own, and in another PID namespace the same numbers mean other processes.

use std::os::fd::AsFd;

use super::super::sys::{self, Pid};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    /// Of pidfs. A copy in a new PID namespace may have the same pid, but not the same inode. `None`
    /// before Linux 6.9, on 32-bit, and if no descriptor was free.
    inode: Option<u64>,
}

impl Owner {
    pub(crate) fn current() -> Owner {
        let pid = std::process::id();
        let pidfd = Pid::new(pid).and_then(|pid| sys::pidfd_open(pid).ok());
        Owner {
            pid,
            inode: pidfd.and_then(|pidfd| sys::pidfs_inode(pidfd.as_fd())),
        }
    }

    pub(crate) fn is_caller(self) -> bool {
        // The inode is asked for only if the pid does not tell.
        self.pid == std::process::id() && self.is_same(Owner::current())
    }

    pub(crate) fn is_same(self, other: Owner) -> bool {
        let inodes = self.inode.zip(other.inode);
        self.pid == other.pid && inodes.is_none_or(|(this, other)| this == other)
    }
}

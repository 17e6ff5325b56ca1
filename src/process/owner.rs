//! The process that made something, told from its forked copies.
//!
//! A forked copy has the memory and the descriptors of its parent, but it is another process. The
//! children of the parent are not its own. In another PID namespace the same numbers mean other
//! processes.

use std::os::fd::AsFd;

use super::super::sys::{self, Pid};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    /// The pidfs inode. A copy in a new PID namespace may have the same pid, but not the same
    /// inode. `None`: before Linux 6.9, on 32-bit, or if it could not be read.
    inode: Option<u64>,
}

impl Owner {
    pub(crate) fn current() -> Owner {
        let pid = std::process::id();
        let pidfd = Pid::new(pid).and_then(|pid| sys::pidfd_open(pid).ok());
        Owner {
            pid,
            inode: pidfd.and_then(|pidfd| sys::pidfs_inode(pidfd.as_fd()).ok()?),
        }
    }

    pub(crate) fn is_caller(self) -> bool {
        // The pid is compared first, because the inode costs system calls.
        self.pid == std::process::id() && self.is_same(Owner::current())
    }

    pub(crate) fn is_same(self, other: Owner) -> bool {
        let inodes = self.inode.zip(other.inode);
        self.pid == other.pid && inodes.is_none_or(|(this, other)| this == other)
    }
}

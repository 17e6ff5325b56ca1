//! Spawning a child into a group: setpgid(2) or setsid(2) between fork(2) and execve(2).
//!
//! Another thread, or an ignored SIGCHLD, can reap the child while its spawn still waits for execve(2).
//! Then the number that the spawn returns may be another process's. So the child leaves a [`Mark`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Pid, check, check_fd, owner, pidfd_open, set_owner};

/// The group of a child that will be spawned.
#[derive(Clone, Copy)]
pub(crate) enum NewGroup {
    Inherit,
    Lead,
    LeadSession,
    Join(Pid),
}

/// A file that the spawned child, and no other process, is the owner of (fcntl(2) `F_SETOWN`). The child
/// makes itself the owner before execve(2), and the caller has the same file open.
///
/// `None`: there are no pidfds, or a filter forbids the call.
pub(crate) struct Mark(Option<OwnedFd>);

impl Mark {
    /// A file of which the caller is the owner. A pidfd of the caller serves.
    fn open() -> io::Result<Mark> {
        let Some(caller) = Pid::new(std::process::id()) else {
            return Ok(Mark(None));
        };
        match pidfd_open(caller) {
            Ok(file) => Ok(Mark(
                set_owner(file.as_fd(), caller).is_ok().then_some(file),
            )),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                Ok(Mark(None))
            }
            Err(e) => Err(e),
        }
    }

    /// Whether the spawned child still has its number, a zombie too. If so, all that was opened and
    /// read under the number since the spawn is its own. `None`: the kernel does not tell (before Linux
    /// 5.12), or the child could not leave its mark.
    pub(crate) fn names(&self, child: Pid) -> Option<bool> {
        match owner(self.0.as_ref()?.as_fd()).ok()? {
            None => Some(false),
            Some(owner) => (owner == child).then_some(true),
        }
    }
}

/// Spawns a command. Before execve(2) the child leaves its mark, and calls setpgid(2) or setsid(2). If
/// it leaves the caller's group and its standard input is a terminal, it replaces that by /dev/null.
pub(crate) fn spawn_in_group(command: &mut Command, group: NewGroup) -> io::Result<(Child, Mark)> {
    let mark = Mark::open()?;
    let file = mark.0.as_ref().map(AsRawFd::as_raw_fd);
    // A closure cannot be removed from the command. So it does nothing unless the flag is set.
    // fork(2) copies the flag into the child, so clearing it later changes nothing there.
    let is_due = Arc::new(AtomicBool::new(true));
    let is_mine = Arc::clone(&is_due);
    let in_child = move || -> io::Result<()> {
        if !is_mine.load(Ordering::Relaxed) {
            return Ok(());
        }
        // SAFETY: integers and a C string; all of these calls are async-signal-safe.
        unsafe {
            if let Some(file) = file {
                // An error (a filter, or a closure that has closed the file): the caller stays the owner.
                libc::fcntl(file, libc::F_SETOWN, libc::getpid());
            }
            check(match group {
                NewGroup::Inherit => return Ok(()),
                NewGroup::Lead => libc::setpgid(0, 0),
                NewGroup::LeadSession => libc::setsid().min(0),
                NewGroup::Join(pgid) => libc::setpgid(0, pgid.0),
            })?;
            if libc::isatty(0) == 1 {
                let null = check_fd(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY))?;
                check(libc::dup2(null, 0).min(0))?;
                check(libc::close(null))?;
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only, allocates
    // nothing and takes no lock; io::Error of an errno is a plain number.
    unsafe { command.pre_exec(in_child) };
    let spawned = command.spawn();
    is_due.store(false, Ordering::Relaxed);
    Ok((spawned?, mark))
}

//! Spawning a child into a group: setpgid(2) or setsid(2) between fork(2) and execve(2).

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Pid, check, check_fd};

/// The group of a child that will be spawned.
#[derive(Clone, Copy)]
pub(crate) enum NewGroup {
    Inherit,
    Lead,
    LeadSession,
    Join(Pid),
}

/// Spawns a command. Before execve(2) the child calls setpgid(2) or setsid(2). If it leaves the
/// caller's group and its standard input is a terminal, it replaces that by /dev/null.
pub(crate) fn spawn_in_group(command: &mut Command, group: NewGroup) -> io::Result<Child> {
    if matches!(group, NewGroup::Inherit) {
        return command.spawn();
    }
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
            check(match group {
                NewGroup::Inherit => 0,
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
    spawned
}

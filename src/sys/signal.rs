//! kill(2) and tgkill(2).

use std::io;

use super::{Pid, check};

pub(crate) use libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};

/// kill(2) of one process. Signal 0 only asks whether it may be signalled.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers; `Pid` is positive, so this names one process.
    check(unsafe { libc::kill(pid.0, signal) })
}

/// kill(2) of a whole process group. It is atomic, so no member escapes by forking. `EPERM`: not
/// one member may be signalled.
pub(crate) fn kill_group(pgid: Pid, signal: i32) -> io::Result<()> {
    // kill(2) takes -1 for every process.
    if pgid.is_init() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two integers; a negative number below -1 names one group.
    check(unsafe { libc::kill(-pgid.0, signal) })
}

/// tgkill(2) with signal 0: whether the number is that of a thread of the calling process.
pub(crate) fn is_own_thread(number: Pid) -> bool {
    let (tid, none) = (libc::c_long::from(number.0), libc::c_long::from(0));
    // SAFETY: takes nothing and cannot fail.
    let caller = libc::c_long::from(unsafe { libc::getpid() });
    // SAFETY: integers only; signal 0 is not sent.
    unsafe { libc::syscall(libc::SYS_tgkill, caller, tid, none) == 0 }
}

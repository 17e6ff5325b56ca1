//! The caller and its children: getpgrp(2), prctl(2), waitid(2). Any process: getpgid(2), getsid(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::{Pid, check, retry};

/// getpgrp(2); 0 for a group outside of the caller's PID namespace.
pub(crate) fn getpgrp() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpgrp() }.unsigned_abs()
}

/// getpgid(2): the group of a process; 0 for one outside of the caller's PID namespace. `EPERM`: a
/// security module forbids the question.
pub(crate) fn getpgid(pid: Pid) -> io::Result<u32> {
    // SAFETY: an integer.
    let group = unsafe { libc::getpgid(pid.0) };
    check(group)?;
    Ok(group.unsigned_abs())
}

/// getsid(2): the session of a process, as [`getpgid`].
pub(crate) fn getsid(pid: Pid) -> io::Result<u32> {
    // SAFETY: an integer.
    let session = unsafe { libc::getsid(pid.0) };
    check(session)?;
    Ok(session.unsigned_abs())
}

/// prctl(2) `PR_GET_CHILD_SUBREAPER`, Linux 3.4.
pub(crate) fn is_child_subreaper() -> io::Result<bool> {
    let mut is_set: libc::c_int = 0;
    // SAFETY: the second argument points to an int that outlives the call.
    check(unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_set) })?;
    Ok(is_set != 0)
}

/// prctl(2) `PR_SET_CHILD_SUBREAPER`, Linux 3.4.
pub(crate) fn set_child_subreaper() -> io::Result<()> {
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, on, none, none, none) })
}

/// What waitid(2) with `WNOWAIT` says of a child. Nothing is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    Running,
    /// Every thread of it has ended. Its status waits for the parent.
    Exited,
    /// It is no child of the caller, or it was reaped.
    NotOurs,
}

/// waitid(2) with `WEXITED | WNOWAIT | WNOHANG`, and `__WALL` (Linux 4.7) for children made by
/// clone(2) without SIGCHLD.
pub(crate) fn waitid_nowait(pid: Pid) -> io::Result<ChildState> {
    match waitid(ChildId::Number(pid), libc::WNOHANG | libc::__WALL) {
        Ok(None) => Ok(ChildState::Running),
        Ok(Some(_)) => Ok(ChildState::Exited),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(ChildState::NotOurs),
        Err(e) => Err(e),
    }
}

/// Which child waitid(2) looks at.
#[derive(Clone, Copy)]
pub(crate) enum ChildId<'fd> {
    Number(Pid),
    /// `P_PIDFD`, Linux 5.4; `EINVAL` before.
    Pidfd(BorrowedFd<'fd>),
}

/// When waitid(2) looks at a child.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// `WNOHANG`.
    Now,
    Ended,
}

/// waitid(2) with `WEXITED | WNOWAIT`: the status of a child, which is not reaped; `None`: it runs.
/// `ECHILD`: it is no child of the caller, or it was reaped.
pub(crate) fn waitid_status(child: ChildId<'_>, when: When) -> io::Result<Option<ExitStatus>> {
    let options = match when {
        When::Now => libc::WNOHANG,
        When::Ended => 0,
    };
    waitid(child, options)
}

fn waitid(child: ChildId<'_>, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    let (kind, id) = match child {
        ChildId::Number(pid) => (libc::P_PID, pid.get()),
        ChildId::Pidfd(fd) => (libc::P_PIDFD, fd.as_raw_fd().unsigned_abs()),
    };
    let options = libc::WEXITED | libc::WNOWAIT | options;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for writes of a siginfo_t for the whole call.
    retry(|| check(unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) }))?;
    // SAFETY: zeroed above and written by a successful waitid; all of its fields are integers or
    // pointers, for which zero is valid.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills the fields of SIGCHLD. With WNOHANG si_pid stays 0 while the child runs.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    // As wait(2) encodes it.
    let status = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    Ok((pid != 0).then(|| ExitStatus::from_raw(status)))
}

/// kcmp(2) `KCMP_VM`: whether two processes share their memory, as after vfork(2) until execve(2).
pub(crate) fn share_memory(one: Pid, other: Pid) -> io::Result<bool> {
    const KCMP_VM: libc::c_long = 1;
    kcmp(one, other, KCMP_VM)
}

/// kcmp(2) `KCMP_FILES`: whether two threads share their table of descriptors.
pub(crate) fn share_descriptors(one: Pid, other: Pid) -> io::Result<bool> {
    const KCMP_FILES: libc::c_long = 2;
    kcmp(one, other, KCMP_FILES)
}

/// Linux 3.5, CONFIG_KCMP. `EPERM`: the caller may not trace both, or a seccomp filter forbids it.
fn kcmp(one: Pid, other: Pid, kind: libc::c_long) -> io::Result<bool> {
    let (one, other) = (libc::c_long::from(one.0), libc::c_long::from(other.0));
    let unused: libc::c_long = 0;
    // SAFETY: integers only; the last two are not used.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, kind, unused, unused) } {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}

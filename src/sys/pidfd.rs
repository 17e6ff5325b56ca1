//! pidfds: pidfd_open(2), pidfd_send_signal(2), and what ioctl_pidfd(2) and pidfs tell.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::fs::magic;
use super::{Pid, check, retry};

/// pidfd_open(2), Linux 5.3. `ESRCH`: no such process. `ENOENT` (`EINVAL` in older kernels): the
/// number is that of a thread. Older kernels give the same error for a reaped leader whose group
/// still has members.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    let flags: libc::c_long = 0;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid.0), flags) };
    let fd = libc::c_int::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What pidfd_send_signal(2) signals.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Process,
    /// The process group that the process leads or led (`PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9;
    /// `EINVAL` before). It works after the leader was reaped, and never means a later group.
    Group,
}

/// pidfd_send_signal(2), Linux 5.1.
pub(crate) fn pidfd_send_signal(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    scope: Scope,
) -> io::Result<()> {
    // linux/pidfd.h. The libc crate does not have it for Android.
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let flags: libc::c_uint = match scope {
        Scope::Process => 0,
        Scope::Group => PIDFD_SIGNAL_PROCESS_GROUP,
    };
    // SAFETY: a null siginfo is allowed and means "as kill(2) does"; the descriptor is borrowed
    // and therefore open.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            flags,
        )
    };
    if rc == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// ioctl_pidfd(2) `PIDFD_GET_INFO`, Linux 6.13: the parent's pid; 0 for a parent outside of the
/// caller's PID namespace. Older kernels do not have it: Linux 6.11 and 6.12 answer `EINVAL`, those
/// before `ENOTTY`.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_get_parent(pidfd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: the request number bears the size of the struct, which is valid for writes.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) })?;
    // SAFETY: all of its fields are integers, for which zero is valid.
    Ok(unsafe { info.assume_init() }.ppid)
}

/// The libc crate does not have it for Android, so /proc is read there.
#[cfg(target_os = "android")]
pub(crate) fn pidfd_get_parent(_: BorrowedFd<'_>) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The inode number of a pidfd, if pidfs has one for each process (Linux 6.9, 64-bit). Older
/// kernels give all pidfds the inode of anon_inodefs, which says nothing: `None`, also if a seccomp
/// filter forbids the question.
pub(crate) fn pidfs_inode(pidfd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    if cfg!(not(target_pointer_width = "64")) {
        return Ok(None);
    }
    match inode_in_pidfs(pidfd) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(None),
        inode => inode,
    }
}

fn inode_in_pidfs(pidfd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `fs` is valid for writes, the descriptor is open.
    retry(|| check(unsafe { libc::fstatfs(pidfd.as_raw_fd(), fs.as_mut_ptr()) }))?;
    // SAFETY: filled by the successful fstatfs.
    if magic(&unsafe { fs.assume_init() }) != PID_FS_MAGIC {
        return Ok(None);
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is valid for writes, the descriptor is open.
    retry(|| check(unsafe { libc::fstat(pidfd.as_raw_fd(), stat.as_mut_ptr()) }))?;
    // SAFETY: filled by the successful fstat.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "narrower on some targets")]
    Ok(Some(stat.st_ino as u64))
}

/// fcntl(2) `F_SETOWN`: the file names the process that has this number now. It never names a later
/// process.
pub(crate) fn set_owner(file: BorrowedFd<'_>, pid: Pid) -> io::Result<()> {
    fcntl_setown(file, pid.0)
}

/// As [`set_owner`], for a process group.
pub(crate) fn set_owner_group(file: BorrowedFd<'_>, pgid: Pid) -> io::Result<()> {
    fcntl_setown(file, -pgid.0)
}

fn fcntl_setown(file: BorrowedFd<'_>, owner: libc::pid_t) -> io::Result<()> {
    // SAFETY: two integers; the descriptor is open. No signal follows, because a pidfd has no
    // `O_ASYNC`.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, owner) })
}

/// fcntl(2) `F_GETOWN_EX`, Linux 5.12: whether the group of [`set_owner_group`] has a member, a zombie
/// too. Older kernels do not look: `Unsupported`.
pub(crate) fn has_owner_group(file: BorrowedFd<'_>) -> io::Result<bool> {
    owner(file).map(|owner| owner.is_some())
}

/// As [`has_owner_group`]: the number of the process of [`set_owner`]; `None`: it was reaped.
pub(crate) fn owner(file: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    // linux/fcntl.h. The libc crate has neither.
    const F_GETOWN_EX: libc::c_int = 16;
    #[repr(C)]
    struct Owner {
        kind: libc::c_int,
        pid: libc::pid_t,
    }
    let mut owner = Owner { kind: 0, pid: 0 };
    // SAFETY: `owner` has the layout of `struct f_owner_ex` and is valid for writes.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_GETOWN_EX, &raw mut owner) })?;
    match owner.pid {
        0 => Ok(None),
        pid if release()? >= (5, 12) => Ok(Some(Pid(pid))),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// uname(2): the first two numbers of the kernel's version.
fn release() -> io::Result<(u32, u32)> {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `name` is valid for writes.
    check(unsafe { libc::uname(name.as_mut_ptr()) })?;
    // SAFETY: it is arrays of characters, for which zero is valid.
    let release = unsafe { name.assume_init() }.release;
    let mut numbers = [0_u32; 2];
    let mut index = 0;
    for c in release.map(|c| c.to_ne_bytes()[0]) {
        match (c, numbers.get_mut(index)) {
            (b'0'..=b'9', Some(n)) => *n = n.saturating_mul(10).saturating_add(u32::from(c - b'0')),
            (b'.', Some(_)) => index += 1,
            _ => break,
        }
    }
    Ok((numbers[0], numbers[1]))
}

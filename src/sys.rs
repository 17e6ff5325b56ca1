//! System calls and libc calls under their manual-page names: the only file with `unsafe`.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) use libc::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};

/// A number that can name one process: `1..=i32::MAX`, so never "my group" (0), "everyone" (-1) or
/// a group (negative) of kill(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pid(libc::pid_t);

impl Pid {
    pub(super) fn new(number: u32) -> Option<Pid> {
        libc::pid_t::try_from(number)
            .ok()
            .filter(|&pid| pid > 0)
            .map(Pid)
    }

    pub(super) fn get(self) -> u32 {
        self.0.unsigned_abs()
    }

    pub(super) fn is_caller(self) -> bool {
        self.get() == std::process::id()
    }

    pub(super) fn is_init(self) -> bool {
        self.0 == 1
    }
}

/// pidfd_open(2), Linux 5.3. `ESRCH`: no such process. `ENOENT` (`EINVAL` in older kernels): the
/// number is a thread's, or in older kernels that of a reaped leader whose group lives on.
pub(super) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    let flags: libc::c_long = 0;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid.0), flags) };
    let fd = libc::c_int::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    check(fd)?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whom pidfd_send_signal(2) signals.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    Process,
    /// The process group that the process leads or led (`PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9;
    /// `EINVAL` before). It works even after the leader was reaped, and never means a later group.
    Group,
}

/// pidfd_send_signal(2), Linux 5.1.
pub(super) fn pidfd_send_signal(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    scope: Scope,
) -> io::Result<()> {
    // linux/pidfd.h; the libc crate does not have it for Android.
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

/// ioctl_pidfd(2) `PIDFD_GET_INFO`, Linux 6.13: the parent's pid, 0 for one outside our PID namespace.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_get_parent(pidfd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: the request number bears the size of the struct, which is valid for writes.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) })?;
    // SAFETY: all of its fields are integers, for which zero is valid.
    Ok(unsafe { info.assume_init() }.ppid)
}

/// The libc crate does not have it for Android, so /proc is asked there.
#[cfg(target_os = "android")]
pub(super) fn pidfd_get_parent(_: BorrowedFd<'_>) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// kill(2) of one process; signal 0 only asks whether it may be signalled.
pub(super) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers; `Pid` is positive, so this names one process.
    check(unsafe { libc::kill(pid.0, signal) })
}

/// kill(2) of a whole process group: atomic, so that no member forks its way out. `EPERM` only if not
/// one member may be signalled.
pub(super) fn kill_group(pgid: Pid, signal: i32) -> io::Result<()> {
    // -1 would mean everyone.
    if pgid.is_init() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two integers; a negative number below -1 names one group.
    check(unsafe { libc::kill(-pgid.0, signal) })
}

/// tgkill(2) of signal 0: whether the number is that of a thread of the calling process.
pub(super) fn is_own_thread(number: Pid) -> bool {
    let (tid, none) = (libc::c_long::from(number.0), libc::c_long::from(0));
    // SAFETY: takes nothing and cannot fail.
    let caller = libc::c_long::from(unsafe { libc::getpid() });
    // SAFETY: integers only; signal 0 is not sent.
    unsafe { libc::syscall(libc::SYS_tgkill, caller, tid, none) == 0 }
}

/// getpgrp(2); 0 for a group outside our PID namespace.
pub(super) fn getpgrp() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getpgrp() }.unsigned_abs()
}

/// prctl(2) `PR_GET_CHILD_SUBREAPER`, Linux 3.4.
pub(super) fn is_child_subreaper() -> io::Result<bool> {
    let mut is_set: libc::c_int = 0;
    // SAFETY: the second argument points to an int that outlives the call.
    check(unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_set) })?;
    Ok(is_set != 0)
}

/// prctl(2) `PR_SET_CHILD_SUBREAPER`, Linux 3.4.
pub(super) fn set_child_subreaper() -> io::Result<()> {
    let (on, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, on, none, none, none) })
}

/// What waitid(2) with `WNOWAIT` says of a child. Nothing is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildState {
    Running,
    /// Every thread of it has ended; the status waits for its parent.
    Exited,
    NotOurs,
}

/// waitid(2) with `WEXITED | WNOWAIT | WNOHANG`; `__WALL` (Linux 4.7) for children of clone(2).
pub(super) fn waitid_nowait(pid: Pid) -> io::Result<ChildState> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL;
    let id = libc::id_t::from(pid.get());
    // SAFETY: `info` is valid for writes of a siginfo_t for the whole call.
    let rc = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) };
    match check(rc) {
        // SAFETY: zeroed above and written by a successful waitid; all of its fields are integers
        // or pointers, for which zero is valid. With WNOHANG si_pid stays 0 while it runs.
        Ok(()) => match unsafe { info.assume_init().si_pid() } {
            0 => Ok(ChildState::Running),
            _ => Ok(ChildState::Exited),
        },
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(ChildState::NotOurs),
        Err(e) => Err(e),
    }
}

/// What ppoll(2) waits for.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// `POLLIN`.
    Readable,
    /// `POLLPRI`: a file of cgroup v2 has changed.
    Changed,
    /// `POLLHUP` alone: of a pidfd, that the process was reaped (Linux 6.9).
    HungUp,
}

/// ppoll(2): which are ready, or hung up; `None` is never. Without a timeout it waits for ever.
/// `EINTR` is returned, and is possible even without a wait: the caller knows what is left of its
/// time.
pub(super) fn ppoll<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    event: Event,
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let events = match event {
        Event::Readable => libc::POLLIN,
        Event::Changed => libc::POLLPRI,
        Event::HungUp => 0,
    };
    let mut polls = fds.map(|fd| libc::pollfd {
        // A negative one is passed over.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    });
    let timeout = timeout.map(|left| libc::timespec {
        // Longer than time_t wakes early, which every caller must allow for anyway.
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        // Below a billion, which fits tv_nsec whatever its type.
        tv_nsec: left.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const _);
    let count = libc::nfds_t::try_from(N).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `count` valid pollfds, a timespec that outlives the call or null, no signal mask.
    check(unsafe { libc::ppoll(polls.as_mut_ptr(), count, timeout, std::ptr::null()) })?;
    Ok(polls.map(|poll| poll.revents & (events | libc::POLLHUP | libc::POLLERR) != 0))
}

/// The time since boot, suspension included: the clock of start times.
pub(super) fn since_boot() -> io::Result<Duration> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec to write to.
    check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) })?;
    let seconds = u64::try_from(now.tv_sec).map_err(io::Error::other)?;
    let nanos = u32::try_from(now.tv_nsec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanos))
}

/// Sleeps, by ppoll(2) of nothing. `std::thread::sleep` resumes with the time that is left, to which
/// the kernel adds the timer slack again and again: in a storm of signals it never ends.
pub(super) fn sleep(time: Duration) {
    let begun = Instant::now();
    while let Some(left) = time
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
    {
        // However this ends, the clock tells whether it was enough.
        drop(ppoll([], Event::Readable, Some(left)));
    }
}

/// The group of a child that is to be spawned.
#[derive(Clone, Copy)]
pub(super) enum NewGroup {
    Inherit,
    Lead,
    LeadSession,
    Join(Pid),
}

/// Spawns a command whose child calls setpgid(2) or setsid(2) before execve(2) and, outside our own
/// group, trades a terminal on its standard input for /dev/null.
pub(super) fn spawn_in_group(command: &mut Command, group: NewGroup) -> io::Result<Child> {
    if matches!(group, NewGroup::Inherit) {
        return command.spawn();
    }
    // A closure cannot be taken off the command again, so it asks whether its time has come: it is
    // the child's copy of the flag that counts, which fork(2) made.
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
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only, allocates nothing
    // and takes no lock; io::Error of an errno is a plain number.
    unsafe { command.pre_exec(in_child) };
    let spawned = command.spawn();
    is_due.store(false, Ordering::Relaxed);
    spawned
}

/// The inode number of a pidfd where pidfs has one for each process (Linux 6.9, 64-bit). Older
/// kernels give all pidfds the inode of anon_inodefs, which says nothing.
pub(super) fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    if cfg!(not(target_pointer_width = "64")) {
        return None;
    }
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `fs` is valid for writes, the descriptor is open.
    check(unsafe { libc::fstatfs(pidfd.as_raw_fd(), fs.as_mut_ptr()) }).ok()?;
    // SAFETY: filled by the successful fstatfs.
    if magic(&unsafe { fs.assume_init() }) != PID_FS_MAGIC {
        return None;
    }
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is valid for writes, the descriptor is open.
    check(unsafe { libc::fstat(pidfd.as_raw_fd(), stat.as_mut_ptr()) }).ok()?;
    // SAFETY: filled by the successful fstat.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "narrower on some targets")]
    Some(stat.st_ino as u64)
}

/// A file system that is told by its magic number (statfs(2)).
#[derive(Clone, Copy)]
pub(super) enum FileSystem {
    Proc,
    Cgroup2,
}

/// Whether `path` lies in such a file system (statfs(2)).
pub(super) fn is_in(path: &CStr, file_system: FileSystem) -> io::Result<bool> {
    let expected = match file_system {
        FileSystem::Proc => 0x9fa0,
        FileSystem::Cgroup2 => 0x6367_7270,
    };
    let mut fs = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a NUL-terminated path, and `fs` is valid for writes.
    check(unsafe { libc::statfs(path.as_ptr(), fs.as_mut_ptr()) })?;
    // SAFETY: filled by the successful statfs.
    Ok(magic(&unsafe { fs.assume_init() }) == expected)
}

/// The file system's magic number: 32 bits, whatever the width and sign of `f_type`.
fn magic(fs: &libc::statfs) -> u64 {
    #[allow(
        clippy::unnecessary_cast,
        reason = "the type of f_type differs by target"
    )]
    let wide = fs.f_type as u64;
    wide & 0xffff_ffff
}

/// The names in a directory, one readdir(3) after another. Unlike `std::fs::read_dir` it allocates
/// nothing for each entry.
pub(super) fn for_each_name(path: &CStr, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    // SAFETY: a NUL-terminated path.
    let dir = unsafe { libc::opendir(path.as_ptr()) };
    if dir.is_null() {
        return Err(io::Error::last_os_error());
    }
    struct Close(*mut libc::DIR);
    impl Drop for Close {
        fn drop(&mut self) {
            // SAFETY: opened above, closed only here. It cannot fail in a way that matters: the
            // directory was only read.
            unsafe { libc::closedir(self.0) };
        }
    }
    let dir = Close(dir);
    loop {
        // readdir tells its end from an error by errno alone.
        // SAFETY: errno is this thread's own.
        unsafe { *errno() = 0 };
        // SAFETY: `dir.0` is an open directory stream that no other thread uses.
        let entry = unsafe { libc::readdir(dir.0) };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(0) => Ok(()),
                _ => Err(error),
            };
        }
        // SAFETY: d_name is NUL-terminated and stays valid until the next readdir of this stream.
        each(unsafe { CStr::from_ptr((&raw const (*entry).d_name).cast()) }.to_bytes());
    }
}

#[cfg(not(target_os = "android"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: always valid: each thread has its errno.
    unsafe { libc::__errno_location() }
}

#[cfg(target_os = "android")]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: always valid: each thread has its errno.
    unsafe { libc::__errno() }
}

/// The number of links of a directory, without opening it (stat(2)).
pub(super) fn link_count(path: &CStr) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a NUL-terminated path, and `stat` is valid for writes.
    check(unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled by the successful stat.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "narrower on some targets")]
    Ok(stat.st_nlink as u64)
}

/// A POSIX extended regular expression, compiled by regcomp(3) for matching only.
pub(super) struct Regex(libc::regex_t);

impl Regex {
    /// `Err` is regerror(3)'s text.
    pub(super) fn new(pattern: &CStr) -> Result<Regex, String> {
        let mut compiled = MaybeUninit::<libc::regex_t>::zeroed();
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: `compiled` is valid for writes, the pattern is NUL-terminated.
        let rc = unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), flags) };
        if rc == 0 {
            // SAFETY: regcomp succeeded, so it is initialised; libc keeps no pointer to the struct
            // itself, so it may move.
            return Ok(Regex(unsafe { compiled.assume_init() }));
        }
        let mut text = [0_u8; 256];
        // SAFETY: regerror reads the failed (zeroed, then partly written) regex_t only, and writes
        // at most `text.len()` bytes, the last of them NUL.
        unsafe { libc::regerror(rc, compiled.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        let text = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        Err(text.to_string_lossy().into_owned())
    }

    /// Whether it matches anywhere in `subject`. `REG_ESPACE` and the like are errors, not "no".
    pub(super) fn is_match(&self, subject: &CStr) -> io::Result<bool> {
        // SAFETY: compiled by regcomp and not yet freed; the subject is NUL-terminated; with
        // REG_NOSUB no match array is written.
        match unsafe { libc::regexec(&self.0, subject.as_ptr(), 0, std::ptr::null_mut(), 0) } {
            0 => Ok(true),
            libc::REG_NOMATCH => Ok(false),
            _ => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp and freed only here.
        unsafe { libc::regfree(&raw mut self.0) };
    }
}

/// memmem(3).
pub(super) fn memmem(haystack: &[u8], needle: &CString) -> bool {
    let needle = needle.as_bytes();
    // SAFETY: both pointers are valid for reads of the lengths given.
    let found = unsafe {
        libc::memmem(
            haystack.as_ptr().cast(),
            haystack.len(),
            needle.as_ptr().cast(),
            needle.len(),
        )
    };
    !found.is_null()
}

fn check_fd(fd: libc::c_int) -> io::Result<libc::c_int> {
    check(fd).map(|()| fd)
}

fn check(rc: libc::c_int) -> io::Result<()> {
    match rc {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

//! The files of one process under /proc.
//!
//! | a [`ProcessDir`] | reads | if a successor gets the number |
//! |---|---|---|
//! | by number | the process that has the number when a file is opened | it reads the successor |
//! | held open | one process | every file says `ESRCH`: it never reads the successor |
//! | opened, but there is no descriptor to hold it | as by number | it reads the successor |
//!
//! In execve(2) a thread takes the place and the number of its dead leader. For a moment a file can
//! be bound to the number that is given up: every read then says `ESRCH`, although the process
//! lives, until the dead leader is released. So `ESRCH` alone is no proof. The file is opened
//! again.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::super::sys::{self, Metadata, Pid, SIGKILL};
use super::stat::{Stat, whole};
use super::{Base, Proc, field, is_absent, is_no_room, malformed, number};

/// The directory of one process under /proc.
pub(crate) struct ProcessDir<'p> {
    pub(super) proc: &'p Proc,
    pub(super) pid: Pid,
    /// `None`: by number.
    held: Option<OwnedFd>,
    /// The process was there. Its `stat` tells whether it still is.
    was_there: bool,
}

/// A link below /proc/PID.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Exe,
    Cwd,
}

impl<'p> ProcessDir<'p> {
    pub(super) fn by_number(proc: &'p Proc, pid: Pid) -> ProcessDir<'p> {
        ProcessDir {
            proc,
            pid,
            held: None,
            was_there: false,
        }
    }

    /// Opens the directory, and reads proc_pid_stat(5) of it into `buf`. `None`: no such process.
    pub(crate) fn open<'b>(
        proc: &'p Proc,
        pid: Pid,
        buf: &'b mut Vec<u8>,
    ) -> io::Result<Option<(ProcessDir<'p>, Stat<'b>)>> {
        let mut dir = None;
        ProcessDir::by_number(proc, pid).present(|| {
            let held = proc.with_room(|| {
                let path = format_args!("{}", pid.get());
                proc.base().with_path(path, sys::openat)
            })?;
            let mut opened = ProcessDir {
                proc,
                pid,
                held: Some(held),
                was_there: true,
            };
            match opened.load(format_args!("stat"), buf) {
                // There is room for a file, but not for a directory too.
                Err(e) if is_no_room(&e) => {
                    opened.held = None;
                    opened.load(format_args!("stat"), buf)?;
                }
                loaded => loaded?,
            }
            // In execve(2) the directory may be bound to the number that the new leader gives up.
            match buf.split(|&b| b == b' ').next().and_then(number) {
                Some(bound) if pid.get() == bound => dir = Some(opened),
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
            Ok(())
        })?;
        let Some(dir) = dir else {
            return Ok(None);
        };
        if whole(buf)?.is_none() && dir.stat(buf)?.is_none() {
            return Ok(None);
        }
        Ok(whole(buf)?.map(|stat| (dir, stat)))
    }

    pub(crate) fn proc(&self) -> &'p Proc {
        self.proc
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Reads proc_pid_stat(5) into `buf`, again if the task was released during the read. `None`:
    /// no such process.
    pub(crate) fn stat<'b>(&self, buf: &'b mut Vec<u8>) -> io::Result<Option<Stat<'b>>> {
        loop {
            if !self.read(format_args!("stat"), buf)? {
                return Ok(None);
            }
            if whole(buf)?.is_some() {
                return whole(buf);
            }
        }
    }

    /// The process that the number belongs to: as its own pid, or as that of one of its threads.
    /// `None`: no task has it.
    pub(crate) fn thread_group(&self) -> io::Result<Option<Pid>> {
        let mut status = Vec::new();
        if !self.read(format_args!("status"), &mut status)? {
            return Ok(None);
        }
        let group = field(&status, b"Tgid:").and_then(|n| number(n.trim_ascii()));
        Ok(group.and_then(Pid::new))
    }

    /// The effective user (proc_pid_status(5), `Uid`).
    pub(crate) fn uid(&self) -> io::Result<u32> {
        let mut status = Vec::new();
        if !self.read(format_args!("status"), &mut status)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let ids = field(&status, b"Uid:").ok_or_else(malformed)?;
        let mut ids = ids.split(|&b| b == b'\t').filter(|id| !id.is_empty());
        ids.nth(1).and_then(number).ok_or_else(malformed)
    }

    /// Whether it is exiting, or a signal was sent to it that ends it, so that it forks no more.
    /// `None`: it has ended.
    pub(crate) fn is_dying(&self) -> io::Result<Option<bool>> {
        const KILLED: u64 = 1 << (SIGKILL - 1);
        let (mut status, mut buf) = (Vec::new(), Vec::new());
        if !self.read(format_args!("status"), &mut status)? {
            return Ok(None);
        }
        let is_killed = |key: &[u8]| {
            let mask = field(&status, key).and_then(|mask| std::str::from_utf8(mask).ok());
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_some_and(|mask| mask & KILLED != 0)
        };
        // SIGKILL stays in the second until the process is released. Any other signal that ends the
        // process puts it into the first. execve(2) does so too, if there are other threads.
        let is_single =
            field(&status, b"Threads:").and_then(|n| number(n.trim_ascii())) == Some(1u32);
        if is_killed(b"ShdPnd:") || (is_single && is_killed(b"SigPnd:")) {
            return Ok(Some(true));
        }
        let stat = self.stat(&mut buf)?.filter(|stat| !stat.is_zombie());
        Ok(stat.map(|stat| stat.is_exiting() && !stat.has_left()))
    }

    /// Opens the list of the children that one thread forked, for as long as `read` takes. An error of
    /// kind `NotFound`: the thread is gone, or the kernel was built without CONFIG_PROC_CHILDREN.
    pub(crate) fn with_child_list<T>(
        &self,
        tid: Pid,
        mut read: impl FnMut(&ChildList) -> io::Result<T>,
    ) -> io::Result<T> {
        let own = self.path();
        // Its descriptor is closed before the spare ones are taken back.
        self.proc.with_room(|| {
            let path = format_args!("{own}task/{}/children", tid.get());
            let file = self.base().with_path(path, sys::openat)?;
            read(&ChildList(file))
        })
    }

    /// Appends the children that one thread forked. The errors are those of
    /// [`ProcessDir::with_child_list`].
    pub(crate) fn children(
        &self,
        tid: Pid,
        into: &mut Vec<Pid>,
        buf: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.with_child_list(tid, |list| list.read(buf))?;
        into.extend(children_in(buf));
        Ok(())
    }

    /// The children of all threads. Those of the leader come last, because orphans are given to it.
    /// An error of kind `NotFound`: the kernel was built without CONFIG_PROC_CHILDREN.
    pub(crate) fn children_of_all_threads(&self) -> io::Result<Vec<Pid>> {
        let mut threads = self.threads()?.unwrap_or_default();
        threads.sort_unstable_by_key(|&tid| tid == self.pid);
        let (mut all, mut buf) = (Vec::new(), Vec::new());
        for tid in threads {
            match self.children(tid, &mut all, &mut buf) {
                // The thread has ended. The next look shows which thread has its children.
                Err(e) if tid != self.pid && is_absent(&e) => {}
                listed => listed?,
            }
        }
        Ok(all)
    }

    /// The inode of the PID namespace into which its next child is born (pid_namespaces(7)).
    pub(crate) fn namespace_of_children(&self) -> io::Result<u64> {
        Ok(self.metadata(format_args!("ns/pid_for_children"))?.inode)
    }

    /// Whether the init of a PID namespace below the caller's may have adopted it. `stat` was read of it.
    ///
    /// A process is born into the session and group of its parent. So it was adopted if these differ, or
    /// it has left them since.
    pub(crate) fn may_be_adopted_below(&self, stat: &Stat<'_>) -> io::Result<bool> {
        let Some(parent) = Pid::new(stat.parent) else {
            return Ok(false);
        };
        let (parent, mut buf) = (self.proc.process(parent), Vec::new());
        // Only a process of the same namespace adopts.
        if self.is_in_own_namespace()? || parent.is_in_own_namespace()? {
            return Ok(false);
        }
        let of = parent.stat(&mut buf)?;
        Ok(of.is_none_or(|of| (of.session, of.group) != (stat.session, stat.group)))
    }

    /// Whether it is in the caller's own PID namespace, and not in one below.
    fn is_in_own_namespace(&self) -> io::Result<bool> {
        let mut status = Vec::new();
        self.load(format_args!("status"), &mut status)?;
        // NSpid (Linux 4.1) has one number for each namespace, from the caller's down to its own.
        let numbers = field(&status, b"NSpid:").unwrap_or_default();
        Ok(numbers.trim_ascii().split(u8::is_ascii_whitespace).count() == 1)
    }

    /// The target of a link below the directory.
    pub(super) fn link(&self, path: fmt::Arguments<'_>) -> io::Result<PathBuf> {
        let own = self.path();
        self.base()
            .with_path(format_args!("{own}{path}"), sys::readlinkat)
    }

    /// fstatat(2) of a file below the directory; follows links.
    pub(super) fn metadata(&self, path: fmt::Arguments<'_>) -> io::Result<Metadata> {
        let own = self.path();
        self.base()
            .with_path(format_args!("{own}{path}"), sys::fstatat)
    }

    pub(crate) fn numbers(&self, path: &str) -> io::Result<Vec<Pid>> {
        let own = self.path();
        let parse = |n: &[u8]| Pid::new(number(n)?);
        self.proc
            .numbers(self.base(), format_args!("{own}{path}"), 0, parse)
    }

    /// The numbers of the open descriptors of a task. `task` is its path below the directory. 0 is
    /// a descriptor.
    pub(super) fn descriptors(&self, task: &str) -> io::Result<Vec<u32>> {
        let own = self.path();
        let path = format_args!("{own}{task}fd");
        self.proc.numbers(self.base(), path, 0, number)
    }

    /// Reads a file; false: no such process.
    pub(super) fn read(&self, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<bool> {
        self.found(|| self.load(file, buf))
    }

    /// Reads a file of a thread; false: no such thread.
    pub(super) fn read_of_thread(
        &self,
        tid: Pid,
        file: &str,
        buf: &mut Vec<u8>,
    ) -> io::Result<bool> {
        found(|| self.load(format_args!("task/{}/{file}", tid.get()), buf))
    }

    pub(super) fn load(&self, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<()> {
        let path = self.path();
        self.proc
            .load(self.base(), format_args!("{path}{file}"), buf)
    }

    pub(super) fn found(&self, attempt: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
        match self.was_there {
            true => found(attempt),
            false => self.present(attempt),
        }
    }

    /// Repeats an attempt until it succeeds. False: kill(2) says that no task has the number. An
    /// error of kind `PermissionDenied`: /proc hides the process.
    fn present(&self, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
        loop {
            for _ in 0..2 {
                match attempt() {
                    Ok(()) => return Ok(true),
                    Err(e) if !is_absent(&e) => return Err(e),
                    Err(_) => {}
                }
                match sys::kill(self.pid, 0) {
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
                    // It exists, or another process got the number in between. The second attempt
                    // reads that one.
                    _ => {}
                }
            }
            // The number may be bound to the dead leader, until the thread that replaces it goes
            // on.
            if self.proc.is_partial()? || !self.proc.pause() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the process exists but /proc hides it",
                ));
            }
        }
    }

    fn base(&self) -> Base<'_> {
        self.held
            .as_ref()
            .map_or_else(|| self.proc.base(), Base::held)
    }

    fn path(&self) -> OwnPath {
        OwnPath(self.held.is_none().then_some(self.pid))
    }
}

/// An open list of children (proc_tid_children(5)). It stays that of one thread: once the thread is
/// gone, the list is empty.
pub(crate) struct ChildList(OwnedFd);

impl ChildList {
    /// Reads the list from its start into `buf`.
    pub(crate) fn read(&self, buf: &mut Vec<u8>) -> io::Result<()> {
        const PAGE: usize = 4096;
        /// No number with its blank is longer.
        const LONGEST: usize = 16;
        buf.clear();
        loop {
            buf.reserve(PAGE);
            let room = buf.capacity() - buf.len();
            let got = sys::pread(self.0.as_fd(), buf, buf.len())?;
            // A piece ends early only if the next number does not fit into the buffer or the page.
            if got < room && got + LONGEST <= PAGE {
                return Ok(());
            }
        }
    }
}

/// The path from the descriptor, that files are opened from, to the directory of the process.
struct OwnPath(Option<Pid>);

impl fmt::Display for OwnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "{}/", pid.get()),
            None => Ok(()),
        }
    }
}

/// Makes an attempt; false: the process or thread was absent twice.
fn found(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
    for _ in 0..2 {
        match attempt() {
            Err(e) if is_absent(&e) => {}
            result => return result.map(|()| true),
        }
    }
    Ok(false)
}

/// The numbers in a list of children.
pub(crate) fn children_in(list: &[u8]) -> impl DoubleEndedIterator<Item = Pid> + '_ {
    list.split(|&b| b == b' ')
        .filter_map(|n| Pid::new(number(n)?))
}

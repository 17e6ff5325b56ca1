//! /proc: the only folder that reads it, and the only one that names procfs.
//!
//! [`Proc`] is a held descriptor of /proc, checked to be a procfs of the caller's own PID namespace.
//! Everything is opened relative to it. [`ProcessDir`] reads the files of one process, by its number
//! or through a held descriptor of its directory.
//!
//! `ENOENT` never means "no such process" by itself: hidepid (proc(5)) hides live ones. A process is
//! absent only if kill(2) agrees.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::io::{self, Cursor, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::error::{Error, ErrorKind, Result};
use super::sys::{self, FileSystem, Pid};

mod after_exec;
pub(crate) mod dir;
pub(crate) mod fork_counter;
pub(crate) mod net;
mod stat;
mod threads;

pub(crate) use after_exec::{Reading, Text};
pub(crate) use dir::ProcessDir;
pub(crate) use stat::{Stat, Stillness};
pub(crate) use threads::Seen;

/// /proc, checked to be a procfs of the caller's own PID namespace.
pub(crate) struct Proc {
    root: OwnedFd,
    /// A descriptor kept for a file under /proc, for the case that none is free.
    spare: Cell<Option<OwnedFd>>,
    /// How long the current scan has waited for processes in execve(2).
    waited: Cell<Duration>,
    caller: Pid,
}

impl Proc {
    pub(crate) fn open() -> Result<Proc> {
        let unreachable = |e: io::Error| match e.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Error::io("open /proc", e),
            _ => Error::proc("it cannot be reached", Some(e)),
        };
        let root = sys::open_directory(c"/proc").map_err(unreachable)?;
        match sys::file_system(root.as_fd()) {
            Ok(FileSystem::Proc) => {}
            Ok(_) => return Err(Error::proc("no procfs is mounted there", None)),
            Err(e) => return Err(unreachable(e)),
        }
        let caller = Pid::new(std::process::id()).ok_or_else(foreign)?;
        let proc = Proc {
            spare: Cell::new(root.try_clone().ok()),
            root,
            waited: Cell::new(Duration::ZERO),
            caller,
        };
        let mut status = Vec::new();
        match proc.load(proc.root.as_fd(), format_args!("self/status"), &mut status) {
            Ok(()) => {}
            // The link is empty for a reader that has no number in the namespace it was mounted in.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(foreign()),
            Err(e) => return Err(Error::io("read /proc/self/status", e)),
        }
        // One number for each namespace from that of the mount down to ours (Linux 4.1). A single
        // number says that the two are the same. The number alone could agree by chance.
        let numbers = field(&status, b"NSpid:").or_else(|| field(&status, b"Pid:"));
        match numbers.map(|n| number::<u32>(n.trim_ascii())) {
            Some(Some(pid)) if pid == caller.get() => Ok(proc),
            _ => Err(foreign()),
        }
    }

    /// The calling process, asked for once: getpid(2) is a system call.
    pub(crate) fn caller(&self) -> Pid {
        self.caller
    }

    /// The files of the process that has this number when they are read.
    pub(crate) fn process(&self, pid: Pid) -> ProcessDir<'_> {
        ProcessDir::by_number(self, pid)
    }

    /// Every process that can be seen, ascending. One that lives through the call is not left out:
    /// the kernel walks the numbers upwards.
    pub(crate) fn pids(&self) -> io::Result<Vec<Pid>> {
        let dir = self.root.as_fd();
        self.numbers(dir, format_args!("."), |n| Pid::new(number(n)?))
    }

    /// About how many processes there are, in one call: /proc has a link for each.
    pub(crate) fn count(&self) -> io::Result<u64> {
        Ok(sys::fstatat(self.root.as_fd(), c".")?.links)
    }

    /// Whether processes of other users are hidden (`hidepid`, proc(5)).
    pub(crate) fn is_partial(&self) -> io::Result<bool> {
        let mut mounts = Vec::new();
        // Not `self`: once the main thread has exited, that one is EINVAL.
        self.load_all(
            self.root.as_fd(),
            format_args!("thread-self/mounts"),
            &mut mounts,
        )?;
        let here = |line: &&[u8]| line.split(|&b| b == b' ').nth(1) == Some(b"/proc");
        // Of several mounts there the last one is on top.
        let mount = mounts.split(|&b| b == b'\n').rfind(here);
        Ok(mount.is_none_or(|line| line.windows(8).any(|option| option == b"hidepid=")))
    }

    /// The number that names this boot (/proc/sys/kernel/random/boot_id); `None` if /proc/sys is out
    /// of sight, as with the mount option `subset=pid`.
    pub(crate) fn boot_id(&self) -> io::Result<Option<u128>> {
        let mut text = Vec::new();
        match self.load(
            self.root.as_fd(),
            format_args!("sys/kernel/random/boot_id"),
            &mut text,
        ) {
            Ok(()) => {}
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let boot = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        boot.map(Some).map_err(|_| malformed())
    }

    /// The inode of the caller's PID namespace (pid_namespaces(7)); `None` if /proc does not tell.
    pub(crate) fn pid_namespace(&self) -> io::Result<Option<u64>> {
        match sys::fstatat(self.root.as_fd(), c"thread-self/ns/pid") {
            Ok(namespace) => Ok(Some(namespace.inode)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The inode of the calling thread's mount namespace (mount_namespaces(7)); `None` if /proc does
    /// not tell.
    fn mount_namespace(&self) -> io::Result<Option<u64>> {
        match sys::fstatat(self.root.as_fd(), c"thread-self/ns/mnt") {
            Ok(namespace) => Ok(Some(namespace.inode)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The parent of a process, its parent and so on, up to the first that has none here.
    pub(crate) fn ancestors(&self, pid: Pid) -> io::Result<Vec<Pid>> {
        let mut buf = Vec::new();
        let mut ancestors = Vec::new();
        let mut at = pid;
        loop {
            let stat = match self.process(at).stat(&mut buf) {
                Ok(Some(stat)) => stat,
                Ok(None) => break,
                // Another user's, under hidepid: its child named it, and its own parents cannot be
                // read.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
                Err(e) => return Err(e),
            };
            match Pid::new(stat.parent) {
                // A pid that is used again meanwhile could make a cycle.
                Some(parent) if parent != pid && !ancestors.contains(&parent) => {
                    ancestors.push(parent);
                    at = parent;
                }
                _ => break,
            }
        }
        Ok(ancestors)
    }

    /// The numbers in a directory, ascending.
    fn numbers<N: Ord>(
        &self,
        dir: BorrowedFd<'_>,
        path: fmt::Arguments<'_>,
        parse: impl Fn(&[u8]) -> Option<N>,
    ) -> io::Result<Vec<N>> {
        let mut numbers = Vec::new();
        self.with_room(|| {
            numbers.clear();
            with_path(path, |path| {
                sys::for_each_name(dir, path, |name| numbers.extend(parse(name)))
            })
        })?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a file into `buf` that comes in one piece: `stat`, `status`, `cmdline`. A read that does
    /// not fill the buffer was all of it.
    fn load(
        &self,
        dir: BorrowedFd<'_>,
        path: fmt::Arguments<'_>,
        buf: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.read(dir, path, buf, |got, room| got == room)
    }

    /// Reads a file into `buf` that may come in pieces, each of a page at most.
    fn load_all(
        &self,
        dir: BorrowedFd<'_>,
        path: fmt::Arguments<'_>,
        buf: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.read(dir, path, buf, |got, _| got > 0)
    }

    fn read(
        &self,
        dir: BorrowedFd<'_>,
        path: fmt::Arguments<'_>,
        buf: &mut Vec<u8>,
        has_more: impl Fn(usize, usize) -> bool,
    ) -> io::Result<()> {
        const ROOM: usize = 4096;
        self.with_room(|| {
            let file = with_path(path, |path| sys::openat(dir, path))?;
            buf.clear();
            loop {
                if buf.capacity() - buf.len() < ROOM / 4 {
                    buf.reserve(ROOM.max(buf.len()));
                }
                let room = buf.capacity() - buf.len();
                let got = sys::read(file.as_fd(), buf)?;
                if !has_more(got, room) {
                    return Ok(());
                }
            }
        })
    }

    /// Does something for which a descriptor is needed, with the spare one if no other is free.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let spare = self.spare.take().or_else(|| self.root.try_clone().ok());
        match attempt() {
            Err(e) if is_no_room(&e) && spare.is_some() => {
                drop(spare);
                let result = attempt();
                // At once, before a pidfd takes its place.
                self.spare.set(self.root.try_clone().ok());
                result
            }
            result => {
                self.spare.set(spare);
                result
            }
        }
    }
}

/// /proc if it can be used, looked at when it is first asked for: most kills need none.
#[derive(Default)]
pub(crate) struct MaybeProc(Option<Option<Proc>>);

impl MaybeProc {
    pub(crate) fn get(&mut self) -> Option<&Proc> {
        if self.0.is_none() {
            match Proc::open() {
                Ok(proc) => self.0 = Some(Some(proc)),
                Err(e) if e.kind() == ErrorKind::Proc => self.0 = Some(None),
                // For example no descriptor is free. There may be one later.
                Err(_) => {}
            }
        }
        self.0.as_ref()?.as_ref()
    }
}

/// As [`Proc::pids`], for the finders.
pub(crate) fn visible(proc: &Proc) -> Result<Vec<Pid>> {
    proc.pids().map_err(|e| Error::io("list /proc", e))
}

/// A process that ended meanwhile, or that the caller may not read, is left out. Any other error, as
/// of a full descriptor table, must not make a list look complete.
pub(crate) fn readable<T>(pid: Pid, read: io::Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(found),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied || is_absent(&e) => Ok(None),
        Err(e) => Err(reading(pid, e)),
    }
}

pub(crate) fn reading(pid: Pid, error: io::Error) -> Error {
    Error::io(format!("read process {}", pid.get()), error)
}

/// The process or thread was gone when the file was opened (`ENOENT`) or read (`ESRCH`).
pub(crate) fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// No descriptor is free.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A path below /proc is short: numbers and fixed names.
fn with_path<T>(
    path: fmt::Arguments<'_>,
    open: impl FnOnce(&CStr) -> io::Result<T>,
) -> io::Result<T> {
    let mut bytes = Cursor::new([0_u8; 64]);
    write!(bytes, "{path}\0")?;
    let path = CStr::from_bytes_until_nul(bytes.get_ref());
    open(path.map_err(|_| io::ErrorKind::InvalidInput)?)
}

fn field<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    // The kernel escapes newlines in the name here, so a line is a field.
    status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(key))
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn foreign() -> Error {
    Error::proc("it belongs to another PID namespace", None)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what the kernel writes")
}

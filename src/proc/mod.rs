//! /proc: the only folder that reads it and that uses the crate procfs.
//!
//! [`Proc`] is a held descriptor of /proc, checked to be a procfs of the caller's own PID
//! namespace. Every file is opened relative to it. If there are too few descriptors to hold it, files
//! are opened by their absolute paths. [`ProcessDir`] reads the files of one process, by number or
//! through a held descriptor of its directory.
//!
//! `ENOENT` alone never means "no such process": hidepid (proc(5)) hides live ones. A process is
//! absent only if kill(2) agrees.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::error::{Error, ErrorKind, Result};
use super::sys::{self, FileSystem, Metadata, Pid};

mod after_exec;
mod base;
pub(crate) mod dir;
pub(crate) mod fork_counter;
pub(crate) mod net;
mod stat;
mod threads;

pub(crate) use after_exec::{Reading, Text};
use base::{Base, open_root};
pub(crate) use dir::{ProcessDir, children_in};
pub(crate) use stat::{Stat, Stillness};
pub(crate) use threads::Seen;

/// /proc, checked to be a procfs of the caller's own PID namespace.
pub(crate) struct Proc {
    /// `None`: there are too few descriptors to hold it. Files are opened by their absolute path.
    root: Option<OwnedFd>,
    /// Descriptors that are closed to make room if no other is free.
    spares: RefCell<Vec<OwnedFd>>,
    /// How long the current scan has waited for processes in execve(2).
    waited: Cell<Duration>,
    /// See `fork_counter`.
    most_pids: Cell<Option<u32>>,
    caller: Pid,
}

impl Proc {
    pub(crate) fn open() -> Result<Proc> {
        let proc = Proc {
            root: open_root()?,
            spares: RefCell::new(Vec::new()),
            waited: Cell::new(Duration::ZERO),
            most_pids: Cell::new(None),
            caller: Pid::new(std::process::id()).ok_or_else(foreign)?,
        };
        let mut status = Vec::new();
        match proc.load(proc.base(), format_args!("self/status"), &mut status) {
            Ok(()) => {}
            // The link is empty for a reader without a number in the PID namespace of this procfs.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(foreign()),
            Err(e) => return Err(Error::io("read /proc/self/status", e)),
        }
        // NSpid (Linux 4.1) has one number for each namespace, from that of the procfs down to the
        // caller's. A single number says that both are the same. `Pid` alone could agree by chance.
        let numbers = field(&status, b"NSpid:").or_else(|| field(&status, b"Pid:"));
        match numbers.map(|n| number::<u32>(n.trim_ascii())) {
            Some(Some(pid)) if pid == proc.caller.get() => Ok(proc),
            _ => Err(foreign()),
        }
    }

    /// The pid of the calling process. It is stored, because getpid(2) is a system call.
    pub(crate) fn caller(&self) -> Pid {
        self.caller
    }

    /// The files of the process that has this number at the time of each read.
    pub(crate) fn process(&self, pid: Pid) -> ProcessDir<'_> {
        ProcessDir::by_number(self, pid)
    }

    /// Every process that can be seen, ascending. The kernel walks the numbers upwards, so none is
    /// left out that lives through the call.
    pub(crate) fn pids(&self) -> io::Result<Vec<Pid>> {
        // So the list does not grow while it is read.
        let room = usize::try_from(self.count()?).unwrap_or_default();
        self.numbers(self.base(), format_args!("."), room, |n| {
            Pid::new(number(n)?)
        })
    }

    /// About how many processes there are. One call tells it: /proc has a link for each.
    pub(crate) fn count(&self) -> io::Result<u64> {
        Ok(self.metadata(format_args!("."))?.links)
    }

    /// Whether processes of other users are hidden (`hidepid`, proc(5)).
    pub(crate) fn is_partial(&self) -> io::Result<bool> {
        let mut mounts = Vec::new();
        // Not `self`: after the main thread has exited, that one is `EINVAL`.
        self.load_all(self.base(), format_args!("thread-self/mounts"), &mut mounts)?;
        let here = |line: &&[u8]| line.split(|&b| b == b' ').nth(1) == Some(b"/proc");
        // If several are mounted there, the last one is on top.
        let mount = mounts.split(|&b| b == b'\n').rfind(here);
        Ok(mount.is_none_or(|line| line.windows(8).any(|option| option == b"hidepid=")))
    }

    /// The number of this boot (/proc/sys/kernel/random/boot_id); `None`: /proc/sys cannot be seen,
    /// as with the mount option `subset=pid`, or a container manager has mounted a random number there.
    pub(crate) fn boot_id(&self) -> io::Result<Option<u128>> {
        let mut text = Vec::new();
        match self.load_if_procfs("sys/kernel/random/boot_id", &mut text) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let boot = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        boot.map(Some).map_err(|_| malformed())
    }

    /// The inode of the caller's PID namespace (pid_namespaces(7)); `None` if /proc does not tell.
    pub(crate) fn pid_namespace(&self) -> io::Result<Option<u64>> {
        match self.metadata(format_args!("thread-self/ns/pid")) {
            Ok(namespace) => Ok(Some(namespace.inode)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The inode of the calling thread's mount namespace (mount_namespaces(7)); `None` if /proc
    /// does not tell.
    fn mount_namespace(&self) -> io::Result<Option<u64>> {
        match self.metadata(format_args!("thread-self/ns/mnt")) {
            Ok(namespace) => Ok(Some(namespace.inode)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The numbers in a directory, ascending. `room` is about how many there are.
    fn numbers<N: Ord>(
        &self,
        base: Base<'_>,
        path: fmt::Arguments<'_>,
        room: usize,
        parse: impl Fn(&[u8]) -> Option<N>,
    ) -> io::Result<Vec<N>> {
        let mut numbers = Vec::with_capacity(room);
        self.with_room(|| {
            numbers.clear();
            base.with_path(path, |dir, path| {
                sys::for_each_name(dir, path, |name| numbers.extend(parse(name)))
            })
        })?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads into `buf` a file that the kernel returns in one piece: `stat`, `status`, `cmdline`.
    /// If a read does not fill the buffer, it has read everything.
    fn load(&self, base: Base<'_>, path: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<()> {
        self.read(base, path, buf, |got, room| got == room)
    }

    /// Reads into `buf` a file that may come in pieces of at most a page.
    fn load_all(
        &self,
        base: Base<'_>,
        path: fmt::Arguments<'_>,
        buf: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.read(base, path, buf, |got, _| got > 0)
    }

    /// Reads a short file; `Ok(false)`: another file is mounted over it.
    fn load_if_procfs(&self, path: &str, buf: &mut Vec<u8>) -> io::Result<bool> {
        const LONGEST: usize = 128;
        self.with_room(|| {
            let file = self.base().with_path(format_args!("{path}"), sys::openat)?;
            buf.clear();
            buf.reserve(LONGEST);
            sys::read(file.as_fd(), buf)?;
            let may_be_masked = matches!(path, "loadavg" | "sys/kernel/random/boot_id");
            Ok(!may_be_masked || sys::file_system(file.as_fd())? == FileSystem::Proc)
        })
    }

    fn read(
        &self,
        base: Base<'_>,
        path: fmt::Arguments<'_>,
        buf: &mut Vec<u8>,
        has_more: impl Fn(usize, usize) -> bool,
    ) -> io::Result<()> {
        const ROOM: usize = 4096;
        self.with_room(|| {
            let file = base.with_path(path, sys::openat)?;
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

    /// Makes an attempt that needs a descriptor. If none is free, a spare one is closed for it.
    pub(crate) fn with_room<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.save_descriptors();
        loop {
            match attempt() {
                Err(e) if is_no_room(&e) => match self.spares.borrow_mut().pop() {
                    Some(spare) => drop(spare),
                    None => return Err(e),
                },
                result => {
                    // Taken back at once, before another thread or a pidfd takes the place.
                    self.save_descriptors();
                    return result;
                }
            }
        }
    }

    /// Whether another descriptor is free, beside the spare ones.
    pub(crate) fn has_room(&self) -> bool {
        self.save_descriptors() && self.another().is_ok()
    }

    /// Opens the spare descriptors again. False: not all of them could be.
    pub(crate) fn save_descriptors(&self) -> bool {
        // One for a directory that is held open, and one for a file in it.
        let all = if self.root.is_some() { 2 } else { 1 };
        let mut spares = self.spares.borrow_mut();
        while spares.len() < all {
            match self.another() {
                Ok(spare) => spares.push(spare),
                Err(_) => return false,
            }
        }
        true
    }

    fn another(&self) -> io::Result<OwnedFd> {
        match &self.root {
            Some(root) => root.try_clone(),
            None => sys::open_directory(c"/proc"),
        }
    }

    fn metadata(&self, path: fmt::Arguments<'_>) -> io::Result<Metadata> {
        self.base().with_path(path, sys::fstatat)
    }

    fn base(&self) -> Base<'_> {
        match &self.root {
            Some(root) => Base::held(root),
            None => Base {
                dir: sys::CWD,
                prefix: "/proc/",
            },
        }
    }
}

/// /proc, if it can be used. It is opened at the first use, because most kills do not need it.
#[derive(Default)]
pub(crate) struct MaybeProc(Option<Option<Proc>>);

impl MaybeProc {
    pub(crate) fn get(&mut self) -> Option<&Proc> {
        if self.0.is_none() {
            match Proc::open() {
                Ok(proc) => self.0 = Some(Some(proc)),
                Err(e) if e.kind() == ErrorKind::Proc => self.0 = Some(None),
                // Not final: for example no descriptor is free now.
                Err(_) => {}
            }
        }
        self.0.as_ref()?.as_ref()
    }

    /// Whether it was opened in vain, and will not be opened again.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.0, Some(None))
    }
}

/// As [`Proc::pids`], with the crate's error.
pub(crate) fn visible(proc: &Proc) -> Result<Vec<Pid>> {
    proc.pids().map_err(|e| Error::io("list /proc", e))
}

/// As [`visible`], without the processes whose group and session are not meant. This only saves
/// time: what is read later decides. Two system calls tell both, and take a twentieth of the time
/// that `stat` takes.
pub(crate) fn visible_in(proc: &Proc, is_meant: impl Fn(u32, u32) -> bool) -> Result<Vec<Pid>> {
    let mut pids = visible(proc)?;
    pids.retain(
        |&pid| match (sys::process::getpgid(pid), sys::process::getsid(pid)) {
            (Ok(group), Ok(session)) => is_meant(group, session),
            // It may not be asked for, or it has ended. `stat` tells.
            _ => true,
        },
    );
    Ok(pids)
}

/// Leaves out a process that ended meanwhile or that the caller may not read. Any other error, such
/// as a full descriptor table, must not make a list look complete.
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

/// Whether the process or thread was gone when the file was opened (`ENOENT`) or read (`ESRCH`).
pub(crate) fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Whether no descriptor is free.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn field<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    // The kernel escapes newlines in the name, so a line is a field.
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

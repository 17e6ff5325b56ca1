//! One process, held by the engine. What is done to it is not done to a successor with the same
//! pid.
//!
//! | held by | known by | gone when | signalled by |
//! |---|---|---|---|
//! | a pidfd | the pidfd | the pidfd polls readable | pidfd_send_signal(2) |
//! | being the caller's child | its pid, until it is reaped | waitid(2) says so | kill(2) |
//! | its start time | pid, start time | /proc shows no such process, or a zombie | kill(2) |
//!
//! The last two replace a missing pidfd (before Linux 5.3, or under a seccomp filter). The third
//! leaves two gaps: a successor that started in the same clock tick looks the same, and the number
//! may change hands between the look and kill(2).
//!
//! Without both pidfds and /proc only the caller's own children are held, because any other process
//! cannot be told from a thread or a successor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::proc::{self, MaybeProc, Proc};
use super::super::report::Reason;
use super::super::sys::{self, ChildState, Pid};
use super::{
    Here, Opened, ProcessId, has_ended, is_nobody, open_pidfd, signal_by_pidfd, unless_nobody,
    was_reaped,
};

#[derive(Debug)]
pub(crate) struct PidRef {
    pid: Pid,
    /// `None`: /proc was not read.
    start_time: Option<u64>,
    /// `None`: neither a pidfd nor /proc told it.
    parent: Option<u32>,
    pub(crate) is_kernel_thread: bool,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Pidfd(OwnedFd),
    Child,
    StartTime,
}

/// The result of an attempt to hold a process.
pub(crate) enum Pin {
    Held(PidRef),
    Gone,
    Refused(Reason),
    /// No descriptor is free.
    NoRoom,
    /// A call failed for another reason that may pass.
    Failed(io::Error),
}

impl PidRef {
    /// Holds the process that has the pid now, also a zombie, and reads its identity; `None`: there
    /// is none.
    pub(crate) fn identified(pid: Pid, proc: &Proc) -> io::Result<Option<(PidRef, ProcessId)>> {
        let here = Here::read(proc)?;
        let mut buf = Vec::new();
        loop {
            let fd = match open_pidfd(pid) {
                Opened::Pidfd(fd) => Some(fd),
                Opened::Nobody | Opened::Thread => return Ok(None),
                Opened::NoRoom(e) => return Err(e),
                Opened::Unsupported if proc.process(pid).thread_group()? == Some(pid) => None,
                Opened::Unsupported => return Ok(None),
            };
            let Some(stat) = proc.process(pid).stat(&mut buf)? else {
                match fd {
                    None => return Ok(None),
                    // It was reaped meanwhile. Another process may have the number now.
                    Some(_) => continue,
                }
            };
            // It is not reaped yet, so the pid was its own while stat was read.
            if fd.as_ref().is_some_and(|fd| was_reaped(fd.as_fd())) {
                continue;
            }
            let inode = match &fd {
                Some(fd) => sys::pidfs_inode(fd.as_fd())?,
                None => None,
            };
            let id = ProcessId::new(pid, stat.start_time, inode, here);
            let held = PidRef {
                pid,
                start_time: Some(stat.start_time),
                parent: Some(stat.parent),
                is_kernel_thread: stat.is_kernel_thread(),
                hold: fd.map_or(Hold::StartTime, Hold::Pidfd),
            };
            return Ok(Some((held, id)));
        }
    }

    /// Holds the process that has the pid now or, with `expected`, only that very process. A zombie
    /// is gone.
    pub(crate) fn open(pid: Pid, expected: Option<&ProcessId>, proc: &mut MaybeProc) -> Pin {
        match PidRef::open_unlooked(pid, expected, proc) {
            Pin::Held(held) => held.unless_gone(),
            pin => pin,
        }
    }

    /// As [`PidRef::open`], but a zombie may be held too. It saves a system call for each process if
    /// the caller looks at many at once.
    pub(crate) fn open_unlooked(
        pid: Pid,
        expected: Option<&ProcessId>,
        proc: &mut MaybeProc,
    ) -> Pin {
        match open_pidfd(pid) {
            Opened::Pidfd(fd) => PidRef::behind(fd, pid, expected, proc),
            Opened::Nobody => Pin::Gone,
            Opened::Thread if expected.is_some() => Pin::Gone,
            Opened::Thread => Pin::Refused(Reason::Thread),
            Opened::NoRoom(e) if proc::is_no_room(&e) => Pin::NoRoom,
            Opened::NoRoom(e) => Pin::Failed(e),
            Opened::Unsupported => PidRef::without_pidfd(pid, expected, proc),
        }
    }

    /// Holds the process of a pidfd or, with `expected`, only that very process.
    fn behind(fd: OwnedFd, pid: Pid, expected: Option<&ProcessId>, proc: &mut MaybeProc) -> Pin {
        let inode = match expected.and_then(ProcessId::inode) {
            Some(then) => match sys::pidfs_inode(fd.as_fd()) {
                Ok(now) => now.map(|now| (then, now)),
                // A successor can have the same start time, so that does not decide.
                Err(e) => return Pin::Failed(e),
            },
            None => None,
        };
        if inode.is_some_and(|(then, now)| then != now) {
            return Pin::Gone;
        }
        let is_identified = expected.is_none() || inode.is_some();
        let mut held = PidRef {
            pid,
            start_time: None,
            parent: sys::pidfd_get_parent(fd.as_fd()).ok(),
            is_kernel_thread: false,
            hold: Hold::Pidfd(fd),
        };
        if is_identified && held.is_known_user_process() {
            return Pin::Held(held);
        }
        match held.read_stat(proc) {
            Err(e) if proc::is_no_room(&e) => return Pin::NoRoom,
            // Hidden, or no /proc: only the pidfd can judge.
            Ok(()) | Err(_) => {}
        }
        let started = expected.zip(held.start_time);
        match started.and_then(|(id, now)| id.has_started_at(now)) {
            Some(false) if !is_identified => Pin::Gone,
            None if !is_identified => match held.unless_gone() {
                Pin::Held(_) => Pin::Refused(Reason::Unverifiable),
                pin => pin,
            },
            _ => Pin::Held(held),
        }
    }

    /// Reads what a pidfd does not tell.
    fn read_stat(&mut self, proc: &mut MaybeProc) -> io::Result<()> {
        let mut buf = Vec::new();
        let stat = proc.get().map(|proc| proc.process(self.pid).stat(&mut buf));
        if let Some(stat) = stat.transpose()?.flatten() {
            self.start_time = Some(stat.start_time);
            self.parent = self.parent.or(Some(stat.parent));
            self.is_kernel_thread = stat.is_kernel_thread();
        }
        Ok(())
    }

    /// Whether the parent shows that it is no kernel thread: their parent is kthreadd, pid 2 if it
    /// can be seen. This saves most targets the look at /proc, which costs more than the kill.
    fn is_known_user_process(&self) -> bool {
        const KTHREADD: u32 = 2;
        self.parent
            .is_some_and(|parent| ![0, KTHREADD].contains(&parent) || parent == std::process::id())
            && self.pid.get() != KTHREADD
    }

    /// The parent's pid when it was opened; `None`: neither a pidfd (Linux 6.13) nor /proc told it.
    pub(crate) fn parent_when_opened(&self) -> Option<u32> {
        self.parent
    }

    fn unless_gone(self) -> Pin {
        match self
            .pidfd()
            .is_some_and(|fd| has_ended(fd).unwrap_or(false))
        {
            true => Pin::Gone,
            false => Pin::Held(self),
        }
    }

    /// As [`PidRef::open`], without pidfds.
    pub(crate) fn without_pidfd(
        pid: Pid,
        expected: Option<&ProcessId>,
        proc: &mut MaybeProc,
    ) -> Pin {
        let Some(open) = proc.get() else {
            return PidRef::without_descriptor(pid, expected);
        };
        let mut buf = Vec::new();
        let dir = open.process(pid);
        let stat = match (dir.thread_group(), dir.stat(&mut buf)) {
            (Ok(Some(process)), Ok(Some(stat))) if process == pid => stat,
            (Ok(Some(process)), _) if process != pid && expected.is_none() => {
                return Pin::Refused(Reason::Thread);
            }
            (Ok(_), Ok(_)) => return Pin::Gone,
            _ => return PidRef::without_descriptor(pid, expected),
        };
        match expected.map(|id| id.has_started_at(stat.start_time)) {
            Some(Some(false)) => return Pin::Gone,
            Some(None) => return Pin::Refused(Reason::Unverifiable),
            Some(Some(true)) | None => {}
        }
        let held = PidRef {
            pid,
            start_time: Some(stat.start_time),
            parent: Some(stat.parent),
            is_kernel_thread: stat.is_kernel_thread(),
            hold: match sys::waitid_nowait(pid) {
                Ok(ChildState::Exited) => return Pin::Gone,
                Ok(ChildState::Running) => Hold::Child,
                Ok(ChildState::NotOurs) | Err(_) => Hold::StartTime,
            },
        };
        match held.is_gone(proc) {
            Ok(true) => Pin::Gone,
            Ok(false) => Pin::Held(held),
            Err(_) => Pin::Refused(Reason::Unverifiable),
        }
    }

    /// Holds a process without pidfd and /proc. Only the caller's own children can then be told
    /// from threads and successors.
    pub(crate) fn without_descriptor(pid: Pid, expected: Option<&ProcessId>) -> Pin {
        match (sys::waitid_nowait(pid), expected) {
            // Whether this zombie was expected or an earlier process: it is gone.
            (Ok(ChildState::Exited), _) => Pin::Gone,
            (Ok(ChildState::Running), None) => Pin::Held(PidRef {
                pid,
                start_time: None,
                parent: Some(std::process::id()),
                is_kernel_thread: false,
                hold: Hold::Child,
            }),
            _ if is_nobody(pid) => Pin::Gone,
            _ => Pin::Refused(Reason::Unverifiable),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.hold {
            Hold::Pidfd(fd) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// The pidfd itself; `None`: no pidfd holds it.
    pub(crate) fn into_pidfd(self) -> Option<OwnedFd> {
        match self.hold {
            Hold::Pidfd(fd) => Some(fd),
            _ => None,
        }
    }

    /// Whether every thread of it has ended.
    pub(crate) fn is_gone(&self, proc: &mut MaybeProc) -> io::Result<bool> {
        match &self.hold {
            Hold::Pidfd(fd) => has_ended(fd.as_fd()),
            Hold::Child => {
                match sys::waitid_nowait(self.pid)? {
                    // Another child of the caller may have got the number. The start time tells
                    // them apart. Without it, this child is taken for the one that was named.
                    ChildState::Running => Ok(self.start_time.is_some()
                        && self.is_gone_by_start_time(proc).unwrap_or(false)),
                    // It is no child any more: another thread has reaped it, or SIGCHLD is ignored,
                    // which reaps at once. A process that has the number now is a successor.
                    ChildState::Exited | ChildState::NotOurs => Ok(true),
                }
            }
            Hold::StartTime => self.is_gone_by_start_time(proc),
        }
    }

    fn is_gone_by_start_time(&self, proc: &mut MaybeProc) -> io::Result<bool> {
        if is_nobody(self.pid) {
            return Ok(true);
        }
        let (Some(proc), Some(then)) = (proc.get(), self.start_time) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut buf = Vec::new();
        match proc.process(self.pid).stat(&mut buf)? {
            // A dead thread that its tracer has not waited for counts as alive, as for a pidfd.
            Some(now) => Ok(now.start_time != then || now.is_zombie()),
            None => Ok(true),
        }
    }

    /// Sends a signal; `Ok(false)`: the process is gone. `EPERM`: the caller may not signal it.
    pub(crate) fn signal(&self, signal: i32, proc: &mut MaybeProc) -> io::Result<bool> {
        match &self.hold {
            Hold::Pidfd(fd) => signal_by_pidfd(fd.as_fd(), self.pid, signal),
            _ => match self.is_gone(proc)? {
                true => Ok(false),
                false => unless_nobody(sys::kill(self.pid, signal)),
            },
        }
    }

    /// Whether the process still has its pid. If so, what was read under the pid is its own.
    pub(crate) fn has_its_pid(&self) -> bool {
        // Without a pidfd only the start time is known, and it was read under the pid.
        self.pidfd().is_none_or(|fd| !was_reaped(fd))
    }

    /// The identity by which the process is found again after its pidfd is closed; `None`: it
    /// cannot be found for sure.
    pub(crate) fn identity(&self) -> Option<ProcessId> {
        let fd = self.pidfd()?;
        let inode = sys::pidfs_inode(fd).ok()?;
        // If it was reaped before now, the start time may be a successor's.
        if inode.is_none() && (self.start_time.is_none() || was_reaped(fd)) {
            return None;
        }
        let start_time = self.start_time.unwrap_or(ProcessId::NO_START_TIME);
        Some(ProcessId::new(self.pid, start_time, inode, Here::UNKNOWN))
    }
}

//! This process, not its successor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use super::error::{Error, Result};
use super::proc::{self, MaybeProc, Proc, Stat};
use super::report::Reason;
use super::sys::{self, ChildState, Event, Pid, Scope};

/// The name of one process for all time: a pid is used again, this is not.
///
/// It holds the pid, the start time, the boot, and the pidfs inode number where the kernel has one
/// (Linux 6.9, 64-bit). Without an inode number, a process that got the same pid within the same
/// clock tick (10 ms on most machines) cannot be told apart.
///
/// The text form is made for pid files: it survives the program that wrote it and a reboot.
///
/// ```
/// # use process_kill::ProcessId;
/// let me = ProcessId::of(std::process::id())?.expect("this process exists");
/// let from_file: ProcessId = me.to_string().parse()?;
/// assert_eq!(from_file, me);
/// assert!(!from_file.is_gone()?);
/// # Ok::<(), process_kill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    pid: Pid,
    start_time: u64,
    inode: Option<u64>,
    boot: Option<u128>,
}

impl ProcessId {
    /// Who has this pid now; `None`: no such process. A zombie still has its pid; a thread's number
    /// is no process.
    ///
    /// # Errors
    /// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: the process exists but
    /// cannot be read, as under `hidepid`.
    pub fn of(pid: u32) -> Result<Option<ProcessId>> {
        let (pid, mut proc) = (named(pid)?, Proc::open()?);
        match identify(pid, &mut proc) {
            Ok(found) => Ok(found.map(|(id, _)| id)),
            Err(e) => Err(Error::io(
                format!("read the identity of process {}", pid.get()),
                e,
            )),
        }
    }

    /// The pid it has, or had.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// Clock ticks after boot (proc_pid_stat(5) field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether every thread of it has ended. A zombie is gone, a successor with the same pid does
    /// not count, and one of an earlier boot is gone.
    ///
    /// # Errors
    /// `Proc`: /proc cannot be used and the kernel has no inode number to judge by. `Io`: it could
    /// not be told.
    pub fn is_gone(&self) -> Result<bool> {
        let mut proc = MaybeProc::default();
        let pinned = match self.by_boot() {
            Some(pin) => pin,
            None => match Pinned::open(self.pid, Some(self), &mut proc) {
                Pin::NoRoom => Pinned::without_descriptor(self.pid, Some(self)),
                pin => pin,
            },
        };
        let gone = match pinned {
            Pin::Gone => return Ok(true),
            Pin::Held(pinned) => pinned.is_gone(&mut proc),
            Pin::Refused(_) | Pin::NoRoom => Err(io::ErrorKind::Unsupported.into()),
        };
        gone.or_else(|e| {
            // If /proc is what is missing, say so.
            Proc::open()?;
            Err(Error::io(
                format!("tell whether process {} is gone", self.pid()),
                e,
            ))
        })
    }

    pub(super) fn named(&self) -> Pid {
        self.pid
    }

    /// `stat` was read while `inode`'s pidfd, if any, held the pid.
    pub(super) fn new(pid: Pid, stat: &Stat<'_>, inode: Option<u64>) -> ProcessId {
        ProcessId {
            pid,
            start_time: stat.start_time,
            inode,
            boot: this_boot(),
        }
    }

    /// What its boot alone tells: a process of an earlier one is gone.
    pub(super) fn by_boot(&self) -> Option<Pin> {
        match (self.boot, this_boot()) {
            (Some(then), Some(now)) if then == now => None,
            (Some(_), Some(_)) => Some(Pin::Gone),
            // Both were asked where /proc/sys is out of sight, as with `subset=pid`.
            (None, None) => None,
            _ if is_nobody(self.pid) => Some(Pin::Gone),
            _ => Some(Pin::Refused(Reason::Unverifiable)),
        }
    }
}

/// Read once: it does not change while this program runs.
fn this_boot() -> Option<u128> {
    static BOOT: OnceLock<u128> = OnceLock::new();
    match BOOT.get() {
        Some(boot) => Some(*boot),
        None => proc::boot_id().ok().map(|boot| *BOOT.get_or_init(|| boot)),
    }
}

/// `PID:START_TIME:INODE:BOOT`, where `-` stands for an inode or boot that is not known.
impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.pid(), self.start_time)?;
        match self.inode {
            Some(inode) => write!(f, "{inode}:")?,
            None => f.write_str("-:")?,
        }
        match self.boot {
            Some(boot) => write!(f, "{boot:032x}"),
            None => f.write_str("-"),
        }
    }
}

/// White space around it, as the newline at the end of a pid file, is allowed.
impl FromStr for ProcessId {
    type Err = Error;

    /// # Errors
    /// `Refused`: not what `Display` writes.
    fn from_str(text: &str) -> Result<ProcessId> {
        parse(text.trim()).ok_or_else(|| Error::refused("not the text form of a ProcessId"))
    }
}

fn parse(text: &str) -> Option<ProcessId> {
    let mut fields = text.split(':');
    let mut number = |radix| match fields.next()? {
        "-" => Some(None),
        field => u128::from_str_radix(field, radix).ok().map(Some),
    };
    let id = ProcessId {
        pid: Pid::new(u32::try_from(number(10)??).ok()?)?,
        start_time: u64::try_from(number(10)??).ok()?,
        inode: number(10)?.map(u64::try_from).transpose().ok()?,
        boot: number(16)?,
    };
    // A text that was cut short would name another boot, and so a process that is gone.
    (id.to_string() == text).then_some(id)
}

/// One pinned process: while it is held, its pid cannot come to mean another one here.
///
/// It is a pidfd: poll it for `POLLIN` to learn that the process is gone (pidfd_open(2)).
///
/// # Kernel versions
/// Linux 5.3.
///
/// ```
/// # use std::time::Duration;
/// # use process_kill::Process;
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// let process = Process::open(child.id())?.expect("the child was not waited for");
/// process.signal(15)?;
/// assert!(process.wait_until_gone(Duration::from_secs(5))?);
/// assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait()?), Some(15));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    id: ProcessId,
}

impl Process {
    /// Pins the process that has this pid now; `None`: no such process. A zombie still has its pid;
    /// a thread's number is no process.
    ///
    /// # Errors
    /// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: the process exists but
    /// cannot be read; no descriptor is free; the kernel has no pidfds or a filter forbids them
    /// (`source()` is of kind `Unsupported`).
    pub fn open(pid: u32) -> Result<Option<Process>> {
        let (pid, mut proc) = (named(pid)?, Proc::open()?);
        match identify(pid, &mut proc) {
            Ok(None) => Ok(None),
            Ok(Some((id, Some(fd)))) => Ok(Some(Process { fd, id })),
            Ok(Some((_, None))) => Err(io::ErrorKind::Unsupported.into()),
            Err(e) => Err(e),
        }
        .map_err(|e| Error::io(format!("open a pidfd of process {}", pid.get()), e))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal to this process, whoever it is, and never to a successor. `Ok` if it is gone.
    ///
    /// # Errors
    /// `Refused`: the signal is not in `1..=64`. `Io`: `EPERM`.
    pub fn signal(&self, signal: i32) -> Result<()> {
        check_signal(signal)?;
        match sys::pidfd_send_signal(self.as_fd(), signal, Scope::Process) {
            Ok(()) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            // A zombie of another user refuses signals too.
            Err(_) if has_ended(self.as_fd()).unwrap_or(false) => Ok(()),
            Err(e) => Err(Error::io(
                format!("send signal {signal} to process {}", self.id.pid()),
                e,
            )),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Signals are numbered from 1 to 64 on all architectures but MIPS (signal(7)).
pub(super) fn check_signal(signal: i32) -> Result<()> {
    match signal {
        1..=64 => Ok(()),
        _ => Err(Error::refused(format!(
            "{signal} is not a signal (1 to 64)"
        ))),
    }
}

/// The number as that of a process, group or session.
pub(super) fn named(pid: u32) -> Result<Pid> {
    Pid::new(pid).ok_or_else(|| Error::refused(format!("{pid} is not a process number")))
}

/// What pidfd_open(2) says, told apart.
enum Opened {
    Pidfd(OwnedFd),
    Nobody,
    Thread,
    /// No descriptor is free.
    NoRoom(io::Error),
    /// `ENOSYS`, or `EPERM` from a seccomp filter: pidfd_open itself never gives it.
    Unsupported,
}

fn open_pidfd(pid: Pid) -> Opened {
    let error = match sys::pidfd_open(pid) {
        Ok(fd) => return Opened::Pidfd(fd),
        Err(e) => e,
    };
    match error.raw_os_error() {
        Some(libc::ESRCH) => Opened::Nobody,
        // Also what older kernels say of a reaped leader's number that its group still bears.
        Some(libc::ENOENT | libc::EINVAL) if is_nobody(pid) => Opened::Nobody,
        Some(libc::ENOENT | libc::EINVAL) => Opened::Thread,
        Some(libc::EMFILE | libc::ENFILE) => Opened::NoRoom(error),
        _ => Opened::Unsupported,
    }
}

/// kill(2) with signal 0 finds zombies and threads too, so `ESRCH` is proof.
pub(super) fn is_nobody(pid: Pid) -> bool {
    matches!(sys::kill(pid, 0), Err(e) if e.raw_os_error() == Some(libc::ESRCH))
}

fn was_reaped(pidfd: BorrowedFd<'_>) -> bool {
    match sys::pidfd_send_signal(pidfd, 0, Scope::Process) {
        // EPERM is also what a stranger answers that is still there.
        Err(e) if is_filtered(&e) => polls(pidfd, Event::HungUp).unwrap_or(false),
        sent => matches!(sent, Err(e) if e.raw_os_error() == Some(libc::ESRCH)),
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    polls(pidfd, Event::Readable)
}

fn polls(pidfd: BorrowedFd<'_>, event: Event) -> io::Result<bool> {
    loop {
        match sys::ppoll([Some(pidfd)], event, Some(Duration::ZERO)) {
            // A pending signal interrupts even a poll that does not wait.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            polled => return polled.map(|[is_so]| is_so),
        }
    }
}

/// Who has the pid now, with a pidfd where there are pidfds.
pub(super) fn identify(
    pid: Pid,
    proc: &mut Proc,
) -> io::Result<Option<(ProcessId, Option<OwnedFd>)>> {
    let mut buf = Vec::new();
    loop {
        let fd = match open_pidfd(pid) {
            Opened::Pidfd(fd) => Some(fd),
            Opened::Nobody | Opened::Thread => return Ok(None),
            Opened::NoRoom(e) => return Err(e),
            Opened::Unsupported if proc.process_of(pid)? == Some(pid) => None,
            Opened::Unsupported => return Ok(None),
        };
        let stat = proc.stat(pid, &mut buf)?;
        match (stat, fd) {
            (Some(stat), None) => return Ok(Some((ProcessId::new(pid, &stat, None), None))),
            // Not reaped until now, so it had the pid while stat was read.
            (Some(stat), Some(fd)) if !was_reaped(fd.as_fd()) => {
                let inode = sys::pidfs_inode(fd.as_fd());
                return Ok(Some((ProcessId::new(pid, &stat, inode), Some(fd))));
            }
            (None, None) => return Ok(None),
            // It was reaped meanwhile; the number may have a new owner.
            _ => {}
        }
    }
}

/// The pidfs inode number of who has the pid now, where there is one.
pub(super) fn pidfs_inode(pid: Pid) -> io::Result<Option<u64>> {
    match open_pidfd(pid) {
        Opened::Pidfd(fd) => Ok(sys::pidfs_inode(fd.as_fd())),
        Opened::Nobody | Opened::Thread | Opened::Unsupported => Ok(None),
        Opened::NoRoom(e) => Err(e),
    }
}

/// One process as the engine holds it: nothing else can be signalled through it.
#[derive(Debug)]
pub(super) struct Pinned {
    pid: Pid,
    start_time: Option<u64>,
    pub(super) is_kernel_thread: bool,
    hold: Hold,
}

#[derive(Debug)]
enum Hold {
    Pidfd(OwnedFd),
    /// No pidfd: our own child, which keeps its pid until we wait for it.
    Child,
    /// No pidfd: a stranger, known by its start time.
    StartTime,
}

pub(super) enum Pin {
    Held(Pinned),
    Gone,
    Refused(Reason),
    /// No descriptor is free.
    NoRoom,
}

impl Pinned {
    /// Pins the process that has the pid now or, with `expected`, that very process.
    pub(super) fn open(pid: Pid, expected: Option<&ProcessId>, proc: &mut MaybeProc) -> Pin {
        let fd = match open_pidfd(pid) {
            Opened::Pidfd(fd) => fd,
            Opened::Nobody => return Pin::Gone,
            Opened::Thread if expected.is_some() => return Pin::Gone,
            Opened::Thread => return Pin::Refused(Reason::Thread),
            Opened::NoRoom(_) => return Pin::NoRoom,
            Opened::Unsupported => return Pinned::without_pidfd(pid, expected, proc),
        };
        let inode = expected.and_then(|id| id.inode.zip(sys::pidfs_inode(fd.as_fd())));
        if inode.is_some_and(|(then, now)| then != now) {
            return Pin::Gone;
        }
        let is_identified = expected.is_none() || inode.is_some();
        let mut pinned = Pinned {
            pid,
            start_time: None,
            is_kernel_thread: false,
            hold: Hold::Pidfd(fd),
        };
        if is_identified && pinned.is_known_user_process() {
            return pinned.unless_gone();
        }
        let mut buf = Vec::new();
        let stat = match proc.get().map(|proc| proc.stat(pid, &mut buf)) {
            Some(Ok(stat)) => stat,
            Some(Err(e)) if is_no_room(&e) => return Pin::NoRoom,
            // Hidden, or no /proc: the pidfd alone judges.
            Some(Err(_)) | None => None,
        };
        if let Some(stat) = stat {
            pinned.start_time = Some(stat.start_time);
            pinned.is_kernel_thread = stat.is_kernel_thread();
        }
        match (expected, pinned.start_time) {
            (Some(id), Some(now)) if !is_identified && id.start_time != now => Pin::Gone,
            (Some(_), None) if !is_identified => match pinned.unless_gone() {
                Pin::Held(_) => Pin::Refused(Reason::Unverifiable),
                pin => pin,
            },
            _ => pinned.unless_gone(),
        }
    }

    /// A kernel thread's parent is kthreadd, which has pid 2 where it can be seen. This spares most
    /// targets the look at /proc that costs more than the kill.
    fn is_known_user_process(&self) -> bool {
        const KTHREADD: u32 = 2;
        self.parent()
            .is_some_and(|parent| parent == std::process::id() || ![0, KTHREADD].contains(&parent))
            && self.pid.get() != KTHREADD
    }

    /// Its parent's pid, where a pidfd tells it.
    pub(super) fn parent(&self) -> Option<u32> {
        sys::pidfd_get_parent(self.pidfd()?).ok()
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

    /// As [`Pinned::open`] where pidfds are not to be had.
    fn without_pidfd(pid: Pid, expected: Option<&ProcessId>, proc: &mut MaybeProc) -> Pin {
        let Some(open) = proc.get() else {
            return Pinned::without_descriptor(pid, expected);
        };
        let mut buf = Vec::new();
        let stat = match (open.process_of(pid), open.stat(pid, &mut buf)) {
            (Ok(Some(process)), Ok(Some(stat))) if process == pid => stat,
            (Ok(Some(process)), _) if process != pid && expected.is_none() => {
                return Pin::Refused(Reason::Thread);
            }
            (Ok(_), Ok(_)) => return Pin::Gone,
            _ => return Pinned::without_descriptor(pid, expected),
        };
        if expected.is_some_and(|id| id.start_time != stat.start_time) {
            return Pin::Gone;
        }
        let pinned = Pinned {
            pid,
            start_time: Some(stat.start_time),
            is_kernel_thread: stat.is_kernel_thread(),
            hold: match sys::waitid_nowait(pid) {
                Ok(ChildState::Exited) => return Pin::Gone,
                Ok(ChildState::Running) => Hold::Child,
                Ok(ChildState::NotOurs) | Err(_) => Hold::StartTime,
            },
        };
        match pinned.is_gone(proc) {
            Ok(true) => Pin::Gone,
            Ok(false) => Pin::Held(pinned),
            Err(_) => Pin::Refused(Reason::Unverifiable),
        }
    }

    /// With neither pidfd nor /proc, only our own children can be told from threads and successors.
    pub(super) fn without_descriptor(pid: Pid, expected: Option<&ProcessId>) -> Pin {
        match (sys::waitid_nowait(pid), expected) {
            // Whoever was expected: it is this zombie or was here before it.
            (Ok(ChildState::Exited), _) => Pin::Gone,
            (Ok(ChildState::Running), None) => Pin::Held(Pinned {
                pid,
                start_time: None,
                is_kernel_thread: false,
                hold: Hold::Child,
            }),
            _ if is_nobody(pid) => Pin::Gone,
            _ => Pin::Refused(Reason::Unverifiable),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.hold {
            Hold::Pidfd(fd) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// Whether every thread of it has ended.
    pub(super) fn is_gone(&self, proc: &mut MaybeProc) -> io::Result<bool> {
        match &self.hold {
            Hold::Pidfd(fd) => has_ended(fd.as_fd()),
            Hold::Child => {
                match sys::waitid_nowait(self.pid)? {
                    // Or another child of ours, that has got the number. Where /proc does not tell them apart,
                    // as without a descriptor, it is taken for the one that was named.
                    ChildState::Running => Ok(self.start_time.is_some()
                        && self.is_gone_by_start_time(proc).unwrap_or(false)),
                    // Not ours any more: another thread has reaped it, or SIGCHLD is ignored, which reaps
                    // at once. Whoever has the number now is a successor.
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
        match proc.stat(self.pid, &mut buf)? {
            Some(now) if now.start_time == then && now.leader_exited() => {
                Ok(now.is_zombie() || proc::live_thread(self.pid)?.is_none())
            }
            Some(now) => Ok(now.start_time != then),
            None => Ok(true),
        }
    }

    /// Sends a signal; `Ok(false)` if the process is gone, `EPERM` if it is not ours to signal.
    pub(super) fn signal(&self, signal: i32, proc: &mut MaybeProc) -> io::Result<bool> {
        let sent = match &self.hold {
            Hold::Pidfd(fd) => match sys::pidfd_send_signal(fd.as_fd(), signal, Scope::Process) {
                // A filter may forbid this call alone; whether it did, kill(2) tells. The poll says
                // that the number is still its.
                Err(e) if is_filtered(&e) => match sys::kill(self.pid, 0) {
                    Ok(()) if self.is_gone(proc)? => return Ok(false),
                    Ok(()) => sys::kill(self.pid, signal),
                    refused => refused,
                },
                sent => sent,
            },
            _ => match self.is_gone(proc)? {
                true => return Ok(false),
                false => sys::kill(self.pid, signal),
            },
        };
        match sent {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the process still has its pid, so that what was read by pid is its.
    pub(super) fn has_its_pid(&self) -> bool {
        // Without a pidfd the start time is all there is, and that was read by pid.
        self.pidfd().is_none_or(|fd| !was_reaped(fd))
    }

    /// By what to find the process again once its pidfd is closed; `None` where that is not sure.
    pub(super) fn identity(&self) -> Option<ProcessId> {
        let fd = self.pidfd()?;
        let inode = sys::pidfs_inode(fd);
        // If it was reaped before now, the start time may be a successor's.
        if inode.is_none() && (self.start_time.is_none() || was_reaped(fd)) {
            return None;
        }
        Some(ProcessId {
            pid: self.pid,
            start_time: self.start_time.unwrap_or_default(),
            inode,
            boot: this_boot(),
        })
    }
}

/// A process group, told from a later one that got the same number.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    pub(super) pgid: Pid,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    /// A pidfd of the leader, which names the group even after the leader was reaped.
    Held(OwnedFd),
    /// It was reaped before. While the group has members, no process can get its number.
    Reaped,
    /// It has its number, and there are no pidfds.
    Unheld(Option<ProcessId>),
}

impl ProcessGroup {
    pub(super) fn open(pgid: Pid) -> io::Result<ProcessGroup> {
        let leader = match open_pidfd(pgid) {
            Opened::Pidfd(fd) => Leader::Held(fd),
            Opened::Nobody => Leader::Reaped,
            Opened::Thread => Leader::Reaped,
            Opened::NoRoom(e) => return Err(e),
            Opened::Unsupported if is_nobody(pgid) => Leader::Reaped,
            Opened::Unsupported => Leader::Unheld(ProcessId::of(pgid.get()).unwrap_or(None)),
        };
        Ok(ProcessGroup { pgid, leader })
    }

    /// Whether the number now belongs to another process, and so to another group if to any: the
    /// kernel gives out no number that still names a group.
    pub(super) fn was_replaced(&self) -> bool {
        match &self.leader {
            Leader::Held(fd) => was_reaped(fd.as_fd()) && !is_nobody(self.pgid),
            Leader::Reaped => !is_nobody(self.pgid),
            Leader::Unheld(then) => match ProcessId::of(self.pgid.get()) {
                Ok(Some(now)) => then.is_some_and(|then| then != now),
                Ok(None) | Err(_) => false,
            },
        }
    }

    /// Signals every member; `Ok(false)`: there is none, not even a zombie.
    pub(super) fn signal(&self, signal: i32) -> io::Result<bool> {
        if self.was_replaced() {
            return Ok(false);
        }
        let sent = match &self.leader {
            Leader::Held(fd) => match sys::pidfd_send_signal(fd.as_fd(), signal, Scope::Group) {
                // Before Linux 6.9, or filtered.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) || is_filtered(&e) => {
                    sys::kill_group(self.pgid, signal)
                }
                sent => sent,
            },
            Leader::Reaped | Leader::Unheld(_) => sys::kill_group(self.pgid, signal),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// `ENOSYS` or `EPERM`, the answers that seccomp filters give.
fn is_filtered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::super::ErrorKind;
    use super::*;

    fn id(inode: Option<u64>, boot: Option<u128>) -> ProcessId {
        ProcessId {
            pid: Pid::new(4321).unwrap(),
            start_time: 987,
            inode,
            boot,
        }
    }

    #[test]
    fn the_text_form_round_trips() {
        let extremes = ProcessId {
            pid: Pid::new(i32::MAX.unsigned_abs()).unwrap(),
            start_time: u64::MAX,
            inode: Some(u64::MAX),
            boot: Some(u128::MAX),
        };
        for (id, text) in [
            (
                id(Some(65), Some(0xab)),
                "4321:987:65:000000000000000000000000000000ab",
            ),
            (id(None, None), "4321:987:-:-"),
            (id(Some(0), None), "4321:987:0:-"),
            (
                extremes,
                "2147483647:18446744073709551615:18446744073709551615:ffffffffffffffffffffffffffffffff",
            ),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse::<ProcessId>().unwrap(), id);
            assert_eq!(format!("\t{text} \r\n").parse::<ProcessId>().unwrap(), id);
        }
    }

    #[test]
    fn what_is_not_the_text_form_is_refused() {
        for text in [
            "",
            "\n",
            ":",
            ":::",
            "4321",
            "4321:987",
            "4321:987:65",
            "4321:987:65:",
            "4321:987::ab",
            "4321::65:ab",
            ":987:65:ab",
            "4321:987:65:ab:",
            "4321:987:65:ab:cd",
            "4321:987:65:ab\n4321:987:65:ab",
            "0:987:65:ab",
            "-:987:65:ab",
            "4321:-:65:ab",
            "-1:987:65:ab",
            "+4321:987:65:ab",
            "4321:+987:65:ab",
            "4321:987:65:+ab",
            "4321: 987:65:ab",
            "4321:987:--:ab",
            "4321:987:6f:ab",
            "4321:987:65:xyz",
            "4321:987:65:0xab",
            "2147483648:987:65:ab",
            "4294967297:987:65:ab",
            "4321:18446744073709551616:65:ab",
            "4321:987:18446744073709551616:ab",
            "4321:987:65:100000000000000000000000000000000",
            "4321:987:65:\u{661}",
            "\u{664}\u{663}:987:65:ab",
            "04321:987:65:ab",
            "4321:0987:65:ab",
            "4321:987:065:ab",
            "4321:987:65:0ab",
            "4321:987:65:AB",
        ] {
            let text = text.replace("ab", "00112233445566778899aabbccddeeff");
            let refused = text.parse::<ProcessId>().expect_err(&text);
            assert_eq!(refused.kind(), ErrorKind::Refused);
        }
    }

    /// It would name another boot, and so a process that is gone.
    #[test]
    fn a_text_that_was_cut_short_is_refused() {
        for boot in [0, 0xab, u128::MAX] {
            let whole = id(Some(65), Some(boot)).to_string();
            for end in 0..whole.len() {
                whole[..end].parse::<ProcessId>().expect_err(&whole[..end]);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_lie() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let length = random.usize(..24);
            let text: String = (0..length)
                .map(|_| {
                    *random
                        .choice(&[':', ':', '-', '0', '1', '9', 'f', '+', ' ', 'é'])
                        .unwrap()
                })
                .collect();
            if let Ok(id) = text.parse::<ProcessId>() {
                assert_eq!(id.to_string().parse::<ProcessId>().unwrap(), id, "{text}");
            }
        }
    }

    #[test]
    fn a_boot_that_only_one_side_knows_tells_nothing() {
        let now = this_boot();
        let by = |boot| {
            let me = Pid::new(std::process::id()).unwrap();
            let id = ProcessId {
                pid: me,
                ..id(None, boot)
            };
            id.by_boot()
        };
        assert!(by(now).is_none());
        if let Some(boot) = now {
            assert!(matches!(by(Some(!boot)), Some(Pin::Gone)));
            assert!(matches!(by(None), Some(Pin::Refused(Reason::Unverifiable))));
        }
    }
}

//! /proc: the only file that reads it, and the only one that names procfs.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use procfs::ProcError;
use procfs::process::Process as Directory;

use super::error::{Error, ErrorKind, Result};
use super::sys::{self, FileSystem, Pid};

/// /proc, checked to be a procfs of the caller's own PID namespace, with the buffers to read it.
pub(super) struct Proc {
    path: Vec<u8>,
}

impl Proc {
    pub(super) fn open() -> Result<Proc> {
        match sys::is_in(c"/proc", FileSystem::Proc) {
            Ok(true) => {}
            Ok(false) => return Err(Error::proc("no procfs is mounted there", None)),
            Err(e) => return Err(Error::proc("it cannot be reached", Some(e))),
        }
        let status = match std::fs::read("/proc/self/status") {
            Ok(status) => status,
            // The link is empty for a reader that has no number in the namespace it was mounted in.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(foreign()),
            Err(e) => return Err(Error::io("read /proc/self/status", e)),
        };
        // One number for each namespace from that of the mount down to ours (Linux 4.1). A single
        // number says the two are the same; the number alone could agree by chance.
        let numbers = field(&status, b"NSpid:").or_else(|| field(&status, b"Pid:"));
        match numbers.map(|n| number::<u32>(n.trim_ascii())) {
            Some(Some(pid)) if pid == std::process::id() => Ok(Proc { path: Vec::new() }),
            _ => Err(foreign()),
        }
    }

    /// Every process that can be seen, ascending. One that lives through the call is not left out:
    /// the kernel walks the numbers upwards.
    pub(super) fn pids(&self) -> io::Result<Vec<Pid>> {
        numbered(c"/proc")
    }

    /// Whether that leaves out processes of other users (`hidepid`, proc(5)).
    pub(super) fn is_partial(&self) -> io::Result<bool> {
        let mounts = std::fs::read("/proc/self/mounts")?;
        let here = |line: &&[u8]| line.split(|&b| b == b' ').nth(1) == Some(b"/proc");
        // Of several mounts there the last one is on top.
        let mount = mounts.split(|&b| b == b'\n').rfind(here);
        Ok(mount.is_none_or(|line| line.windows(8).any(|option| option == b"hidepid=")))
    }

    /// proc_pid_stat(5), read into `buf`.
    pub(super) fn stat<'b>(
        &mut self,
        pid: Pid,
        buf: &'b mut Vec<u8>,
    ) -> io::Result<Option<Stat<'b>>> {
        stat(buf, |buf| self.read(pid, format_args!("stat"), buf))
    }

    /// As [`Proc::stat`], of one thread.
    pub(super) fn thread_stat<'b>(
        &mut self,
        pid: Pid,
        tid: Pid,
        buf: &'b mut Vec<u8>,
    ) -> io::Result<Option<Stat<'b>>> {
        stat(buf, |buf| {
            found(|| self.load(pid, format_args!("task/{}/stat", tid.get()), buf))
        })
    }

    /// The pid of a thread's tracer in our namespace, 0 for one outside of it or for none.
    pub(super) fn tracer(&mut self, pid: Pid, tid: Pid) -> io::Result<u32> {
        let mut status = Vec::new();
        self.load(pid, format_args!("task/{}/status", tid.get()), &mut status)?;
        let tracer = field(&status, b"TracerPid:").and_then(|n| number(n.trim_ascii()));
        let Some(tracer) = tracer.and_then(Pid::new) else {
            return Ok(0);
        };
        // That is the thread which traces; where it is hidden, its own number must do.
        let process = self.process_of(tracer).ok().flatten();
        Ok(process.unwrap_or(tracer).get())
    }

    /// The process that the number belongs to, itself or one of its threads; `None`: nobody's.
    pub(super) fn process_of(&mut self, number: Pid) -> io::Result<Option<Pid>> {
        let mut status = Vec::new();
        if !self.read(number, format_args!("status"), &mut status)? {
            return Ok(None);
        }
        let group = field(&status, b"Tgid:").and_then(|n| self::number(n.trim_ascii()));
        Ok(group.and_then(Pid::new))
    }

    /// The threads of a process, ascending; `None`: no such process.
    pub(super) fn threads(&mut self, pid: Pid) -> io::Result<Option<Vec<Pid>>> {
        let mut threads = Vec::new();
        let found = present(pid, || {
            let path = self.path(pid, format_args!("task"))?;
            // The directory has a link for itself, one for its parent and one for each thread: three
            // links are the leader alone, and no listing is needed.
            threads = match sys::link_count(path)? {
                3 => vec![pid],
                _ => numbered(path)?,
            };
            Ok(())
        })?;
        Ok(found.then_some(threads))
    }

    /// Appends the children that one thread forked. An error of kind `NotFound` says that the
    /// thread is gone or that the kernel was built without CONFIG_PROC_CHILDREN.
    pub(super) fn children(
        &mut self,
        pid: Pid,
        tid: Pid,
        into: &mut Vec<Pid>,
        buf: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.load(pid, format_args!("task/{}/children", tid.get()), buf)?;
        into.extend(listed(buf));
        Ok(())
    }

    /// The caller's children as text, each followed by a blank; those of the leader, to whom orphans
    /// are given, come last, and the newest of them at the very end.
    pub(super) fn own_children(&mut self) -> io::Result<Vec<u8>> {
        let caller = Pid::new(std::process::id()).ok_or_else(malformed)?;
        let mut threads = self.threads(caller)?.unwrap_or_default();
        threads.sort_unstable_by_key(|&tid| tid == caller);
        let (mut all, mut buf) = (Vec::new(), Vec::new());
        for tid in threads {
            match self.load(
                caller,
                format_args!("task/{}/children", tid.get()),
                &mut buf,
            ) {
                Ok(()) => all.extend_from_slice(&buf),
                // The thread has ended, and the next look shows who has its children.
                Err(e) if tid != caller && is_absent(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// The parent of a process, its parent and so on, up to the first that has none here.
    pub(super) fn ancestors(&mut self, pid: Pid) -> io::Result<Vec<Pid>> {
        let mut buf = Vec::new();
        let mut ancestors = Vec::new();
        let mut at = pid;
        loop {
            let stat = match self.stat(at, &mut buf) {
                Ok(Some(stat)) => stat,
                Ok(None) => break,
                // Another user's, under hidepid: it was named by its child, and those above it are
                // out of our reach.
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

    /// Reads `cmdline` or `environ` of a process into `buf`: of a live thread where the leader has
    /// exited, and only once execve(2) has set it up. Where it holds nothing but NULs, `stat` holds
    /// the line of proc_pid_stat(5). False: no such process.
    pub(super) fn settled(
        &mut self,
        pid: Pid,
        file: &str,
        buf: &mut Vec<u8>,
        stat: &mut Vec<u8>,
    ) -> io::Result<bool> {
        settled(pid, file, buf, stat, |file, buf| {
            found(|| self.load(pid, file, buf))
        })
    }

    /// False: no such process. `ENOENT` alone does not say so: hidepid hides live ones.
    fn read(&mut self, pid: Pid, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<bool> {
        present(pid, || self.load(pid, file, buf))
    }

    fn load(&mut self, pid: Pid, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<()> {
        let path = self.path(pid, file)?;
        fill(&mut File::open(OsStr::from_bytes(path.to_bytes()))?, buf)
    }

    fn path(&mut self, pid: Pid, file: fmt::Arguments<'_>) -> io::Result<&CStr> {
        self.path.clear();
        write!(self.path, "/proc/{}/{file}\0", pid.get())?;
        CStr::from_bytes_with_nul(&self.path).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

/// /proc if it can be used, looked at when it is first asked for: most kills need none.
#[derive(Default)]
pub(super) struct MaybeProc(Option<Option<Proc>>);

impl MaybeProc {
    pub(super) fn get(&mut self) -> Option<&mut Proc> {
        if self.0.is_none() {
            match Proc::open() {
                Ok(proc) => self.0 = Some(Some(proc)),
                Err(e) if e.kind() == ErrorKind::Proc => self.0 = Some(None),
                // As for want of a descriptor: there may be one later.
                Err(_) => {}
            }
        }
        self.0.as_mut()?.as_mut()
    }
}

/// An open /proc/PID: what is read through it is this process's or an error, never a successor's.
pub(super) struct Dir {
    pid: Pid,
    dir: Directory,
}

impl Dir {
    /// With its proc_pid_stat(5), read into `buf`. `None`: no such process.
    pub(super) fn open(pid: Pid, buf: &mut Vec<u8>) -> io::Result<Option<(Dir, Stat<'_>)>> {
        let mut dir = None;
        let number = i32::try_from(pid.get()).map_err(|_| io::ErrorKind::InvalidInput)?;
        present(pid, || {
            let opened = Directory::new(number).map_err(plain)?;
            let opened = Dir { pid, dir: opened };
            opened.load(format_args!("stat"), buf)?;
            // In execve(2) it may be bound to the number that the new leader gives up.
            match buf.split(|&b| b == b' ').next().and_then(self::number) {
                Some(bound) if pid.get() == bound => dir = Some(opened),
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
            Ok(())
        })?;
        let Some(dir) = dir else {
            return Ok(None);
        };
        let mut is_read = true;
        let stat = stat(buf, |buf| match std::mem::take(&mut is_read) {
            true => Ok(true),
            false => dir.found(format_args!("stat"), buf),
        });
        Ok(stat?.map(|stat| (dir, stat)))
    }

    pub(super) fn stat<'b>(&self, buf: &'b mut Vec<u8>) -> io::Result<Option<Stat<'b>>> {
        stat(buf, |buf| self.found(format_args!("stat"), buf))
    }

    /// As [`Proc::settled`].
    pub(super) fn settled(
        &self,
        file: &str,
        buf: &mut Vec<u8>,
        stat: &mut Vec<u8>,
    ) -> io::Result<bool> {
        settled(self.pid, file, buf, stat, |file, buf| self.found(file, buf))
    }

    /// The target of the link `exe` or `cwd`, of a live thread where the leader has exited.
    pub(super) fn link(&self, link: Link) -> io::Result<PathBuf> {
        let (name, read) = match link {
            Link::Exe => ("exe", self.dir.exe()),
            Link::Cwd => ("cwd", self.dir.cwd()),
        };
        match read.map_err(plain) {
            Err(e) if is_absent(&e) => self.by_path(|path| std::fs::read_link(path.join(name))),
            read => read,
        }
    }

    /// The working directory, under the path it had if it was deleted.
    pub(super) fn cwd_before_deletion(&self) -> io::Result<PathBuf> {
        let shown = self.link(Link::Cwd)?;
        let Some(path) = shown.as_os_str().as_bytes().strip_suffix(b" (deleted)") else {
            return Ok(shown);
        };
        // The name may end so by itself: then the path leads to where the process is.
        let here = match self.by_path(|path| std::fs::metadata(path.join("cwd"))) {
            Err(e) if is_absent(&e) => return Err(e),
            here => here.ok(),
        };
        let file = |data: std::fs::Metadata| (data.dev(), data.ino());
        let there = std::fs::metadata(&shown).ok().map(file);
        Ok(match here.map(file) {
            Some(here) if there == Some(here) => shown,
            _ => OsStr::from_bytes(path).into(),
        })
    }

    /// Reads by the path of the process, or of a live thread where the leader has exited.
    fn by_path<T>(&self, read: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let absent = || Err(io::ErrorKind::NotFound.into());
        let mut buf = Vec::new();
        for _ in 0..EXEC_PAUSES {
            let seen = match self.stat(&mut buf)? {
                Some(seen) if !seen.is_zombie() => seen,
                _ => return absent(),
            };
            let mut path = PathBuf::from(format!("/proc/{}", self.pid.get()));
            if seen.leader_exited() {
                let Some(tid) = live_thread(self.pid)? else {
                    return absent();
                };
                path.extend(["task", &tid.get().to_string()]);
            }
            match read(&path) {
                // A leader on its way out has neither program nor directory before it shows that it
                // has exited, and in execve(2) a thread then takes its place. No descriptor tells.
                Err(e) if is_absent(&e) && !seen.is_kernel_thread() => sys::sleep(EXEC_PAUSE),
                read => return self.still(read?),
            }
        }
        absent()
    }

    /// What was read by its number, if the number is still its own.
    fn still<T>(&self, read: T) -> io::Result<T> {
        match self.stat(&mut Vec::new())? {
            Some(_) => Ok(read),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The effective user (proc_pid_status(5), `Uid`).
    pub(super) fn uid(&self) -> io::Result<u32> {
        let mut status = Vec::new();
        if !self.found(format_args!("status"), &mut status)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        field(&status, b"Uid:")
            .and_then(|ids| {
                number(
                    ids.split(|&b| b == b'\t')
                        .filter(|id| !id.is_empty())
                        .nth(1)?,
                )
            })
            .ok_or_else(malformed)
    }

    fn found(&self, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<bool> {
        found(|| self.load(file, buf))
    }

    fn load(&self, file: fmt::Arguments<'_>, buf: &mut Vec<u8>) -> io::Result<()> {
        fill(
            &mut self.dir.open_relative(file.to_string()).map_err(plain)?,
            buf,
        )
    }
}

#[derive(Clone, Copy)]
pub(super) enum Link {
    Exe,
    Cwd,
}

/// The fields of proc_pid_stat(5) that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Field 2, without its parentheses: any bytes.
    pub(super) name: &'a [u8],
    /// Field 3.
    pub(super) state: char,
    /// Field 4; 0 for none in this PID namespace, as in the next two.
    pub(super) parent: u32,
    /// Field 5.
    pub(super) group: u32,
    /// Field 6.
    pub(super) session: u32,
    /// Field 9.
    flags: u32,
    /// Field 20; 0 if the task was released while it was read.
    pub(super) threads: u32,
    /// Field 22, in clock ticks after boot.
    pub(super) start_time: u64,
    /// Field 26: 1 if the reader may not know, 0 while execve(2) has not set it.
    start_code: u64,
    /// Field 51: set last by execve(2); 0 also if the reader may not know, 1 if the kernel does not
    /// tell.
    env_end: u64,
}

impl<'a> Stat<'a> {
    /// `None`: not a line that the kernel writes.
    pub(super) fn parse(line: &'a [u8]) -> Option<Stat<'a>> {
        let open = line.iter().position(|&b| b == b'(')?;
        // The last one: the name may hold parentheses, blanks and newlines of its own.
        let close = line.iter().rposition(|&b| b == b')')?;
        let name = line.get(open + 1..close)?;
        let mut fields = line[close + 1..].trim_ascii().split(|&b| b == b' ');
        let state = char::from(*fields.next()?.first()?);
        // A group or session reads -1 while the process is being reaped.
        let relative = |id: &[u8]| Some(u32::try_from(number::<i64>(id)?).unwrap_or(0));
        let parent = relative(fields.next()?)?;
        let group = relative(fields.next()?)?;
        let session = relative(fields.next()?)?;
        let flags = number(fields.nth(2)?)?;
        let threads = number(fields.nth(10)?)?;
        let start_time = number(fields.nth(1)?)?;
        // Fields beyond those of Linux 3.5 are absent in older kernels.
        let start_code = fields.nth(3).and_then(number).unwrap_or(1);
        let env_end = fields.nth(24).and_then(number).unwrap_or(1);
        Some(Stat {
            name,
            state,
            parent,
            group,
            session,
            flags,
            threads,
            start_time,
            start_code,
            env_end,
        })
    }

    /// The leader has exited; other threads may live on.
    pub(super) fn leader_exited(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// A zombie, with no other thread: gone.
    pub(super) fn is_zombie(&self) -> bool {
        self.leader_exited() && self.threads <= 1
    }

    pub(super) fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// Forked and not yet a program of its own.
    fn is_before_exec(&self) -> bool {
        const PF_FORKNOEXEC: u32 = 0x40;
        self.flags & PF_FORKNOEXEC != 0
    }

    /// Whether it started less than `age` ago, to the clock tick.
    fn is_younger(&self, age: Duration) -> io::Result<bool> {
        let now = sys::since_boot()?.as_millis();
        let started =
            u128::from(self.start_time) * 1000 / u128::from(procfs::ticks_per_second().max(1));
        Ok(now.saturating_sub(started) < age.as_millis())
    }

    pub(super) fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 0x4;
        self.flags & PF_EXITING != 0
    }

    /// Between the new memory map and its arguments: `cmdline` and `environ` read empty.
    pub(super) fn is_in_exec(&self) -> bool {
        self.start_code != 1 && self.env_end == 0
    }
}

/// As [`Proc::pids`], for those who find.
pub(super) fn visible(proc: &Proc) -> Result<Vec<Pid>> {
    proc.pids().map_err(|e| Error::io("list /proc", e))
}

/// A process that ended meanwhile, or that the caller may not read, is left out. Any other error, as
/// of a full descriptor table, must not make a list look complete.
pub(super) fn readable<T>(pid: Pid, read: io::Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(found),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied || is_absent(&e) => Ok(None),
        Err(e) => Err(reading(pid, e)),
    }
}

pub(super) fn reading(pid: Pid, error: io::Error) -> Error {
    Error::io(format!("read process {}", pid.get()), error)
}

/// The number that names this boot (/proc/sys/kernel/random/boot_id), if it can be read.
pub(super) fn boot_id() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).map_err(|_| malformed())
}

/// A new program's command line and environment read empty until execve(2) is nearly done, and that
/// is after the parent of a vfork or posix_spawn has been woken: more than half of all children read
/// so right after `Command::spawn`. It lasts well below a millisecond, but a tenth of a second was seen
/// on a busy machine, and it has no end where the file system hangs.
const EXEC_PAUSE: Duration = Duration::from_millis(1);
const EXEC_PAUSES: u32 = 1000;

/// In the first moments after that parent has been woken, its child still shows the parent's own. The
/// child of a plain fork(2) shows it for good, so it is waited for only while it is so young: however
/// many there are, they grow older together.
const FORK_AGE: Duration = Duration::from_millis(30);

fn settled(
    pid: Pid,
    file: &str,
    buf: &mut Vec<u8>,
    stat: &mut Vec<u8>,
    mut read: impl FnMut(fmt::Arguments<'_>, &mut Vec<u8>) -> io::Result<bool>,
) -> io::Result<bool> {
    // An address that is new with each program, and how often in a row nothing was read of it.
    let mut blank = (0, 0);
    let mut pauses = 0;
    loop {
        // Without a memory map, as after its leader's exit, there is no environment to open (`ESRCH`
        // in newer kernels): `stat` says whether the process is there.
        let opened = read(format_args!("{file}"), buf)?;
        if !opened {
            buf.clear();
        }
        let is_blank = buf.iter().all(|&b| b == 0);
        let is_callers = opened && is_callers(file, buf);
        if !is_blank && !is_callers {
            return Ok(true);
        }
        if !read(format_args!("stat"), stat)? {
            return Ok(false);
        }
        let Some(seen) = parsed(stat)? else {
            // A leader that is just released in favour of a thread looks as if it were reaped.
            continue;
        };
        if seen.is_kernel_thread() || seen.is_zombie() {
            return Ok(true);
        }
        if seen.leader_exited() {
            match live_thread(pid)? {
                None => return Ok(true),
                // In execve(2) the thread takes the leader's number, and the dead leader for a moment
                // the thread's: an empty file is the thread's only if it still has its number.
                Some(tid)
                    if tid != pid
                        && read(format_args!("task/{}/{file}", tid.get()), buf)?
                        && (!buf.is_empty() || live_thread(pid)? == Some(tid)) =>
                {
                    return Ok(true);
                }
                Some(_) => blank = (0, 0),
            }
            continue;
        }
        let is_borrowed = is_callers && seen.is_before_exec() && seen.parent == std::process::id();
        if pauses < EXEC_PAUSES
            && (seen.is_in_exec() || (is_borrowed && seen.is_younger(FORK_AGE)?))
        {
            pauses += 1;
            blank = (0, 0);
            // No descriptor becomes ready when execve is done, so there is nothing to wait on.
            sys::sleep(EXEC_PAUSE);
            continue;
        }
        // Read before the look that says so: else it may have been the last moment before execve(2).
        if is_borrowed && !is_blank {
            return Ok(true);
        }
        // Blank for good only if read so of a program that was set up before and is still there; and
        // once may have been of a leader that died in favour of a thread.
        blank = match blank {
            (end, times) if end == seen.env_end => (end, times + 1),
            _ => (seen.env_end, 1),
        };
        if blank.1 > 2 {
            return Ok(true);
        }
    }
}

/// Whether this is the caller's own command line or environment.
fn is_callers(file: &str, bytes: &[u8]) -> bool {
    static CMDLINE: OnceLock<Vec<u8>> = OnceLock::new();
    static ENVIRON: OnceLock<Vec<u8>> = OnceLock::new();
    let own = match file {
        "cmdline" => &CMDLINE,
        _ => &ENVIRON,
    };
    // Unreadable: as if nobody shared it.
    own.get_or_init(|| std::fs::read(format!("/proc/self/{file}")).unwrap_or_default()) == bytes
}

/// A thread of the process that is not dead, if there is one; rather one that is not on its way out.
pub(super) fn live_thread(pid: Pid) -> io::Result<Option<Pid>> {
    let mut proc = Proc { path: Vec::new() };
    let mut buf = Vec::new();
    let mut dead = None;
    loop {
        let Some(threads) = proc.threads(pid)? else {
            return Ok(None);
        };
        let mut all_dead = true;
        let mut exiting = None;
        for &tid in &threads {
            match proc.thread_stat(pid, tid, &mut buf)? {
                Some(stat) if stat.leader_exited() => {}
                Some(stat) if stat.is_exiting() => exiting = exiting.or(Some(tid)),
                Some(_) => return Ok(Some(tid)),
                None => all_dead = false,
            }
        }
        if exiting.is_some() {
            return Ok(exiting);
        }
        let Some(leader) = proc.stat(pid, &mut buf)? else {
            return Ok(None);
        };
        if leader.is_zombie() {
            return Ok(None);
        }
        // The list may be older than a thread that has started since and outlived its leader. And in
        // execve(2) a thread swaps numbers with its dead leader, which then is released: that one may
        // be missing, or be seen twice. So dead threads that stay, as those which a tracer has not
        // waited for, must be all there are, and so twice.
        all_dead &= leader.leader_exited() && usize::try_from(leader.threads) == Ok(threads.len());
        let seen = all_dead.then_some(threads);
        if seen.is_some() && seen == dead {
            return Ok(None);
        }
        dead = seen;
    }
}

fn present(pid: Pid, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
    for _ in 0..2 {
        match attempt() {
            Ok(()) => return Ok(true),
            Err(e) if !is_absent(&e) => return Err(e),
            Err(_) => {}
        }
        match sys::kill(pid, 0) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            // It exists: either hidden, or the number was given to another process in between,
            // which the second attempt reads.
            _ => {}
        }
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the process exists but /proc hides it",
    ))
}

/// The process or thread was gone when the file was opened (`ENOENT`) or read (`ESRCH`).
pub(super) fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// False: twice the file's process or thread was gone. Once may have been a file that was bound, while
/// a thread took its leader's place in execve(2), to the number that the thread gave up.
fn found(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
    for _ in 0..2 {
        match attempt() {
            Err(e) if is_absent(&e) => {}
            result => return result.map(|()| true),
        }
    }
    Ok(false)
}

/// Reads `stat` until it is that of a task which was there to the end; `None`: `read` finds none.
fn stat(
    buf: &mut Vec<u8>,
    mut read: impl FnMut(&mut Vec<u8>) -> io::Result<bool>,
) -> io::Result<Option<Stat<'_>>> {
    loop {
        if !read(buf)? {
            return Ok(None);
        }
        if parsed(buf)?.is_some() {
            return parsed(buf);
        }
    }
}

/// `None`: the task was released while it was read. It was reaped, or a thread has taken its place and
/// its number in execve(2); another look tells which.
fn parsed(line: &[u8]) -> io::Result<Option<Stat<'_>>> {
    let stat = Stat::parse(line).ok_or_else(malformed)?;
    Ok((stat.threads > 0).then_some(stat))
}

/// Reads the whole file into `buf`, without the fstat and lseek of `File::read_to_end`.
fn fill(file: &mut File, buf: &mut Vec<u8>) -> io::Result<()> {
    buf.clear();
    (&*file).take(u64::MAX).read_to_end(buf)?;
    Ok(())
}

/// The numbers in a list of children.
pub(super) fn listed(children: &[u8]) -> impl DoubleEndedIterator<Item = Pid> {
    children
        .split(|&b| b == b' ')
        .filter_map(|n| Pid::new(number(n)?))
}

fn numbered(dir: &CStr) -> io::Result<Vec<Pid>> {
    let mut numbers = Vec::new();
    sys::for_each_name(dir, |name| numbers.extend(number(name).and_then(Pid::new)))?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn field<'a>(status: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    // The kernel escapes newlines in the name here, so a line is a field.
    status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(key))
}

pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn plain(error: ProcError) -> io::Error {
    match error {
        ProcError::NotFound(_) => io::ErrorKind::NotFound.into(),
        ProcError::PermissionDenied(_) => io::ErrorKind::PermissionDenied.into(),
        ProcError::Io(error, _) => error,
        other => io::Error::other(other),
    }
}

fn foreign() -> Error {
    Error::proc("it belongs to another PID namespace", None)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what the kernel writes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as Linux 6.18 writes it, for a process of this name.
    fn line(name: &[u8]) -> Vec<u8> {
        let mut line = b"4321 (".to_vec();
        line.extend_from_slice(name);
        line.extend_from_slice(
            b") S 1234 1230 1229 34816 4321 4194560 120 0 3 0 5 6 0 0 20 0 7 0 987654 \
              5869568 402 18446744073709551615 94112 94113 140735 0 0 0 0 4 0 0 0 0 17 1 0 0 0 0 0 \
              94114 94115 94116 140736 140737 140738 140739 0\n",
        );
        line
    }

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let line = line(b"cat");
        let expected = Stat {
            name: b"cat",
            state: 'S',
            parent: 1234,
            group: 1230,
            session: 1229,
            flags: 4194560,
            threads: 7,
            start_time: 987654,
            start_code: 94112,
            env_end: 140739,
        };
        assert_eq!(Stat::parse(&line), Some(expected));
    }

    #[test]
    fn a_name_cannot_pass_for_the_fields_behind_it() {
        let names: [&[u8]; 9] = [
            b"",
            b" ",
            b")",
            b"(",
            b"))) R 1 (((",
            b"a) R 1 1 1 1 1 1",
            b"\n",
            b"x\n1 (y) Z 1",
            b"\xff\xfe) \x80",
        ];
        let plain = line(b"cat");
        let plain = Stat::parse(&plain).unwrap();
        for name in names {
            let line = line(name);
            assert_eq!(Stat::parse(&line), Some(Stat { name, ..plain }));
        }
    }

    #[test]
    fn a_line_cut_off_is_no_line_until_the_start_time_is_in_it() {
        let whole = line(b"a) (b");
        let needed = whole.windows(6).position(|w| w == b"987654").unwrap();
        for end in 0..whole.len() {
            let stat = Stat::parse(&whole[..end]);
            assert_eq!(stat.is_some(), end > needed, "{end}");
            if end >= needed + 6 {
                assert_eq!(stat.unwrap().start_time, 987654);
            }
        }
    }

    /// Linux before 3.5 has 44 fields, and who may not trace the process is shown 0 and 1.
    #[test]
    fn what_is_not_told_does_not_look_like_an_exec() {
        let whole = line(b"cat");
        let short: Vec<&[u8]> = whole.split(|&b| b == b' ').take(44).collect();
        assert!(!Stat::parse(&short.join(&b' ')).unwrap().is_in_exec());
        assert!(!Stat::parse(&whole).unwrap().is_in_exec());
        let mut fields: Vec<&[u8]> = whole.split(|&b| b == b' ').collect();
        fields[51 - 1] = b"0";
        assert!(Stat::parse(&fields.join(&b' ')).unwrap().is_in_exec());
        fields[26 - 1] = b"1";
        assert!(!Stat::parse(&fields.join(&b' ')).unwrap().is_in_exec());
    }

    #[test]
    fn numbers_of_a_process_that_is_being_reaped_are_none() {
        let whole = line(b"cat");
        let mut fields: Vec<&[u8]> = whole.split(|&b| b == b' ').collect();
        (fields[4], fields[5], fields[19]) = (b"-1", b"-1", b"0");
        let text = fields.join(&b' ');
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.group, stat.session, stat.threads), (0, 0, 0));
        assert_eq!(parsed(&text).unwrap(), None);
    }

    #[test]
    fn a_leader_that_has_exited_is_a_zombie_only_without_threads() {
        let whole = line(b"cat");
        let plain = Stat::parse(&whole).unwrap();
        for (state, threads, exited, zombie) in [
            ('S', 1, false, false),
            ('Z', 2, true, false),
            ('Z', 1, true, true),
            ('X', 1, true, true),
            ('t', 1, false, false),
        ] {
            let stat = Stat {
                state,
                threads,
                ..plain
            };
            assert_eq!((stat.leader_exited(), stat.is_zombie()), (exited, zombie));
        }
    }

    #[test]
    fn garbage_is_no_line() {
        let lines: [&[u8]; 12] = [
            b"",
            b"(",
            b")",
            b")(",
            b"()",
            b"1 (cat)",
            b"1 (cat) ",
            b"1 (cat) S",
            b"1 (cat) S 1 1 1 0 -1 x 0 0 0 0 0 0 0 0 20 0 1 0 5",
            b"1 (cat) S x 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5",
            b"1 (cat) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 18446744073709551616",
            b"1 (cat) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 -1 0 5",
        ];
        for line in lines {
            assert_eq!(Stat::parse(line), None, "{}", line.escape_ascii());
        }
        // Bytes of the kind that matters, in any order.
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let length = random.usize(..80);
            let line: Vec<u8> = (0..length)
                .map(|_| *random.choice(b"() \n-0123456789SZ\xff").unwrap())
                .collect();
            if let Some(stat) = Stat::parse(&line) {
                assert!(
                    line.windows(stat.name.len()).any(|w| w == stat.name) || stat.name.is_empty()
                );
            }
        }
    }
}

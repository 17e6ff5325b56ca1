//! Every process, shown to a closure: [`processes_where`].

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::dir::Link;
use super::super::proc::{self, Proc, ProcessDir, Reading, Stat, Text};
use super::super::process::ProcessId;
use super::super::sys::Pid;
use super::pattern::join_arguments;

/// The processes for which `keep` says true, ascending. `keep` sees every process that the caller
/// can see, also the caller itself and zombies, whatever bytes their names hold.
///
/// What `keep` reads belongs to one process, even if the pid is used again meanwhile. The identity
/// is that of the same process.
///
/// # Errors
/// `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// let shells = process_kill::processes_where(|p| p.name() == "sh" && p.uid().is_ok_and(|u| u != 0))?;
/// # drop(shells);
/// # Ok::<(), process_kill::Error>(())
/// ```
pub fn processes_where(mut keep: impl FnMut(&Candidate<'_>) -> bool) -> Result<Vec<ProcessId>> {
    let mut found = Vec::new();
    each_candidate(|candidate| {
        if keep(candidate) {
            found.extend(
                ProcessId::behind(candidate.dir).map_err(|e| proc::reading(candidate.pid, e))?,
            );
        }
        Ok(())
    })?;
    Ok(found)
}

/// The processes that were started with `key` set to `value`, ascending, the caller included. It
/// finds daemons that left tree, group and session.
///
/// The environment that execve(2) was given counts (proc_pid_environ(5)), not later changes by the
/// program. Processes whose environment the caller may not read (other users') are left out.
///
/// # Errors
/// `Refused`: `key` is empty or holds `=` or NUL, or `value` holds NUL. `Proc`: /proc cannot be
/// used. `Io`: reading it failed.
///
/// ```
/// let job = format!("job of {}", std::process::id());
/// let mut child = std::process::Command::new("sleep").arg("60").env("JOB", &job).spawn()?;
/// assert_eq!(process_kill::pids_with_env("JOB", &job)?, [child.id()]);
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_with_env(key: &str, value: &str) -> Result<Vec<u32>> {
    if !can_be_set(key, value) {
        return Err(Error::refused(format!(
            "no environment has {key:?} set to {value:?}"
        )));
    }
    pids_where(|candidate| Ok(candidate.env(key)?.is_some_and(|set| set == value)))
}

/// Whether an environment can have this variable.
fn can_be_set(key: &str, value: &str) -> bool {
    !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0')
}

/// A process as [`processes_where`] shows it. The numbers are those at the time of the listing. The
/// rest is read when it is asked for.
///
/// What is read is this process's or an error, never a successor's. Names are bytes, as the kernel
/// gives them.
pub struct Candidate<'a> {
    pid: Pid,
    stat: Stat<'a>,
    dir: &'a ProcessDir<'a>,
    /// The caller has not the rights to read something that was asked for.
    was_refused: Cell<bool>,
    /// Something was asked for while the process was in execve(2).
    was_unsettled: Cell<bool>,
}

impl Candidate<'_> {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// Its parent's pid (proc_pid_stat(5) field 4); 0: it has none in the caller's PID namespace.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.stat.parent
    }

    /// Its process group (proc_pid_stat(5) field 5); 0: it is outside of the caller's PID
    /// namespace.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.stat.group
    }

    /// Its session (proc_pid_stat(5) field 6); 0: it is outside of the caller's PID namespace.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.stat.session
    }

    /// The state of its leader (proc_pid_stat(5) field 3). `Z` with several
    /// [`threads`](Candidate::threads) is a process that runs on without its leader.
    #[must_use]
    pub fn state(&self) -> char {
        self.stat.state
    }

    /// How many threads it has (proc_pid_stat(5) field 20).
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.stat.threads
    }

    /// Its start time, in clock ticks after boot (proc_pid_stat(5) field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.stat.start_time
    }

    /// The time since it started, to the clock tick (sysconf(3) `_SC_CLK_TCK`, mostly 10 ms).
    ///
    /// # Errors
    /// The time since boot cannot be read.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let old = process_kill::processes_where(|p| p.age().is_ok_and(|age| age > Duration::from_secs(3600)))?;
    /// # drop(old);
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub fn age(&self) -> io::Result<Duration> {
        self.stat.age()
    }

    /// Whether it is the calling process.
    #[must_use]
    pub fn is_caller(&self) -> bool {
        self.pid.is_caller()
    }

    /// Its name (proc_pid_stat(5) field 2): 15 bytes at most, unless it is a kernel thread.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.stat.name)
    }

    /// Its arguments, also empty ones (proc_pid_cmdline(5)). A zombie or kernel thread has none.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn args(&self) -> io::Result<Vec<OsString>> {
        let bytes = self.text(Text::Arguments, &mut Vec::new())?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        let args = bytes.split(|&b| b == 0);
        Ok(args.map(|arg| OsString::from_vec(arg.to_vec())).collect())
    }

    /// Its command line, as [`pids_matching`](super::super::pids_matching) matches it: the
    /// arguments joined by one space, or the name in brackets.
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn command_line(&self) -> io::Result<Vec<u8>> {
        let mut stat = Vec::new();
        let mut line = self.text(Text::Arguments, &mut stat)?;
        join_arguments(&mut line, &stat);
        Ok(line)
    }

    /// The program it runs (proc_pid_exe(5)). If its file was deleted, ` (deleted)` follows.
    ///
    /// # Errors
    /// It is gone, a zombie or a kernel thread, or may not be read.
    pub fn exe(&self) -> io::Result<PathBuf> {
        self.noted(self.dir.target(Link::Exe))
    }

    /// Its working directory (proc_pid_cwd(5)). If it was deleted, ` (deleted)` follows.
    ///
    /// # Errors
    /// It is gone or a zombie, or may not be read.
    pub fn cwd(&self) -> io::Result<PathBuf> {
        self.noted(self.dir.target(Link::Cwd))
    }

    /// A variable of the environment it was started with (proc_pid_environ(5)). If there are
    /// several, the first, as in getenv(3).
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn env(&self, key: &str) -> io::Result<Option<OsString>> {
        let bytes = self.text(Text::Environment, &mut Vec::new())?;
        let value = bytes.split(|&b| b == 0).find_map(|entry| {
            let value = entry.strip_prefix(key.as_bytes())?;
            value.strip_prefix(b"=")
        });
        Ok(value.map(|value| OsString::from_vec(value.to_vec())))
    }

    /// Whether it was started with `key` set to `value`, as [`pids_with_env`] tests it.
    ///
    /// What cannot be read is "no"; [`env`](Candidate::env) tells the two apart.
    ///
    /// ```
    /// let marked = process_kill::processes_where(|p| p.has_env("BUILD_ID", "17"))?;
    /// # drop(marked);
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    #[must_use]
    pub fn has_env(&self, key: &str, value: &str) -> bool {
        let is_value = |set: OsString| set == value;
        can_be_set(key, value) && self.env(key).is_ok_and(|set| set.is_some_and(is_value))
    }

    /// The effective user id (credentials(7)).
    ///
    /// # Errors
    /// It is gone, or may not be read.
    pub fn uid(&self) -> io::Result<u32> {
        self.noted(self.dir.uid())
    }

    /// `stat` must have been read through `dir`.
    pub(crate) fn new<'a>(stat: Stat<'a>, dir: &'a ProcessDir<'a>) -> Candidate<'a> {
        Candidate {
            pid: dir.pid(),
            stat,
            dir,
            was_refused: Cell::new(false),
            was_unsettled: Cell::new(false),
        }
    }

    /// Whether the caller has not the rights to read something that was asked for.
    pub(crate) fn was_refused(&self) -> bool {
        self.was_refused.get()
    }

    /// Whether something that was asked for may change at once, because the process was in execve(2).
    pub(crate) fn was_unsettled(&self) -> bool {
        self.was_unsettled.get()
    }

    pub(super) fn note_refusal(&self) {
        // These have nothing to read.
        let is_empty = self.stat.is_kernel_thread() || self.stat.is_zombie();
        self.was_refused.set(self.was_refused.get() || !is_empty);
    }

    pub(super) fn note_unsettled(&self) {
        self.was_unsettled.set(true);
    }

    fn noted<T>(&self, read: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &read {
            if e.kind() == io::ErrorKind::PermissionDenied {
                self.note_refusal();
            }
        }
        read
    }

    pub(super) fn dir(&self) -> &ProcessDir<'_> {
        self.dir
    }

    fn text(&self, text: Text, stat: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.noted(self.dir.text(text, &mut bytes, stat))? {
            Reading::Absent => return Err(io::ErrorKind::NotFound.into()),
            Reading::Settled => {}
            Reading::Unsettled => self.note_unsettled(),
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("pid", &self.pid())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

pub(super) fn each_candidate(mut see: impl FnMut(&Candidate<'_>) -> Result<()>) -> Result<()> {
    let proc = Proc::open()?;
    proc.begin_scan();
    let mut buf = Vec::new();
    for pid in proc::visible(&proc)? {
        if let Some((dir, stat)) = proc::readable(pid, ProcessDir::open(&proc, pid, &mut buf))? {
            see(&Candidate::new(stat, &dir))?;
        }
    }
    Ok(())
}

pub(super) fn pids_where(keep: impl Fn(&Candidate<'_>) -> io::Result<bool>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    each_candidate(|candidate| {
        if proc::readable(candidate.pid, keep(candidate).map(Some))? == Some(true) {
            found.push(candidate.pid());
        }
        Ok(())
    })?;
    Ok(found)
}

//! cgroups(7), version 2: what is in one, and its own way to kill.
//!
//! 1. Write `cgroup.kill`. If the kernel has none, or the cgroup is threaded, freeze the cgroup and
//!    kill its processes one by one.
//! 2. Wait until `cgroup.events` says `populated 0`. One write can miss a process that is just
//!    being forked, so step 1 is repeated.
//!
//! Invariant: a cgroup that was frozen here is thawed when it is dropped.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::report::{Outcome, Report};
use super::super::sys::{self, Event, FileSystem, Metadata, Pid, SIGKILL};
use super::super::targets::{Proof, Targets};
use super::super::wait::Deadline;
use super::{Found, Kill, Selection, retry};

impl Kill {
    /// Kills every process in a cgroup (cgroups(7), version 2) and the cgroups below it, and
    /// verifies that it is not populated. The cgroup itself stays.
    ///
    /// If the caller started a process into a container (nsenter(1), setns(2)), the container's
    /// init stays a survivor until the caller reaps that process; see
    /// [`Reason::StillExiting`](super::super::Reason::StillExiting).
    ///
    /// # Errors
    /// `Refused`: `dir` is no directory of a cgroup v2 file system, is the root cgroup, or holds
    /// init, the caller or one of its ancestors, or a process outside of the caller's PID
    /// namespace, which may be an ancestor. `Survivors`: not all are gone. `Unproven`: all that were
    /// found are gone, but the cgroup is still populated. `Proc` or `Io`: /proc or the cgroup cannot
    /// be read, and nothing was sent.
    ///
    /// # Kernel versions
    /// Linux 5.14 for `cgroup.kill`. Without it, and for threaded cgroups, the cgroup is frozen
    /// while each process is killed. Before Linux 5.2 it cannot be frozen.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use std::process::Command;
    ///
    /// // Needs root, or a cgroup that was delegated (systemd.resource-control(5), `Delegate=`).
    /// let job = Path::new("/sys/fs/cgroup/job-7");
    /// std::fs::create_dir(job)?;
    /// let enter = r#"echo $$ >"$0/cgroup.procs" && exec agent"#;
    /// let mut agent = Command::new("sh").args(["-c", enter]).arg(job).spawn()?;
    /// // ..
    /// process_kill::Kill::graceful().cgroup(job)?;
    /// agent.wait()?;
    /// std::fs::remove_dir(job)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cgroup(&self, dir: &Path) -> Result<Report> {
        self.run(Cgroup::open(dir)?)
    }
}

/// A cgroup that may be killed: not the root, and without the caller.
pub(crate) struct Cgroup {
    dir: PathBuf,
    /// What the path led to when it was opened. Another cgroup may have the path later.
    place: Metadata,
    /// `cgroup.events`. It polls `POLLPRI` when it changes. It is closed before processes are held,
    /// because there may be few descriptors, and opened again when it is needed.
    events: Option<File>,
    /// It was frozen here, and must be thawed.
    is_frozen: bool,
}

impl Cgroup {
    pub(crate) fn open(dir: &Path) -> Result<Cgroup> {
        let refused = |why| Error::refused(format!("{dir:?} {why}"));
        let failed = |e| Error::io(format!("read cgroup {dir:?}"), e);
        let path = CString::new(dir.as_os_str().as_bytes());
        let path = path.map_err(|_| refused("is no path"))?;
        match sys::file_system_of(&path) {
            Ok(FileSystem::Cgroup2) => {}
            Ok(_) => return Err(refused("is no cgroup of version 2")),
            Err(e) if is_no_path(&e) => return Err(refused("does not exist")),
            Err(e) => return Err(failed(e)),
        }
        match Metadata::of(&dir.join("cgroup.events")) {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Err(refused("is the root cgroup or no cgroup"));
            }
            Err(e) => return Err(failed(e)),
        }
        let place = Metadata::of(dir).map_err(failed)?;
        let cgroup = Cgroup {
            dir: dir.into(),
            place,
            events: None,
            is_frozen: false,
        };
        let numbers = cgroup.numbers().map_err(failed)?;
        // A threaded cgroup may hold any thread of the caller.
        if numbers
            .iter()
            .any(|&number| sys::signal::is_own_thread(number))
        {
            return Err(refused("holds the caller"));
        }
        Ok(cgroup)
    }

    /// The processes in it and below it; of a threaded cgroup, the threads. Those outside of the
    /// caller's PID namespace have no number and are left out.
    pub(crate) fn numbers(&self) -> io::Result<Vec<Pid>> {
        Ok(self.listed()?.into_iter().filter_map(Pid::new).collect())
    }

    /// As [`Cgroup::numbers`], with a 0 for each that is outside of the caller's PID namespace.
    fn listed(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let listed = match self.read(&dir.join("cgroup.procs")) {
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    self.read(&dir.join("cgroup.threads"))
                }
                listed => listed,
            };
            let listed = match listed {
                Ok(listed) => listed,
                // It was removed since it was listed, so it was empty.
                Err(e) if is_removed(&e) => continue,
                Err(e) => return Err(e),
            };
            numbers.extend(listed.lines().filter_map(|n| n.parse::<u32>().ok()));
            match sys::retry(|| directories_in(&dir)).and_then(|below| self.check(below)) {
                Ok(below) => dirs.extend(below),
                Err(e) if is_removed(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(numbers)
    }

    pub(crate) fn is_populated(&mut self) -> io::Result<bool> {
        let mut text = String::new();
        let read = self.events().and_then(|events| {
            events.rewind()?;
            events.read_to_string(&mut text)
        });
        match read {
            Ok(_) => Ok(!text.lines().any(|line| line == "populated 0")),
            // Only an empty cgroup can be removed.
            Err(e) if is_removed(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn events(&mut self) -> io::Result<&mut File> {
        let events = match self.events.take() {
            Some(events) => events,
            None => self.check(File::open(self.dir.join("cgroup.events"))?)?,
        };
        Ok(self.events.insert(events))
    }

    /// Waits until `cgroup.events` has changed since it was read, or until the deadline.
    pub(crate) fn wait_for_change(&mut self, deadline: Deadline) -> io::Result<()> {
        let events = match self.events() {
            Err(e) if is_removed(&e) => return Ok(()),
            events => events?,
        };
        match sys::ppoll([Some(events.as_fd())], Event::Changed, deadline.left()) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
            _ => Ok(()),
        }
    }

    /// Writes `cgroup.kill`. False: Linux before 5.14, a threaded cgroup, or a removed one.
    pub(crate) fn kill(&self) -> io::Result<bool> {
        match self.write("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(e) if is_removed(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes `cgroup.freeze`: no process in it forks until it is thawed, and SIGKILL still works.
    /// Does nothing before Linux 5.2, or if the cgroup was removed.
    pub(crate) fn freeze(&mut self) -> io::Result<()> {
        match self.read(&self.dir.join("cgroup.freeze")) {
            Ok(frozen) if frozen.trim() == "1" => Ok(()),
            Ok(_) => {
                self.is_frozen = true;
                match self.write("cgroup.freeze", "1") {
                    Err(e) if is_removed(&e) => Ok(()),
                    written => written,
                }
            }
            Err(e) if is_removed(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Not `fs::write`: that creates a missing file, which fails with another error.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let file = File::options().write(true).open(self.dir.join(file))?;
        self.check(file)?.write_all(text.as_bytes())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        self.check(File::open(path)?)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns what was opened. It is of this cgroup only if the path still leads to it afterwards:
    /// another cgroup may have been made there meanwhile. Then this one was removed.
    fn check<T>(&self, opened: T) -> io::Result<T> {
        match Metadata::of(&self.dir)?.is_same_file(&self.place) {
            true => Ok(opened),
            false => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }
}

/// Thaws what was frozen here, so that survivors go on.
impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.is_frozen {
            // Drop can neither report an error nor try anything else.
            self.write("cgroup.freeze", "0").unwrap_or(());
        }
    }
}

fn directories_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}

fn is_no_path(error: &io::Error) -> bool {
    let errnos = [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];
    error.raw_os_error().is_some_and(|e| errnos.contains(&e))
}

fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

impl Cgroup {
    /// The processes in it; of a threaded cgroup, the processes of its threads.
    fn processes(&self, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
        let numbers = targets.with_room(|| self.numbers()).map_err(unlisted)?;
        thread_groups(numbers, targets)
    }
}

/// The processes that these numbers belong to, as their own or as those of their threads.
fn thread_groups(
    numbers: impl IntoIterator<Item = Pid>,
    targets: &mut Targets<'_>,
) -> Result<Vec<Pid>> {
    let mut processes = Vec::new();
    for number in numbers {
        let group = targets.proc()?.process(number).thread_group();
        processes.extend(group.map_err(unlisted)?);
    }
    Ok(processes)
}

fn unlisted(error: io::Error) -> Error {
    Error::io("list the processes of the cgroup", error)
}

impl Selection for Cgroup {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        let listed = targets.with_room(|| self.listed()).map_err(unlisted)?;
        // `cgroup.kill` would hit it, and it may be an ancestor of the caller.
        if listed.contains(&0) {
            let dir = &self.dir;
            return Err(Error::refused(format!(
                "{dir:?} holds a process outside of the caller's PID namespace"
            )));
        }
        for pid in thread_groups(listed.into_iter().filter_map(Pid::new), targets)? {
            if let Some(reason) = targets.spared_reason(pid) {
                let (dir, pid) = (&self.dir, pid.get());
                return Err(Error::refused(format!(
                    "{dir:?} holds {pid}, which {reason}"
                )));
            }
        }
        self.find(targets, Deadline::NEVER)?;
        Ok(())
    }

    fn find(&mut self, targets: &mut Targets<'_>, _: Deadline) -> Result<Found> {
        let before = targets.len();
        self.events = None;
        for pid in self.processes(targets)? {
            targets.add_found(pid, |_, _| Ok(true))?;
        }
        if targets.len() > before {
            // The number may have gone to a stranger before the process was held. If it is listed
            // again, the process was in the cgroup, or is gone.
            let again = self.processes(targets).map(HashSet::<Pid>::from_iter);
            targets.keep(before, |pid| {
                again.as_ref().is_ok_and(|again| again.contains(&pid))
            });
            again?;
        }
        Ok(Found {
            is_new: targets.len() > before,
            is_complete: true,
        })
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        let failed = |e| Error::io("kill the cgroup", e);
        let mut is_populated = retry(deadline, || {
            targets.with_room(|| self.is_populated()).map_err(failed)
        })?;
        while is_populated {
            is_populated = retry(deadline, || self.kill_once(targets, deadline))?;
            // After the kill: it is done even without time to verify.
            if deadline.has_passed() {
                break;
            }
        }
        if is_populated {
            // For the report.
            self.find(targets, deadline)?;
        }
        self.events = None;
        targets.wait(deadline, Outcome::Killed);
        if is_populated {
            // All may have ended since that look. If this one fails, that is not proven.
            let is_left = targets.with_room(|| self.is_populated());
            is_populated = is_left.unwrap_or(true);
        }
        Ok(Proof {
            is_complete: !is_populated,
            ..Proof::EXACT
        })
    }
}

impl Cgroup {
    /// Kills all that are in it now, and waits a moment for their end. One write can miss a process
    /// that is just being forked. True: some are left.
    fn kill_once(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<bool> {
        const MOMENT: Duration = Duration::from_millis(10);
        let failed = |e| Error::io("kill the cgroup", e);
        if !targets.with_room(|| Cgroup::kill(self)).map_err(failed)? {
            targets.with_room(|| self.freeze()).map_err(failed)?;
            self.find(targets, deadline)?;
            targets.signal(0, &[SIGKILL]);
        }
        let soon = deadline.or_after(MOMENT);
        loop {
            let is_populated = targets.with_room(|| self.is_populated()).map_err(failed)?;
            if !is_populated || soon.has_passed() {
                return Ok(is_populated);
            }
            self.wait_for_change(soon).map_err(failed)?;
        }
    }
}

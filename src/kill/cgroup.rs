//! cgroups(7), version 2: what is in one, and its own way to kill.
//!
//! 1. Look for processes that are spared. If there is one, the cgroup is not killed as a whole.
//! 2. Write `cgroup.kill`. If the kernel has none, or the cgroup is threaded, freeze the cgroup and
//!    kill its processes one by one.
//! 3. Wait until `cgroup.events` says `populated 0`. One write can miss a process that is just
//!    being forked, so steps 1 and 2 are repeated.
//!
//! Every file is opened relative to the directory of the cgroup, which is held. So `ENOENT` and
//! `ENODEV` mean that the cgroup was removed, and only an empty one can be removed. A path proves
//! nothing: it can lead elsewhere although the cgroup is there.
//!
//! Invariant: a cgroup that was frozen here is thawed when it is dropped.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
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
    /// The path is used once, and the directory is held until the call returns. So the path may lead
    /// elsewhere meanwhile. With fewer than three free descriptors the directory is not held. If the
    /// path is lost then, the result is an error, and a cgroup that was frozen can stay frozen.
    ///
    /// The call looks again for the caller, its ancestors and init right before it kills the cgroup. One
    /// that has entered the cgroup meanwhile is a survivor, and only the processes that were found before
    /// are killed. One that enters between this look and the kill is killed. So never move one of them
    /// into a cgroup that is being killed.
    ///
    /// [`Kill::at_most`] counts what is in the cgroup before the first signal. What is forked there or
    /// moved into it later is killed too, and does not count.
    ///
    /// If the caller started a process into a container (nsenter(1), setns(2)), the container's
    /// init stays a survivor until the caller reaps that process; see
    /// [`Reason::StillExiting`](super::super::Reason::StillExiting).
    ///
    /// # Errors
    /// `Refused`: `dir` is no directory of a cgroup v2 file system, is the root cgroup, or holds
    /// init, the caller or one of its ancestors, or a process outside of the caller's PID
    /// namespace, which may be an ancestor. `Survivors`: not all are gone, or the caller, init or an
    /// ancestor has entered the cgroup. `Unproven`: all that were found are gone, but the cgroup is still
    /// populated, or cannot be read any more. `Proc` or `Io`: /proc or the cgroup cannot be read, and
    /// nothing was sent.
    ///
    /// # Kernel versions
    /// Linux 5.14 for `cgroup.kill`. Without it, and for threaded cgroups, the cgroup is frozen
    /// while each process is killed. A caller that enters it then is frozen with it. Before Linux 5.2
    /// it cannot be frozen. Before Linux 5.14 this can end with survivors if fewer than eight descriptors
    /// are free.
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
    path: CString,
    /// What the path led to when it was opened.
    place: Metadata,
    /// `None`: there are too few descriptors to hold it. It is opened by its path each time, and must
    /// be the same.
    dir: Option<OwnedFd>,
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
        let opened = match sys::open_directory(&path) {
            Err(e) if is_no_path(&e) => return Err(refused("leads to no directory")),
            opened => opened.map_err(failed)?,
        };
        if sys::file_system(opened.as_fd()).map_err(failed)? != FileSystem::Cgroup2 {
            return Err(refused("is no cgroup of version 2"));
        }
        match sys::fstatat(opened.as_fd(), c"cgroup.events") {
            Err(e) if is_removed(&e) => return Err(refused("is the root cgroup")),
            found => found.map_err(failed)?,
        };
        let mut cgroup = Cgroup {
            path,
            place: sys::fstatat(opened.as_fd(), c".").map_err(failed)?,
            dir: Some(opened),
            events: None,
            is_frozen: false,
        };
        let listed = cgroup.listed().map_err(failed)?;
        // A threaded cgroup may hold any thread of the caller.
        let mut numbers = listed.processes.into_iter().chain(listed.threads);
        if numbers.any(sys::signal::is_own_thread) {
            return Err(refused("holds the caller"));
        }
        if !cgroup.has_room() {
            cgroup.dir = None;
        }
        Ok(cgroup)
    }

    /// Whether a pidfd and a file can be opened beside the held directory.
    fn has_room(&self) -> bool {
        const ENOUGH: usize = 2;
        let clone = |dir: &OwnedFd| dir.try_clone().ok();
        let clones = (0..ENOUGH).map_while(|_| clone(self.dir.as_ref()?));
        clones.collect::<Vec<_>>().len() == ENOUGH
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.to_bytes()))
    }

    /// Runs `f` with the directory. If it is not held and its path leads elsewhere, that is an error, and
    /// does not count as removed.
    fn with_dir<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        if let Some(dir) = &self.dir {
            return f(dir.as_fd());
        }
        let lost = || io::Error::other("its path does not lead to it any more");
        let dir = match sys::open_directory(&self.path) {
            Err(e) if is_no_path(&e) || is_removed(&e) => return Err(lost()),
            opened => opened?,
        };
        match sys::fstatat(dir.as_fd(), c".")?.is_same_file(&self.place) {
            true => f(dir.as_fd()),
            false => Err(lost()),
        }
    }

    /// The processes in it and below it; of threaded cgroups, the threads.
    fn listed(&self) -> io::Result<Listed> {
        self.with_dir(|cgroup| {
            let mut listed = Listed::default();
            let mut dirs = vec![CString::from(c".")];
            while let Some(dir) = dirs.pop() {
                match listed.add(cgroup, &dir) {
                    Ok(below) => dirs.extend(below),
                    // It was removed since it was listed, so it was empty.
                    Err(e) if is_removed(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(listed)
        })
    }

    pub(crate) fn is_populated(&mut self) -> io::Result<bool> {
        let mut text = String::new();
        let read = self.events().and_then(|events| {
            events.rewind()?;
            events.read_to_string(&mut text)
        });
        match read {
            Ok(_) => Ok(!text.lines().any(|line| line == "populated 0")),
            Err(e) if is_removed(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn events(&mut self) -> io::Result<&mut File> {
        let events = match self.events.take() {
            Some(events) => events,
            None => self
                .with_dir(|dir| sys::openat(dir, c"cgroup.events"))?
                .into(),
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
        match self.write(c"cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(e) if is_removed(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes `cgroup.freeze`: no process in it forks until it is thawed, and SIGKILL still works.
    /// Does nothing before Linux 5.2, or if the cgroup was removed.
    pub(crate) fn freeze(&mut self) -> io::Result<()> {
        match self.with_dir(|dir| read(dir, c"cgroup.freeze")) {
            Ok(frozen) if frozen.trim() == "1" => Ok(()),
            Ok(_) => {
                self.is_frozen = true;
                match self.write(c"cgroup.freeze", "1") {
                    Err(e) if is_removed(&e) => Ok(()),
                    written => written,
                }
            }
            Err(e) if is_removed(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn write(&self, file: &CStr, text: &str) -> io::Result<()> {
        let file = self.with_dir(|dir| sys::fs::openat_to_write(dir, file))?;
        File::from(file).write_all(text.as_bytes())
    }
}

/// Thaws what was frozen here, so that survivors go on.
impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.is_frozen {
            // Drop can neither report an error nor try anything else.
            self.write(c"cgroup.freeze", "0").unwrap_or(());
        }
    }
}

/// What the kernel lists.
#[derive(Default)]
struct Listed {
    processes: Vec<Pid>,
    /// Those of threaded cgroups.
    threads: Vec<Pid>,
    /// It lists a 0 for what is outside of the caller's PID namespace.
    has_outsiders: bool,
}

impl Listed {
    /// Adds what is in the cgroup `dir`, a path relative to `from`. Returns the cgroups below it.
    fn add(&mut self, from: BorrowedFd<'_>, dir: &CStr) -> io::Result<Vec<CString>> {
        let below = |name: &[u8]| CString::new([dir.to_bytes(), b"/", name].concat());
        let (numbers, into) = match read(from, &below(b"cgroup.procs")?) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                (read(from, &below(b"cgroup.threads")?)?, &mut self.threads)
            }
            numbers => (numbers?, &mut self.processes),
        };
        for number in numbers.lines().filter_map(|n| n.parse().ok()) {
            match Pid::new(number) {
                Some(number) => into.push(number),
                None => self.has_outsiders = true,
            }
        }
        let mut dirs = Vec::new();
        sys::fs::for_each_directory(from, dir, |name| dirs.extend(below(name)))?;
        Ok(dirs)
    }
}

fn read(from: BorrowedFd<'_>, path: &CStr) -> io::Result<String> {
    let mut text = String::new();
    File::from(sys::openat(from, path)?).read_to_string(&mut text)?;
    Ok(text)
}

fn is_no_path(error: &io::Error) -> bool {
    let errnos = [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];
    error.raw_os_error().is_some_and(|e| errnos.contains(&e))
}

/// Whether an error of a file of the held directory says that the cgroup was removed.
fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

impl Cgroup {
    /// The processes in it; of a threaded cgroup, the processes of its threads. Those outside of the
    /// caller's PID namespace have no number and are left out.
    fn processes(&self, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
        let listed = targets.with_room(|| self.listed()).map_err(unlisted)?;
        processes_of(listed, targets)
    }

    /// An error if a member is spared: `cgroup.kill` would hit it. The targets report it then.
    fn check(&self, targets: &mut Targets<'_>) -> Result<()> {
        let path = self.path();
        let listed = targets.with_room(|| self.listed()).map_err(unlisted)?;
        // It may be an ancestor of the caller.
        if listed.has_outsiders {
            return Err(Error::refused(format!(
                "{path:?} holds a process outside of the caller's PID namespace"
            )));
        }
        let mut checked = Ok(());
        for pid in processes_of(listed, targets)? {
            if let Some(reason) = targets.spared_reason(pid) {
                targets.add_refused(pid, reason);
                let pid = pid.get();
                checked = Err(Error::refused(format!(
                    "{path:?} holds {pid}, which {reason}"
                )));
            }
        }
        checked
    }
}

/// The processes that were listed as such or by their threads.
fn processes_of(listed: Listed, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
    let mut processes = listed.processes;
    for thread in listed.threads {
        let group = targets.proc()?.process(thread).thread_group();
        processes.extend(group.map_err(unlisted)?);
    }
    Ok(processes)
}

fn unlisted(error: io::Error) -> Error {
    Error::io("list the processes of the cgroup", error)
}

impl Selection for Cgroup {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        self.check(targets)?;
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
        // The directory and a file of it may need the last two descriptors.
        self.events = None;
        // A process that is spared can have entered the cgroup since the latest look.
        self.check(targets)?;
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

//! cgroups(7), version 2: who is in one, and its own way to kill.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::sys::{self, Event, FileSystem, Pid};
use super::wait::Deadline;

/// A cgroup that may be killed: neither the root nor one that holds the caller.
pub(super) struct Cgroup {
    dir: PathBuf,
    /// `cgroup.events`, which polls `POLLPRI` when it changes.
    events: File,
    /// It was frozen here and is to be thawed.
    is_frozen: bool,
}

impl Cgroup {
    pub(super) fn open(dir: &Path) -> Result<Cgroup> {
        let refused = |why| Error::refused(format!("{dir:?} {why}"));
        let failed = |e| Error::io(format!("read cgroup {dir:?}"), e);
        let path = CString::new(dir.as_os_str().as_bytes());
        let path = path.map_err(|_| refused("is no path"))?;
        match sys::is_in(&path, FileSystem::Cgroup2) {
            Ok(true) => {}
            Ok(false) => return Err(refused("is no cgroup of version 2")),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(failed(e)),
            Err(_) => return Err(refused("does not exist")),
        }
        let events = match File::open(dir.join("cgroup.events")) {
            Ok(events) => events,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Err(refused("is the root cgroup or no cgroup"));
            }
            Err(e) => return Err(failed(e)),
        };
        let cgroup = Cgroup {
            dir: dir.into(),
            events,
            is_frozen: false,
        };
        let numbers = cgroup.numbers().map_err(failed)?;
        // A threaded cgroup may hold any of our threads.
        if numbers.iter().any(|&number| sys::is_own_thread(number)) {
            return Err(refused("holds the caller"));
        }
        if numbers.iter().any(|number| number.is_init()) {
            return Err(refused("holds init"));
        }
        Ok(cgroup)
    }

    /// The processes in it and below it; of a threaded cgroup, the threads. Those outside our PID
    /// namespace have no number and are left out.
    pub(super) fn numbers(&self) -> io::Result<Vec<Pid>> {
        let mut numbers = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            let listed = match std::fs::read_to_string(dir.join("cgroup.procs")) {
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    std::fs::read_to_string(dir.join("cgroup.threads"))
                }
                listed => listed,
            };
            let listed = match listed {
                Ok(listed) => listed,
                // It was removed since it was listed, so there was nobody in it.
                Err(e) if is_removed(&e) => continue,
                Err(e) => return Err(e),
            };
            numbers.extend(listed.lines().filter_map(|n| Pid::new(n.parse().ok()?)));
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if is_removed(&e) => continue,
                Err(e) => return Err(e),
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        Ok(numbers)
    }

    pub(super) fn is_populated(&mut self) -> io::Result<bool> {
        let mut text = String::new();
        let rewound = self.events.rewind();
        match rewound.and_then(|()| self.events.read_to_string(&mut text)) {
            Ok(_) => Ok(!text.lines().any(|line| line == "populated 0")),
            // Only an empty cgroup can be removed.
            Err(e) if is_removed(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Waits until `cgroup.events` has changed since it was read, or the deadline.
    pub(super) fn wait_for_change(&self, deadline: Deadline) -> io::Result<()> {
        match sys::ppoll([Some(self.events.as_fd())], Event::Changed, deadline.left()) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
            _ => Ok(()),
        }
    }

    /// Writes `cgroup.kill`. False: before Linux 5.14, or a threaded cgroup.
    pub(super) fn kill(&self) -> io::Result<bool> {
        match self.write("cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(e) if is_removed(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes `cgroup.freeze`: nobody in it forks until it is thawed. SIGKILL works. Nothing is done
    /// before Linux 5.2, or if the cgroup was removed.
    pub(super) fn freeze(&mut self) -> io::Result<()> {
        match std::fs::read_to_string(self.dir.join("cgroup.freeze")) {
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

    /// Not as `fs::write`: to create what is not there is refused with another error.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let mut file = File::options().write(true).open(self.dir.join(file))?;
        file.write_all(text.as_bytes())
    }
}

/// What was frozen here goes on, or would if anybody were left.
impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.is_frozen {
            // There is nobody to tell, and nothing else to try.
            self.write("cgroup.freeze", "0").unwrap_or(());
        }
    }
}

fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

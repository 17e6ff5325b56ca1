//! The public handle of one process: a pidfd and an identity.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::Proc;
use super::super::wait::{Deadline, Ppoll, pidfd_is_gone};
use super::{PidRef, ProcessId, check_signal, has_ended, pid_of, signal_by_pidfd};

/// One process, held by a pidfd. A signal that is sent through it never hits a successor that got
/// the same pid.
///
/// It does not reserve the number. Once the process is reaped, `Kill::tree(process.id().pid())` may
/// hit a successor; use [`Kill::trees`](super::super::Kill::trees) with [`Process::id`]. See
/// [`guide::identity`](super::super::guide::identity).
///
/// Poll it for `POLLIN` to learn that the process is gone (pidfd_open(2)).
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
    /// Holds the process that has this pid now; `None`: there is no such process. A zombie still
    /// has its pid. The number of a thread that is not the first of its process gives `None`.
    ///
    /// # Errors
    /// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: the process exists but
    /// cannot be read; no descriptor is free; or the kernel has no pidfds or a filter forbids them
    /// (`source()` is of kind `Unsupported`).
    pub fn open(pid: u32) -> Result<Option<Process>> {
        let (pid, proc) = (pid_of(pid)?, Proc::open()?);
        match PidRef::identified(pid, &proc) {
            Ok(None) => Ok(None),
            Ok(Some((held, id))) => match held.into_pidfd() {
                Some(fd) => Ok(Some(Process { fd, id })),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
            Err(e) => Err(e),
        }
        .map_err(|e| Error::io(format!("open a pidfd of process {}", pid.get()), e))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends a signal to this process, never to a successor. `Ok` if it is gone. Nothing is spared:
    /// not init, not the caller.
    ///
    /// # Errors
    /// `Refused`: the signal is not in `1..=64`. `Io`: `EPERM`, the caller may not signal the
    /// process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        check_signal(signal)?;
        match signal_by_pidfd(self.as_fd(), self.id.number(), signal) {
            Ok(_) => Ok(()),
            // A zombie of another user answers `EPERM` too.
            Err(_) if has_ended(self.as_fd()).unwrap_or(false) => Ok(()),
            Err(e) => Err(Error::io(
                format!("send signal {signal} to process {}", self.id.pid()),
                e,
            )),
        }
    }

    /// Waits until every thread of it has ended; `Ok(false)`: it has not ended within this time.
    ///
    /// It waits for the process that is held, also if the pid is another's by now. For several at
    /// once, or without pidfds, use the function
    /// [`wait_until_gone`](super::super::wait_until_gone).
    ///
    /// # Errors
    /// `Io`: ppoll(2) failed.
    pub fn wait_until_gone(&self, within: Duration) -> Result<bool> {
        let deadline = Deadline::after(within);
        pidfd_is_gone(self.as_fd(), deadline, &mut Ppoll)
            .map_err(|e| Error::io(format!("wait for process {}", self.id.pid()), e))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

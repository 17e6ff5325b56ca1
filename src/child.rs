//! Children that are supervised: spawned in a group, stopped with their trees, read with limits,
//! listed in a registry.
//!
//! [`std::process::Command`] and [`Child`] stay as they are. [`CommandExt`] adds a way to spawn.
//!
//! A child is [`Managed`] from its spawn until it is detached or dropped. While it is, dropping it
//! kills it with its tree and its own group or session, and reaps it.
//!
//! ```
//! use process_kill::Kill;
//! use process_kill::child::{CommandExt, Group};
//!
//! let mut command = std::process::Command::new("sh");
//! let mut sh = command.args(["-c", "sleep 60 & sleep 60"]).spawn_managed(Group::New)?;
//! sh.stop(&Kill::graceful())?;
//! assert!(!sh.wait()?.success());
//! # Ok::<(), process_kill::Error>(())
//! ```

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use super::error::{Error, Result};
use super::kill::Kill;
use super::proc::MaybeProc;
use super::process::group::OwnedGroup;
use super::process::{Owner, PidRef, ProcessId};
use super::report::Report;
use super::sys::process::{ChildId, When, waitid_status};
use super::sys::{self, SIGKILL};
use super::wait::{Deadline, Ppoll, is_gone_by};

mod output;
mod pipe;
mod registry;
mod spawn;

pub use output::{Ended, Limits, Output, Stream};
pub use registry::{Registry, Ticket};
pub use spawn::{CommandExt, Group};

/// Makes the calling process adopt the orphans among its descendants (prctl(2)
/// `PR_SET_CHILD_SUBREAPER`), which makes [`Kill::children`] exact.
///
/// It holds for the whole process, until the process ends. Children do not inherit it.
///
/// A process that calls this must reap its orphans, or they stay zombies. Call `waitpid` with the
/// pid of each orphan, never `waitpid(-1)`: that also takes the exit statuses of children that
/// [`std::process::Child`] or tokio waits for. [`processes_where`](super::processes_where) finds
/// the orphans: the zombies whose parent is the caller and which the program did not spawn itself.
/// [`guide::orphans`](super::guide::orphans) shows how.
///
/// # Errors
/// `Io`: the kernel refused. Since Linux 3.4 it never does.
///
/// ```no_run
/// use process_kill::{Kill, child::adopt_orphans};
///
/// adopt_orphans()?; // before the first child is started
/// let mut sh = std::process::Command::new("sh").args(["-c", "setsid sleep 60 &"]).spawn()?;
/// sh.wait()?; // what it started is a daemon now, and a child of the caller
/// assert_eq!(Kill::now().children()?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn adopt_orphans() -> Result<()> {
    sys::process::set_child_subreaper().map_err(|e| Error::io("adopt orphans", e))
}

fn was_reaped() -> io::Error {
    io::Error::from_raw_os_error(libc::ECHILD)
}

/// A child that is ended with all that belongs to it: its descendants and, if it was given one, its
/// own group or session. A daemon that has left all of these is not found.
///
/// When it is dropped, it is killed as by [`Kill::now`] and reaped, within 2 s, also while
/// unwinding. That cannot report a survivor, so call [`Managed::stop`] first if you must know. After
/// a `stop` that failed, dropping it tries once more.
///
/// If no descriptor is free, or /proc cannot be used, its descendants outside of its own group are
/// not found and live on. Only the child itself is reaped. In a forked copy of the process, dropping
/// it does nothing.
#[derive(Debug)]
pub struct Managed {
    /// `None`: detached, or already ended by `output`.
    child: Option<Child>,
    id: ProcessId,
    /// `None`: it had exited when it was spawned, and there are no pidfds.
    process: Option<PidRef>,
    own: Option<OwnedGroup>,
    group: u32,
    owner: Owner,
    /// Its status, once it was seen.
    status: Option<ExitStatus>,
}

impl Managed {
    /// Its pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.pid()
    }

    /// Its identity.
    #[must_use]
    pub fn process_id(&self) -> ProcessId {
        self.id
    }

    /// The group it was spawned in.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.group
    }

    /// The child itself, for its pipes. Wait for it by [`Managed::wait`]: what [`Child::wait`] reaps
    /// may be another child, if another thread has reaped this one.
    pub fn child(&mut self) -> &mut Child {
        match &mut self.child {
            Some(child) => child,
            // Only `detach` and `output` take it, and both consume `self`.
            None => unreachable!("a detached child is not managed"),
        }
    }

    /// Closes its standard input and waits until it exits. Every call returns its true status. To
    /// wait with a time limit, call [`Managed::output`], which also works without pipes.
    ///
    /// A child with a session of its own ([`Group::NewSession`]) stays a zombie until a
    /// [`Managed::stop`] that is `Ok`, [`Managed::output`] or drop reaps it.
    ///
    /// # Errors
    /// `Io`: another thread has reaped it. A child that has got its number since is not waited for.
    ///
    /// # Kernel versions
    /// Linux 5.4 to wait by pidfd. Before it, and without pidfds, the identity is compared, and an
    /// error says if that cannot be done.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.child().stdin.take());
        let status = self.status_when(When::Ended);
        status
            .and_then(|status| status.ok_or_else(was_reaped))
            .map_err(|e| Error::io(format!("wait for child {}", self.id()), e))
    }

    /// Its true status if it has exited; `None`: it runs. Does not wait, and leaves the standard
    /// input open.
    ///
    /// # Errors
    /// As [`Managed::wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.status_when(When::Now);
        status.map_err(|e| Error::io(format!("wait for child {}", self.id()), e))
    }

    /// Its status; `None`: it runs.
    fn status_when(&mut self, when: When) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match self.look(when) {
                Err(e) if e.raw_os_error() == Some(libc::ECHILD) => self.status_of_reaped()?,
                status => status?,
            };
            if !self.leads_session() {
                self.reap();
            }
        }
        Ok(self.status)
    }

    /// If so, its zombie shows that the number of the session is still its own.
    fn leads_session(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_session)
    }

    /// Its status; `None`: it runs. It is not reaped. `ECHILD`: it was reaped before, whatever has its
    /// number now.
    fn look(&self, when: When) -> io::Result<Option<ExitStatus>> {
        if let Some(pidfd) = self.process.as_ref().and_then(PidRef::pidfd) {
            match waitid_status(ChildId::Pidfd(pidfd), when) {
                // Linux before 5.4.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                status => return status,
            }
        }
        self.check_number()?;
        let status = waitid_status(ChildId::Number(self.id.number()), when)?;
        // It has kept its number until now, so the status is its own.
        self.check_number()?;
        Ok(status)
    }

    /// `ECHILD`: it does not have its number any more.
    fn check_number(&self) -> io::Result<()> {
        match ProcessId::of(self.id())? {
            Some(id) if id.is_same(&self.id) => Ok(()),
            _ => Err(was_reaped()),
        }
    }

    /// Its status, if std's `Child` has reaped it.
    fn status_of_reaped(&mut self) -> io::Result<Option<ExitStatus>> {
        let number = ChildId::Number(self.id.number());
        match waitid_status(number, When::Now) {
            // Another child has the number, and std would take its status.
            Ok(_) => Err(was_reaped()),
            Err(_) => self.child().try_wait(),
        }
    }

    /// Reaps it, if it has ended.
    fn reap(&mut self) {
        if let Ok(Some(status)) = self.look(When::Now) {
            self.status = Some(status);
            // A zombie keeps its number, so std waits for no other child. std's `Child` must do it:
            // after that it neither signals nor waits for the number. One gap is left: another thread
            // reaps it after the look, and a child that gets the number ends before this call.
            drop(self.child().try_wait());
        }
    }

    /// Ends it, all its descendants and all members of its own group or session, under one
    /// deadline, and reaps it. [`Managed::wait`] still returns its status. Members of its own group
    /// or session are also ended if it was waited for long ago.
    ///
    /// If something else than `Managed` has reaped the leader of a session, such as [`Child::wait`],
    /// members in groups of their own cannot be told from a later session of the same number. They are
    /// left alone: `Unproven`.
    ///
    /// # Errors
    /// As [`Kill::trees`].
    ///
    /// # Kernel versions
    /// Linux 5.12 for the group of a child that was waited for. Before it, the members cannot be told
    /// from a later group of the same number, and may be left alone: `Unproven`.
    pub fn stop(&mut self, how: &Kill) -> Result<Report> {
        let stopped = how.families(&[self.id], self.own.as_slice(), Ppoll);
        // The next call may have to find what is left of the session.
        if stopped.is_ok() || !self.leads_session() {
            self.reap();
        }
        stopped
    }

    /// Kills what is held already. Needs neither /proc nor a free descriptor.
    fn kill_without_search(&mut self, deadline: Deadline) {
        // A number that may be a stranger's by now is not signalled.
        if let Some(own) = self.own.as_ref().filter(|own| !own.group.is_lost()) {
            // An error means that it has no members, or that none of them may be signalled.
            own.group.signal(SIGKILL).unwrap_or(false);
        }
        let mut proc = MaybeProc::default();
        if let Some(process) = &self.process {
            // An error as above. If it is not gone by the deadline, it cannot be reaped.
            process.signal(SIGKILL, &mut proc).unwrap_or(false);
            is_gone_by(process, deadline, &mut proc, &mut Ppoll).unwrap_or(false);
        }
        self.reap();
    }

    /// Gives the plain child back. Nothing is killed.
    #[must_use = "a child that is not waited for becomes a zombie"]
    pub fn detach(mut self) -> Child {
        match self.child.take() {
            Some(child) => child,
            None => unreachable!("a detached child is not managed"),
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // This is a forked copy of the process: the child is not its own.
        if self.child.is_none() || !self.owner.is_caller() {
            return;
        }
        // A leader is reaped after its group has ended: before Linux 5.12 only the leader, a zombie
        // too, shows that the number is still the group's own.
        let is_over = self.own.is_none() && matches!(self.try_wait(), Ok(Some(_)));
        if !is_over {
            let deadline = Deadline::after(Duration::from_secs(2));
            // Drop cannot report a survivor; `stop` does.
            if self.stop(&Kill::now()).is_err() {
                self.kill_without_search(deadline);
            }
        }
    }
}

//! Supervision of children: spawned in a group, stopped whole, read with limits, listed in a registry.
//!
//! [`std::process::Command`] and [`Child`] stay what they are: [`CommandExt`] adds a way to spawn.
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

use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, Result};
use super::kill::Kill;
use super::proc::{MaybeProc, Proc};
use super::process::group::OwnedGroup;
use super::process::{Owner, PidRef, Pin, ProcessGroup, ProcessId, pid_of};
use super::report::Report;
use super::sys::spawn::NewGroup;
use super::sys::{self, ChildState, Pid, SIGKILL};
use super::wait::{Deadline, Ppoll, is_gone_by};

mod output;
mod pipe;
mod registry;

pub use output::{Ended, Limits, Output, Stream};
pub use registry::{Registry, Ticket};

/// Makes the calling process adopt the orphans among its descendants (prctl(2)
/// `PR_SET_CHILD_SUBREAPER`), which makes [`Kill::children`] exact.
///
/// It is process-wide and lasts until the process ends: whoever calls it has to reap the orphans as
/// well (`waitpid(-1)`), or they stay zombies. Children do not inherit it.
///
/// # Errors
/// `Io`: the kernel refused, which it does to no process since Linux 3.4.
pub fn adopt_orphans() -> Result<()> {
    sys::process::set_child_subreaper().map_err(|e| Error::io("adopt orphans", e))
}

/// The process group that a child is spawned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The caller's.
    Inherit,
    /// One of its own, which [`Managed`] owns (setpgid(2)).
    New,
    /// One of its own in a session of its own without a terminal, both of which [`Managed`] owns
    /// (setsid(2)).
    NewSession,
    /// An existing one in the caller's session, which is never signalled as a group.
    Join(u32),
}

/// Spawns children that are stopped whole.
pub trait CommandExt {
    /// Spawns the command in a group. Nothing sticks to the command: it may be spawned again, with
    /// another group or none.
    ///
    /// In any group but [`Group::Inherit`], a standard input that is a terminal becomes `/dev/null`:
    /// a background process that reads the terminal is stopped by SIGTTIN.
    ///
    /// # Errors
    /// `Refused`: the group to join is 0, 1 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`:
    /// the command cannot be run, or the group to join does not exist in this session; or it had been
    /// reaped by somebody else before it could be identified, as where SIGCHLD is ignored. No child is
    /// left behind by an error.
    fn spawn_managed(&mut self, group: Group) -> Result<Managed>;
}

impl CommandExt for Command {
    fn spawn_managed(&mut self, group: Group) -> Result<Managed> {
        let new = match group {
            Group::Inherit => NewGroup::Inherit,
            Group::New => NewGroup::Lead,
            Group::NewSession => NewGroup::LeadSession,
            Group::Join(pgid) => match pid_of(pgid)? {
                pgid if pgid.is_init() => return Err(Error::refused("1 is init's group")),
                pgid => NewGroup::Join(pgid),
            },
        };
        // Before there is a child that could not be identified.
        Proc::open()?;
        let program = self.get_program().to_string_lossy().into_owned();
        let failed = |e| {
            let where_to = match group {
                Group::Join(pgid) => format!(" in group {pgid}"),
                _ => String::new(),
            };
            Error::io(format!("spawn {program}{where_to}"), e)
        };
        let child = sys::spawn::spawn_in_group(self, new).map_err(failed)?;
        let pid = child.id();
        // From here on Drop ends the child if something fails: it is ours, unreaped, so the pid holds.
        let mut unmanaged = Unmanaged {
            child: Some(child),
            leads: matches!(group, Group::New | Group::NewSession),
        };
        let id = ProcessId::of(pid)?.ok_or_else(|| {
            // SIGCHLD is ignored, or another thread reaps whatever it finds.
            Error::io(
                format!("identify {program}"),
                std::io::ErrorKind::NotFound.into(),
            )
        })?;
        let process = match PidRef::open(id.number(), Some(&id), &mut MaybeProc::default()) {
            Pin::Held(process) => Some(process),
            Pin::Gone => None,
            Pin::NoRoom => {
                let full = std::io::Error::from_raw_os_error(libc::EMFILE);
                return Err(Error::io(format!("watch {program}"), full));
            }
            Pin::Refused(_) => {
                let failed = std::io::ErrorKind::Unsupported.into();
                return Err(Error::io(format!("watch {program}"), failed));
            }
        };
        let own = match group {
            Group::Inherit | Group::Join(_) => None,
            Group::New | Group::NewSession => Some(OwnedGroup {
                group: Arc::new(ProcessGroup::open(pid_of(pid)?).map_err(failed)?),
                is_session: group == Group::NewSession,
            }),
        };
        Ok(Managed {
            child: unmanaged.child.take(),
            id,
            process,
            own,
            group: match group {
                Group::Inherit => sys::process::getpgrp(),
                Group::Join(pgid) => pgid,
                Group::New | Group::NewSession => pid,
            },
            owner: Owner::current(),
        })
    }
}

/// A child on its way to be managed.
struct Unmanaged {
    child: Option<Child>,
    leads: bool,
}

impl Drop for Unmanaged {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        let Some(pid) = Pid::new(child.id()) else {
            return;
        };
        // Reaped by somebody else, its number may be a stranger's.
        if matches!(sys::waitid_nowait(pid), Ok(ChildState::NotOurs) | Err(_)) {
            return;
        }
        if self.leads {
            // It may have forked already. The number is its own until it is reaped.
            sys::kill_group(pid, SIGKILL).unwrap_or(());
        }
        // What has ended already is only reaped.
        child.kill().unwrap_or(());
        drop(child.wait());
    }
}

/// A child that is ended with all that belongs to it: its descendants and, if it was given one, its
/// own group or session. A daemon that has left all of these is not found
/// ([`Coverage::BestEffort`](super::Coverage::BestEffort)).
///
/// Dropped, it is killed at once, as by [`Kill::now`], and reaped; that takes no longer than the two
/// seconds of its verification, also while unwinding. In a forked copy of the process nothing is done. If no descriptor is free, or /proc cannot be
/// used, its descendants outside of its own group cannot be found and are left. Nobody but the child
/// itself is reaped.
#[derive(Debug)]
pub struct Managed {
    /// `None`: detached.
    child: Option<Child>,
    id: ProcessId,
    /// `None`: it had exited when it was spawned.
    process: Option<PidRef>,
    own: Option<OwnedGroup>,
    group: u32,
    owner: Owner,
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

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        match &mut self.child {
            Some(child) => child,
            // Only `detach` and `Drop` take it, and both take the whole of `self`.
            None => unreachable!("a detached child is not managed"),
        }
    }

    /// Closes its standard input and waits until it exits; its true status, every time.
    ///
    /// # Errors
    /// `Io`: somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let pid = self.id();
        let waited = self.child().wait();
        waited.map_err(|e| Error::io(format!("wait for child {pid}"), e))
    }

    /// Its true status if it has exited; `None`: it runs. It does not wait, and leaves the standard
    /// input open.
    ///
    /// # Errors
    /// `Io`: somebody else has reaped it.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let pid = self.id();
        let waited = self.child().try_wait();
        waited.map_err(|e| Error::io(format!("wait for child {pid}"), e))
    }

    /// Ends it, all its descendants and all members of its own group or session, under one deadline,
    /// and reaps it; [`Managed::wait`] still yields the status. Members of its own group that outlive
    /// it are ended also when it was waited for long ago.
    ///
    /// # Errors
    /// As [`Kill::tree`].
    pub fn stop(&mut self, how: &Kill) -> Result<Report> {
        let stopped = how.families(&[self.id], self.own.as_slice(), Ppoll);
        // If it is not gone, there is nothing to reap.
        drop(self.child().try_wait());
        stopped
    }

    /// What is left to do without /proc or a free descriptor: what is held open is enough.
    fn kill_without_search(&mut self, deadline: Deadline) {
        if let Some(own) = &self.own {
            // It has no members, or they may not be signalled.
            own.group.signal(SIGKILL).unwrap_or(false);
        }
        let mut proc = MaybeProc::default();
        if let Some(process) = &self.process {
            // As above; and who is not gone by then cannot be reaped.
            process.signal(SIGKILL, &mut proc).unwrap_or(false);
            is_gone_by(process, deadline, &mut proc, &mut Ppoll).unwrap_or(false);
        }
        drop(self.child().try_wait());
    }

    /// Gives the plain child back and touches nothing.
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
        let Some(child) = &mut self.child else {
            return;
        };
        // A forked copy of the process has dropped its copy of this.
        if !self.owner.is_caller() {
            return;
        }
        let is_reaped = matches!(child.try_wait(), Ok(Some(_)));
        if !(is_reaped && self.own.is_none()) {
            let deadline = Deadline::after(Duration::from_secs(2));
            // A survivor cannot be told of here: whoever wants to know calls `stop`.
            if self.stop(&Kill::now()).is_err() {
                self.kill_without_search(deadline);
            }
        }
    }
}

//! Spawning a child into a group, until it is certain which process it is.
//!
//! Until then it is `Unmanaged`: if something fails, drop ends it, and nothing that got its number.

use std::io;
use std::process::{Child, Command};
use std::sync::Arc;

use super::super::error::{Error, Result};
use super::super::proc::{MaybeProc, Proc};
use super::super::process::group::OwnedGroup;
use super::super::process::{Owner, PidRef, Pin, ProcessGroup, ProcessId, pid_of};
use super::super::sys::process::{ChildId, When, waitid_status};
use super::super::sys::spawn::{Mark, NewGroup};
use super::super::sys::{self, Pid, SIGKILL};
use super::{Managed, was_reaped};

/// The process group that a child is spawned in.
///
/// `New` suits most commands. `NewSession` finds more: a descendant that moves to another group
/// stays in the session, also after its parent has ended. Choose it for programs that make groups
/// of their own, such as shells with job control, and for programs that must not ask on the
/// terminal. Choose `New` for programs that open /dev/tty.
///
/// With both, Ctrl-C on the terminal no longer reaches the child, because the terminal signals only
/// its foreground group. The caller must stop the child itself;
/// [`guide::groups`](super::super::guide::groups) shows how.
///
/// | group | `stop` and drop end | Ctrl-C reaches the child |
/// |---|---|---|
/// | `Inherit` | its tree | yes |
/// | `New` | its tree, and every member of the group | no |
/// | `NewSession` | its tree, and every member of the session | no |
/// | `Join` | its tree | if it is the foreground group |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Group {
    /// The caller's group, for a program that shares the terminal with the caller, such as an editor
    /// or a pager. The group is never signalled as a whole, because the caller is in it. An orphan
    /// that has left the tree is not found.
    Inherit,
    /// A group of its own, which [`Managed`] owns (setpgid(2)): the usual choice. Orphans of the tree
    /// are found as long as they stay in the group. The child can still open /dev/tty.
    New,
    /// A group of its own in a session of its own, without a terminal (setsid(2)). [`Managed`] owns
    /// both. Orphans of the tree are found as long as they stay in the session, also in groups of
    /// their own. Its zombie keeps the number of the session, so [`Managed::wait`] does not reap it:
    /// [`Managed::stop`], [`Managed::output`] and drop do.
    NewSession,
    /// An existing group in the caller's session, by its number: for the members of one pipeline.
    /// The group is never signalled as a whole, because others are in it. Its owner ends it, for
    /// example the first child of the pipeline, spawned with `New`.
    Join(u32),
}

/// Spawns children that are stopped with their trees.
pub trait CommandExt {
    /// Spawns the command in a group. A later spawn of the same command is not affected.
    ///
    /// In every group but [`Group::Inherit`], a standard input that is a terminal becomes
    /// `/dev/null`, because SIGTTIN stops a background process that reads the terminal.
    ///
    /// # Errors
    /// `Refused`: the group to join is 0, 1 or above `i32::MAX`. `Proc`: /proc cannot be used.
    /// `Io`: the command cannot be run; the group to join does not exist in this session; no
    /// descriptor is free; or another thread, or an ignored SIGCHLD, reaped the child before it was
    /// identified. An error leaves no child behind. A process that has got its number since is left
    /// alone.
    ///
    /// # Kernel versions
    /// Linux 5.12 for the proof that the process is the one that was spawned. Before it, and without
    /// pidfds, the proof is that it is a child of the caller: another child that got the number during
    /// this call looks the same.
    fn spawn_managed(&mut self, group: Group) -> Result<Managed>;
}

impl CommandExt for Command {
    fn spawn_managed(&mut self, group: Group) -> Result<Managed> {
        let new = group.checked()?;
        // Checked before there is a child, because without /proc it could not be identified.
        Proc::open()?;
        let program = self.get_program().to_string_lossy().into_owned();
        let failed = |e| match group {
            Group::Join(pgid) => Error::io(format!("spawn {program} in group {pgid}"), e),
            _ => Error::io(format!("spawn {program}"), e),
        };
        let unwatched = |e| Error::io(format!("watch {program}"), e);
        let (child, mark) = sys::spawn::spawn_in_group(self, new).map_err(failed)?;
        let pid = child.id();
        // From here on Drop ends the child if something fails.
        let mut unmanaged = Unmanaged {
            child: Some(child),
            mark,
            leads: matches!(group, Group::New | Group::NewSession),
        };
        // SIGCHLD is ignored, or another thread reaps every child.
        let lost = || unwatched(was_reaped());
        let id = ProcessId::of(pid)?.ok_or_else(lost)?;
        let process = watch(&id).map_err(unwatched)?;
        let own = match unmanaged.leads {
            false => None,
            true => Some(OwnedGroup {
                group: Arc::new(ProcessGroup::open(id.number()).map_err(failed)?),
                is_session: group == Group::NewSession,
            }),
        };
        // Asked last: if the child is not reaped yet, all of the above is its own.
        if !unmanaged.has_number(id.number()) {
            return Err(lost());
        }
        Ok(Managed {
            child: unmanaged.child.take(),
            id,
            process,
            own,
            group: group.number(pid),
            owner: Owner::current(),
            status: None,
        })
    }
}

impl Group {
    /// The number of the group that this child is in.
    fn number(self, child: u32) -> u32 {
        match self {
            Group::Inherit => sys::process::getpgrp(),
            Group::Join(pgid) => pgid,
            Group::New | Group::NewSession => child,
        }
    }

    /// Refuses a group that is none.
    fn checked(self) -> Result<NewGroup> {
        Ok(match self {
            Group::Inherit => NewGroup::Inherit,
            Group::New => NewGroup::Lead,
            Group::NewSession => NewGroup::LeadSession,
            Group::Join(pgid) => match pid_of(pgid)? {
                pgid if pgid.is_init() => return Err(Error::refused("1 is init's group")),
                pgid => NewGroup::Join(pgid),
            },
        })
    }
}

/// Holds a child, a zombie too; `None`: it has ended, and there are no pidfds.
fn watch(id: &ProcessId) -> io::Result<Option<PidRef>> {
    match PidRef::open_unlooked(id.number(), Some(id), &mut MaybeProc::default()) {
        Pin::Held(process) => Ok(Some(process)),
        Pin::Gone => Ok(None),
        Pin::NoRoom => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        Pin::Failed(e) => Err(e),
        Pin::Refused(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A child that is spawned and not managed yet.
struct Unmanaged {
    child: Option<Child>,
    mark: Mark,
    leads: bool,
}

impl Unmanaged {
    /// Whether the child still has its number. Without the mark, another child of the caller counts as
    /// the child.
    fn has_number(&self, pid: Pid) -> bool {
        let is_child = || waitid_status(ChildId::Number(pid), When::Now).is_ok();
        self.mark.names(pid).unwrap_or_else(is_child)
    }
}

impl Drop for Unmanaged {
    fn drop(&mut self) {
        let Some(pid) = self.child.as_ref().and_then(|child| Pid::new(child.id())) else {
            return;
        };
        // If it was reaped, its number may be a stranger's.
        if !self.has_number(pid) {
            return;
        }
        let Some(child) = &mut self.child else {
            return;
        };
        if self.leads {
            // It may have forked already. The number is its own until it is reaped. An error means
            // that no member is left.
            sys::kill_group(pid, SIGKILL).unwrap_or(());
        }
        // If it has ended already, it is only reaped. One that may not be killed (a setuid program) is
        // not waited for: it can live for ever.
        if child.kill().is_ok() {
            drop(child.wait());
        }
    }
}

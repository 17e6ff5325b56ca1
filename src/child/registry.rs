//! A list of children and groups that must not outlive the program.
//!
//! | state | `add` | becomes |
//! |---|---|---|
//! | open | lists an entry until its ticket is dropped | closed by the first `kill_all` |
//! | closed | is refused | stays closed |
//!
//! Invariant: closing and listing happen under one lock. So a child is either refused, or in the
//! list that the closing `kill_all` kills. No lock is held while killing.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::error::{Error, Result};
use super::super::kill::Kill;
use super::super::kill::groups::group_to_kill;
use super::super::process::group::OwnedGroup;
use super::super::process::{Owner, ProcessGroup, ProcessId};
use super::super::report::Report;
use super::super::wait::Ppoll;
use super::Managed;

/// The children and groups that must not outlive this program. It fits a `static`.
///
/// [`guide::groups`](super::super::guide::groups) shows it with a handler for Ctrl-C.
///
/// ```
/// use process_kill::Kill;
/// use process_kill::child::{CommandExt, Group, Registry};
///
/// static RUNNING: Registry = Registry::new();
///
/// let mut sleep = std::process::Command::new("sleep").arg("60").spawn_managed(Group::New)?;
/// let ticket = RUNNING.add(&sleep)?;
/// RUNNING.kill_all(&Kill::graceful())?; // as from a thread that handles signals
/// assert!(!sleep.wait()?.success());
/// # drop(ticket);
/// # Ok::<(), process_kill::Error>(())
/// ```
pub struct Registry {
    listed: Mutex<Listed>,
}

struct Listed {
    is_closed: bool,
    next: u64,
    entries: Vec<(u64, Entry)>,
}

#[derive(Clone)]
struct Entry {
    root: Option<ProcessId>,
    own: Option<OwnedGroup>,
    owner: Owner,
}

impl Registry {
    /// An empty registry, open.
    #[must_use]
    pub const fn new() -> Registry {
        Registry {
            listed: Mutex::new(Listed {
                is_closed: false,
                next: 0,
                entries: Vec::new(),
            }),
        }
    }

    /// Lists a child with its tree and its own group or session, until the ticket is dropped.
    ///
    /// # Errors
    /// `Refused`: [`Registry::kill_all`] was called. The child is not listed: only its owner can
    /// end it. A loop that starts its child again ends then. If the child must not run even for that
    /// moment, set a flag before `kill_all`, and look at it before each spawn.
    pub fn add(&self, child: &Managed) -> Result<Ticket<'_>> {
        self.list(Entry {
            root: Some(child.id),
            own: child.own.clone(),
            owner: child.owner,
        })
    }

    /// Lists a process group with all descendants of its members, as [`Kill::jobs`] takes them, until
    /// the ticket is dropped. Several tickets for one group are independent. Use it for a child that
    /// something else spawned, such as tokio.
    ///
    /// # Errors
    /// `Refused`: the number is 0, 1, above `i32::MAX`, or a group that holds the caller or one of
    /// its ancestors; or [`Registry::kill_all`] was called. `Proc` or `Io`: /proc cannot be used or
    /// read. `Io`: no descriptor is free.
    pub fn add_group(&self, pgid: u32) -> Result<Ticket<'_>> {
        let group = group_to_kill(pgid)?;
        self.list(Entry {
            root: None,
            own: Some(OwnedGroup {
                group,
                is_session: false,
            }),
            owner: Owner::current(),
        })
    }

    /// Rejects all later `add` calls, then kills everything that is listed, under one deadline for
    /// all.
    ///
    /// What is not gone stays listed, and the call can be repeated. The error names the survivors.
    /// No lock is held while killing, so tickets can be dropped and several threads can call this
    /// at once. So a second call with [`Kill::now`] ends the grace of the first, for example after a
    /// second Ctrl-C. In a forked copy of the process, entries of the original are left alone. If the
    /// original has several threads, its copy must not call this: one of them may have held the lock
    /// (fork(2)).
    ///
    /// A child that was spawned and is not listed yet lives on: its `add` is refused, and its owner
    /// must drop it. So join the threads that own children before the program exits, as
    /// [`guide::groups`](super::super::guide::groups) shows.
    ///
    /// # Errors
    /// `Survivors`: not all are gone. `Unproven`: all that were found are gone, but more may be
    /// left. `Refused`: the first signal is not in `1..=64`; then the registry stays open. `Proc`
    /// or `Io`: /proc cannot be used or read, and nothing was sent.
    pub fn kill_all(&self, how: &Kill) -> Result<Report> {
        how.check()?;
        let entries = {
            let mut listed = self.lock();
            listed.is_closed = true;
            let caller = Owner::current();
            let own = listed.entries.iter();
            let own = own.filter(|(_, entry)| entry.owner.is_same(caller));
            own.cloned().collect::<Vec<_>>()
        };
        let roots: Vec<ProcessId> = entries.iter().filter_map(|(_, entry)| entry.root).collect();
        let own: Vec<OwnedGroup> = entries
            .iter()
            .filter_map(|(_, entry)| entry.own.clone())
            .collect();
        let killed = how.families(&roots, &own, Ppoll);
        let gone: Vec<u64> = match &killed {
            Ok(_) => entries.iter().map(|(key, _)| *key).collect(),
            Err(_) => entries
                .iter()
                .filter(|(_, entry)| entry.is_gone())
                .map(|(key, _)| *key)
                .collect(),
        };
        self.lock().entries.retain(|(key, _)| !gone.contains(key));
        killed
    }

    fn list(&self, entry: Entry) -> Result<Ticket<'_>> {
        let mut listed = self.lock();
        if listed.is_closed {
            return Err(Error::refused(
                "the registry is closed: all in it were to be killed",
            ));
        }
        let key = listed.next;
        listed.next += 1;
        listed.entries.push((key, entry));
        Ok(Ticket {
            registry: self,
            key,
            owner: Owner::current(),
        })
    }

    /// No foreign code runs under the lock. So the list is whole even if a panic has poisoned the
    /// lock.
    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.lock();
        f.debug_struct("Registry")
            .field("is_closed", &listed.is_closed)
            .field("listed", &listed.entries.len())
            .finish()
    }
}

impl Entry {
    /// False also if it could not be told. A session can hold many groups, so its end cannot be
    /// told by one call.
    fn is_gone(&self) -> bool {
        let root_is_gone = self.root.is_none_or(|id| id.is_gone().unwrap_or(false));
        let is_empty = |own: &OwnedGroup| !own.is_session && is_empty(&own.group);
        root_is_gone && self.own.as_ref().is_none_or(is_empty)
    }
}

/// Whether not even a zombie is left. That is more than needed, but one call tells it.
fn is_empty(group: &ProcessGroup) -> bool {
    matches!(group.signal(0), Ok(false))
}

/// A place in a [`Registry`]. Dropping it takes the entry off the list and kills nothing.
#[derive(Debug)]
#[must_use = "it leaves the registry when it is dropped, also by `let _`"]
pub struct Ticket<'a> {
    registry: &'a Registry,
    key: u64,
    owner: Owner,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // In a forked copy the lock may be held for ever, by a thread that the copy does not have.
        if !self.owner.is_caller() {
            return;
        }
        let key = self.key;
        self.registry
            .lock()
            .entries
            .retain(|(other, _)| *other != key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ErrorKind;
    use super::super::{CommandExt, Group};
    use super::*;

    #[test]
    fn a_poisoned_lock_changes_nothing() {
        let registry = Registry::new();
        let poison = || {
            let _listed = registry.lock();
            // Unlike panic! it prints nothing.
            std::panic::resume_unwind(Box::new(()));
        };
        std::thread::scope(|scope| scope.spawn(poison).join().unwrap_err());
        assert!(registry.listed.is_poisoned());
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("60").spawn_managed(Group::New).unwrap();
        let ticket = registry.add(&child).unwrap();
        assert_eq!(registry.kill_all(&Kill::now()).unwrap().len(), 1);
        assert!(!child.wait().unwrap().success());
        assert_eq!(registry.add(&child).unwrap_err().kind(), ErrorKind::Refused);
        drop(ticket);
    }
}

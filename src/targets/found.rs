//! Targets that were found: first listed, then held, then checked.
//!
//! Between the listing and the holding, the number may go to another process. So three steps run in
//! this order:
//!
//! 1. Hold the process that has the number now.
//! 2. `belongs` runs on what is read under the number.
//! 3. The answer counts only if the held process still has its number. Then what was read is its
//!    own, and a process that reused the pid cannot have answered.

use std::io;

use super::super::error::{Error, Result};
use super::super::proc::{Proc, Stat};
use super::super::process::is_nobody;
use super::super::report::Reason;
use super::super::sys::Pid;
use super::{State, Targets};

/// What became of a process that was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    /// It is a target already, or it is spared.
    Known,
    /// A zombie.
    Dead,
    /// It was reaped after it was listed, or it does not belong any more.
    Vanished,
}

impl Targets<'_> {
    /// Adds a process that was listed, if it `belongs`.
    pub(crate) fn add_found(
        &mut self,
        pid: Pid,
        belongs: impl FnOnce(&Stat<'_>, &Proc) -> io::Result<bool>,
    ) -> Result<Added> {
        if self.is_known(pid)? {
            return Ok(Added::Known);
        }
        self.read_spared()?;
        if self.spared_reason(pid).is_some() {
            return Ok(Added::Known);
        }
        let state = match self.pin(pid, None) {
            State::Gone(_) if is_nobody(pid) => return Ok(Added::Vanished),
            State::Gone(_) => return Ok(Added::Dead),
            State::Refused(Reason::Thread) => return Ok(Added::Vanished),
            State::Parked(_) | State::Pending(_) => return Err(no_room(pid)),
            State::Live(held) => {
                let mut buf = Vec::new();
                let proc = self.proc()?;
                let belongs = match proc.process(pid).stat(&mut buf) {
                    Ok(Some(stat)) if stat.is_kernel_thread() => Ok(false),
                    Ok(Some(stat)) => belongs(&stat, proc),
                    Ok(None) => Ok(false),
                    Err(e) => Err(e),
                };
                match belongs {
                    Ok(true) if held.has_its_pid() => State::Live(held),
                    Ok(_) => return Ok(Added::Vanished),
                    Err(e) => return Err(Error::io(format!("read process {}", pid.get()), e)),
                }
            }
            state => state,
        };
        self.push(pid.get(), state);
        Ok(Added::New)
    }

    /// As [`Targets::add_found`], for a search. A process that was there before the first signal, and
    /// began to match when the limit was reached, is left alone.
    pub(crate) fn add_match(
        &mut self,
        pid: Pid,
        matches: impl FnOnce(&Proc) -> io::Result<bool>,
    ) -> Result<Added> {
        let full = self.full_since();
        let mut is_saved = false;
        let added = self.add_found(pid, |stat, proc| {
            let is_match = matches(proc)?;
            is_saved = is_match && full.is_some_and(|sent| !stat.may_have_started_since(sent));
            Ok(is_match && !is_saved)
        })?;
        if is_saved {
            self.saved.push(pid);
            return Ok(Added::Known);
        }
        Ok(added)
    }

    /// Adds a child that was listed under its parent's number. [`Targets::is_still`] says whether
    /// the list was the parent's.
    pub(crate) fn add_child(&mut self, parent: Pid, child: Pid) -> Result<Added> {
        // Ancestors are not asked for: a descendant of a target can be an ancestor of the caller
        // only if the caller is a descendant too.
        if self.is_known(child)? || child.get() == self.caller {
            return Ok(Added::Known);
        }
        // The pidfd may tell the parent, which saves the look at /proc. A child that forks and
        // exits without pause must be stopped as early as possible.
        let added = match self.pin(child, None) {
            State::Live(held) if held.parent_when_opened() == Some(parent.get()) => {
                self.push(child.get(), State::Live(held));
                Added::New
            }
            State::Gone(_) if !is_nobody(child) => Added::Dead,
            _ => self.add_found(child, |stat, _| Ok(stat.parent == parent.get()))?,
        };
        let is_missed = matches!(added, Added::Dead | Added::Vanished) && !self.contains(child);
        self.has_missed |= is_missed;
        Ok(added)
    }

    /// The children that were listed under a parent's number; `None` if the list may be another
    /// process's.
    pub(crate) fn own_children(
        &mut self,
        parent: Pid,
        listed: Vec<Pid>,
    ) -> Result<Option<Vec<Pid>>> {
        let is_own = self.is_still(parent)?;
        if let (true, Some(&index)) = (is_own, self.latest.get(&parent)) {
            self.targets[index].was_listed = true;
        }
        Ok(is_own.then_some(listed))
    }

    /// Whether the process that has this number is a target.
    fn is_known(&mut self, pid: Pid) -> Result<bool> {
        let Some(&index) = self.latest.get(&pid) else {
            return Ok(false);
        };
        let is_refused = matches!(self.targets[index].state, State::Refused(_));
        Ok(is_refused || self.has_its_pid(index)?)
    }

    /// Whether the caller or a target still has this number. Then a list of children that was read
    /// under it before is its own.
    pub(crate) fn is_still(&mut self, pid: Pid) -> Result<bool> {
        match self.latest.get(&pid) {
            Some(&index) => self.has_its_pid(index),
            None => Ok(pid.get() == self.caller),
        }
    }

    /// Whether a target still has its pid. If it was reaped, it is gone. An error: no descriptor is
    /// free to hold it, or it cannot be looked at.
    pub(crate) fn has_its_pid(&mut self, index: usize) -> Result<bool> {
        let doubt = self.targets[index].doubt;
        // Unless it is looked at, no descriptor was free to hold it.
        let mut looked = Err(io::Error::from_raw_os_error(libc::EMFILE));
        self.act(index, self.outcome, |held, proc, _| {
            looked = match held.pidfd() {
                Some(_) => Ok(held.has_its_pid()),
                None => held.is_gone(proc).map(|gone| !gone),
            };
            Ok(matches!(looked, Ok(false)))
        });
        // A failed look says nothing about what was sent.
        self.targets[index].doubt = doubt;
        match self.live(index) {
            None => Ok(false),
            Some(pid) => looked.map_err(|e| Error::io(format!("hold process {}", pid.get()), e)),
        }
    }

    /// Forgets the targets from one index on, unless `keep` says true. They were not signalled yet.
    pub(crate) fn keep(&mut self, from: usize, keep: impl Fn(Pid) -> bool) {
        let mut index = 0;
        self.targets.retain(|target| {
            index += 1;
            index <= from || Pid::new(target.number).is_some_and(&keep)
        });
        self.latest.clear();
        for index in 0..self.targets.len() {
            self.index(index);
        }
    }
}

fn no_room(pid: Pid) -> Error {
    let full = io::Error::from_raw_os_error(libc::EMFILE);
    Error::io(format!("hold process {}", pid.get()), full)
}

//! Targets that were named, and who is spared or may be given an orphan: the caller's ancestors and those
//! of the targets.

use std::collections::HashSet;
use std::io;

use super::super::error::Result;
use super::super::proc;
use super::super::process::{PidRef, Pin, ProcessId};
use super::super::report::{Outcome, Reason};
use super::super::sys::Pid;
use super::{Spared, State, Targets};

impl Targets<'_> {
    /// Adds each of these once: the process that has the number or, with a `ProcessId`, only that
    /// very process. A spared one is reported, never signalled.
    pub(crate) fn add_named<'a>(
        &mut self,
        named: impl Iterator<Item = (u32, Option<&'a ProcessId>)>,
    ) {
        let mut seen = HashSet::new();
        self.unlooked = Some(self.targets.len());
        for (number, expected) in named {
            if !seen.insert((number, expected)) {
                continue;
            }
            let state = match (Pid::new(number), expected) {
                (None, _) => State::Refused(Reason::InvalidPid),
                (Some(pid), None) => match self.refusal(pid, None) {
                    Ok(Some(reason)) => State::Refused(reason),
                    // The ancestors are asked for after it is held.
                    Ok(None) | Err(_) => self.pin(pid, None),
                },
                // The number may be a successor's. So an identity is refused only after the process
                // is held.
                (Some(pid), Some(id)) => match self.here().judge(id) {
                    Some(Pin::Gone) => State::Gone(Outcome::AlreadyGone),
                    Some(_) => State::Refused(Reason::Unverifiable),
                    None => self.pin(pid, expected),
                },
            };
            let state = self.unless_refused(state);
            self.push(number, state);
        }
        self.look_at_unlooked();
        self.unlooked = None;
    }

    pub(super) fn unless_refused(&mut self, state: State) -> State {
        let State::Live(held) = &state else {
            return state;
        };
        match self.refusal(held.pid(), Some(held)) {
            Ok(None) => return state,
            Ok(Some(reason)) => return State::Refused(reason),
            Err(_) => {}
        }
        let Some(id) = held.identity() else {
            return State::Refused(Reason::Unverifiable);
        };
        // The descriptor that reads the ancestors may be the one that holds it.
        drop(state);
        match self.read_ancestors() {
            Ok(()) => {
                let state = self.pin(id.number(), Some(&id));
                self.unless_refused(state)
            }
            Err(_) => State::Parked(id),
        }
    }

    fn refusal(&mut self, pid: Pid, held: Option<&PidRef>) -> io::Result<Option<Reason>> {
        match &mut self.spared {
            Some(spared) => spared.refusal(pid, held, &mut self.proc),
            None => Ok(None),
        }
    }

    /// Why this process is spared; `None`: it is not. As long as the ancestors cannot be read, every
    /// process is spared.
    pub(crate) fn spared_reason(&mut self, pid: Pid) -> Option<Reason> {
        match self.spared.as_mut()?.reason(pid, &mut self.proc) {
            Ok(reason) => reason,
            Err(_) if self.read_ancestors().is_ok() => self.spared_reason(pid),
            Err(_) => Some(Reason::Unverifiable),
        }
    }

    /// Reads the caller's ancestors, unless they may be killed. A search needs them first: what is
    /// spared for lack of them would be passed over without a word.
    pub(crate) fn read_spared(&mut self) -> Result<()> {
        match &self.spared {
            Some(spared) if !spared.even_ancestors => self.read_ancestors(),
            _ => Ok(()),
        }
    }

    /// The caller's ancestors, spared or not. If [`Targets::read_ancestors`] fails, some are missing.
    pub(crate) fn ancestors(&mut self) -> HashSet<Pid> {
        // The next question reads them again.
        drop(self.read_ancestors());
        let known = self.spared.as_ref().map(Spared::ancestors);
        known.cloned().unwrap_or_default()
    }

    /// The parents of all targets when these were first held, their parents and so on, targets left out.
    /// An orphan of a target is given to one of these or to init. `None`: one of them has ended, or
    /// could not be told. Then nothing tells who was given the orphan.
    pub(crate) fn ancestors_of_all(&mut self) -> Result<Option<HashSet<Pid>>> {
        let mut ask = Vec::new();
        for target in &self.targets {
            match (target.parent, &target.state) {
                (Some(parent), _) => ask.extend(Pid::new(parent)),
                (None, State::Refused(_) | State::Gone(Outcome::AlreadyGone)) => {}
                (None, _) => return Ok(None),
            }
        }
        let mut ancestors = HashSet::new();
        let mut buf = Vec::new();
        while let Some(pid) = ask.pop() {
            if self.was_accepted(pid) || !ancestors.insert(pid) {
                continue;
            }
            let stat = self.proc()?.process(pid).stat(&mut buf);
            match proc::readable(pid, stat)? {
                Some(stat) if !self.is_surely_younger(&stat) => ask.extend(Pid::new(stat.parent)),
                _ => return Ok(None),
            }
        }
        Ok(Some(ancestors))
    }

    /// Whether a process with this pid is a target, or was one that has ended during the call.
    fn was_accepted(&self, pid: Pid) -> bool {
        let index = self.latest.get(&pid);
        index.is_some_and(|&index| match self.targets[index].state {
            State::Live(_) | State::Parked(_) | State::Pending(_) => true,
            State::Gone(outcome) => outcome != Outcome::AlreadyGone,
            State::Refused(_) => false,
        })
    }

    /// Spares the caller's ancestors, whatever the call allows.
    pub(crate) fn spare_ancestors(&mut self) {
        if let Some(spared) = &mut self.spared {
            spared.even_ancestors = false;
        }
    }
}

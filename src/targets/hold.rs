//! How targets are held if there may be more targets than descriptors.
//!
//! 1. A process is held by a pidfd. If no descriptor is free, the oldest targets are parked for it, a
//!    few at a time: their pidfds are closed, and their identities are kept.
//! 2. If no target can be parked, another thread may close a descriptor soon. So the attempt is
//!    repeated for a moment. All targets of a call share that moment.
//! 3. If that fails too, the target waits without being held: `Parked` if its identity is known,
//!    `Pending` if not. It is held when it is acted on.
//!
//! Invariant: what is held again is the same process. A parked target is compared with its identity.
//! A pending one is refused if it may have started since the call began. Both are checked again for
//! what is spared.
//!
//! `Proc` keeps up to two spare descriptors, so that /proc can be read all the same.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::{self, MaybeProc};
use super::super::process::{PidRef, Pin, ProcessGroup, ProcessId, have_ended};
use super::super::report::{Outcome, Reason};
use super::super::sys::Pid;
use super::super::wait::{Backoff, Deadline, Wait};
use super::{State, Targets};

/// How many targets one system call looks at.
pub(super) const AT_ONCE: usize = 32;

impl Targets<'_> {
    /// Holds a process. If no descriptor is free, it is held later. If pidfd_open(2) keeps failing
    /// for another reason, kill(2) and /proc replace the pidfd of a bare pid.
    pub(super) fn pin(&mut self, pid: Pid, expected: Option<&ProcessId>) -> State {
        let open = match self.unlooked {
            Some(_) => PidRef::open_unlooked,
            None => PidRef::open,
        };
        let pin = loop {
            match open(pid, expected, &mut self.proc) {
                Pin::NoRoom if self.make_room() => {}
                Pin::NoRoom => match PidRef::without_descriptor(pid, expected) {
                    Pin::Refused(_) if self.pause() => {}
                    Pin::Refused(_) => break Pin::NoRoom,
                    pin => break pin,
                },
                Pin::Failed(_) if self.pause() => {}
                // It may fail for good. A pid alone can be held by its start time, as without
                // pidfds.
                Pin::Failed(_) if expected.is_none() => {
                    break PidRef::without_pidfd(pid, None, &mut self.proc);
                }
                pin => break pin,
            }
        };
        match pin {
            Pin::Held(held) => State::Live(held),
            Pin::Gone => State::Gone(Outcome::AlreadyGone),
            Pin::Refused(reason) => State::Refused(reason),
            Pin::NoRoom | Pin::Failed(_) => {
                expected.map_or(State::Pending(pid), |id| State::Parked(*id))
            }
        }
    }

    /// As [`Targets::pin`], for a bare pid some time after the call began. The number may have gone
    /// to another process since, so a process that may have started since is refused.
    fn pin_late(&mut self, pid: Pid) -> State {
        let held = match self.pin(pid, None) {
            State::Live(held) => held,
            state => return state,
        };
        let mut buf = Vec::new();
        let stat = self.proc.get().map(|proc| proc.process(pid).stat(&mut buf));
        match stat {
            Some(Ok(Some(stat))) if !self.is_younger(&stat) && held.has_its_pid() => {
                State::Live(held)
            }
            _ => State::Refused(Reason::Unverifiable),
        }
    }

    /// Pauses before another attempt: another thread may close a descriptor in a moment. False: the
    /// time for that is over. All targets share it, because a table can be full for good.
    fn pause(&mut self) -> bool {
        const PATIENCE: Duration = Duration::from_millis(20);
        let until = *self
            .retry_by
            .get_or_insert_with(|| Deadline::after(PATIENCE));
        let mut pause = Backoff::new(Duration::from_millis(2), Duration::from_millis(2));
        let has_time = !until.has_passed();
        if has_time {
            pause.pause(until, &mut *self.wait);
        }
        has_time
    }

    /// Parks a few targets, so that this thread can open a pidfd and other threads find room.
    pub(super) fn make_room(&mut self) -> bool {
        const FEW: usize = 4;
        if self.unlooked.is_some() && self.look_at_unlooked() {
            return true;
        }
        let mut parked = 0;
        for target in &mut self.targets {
            let State::Live(held) = &target.state else {
                continue;
            };
            if let Some(id) = held.identity() {
                target.state = State::Parked(id);
                parked += 1;
            }
            if parked == FEW {
                break;
            }
        }
        parked > 0
    }

    /// Makes an attempt that needs a descriptor. If none is free, targets are parked for it, and then
    /// the spare ones of /proc are closed.
    pub(crate) fn with_room<T>(
        &mut self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt() {
                Err(e) if proc::is_no_room(&e) && self.make_room() => {}
                Err(e) if proc::is_no_room(&e) => {
                    let proc = self.proc.get().ok_or(e)?;
                    return proc.with_room(attempt);
                }
                result => return result,
            }
        }
    }

    /// Reads the caller's ancestors, if they are not known yet. If no descriptor is free, targets are
    /// parked for it.
    pub(crate) fn read_ancestors(&mut self) -> Result<()> {
        loop {
            let spared = self.spared.as_mut();
            match spared.map_or(Ok(()), |spared| spared.read_ancestors(&mut self.proc)) {
                Ok(()) => return Ok(()),
                Err(e) if proc::is_no_room(&e) && (self.make_room() || self.pause()) => {}
                Err(e) => return Err(Error::io("read the caller's ancestors", e)),
            }
        }
    }

    /// Acts on a live target. One that is not held is held first. If `act` returns true, the target
    /// is gone with `outcome`.
    pub(super) fn act(
        &mut self,
        index: usize,
        outcome: Outcome,
        act: impl FnOnce(&PidRef, &mut MaybeProc, &mut dyn Wait) -> io::Result<bool>,
    ) {
        let state = match self.targets[index].state {
            State::Parked(id) => Some(self.pin(id.number(), Some(&id))),
            State::Pending(pid) => Some(self.pin_late(pid)),
            State::Live(_) | State::Gone(_) | State::Refused(_) => None,
        };
        let was_parked = matches!(self.targets[index].state, State::Parked(_));
        match state.map(|state| self.unless_refused(state)) {
            None => {}
            Some(State::Gone(_)) => self.targets[index].state = State::Gone(outcome),
            // No descriptor is free now. There may be one later.
            Some(State::Parked(_) | State::Pending(_)) => {
                self.targets[index].doubt = Some(Reason::Unverifiable);
            }
            // A parked one may be stopped, and must be continued then.
            Some(State::Refused(reason)) if was_parked => {
                self.targets[index].doubt = Some(reason);
            }
            Some(state) => {
                let target = &mut self.targets[index];
                target.parent = target.parent.or_else(|| state.parent_when_opened());
                target.state = state;
            }
        }
        let target = &mut self.targets[index];
        let State::Live(held) = &target.state else {
            return;
        };
        match act(held, &mut self.proc, &mut *self.wait) {
            Ok(true) => target.state = State::Gone(outcome),
            Ok(false) => {}
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                target.doubt = Some(Reason::NotPermitted);
            }
            Err(_) => target.doubt = Some(Reason::Unverifiable),
        }
    }

    /// Looks at the targets that were held without a look. Those that ended before they were named are
    /// gone. That must be known before they are parked or signalled, because a signal to a zombie is no
    /// error. True: there was one.
    pub(super) fn look_at_unlooked(&mut self) -> bool {
        let all = self.targets.len();
        let from = self.unlooked.replace(all).unwrap_or(all);
        self.look(from..all, Outcome::AlreadyGone)
    }

    /// Whether a target has not ended. One system call tells, unless some have ended since.
    pub(crate) fn are_left(&mut self) -> bool {
        let all = self.targets.len();
        while let Some(first) = (0..all).find(|&index| self.live(index).is_some()) {
            if !self.look(first..all.min(first + AT_ONCE), Outcome::Exited) {
                return true;
            }
        }
        false
    }

    /// Looks at many targets with few system calls. Those that are gone are gone with `outcome`.
    /// True: there was one.
    pub(super) fn look(&mut self, which: Range<usize>, outcome: Outcome) -> bool {
        let mut found = false;
        for targets in self.targets[which].chunks_mut(AT_ONCE) {
            let mut pidfds = [None; AT_ONCE];
            for (pidfd, target) in pidfds.iter_mut().zip(targets.iter()) {
                *pidfd = match &target.state {
                    State::Live(held) if target.doubt.is_none() => held.pidfd(),
                    _ => None,
                };
            }
            let have_ended = have_ended(pidfds);
            for (target, is_gone) in targets.iter_mut().zip(have_ended) {
                if is_gone {
                    target.state = State::Gone(outcome);
                }
                found |= is_gone;
            }
        }
        found
    }

    /// The identity of the process that has this number now. If no descriptor is free, targets are
    /// parked for it.
    pub(crate) fn identify(&mut self, pid: Pid) -> io::Result<Option<ProcessId>> {
        loop {
            let proc = self.proc.get().ok_or(io::ErrorKind::Unsupported)?;
            match PidRef::identified(pid, proc) {
                Err(e) if proc::is_no_room(&e) && self.make_room() => {}
                found => return Ok(found?.map(|(_, id)| id)),
            }
        }
    }

    /// Opens a group, so that a later one of the same number is told from it.
    pub(crate) fn open_group(&mut self, pgid: Pid) -> Result<ProcessGroup> {
        let failed = |e| Error::io(format!("pin group {}", pgid.get()), e);
        match ProcessGroup::open(pgid) {
            // The pidfds of groups stay open. So each must leave room for that of a target.
            Ok(group) if self.proc()?.has_room() => Ok(group),
            Err(e) if !proc::is_no_room(&e) => Err(failed(e)),
            Ok(_) | Err(_) => {
                self.proc()?;
                ProcessGroup::open_unheld(pgid).map_err(failed)
            }
        }
    }
}

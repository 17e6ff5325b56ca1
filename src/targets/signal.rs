//! Signals to targets, and the wait for their end.
//!
//! | after a signal | the target is |
//! |---|---|
//! | it was sent | waited for |
//! | the process is gone | `Gone` |
//! | `EPERM` | in doubt (`NotPermitted`): watched, not waited for |
//! | it could not be held or told | in doubt (`Unverifiable`): SIGKILL is tried again until the deadline |

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::super::report::{Outcome, Reason};
use super::super::sys::{self, Pid, SIGCONT, SIGKILL};
use super::super::wait::{Backoff, Deadline, is_gone_by};
use super::hold::AT_ONCE;
use super::{State, Target, Targets};

impl Targets<'_> {
    /// Sends these to all live targets, from one index on. A target that may not be signalled is
    /// still watched.
    pub(crate) fn signal(&mut self, from: usize, signals: &[i32]) {
        for index in from..self.targets.len() {
            self.signal_one(index, signals, Outcome::Exited);
        }
    }

    /// Sends SIGKILL to all live targets and waits until they are gone. A target that is gone before
    /// that is gone with `outcome`. A target that could not be held because no descriptor was free is
    /// tried again until the deadline.
    ///
    /// Children come first. The end of a parent can orphan the process group of its children, and the
    /// kernel continues stopped members of an orphaned group (setpgid(2)).
    pub(crate) fn kill(&mut self, deadline: Deadline, outcome: Outcome) {
        self.kill_and(deadline, outcome, || {});
    }

    /// As [`Targets::kill`]. `then` runs each time SIGKILL was sent to all, before the wait.
    pub(crate) fn kill_and(
        &mut self,
        deadline: Deadline,
        outcome: Outcome,
        mut then: impl FnMut(),
    ) {
        self.repeat(deadline, |targets| {
            for index in targets.children_first() {
                targets.signal_one(index, &[SIGKILL], outcome);
            }
            then();
            targets.wait(deadline, Outcome::Killed);
        });
    }

    /// Every target: no parent before a child that is held, and apart from that the newest first. If
    /// none is stopped, the newest first is enough. In a list, or after the numbers began anew, a child
    /// can stand before its parent.
    fn children_first(&self) -> Vec<usize> {
        let all = 0..self.targets.len();
        if !self.targets.iter().any(|target| target.is_frozen) {
            return all.rev().collect();
        }
        let parent = |index: &usize| self.targets[*index].parent.and_then(Pid::new);
        let mut children: HashMap<Pid, Vec<usize>> = HashMap::new();
        let (roots, others) = all
            .rev()
            .partition::<Vec<usize>, _>(|i| parent(i).is_none_or(|pid| !self.contains(pid)));
        for &index in &others {
            let siblings = parent(&index).map(|pid| children.entry(pid).or_default());
            siblings.into_iter().for_each(|s| s.push(index));
        }
        // Each is followed by its descendants. The others are reached from the roots, unless a number
        // was used again.
        let mut order = Vec::with_capacity(self.targets.len());
        let mut is_seen = vec![false; self.targets.len()];
        let mut left = [others, roots].concat();
        while let Some(index) = left.pop() {
            if !std::mem::replace(&mut is_seen[index], true) {
                order.push(index);
                left.extend(
                    self.live(index)
                        .and_then(|pid| children.remove(&pid))
                        .unwrap_or_default(),
                );
            }
        }
        order.reverse();
        order
    }

    /// Sends SIGKILL to targets with all their descendants among the targets, children first: to those
    /// for which `is_meant` says so. It gets the pids of the parent and of the child.
    pub(crate) fn kill_below(&mut self, is_meant: impl Fn(Pid, Pid) -> bool) {
        let mut doomed = HashSet::new();
        let order = self.children_first();
        for &index in order.iter().rev() {
            let Some(pid) = self.live(index) else {
                continue;
            };
            let parent = self.targets[index].parent.and_then(Pid::new);
            if parent.is_some_and(|of| doomed.contains(&of) || is_meant(of, pid)) {
                doomed.insert(pid);
            }
        }
        for index in order {
            if self.live(index).is_some_and(|pid| doomed.contains(&pid)) {
                self.signal_one(index, &[SIGKILL], Outcome::Killed);
            }
        }
    }

    /// Waits until all targets are gone, and sends nothing.
    pub(crate) fn watch(&mut self, deadline: Deadline) {
        self.repeat(deadline, |targets| {
            for target in &mut targets.targets {
                target.doubt = None;
            }
            targets.wait(deadline, Outcome::Exited);
        });
    }

    /// Repeats an attempt until every target could be held, or until the deadline.
    fn repeat(&mut self, deadline: Deadline, mut attempt: impl FnMut(&mut Self)) {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
        loop {
            attempt(self);
            let is_due = |target: &Target| {
                target.doubt == Some(Reason::Unverifiable)
                    && !matches!(target.state, State::Gone(_) | State::Refused(_))
            };
            if !self.targets.iter().any(is_due) || deadline.has_passed() {
                return;
            }
            backoff.pause(deadline, &mut *self.wait);
        }
    }

    /// Sends signals to one target; true: they were sent. If it is gone instead, it is gone with
    /// `outcome`.
    pub(crate) fn signal_one(&mut self, index: usize, signals: &[i32], outcome: Outcome) -> bool {
        let mut is_sent = false;
        self.targets[index].doubt = None;
        self.act(index, outcome, |held, proc, _| {
            for &signal in signals {
                if !held.signal(signal, proc)? {
                    return Ok(true);
                }
            }
            is_sent = true;
            Ok(false)
        });
        if is_sent && self.sent.is_none() {
            self.sent = sys::since_boot().ok();
        }
        if is_sent && signals.contains(&SIGKILL) {
            self.killed.get_or_insert_with(Instant::now);
        }
        // Neither a killed nor a continued process stays stopped.
        if is_sent && (signals.contains(&SIGKILL) || signals.contains(&SIGCONT)) {
            self.targets[index].is_frozen = false;
        }
        is_sent
    }

    /// Waits until all targets are gone, or until the deadline. Those that end now are gone with
    /// `outcome`. Those that could not be signalled get one look at the end.
    pub(crate) fn wait(&mut self, deadline: Deadline, outcome: Outcome) {
        self.wait_for(self.targets.len(), deadline, outcome);
    }

    /// As [`Targets::wait`], for the first `first` targets.
    pub(crate) fn wait_for(&mut self, first: usize, deadline: Deadline, outcome: Outcome) {
        self.outcome = outcome;
        // The newest is the last to end. After it most of the others have ended, and one look tells
        // that of many.
        let mut looked = first;
        for index in (0..first).rev() {
            if self.targets[index].doubt.is_none() {
                self.act(index, outcome, |held, proc, wait| {
                    is_gone_by(held, deadline, proc, wait)
                });
            }
            if looked > index {
                looked = index.saturating_sub(AT_ONCE);
                self.look(looked..index, outcome);
            }
        }
        let now = Deadline::after(Duration::ZERO);
        for index in 0..first {
            if self.targets[index].doubt.is_some() {
                self.act(index, Outcome::Exited, |held, proc, wait| {
                    is_gone_by(held, now, proc, wait)
                });
            }
        }
    }
}

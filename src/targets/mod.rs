//! The targets of one call, from the first look to the verdict.
//!
//! | state | what is held | becomes |
//! |---|---|---|
//! | `Live` | a [`PidRef`] | `Gone`, or `Parked` if another target needs its descriptor (`hold.rs`) |
//! | `Parked` | an identity, and no pidfd | `Live` when it is acted on, `Gone`, or `Refused` |
//! | `Pending` | a pid: there was no descriptor to hold it | as `Parked`; `Refused` if it may be younger than the call |
//! | `Gone` | how it ended | stays |
//! | `Refused` | why | stays |
//!
//! Invariants: every signal to a single target goes through a [`PidRef`], so not to a successor.
//! Each process is a target once. A target that got SIGSTOP here gets SIGKILL or, when the targets
//! are dropped, SIGCONT. Only that SIGCONT may go by number, if nothing else is left.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::proc::{MaybeProc, Proc, Stat};
use super::process::{Here, PidRef, ProcessId};
use super::report::{Outcome, Reason};
use super::sys::{self, Pid, SIGCONT};
use super::wait::{Deadline, Ppoll, Wait};

pub(crate) mod found;
mod hold;
mod named;
mod signal;
mod spared;
mod stop;
mod verdict;

pub(crate) use spared::Spared;
pub(crate) use verdict::Proof;

pub(crate) struct Targets<'w> {
    started: Instant,
    /// The calling process. It is stored, because getpid(2) is a system call.
    caller: u32,
    /// The time since boot when the call began.
    began: Duration,
    proc: MaybeProc,
    targets: Vec<Target>,
    /// The index of the latest target with a pid, one that is held before one that is not.
    latest: HashMap<Pid, usize>,
    /// The targets from this index on were not looked at since they were held, so they may be zombies.
    /// `None`: each is looked at when it is held.
    unlooked: Option<usize>,
    /// The outcome that the latest wait gave to targets.
    outcome: Outcome,
    /// `None`: the targets are only watched, and nothing is sent.
    spared: Option<Spared>,
    /// See [`Targets::here`].
    here: Option<Here>,
    /// A process was listed that had ended before it could be held.
    has_missed: bool,
    /// Until when a target that cannot be held is tried again; `None`: all could be held.
    retry_by: Option<Deadline>,
    /// Processes that were left alone, though they may be targets.
    left_alone: Vec<Pid>,
    /// Processes that were left alone because of `at_most`.
    saved: Vec<Pid>,
    /// How many processes may be hit that were there before the first signal. `None`: any number, or
    /// they are not counted yet.
    most: Option<usize>,
    /// When the first signal or stop was sent, as the time since boot.
    sent: Option<Duration>,
    /// When SIGKILL was first sent.
    killed: Option<Instant>,
    /// When the first freeze began, and how long this thread had waited for a processor until then, if
    /// the kernel tells.
    froze: Option<(Instant, Option<Duration>)>,
    wait: Box<dyn Wait + 'w>,
}

struct Target {
    number: u32,
    state: State,
    /// Its parent when it was first held; `None`: it never was, or that could not be read.
    parent: Option<u32>,
    /// Why it is not waited for: `NotPermitted` or `Unverifiable`.
    doubt: Option<Reason>,
    /// Its children were listed at least once.
    was_listed: bool,
    /// SIGSTOP was sent, and neither SIGKILL nor SIGCONT since.
    is_frozen: bool,
}

enum State {
    Live(PidRef),
    Parked(ProcessId),
    Pending(Pid),
    Gone(Outcome),
    Refused(Reason),
}

impl State {
    fn parent_when_opened(&self) -> Option<u32> {
        match self {
            State::Live(held) => held.parent_when_opened(),
            _ => None,
        }
    }
}

impl<'w> Targets<'w> {
    /// Targets that are only watched.
    pub(crate) fn watched() -> Targets<'w> {
        Targets::with(None, Ppoll)
    }

    /// Targets that are signalled, unless they are spared. `wait` is the way to wait.
    pub(crate) fn sparing(spared: Spared, wait: impl Wait + 'w) -> Targets<'w> {
        Targets::with(Some(spared), wait)
    }

    fn with(spared: Option<Spared>, wait: impl Wait + 'w) -> Targets<'w> {
        Targets {
            started: Instant::now(),
            caller: std::process::id(),
            // Without the clock every process is younger than the call.
            began: sys::since_boot().unwrap_or_default(),
            proc: MaybeProc::default(),
            targets: Vec::new(),
            latest: HashMap::new(),
            unlooked: None,
            outcome: Outcome::Exited,
            spared,
            here: None,
            has_missed: false,
            retry_by: None,
            left_alone: Vec::new(),
            saved: Vec::new(),
            most: None,
            sent: None,
            killed: None,
            froze: None,
            wait: Box::new(wait),
        }
    }

    /// Whether an identity is of this boot and PID namespace, so that its pid means something.
    pub(crate) fn is_here(&mut self, id: &ProcessId) -> bool {
        self.here().judge(id).is_none()
    }

    /// The caller's boot and PID namespace. They are read once in a call: with two different answers
    /// a root could be refused and its group killed.
    fn here(&mut self) -> Here {
        *self.here.get_or_insert_with(|| Here::look(&mut self.proc))
    }

    /// Adds a process that was found and is spared. It is reported, never signalled.
    pub(crate) fn add_refused(&mut self, pid: Pid, reason: Reason) {
        if !self.contains(pid) {
            self.push(pid.get(), State::Refused(reason));
        }
    }

    /// Notes for the error that these are left alone.
    pub(crate) fn leave_alone(&mut self, pids: impl IntoIterator<Item = Pid>) {
        self.left_alone = pids.into_iter().collect();
    }

    fn push(&mut self, number: u32, state: State) {
        self.targets.push(Target {
            number,
            parent: state.parent_when_opened(),
            state,
            doubt: None,
            was_listed: false,
            is_frozen: false,
        });
        self.index(self.targets.len() - 1);
    }

    /// Notes which target a pid means. An identity that is gone or refused may have the pid of one that
    /// is held.
    fn index(&mut self, index: usize) {
        let is_held = |target: &Target| !matches!(target.state, State::Gone(_) | State::Refused(_));
        let target = &self.targets[index];
        if let Some(pid) = Pid::new(target.number) {
            let before = self.latest.get(&pid);
            if is_held(target) || !before.is_some_and(|&before| is_held(&self.targets[before])) {
                self.latest.insert(pid, index);
            }
        }
    }

    /// /proc, with descriptors to read it. Without it no process can be found.
    pub(crate) fn proc(&mut self) -> Result<&Proc> {
        // If the spare descriptors cannot be opened, targets are parked for them.
        while !self.proc.get().is_none_or(Proc::save_descriptors) && self.make_room() {}
        match self.proc.get() {
            Some(proc) => Ok(proc),
            // The second attempt returns the reason.
            None => Err(Proc::open()
                .err()
                .unwrap_or_else(|| Error::io("open /proc", io::ErrorKind::Interrupted.into()))),
        }
    }

    /// As [`Proc::is_partial`].
    pub(crate) fn is_partial(&mut self) -> Result<bool> {
        let partial = self.proc()?.is_partial();
        partial.map_err(|e| Error::io("read /proc/thread-self/mounts", e))
    }

    /// From now on at most so many processes are hit that were there before the first signal.
    pub(crate) fn limit(&mut self, most: usize) {
        self.most = Some(most);
    }

    /// When the first signal was sent, as the time since boot, if the limit is reached. `None`: more
    /// processes may be hit, or nothing was sent yet.
    pub(crate) fn full_since(&self) -> Option<Duration> {
        let is_hit = |target: &&Target| {
            !matches!(
                target.state,
                State::Refused(_) | State::Gone(Outcome::AlreadyGone)
            )
        };
        let most = self.most?;
        self.sent
            .filter(|_| self.targets.iter().filter(is_hit).count() >= most)
    }

    /// Whether a process was left alone because of the limit.
    pub(crate) fn has_saved(&self) -> bool {
        !self.saved.is_empty()
    }

    /// The limit, if more were found before anything was sent.
    pub(crate) fn exceeded(&self) -> Option<usize> {
        self.most
            .filter(|&most| self.sent.is_none() && self.all_live().count() > most)
    }

    /// How many targets there are, gone ones included.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The pid of a target that is not known to be gone and was not refused.
    pub(crate) fn live(&self, index: usize) -> Option<Pid> {
        match &self.targets.get(index)?.state {
            State::Live(held) => Some(held.pid()),
            State::Parked(id) => Some(id.number()),
            State::Pending(pid) => Some(*pid),
            State::Gone(_) | State::Refused(_) => None,
        }
    }

    /// Whether a member of a tree ended before its children could be listed: they are orphans now, and
    /// may be anywhere.
    pub(crate) fn has_lost(&self) -> bool {
        let is_lost =
            |target: &Target| matches!(target.state, State::Gone(_)) && !target.was_listed;
        self.has_missed || self.targets.iter().any(is_lost)
    }

    /// Whether a target that may still run could not be signalled.
    pub(crate) fn has_doubtful(&self) -> bool {
        (0..self.targets.len()).any(|index| self.live(index).is_some() && self.is_doubtful(index))
    }

    /// As [`Targets::live`], of each of them.
    pub(crate) fn all_live(&self) -> impl Iterator<Item = Pid> + '_ {
        (0..self.targets.len()).filter_map(|index| self.live(index))
    }

    /// Whether a process with this pid is a target, or was one.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        self.latest.contains_key(&pid)
    }

    pub(crate) fn has_live(&self, pid: Pid) -> bool {
        let index = self.latest.get(&pid);
        index.is_some_and(|&index| self.live(index).is_some())
    }

    /// Whether a target may not be signalled.
    pub(crate) fn is_not_permitted(&self, index: usize) -> bool {
        self.targets[index].doubt == Some(Reason::NotPermitted)
    }

    /// Whether the latest attempt to signal a target failed.
    pub(crate) fn is_doubtful(&self, index: usize) -> bool {
        self.targets[index].doubt.is_some()
    }

    /// Whether a process may have started since the call began.
    pub(crate) fn is_younger(&self, stat: &Stat<'_>) -> bool {
        stat.may_have_started_since(self.began)
    }

    /// As [`Targets::is_younger`], without a doubt.
    pub(crate) fn is_surely_younger(&self, stat: &Stat<'_>) -> bool {
        stat.has_started_since(self.began)
    }
}

/// Leaves no target stopped, whatever happened.
impl Drop for Targets<'_> {
    fn drop(&mut self) {
        for index in 0..self.targets.len() {
            if !self.targets[index].is_frozen {
                continue;
            }
            self.signal_one(index, &[SIGCONT], Outcome::Exited);
            // Without a descriptor or /proc only the number is left. At worst this continues a
            // successor that was stopped.
            if let (true, Some(pid)) = (self.targets[index].is_frozen, self.live(index)) {
                drop(sys::kill(pid, SIGCONT));
            }
        }
    }
}

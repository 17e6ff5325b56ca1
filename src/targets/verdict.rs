//! The verdict: which targets are gone, and why the others are not.
//!
//! A target is gone only if that was seen. Everything else is a survivor. Without survivors the
//! call is `Ok` if the [`Proof`] is complete, and `Unproven` if not.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::super::error::{Error, Result};
use super::super::proc::{MaybeProc, ProcessDir};
use super::super::process::PidRef;
use super::super::report::{Coverage, Outcome, Reason, Report, Survivor};
use super::super::sys::Pid;
use super::super::wait::Deadline;
use super::{State, Target, Targets};

/// What is known about how the targets were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) coverage: Coverage,
    /// False: more may be left than was found.
    pub(crate) is_complete: bool,
}

impl Proof {
    pub(crate) const EXACT: Proof = Proof {
        coverage: Coverage::Exact,
        is_complete: true,
    };

    pub(crate) const BEST_EFFORT: Proof = Proof {
        coverage: Coverage::BestEffort,
        is_complete: true,
    };

    /// It is not proven that all were found.
    pub(crate) const NONE: Proof = Proof {
        coverage: Coverage::BestEffort,
        is_complete: false,
    };
}

/// Limits how many survivors are looked at. Reading thousands would take longer than the call has
/// promised.
struct Looks {
    left_in_any_case: usize,
    deadline: Deadline,
}

impl Looks {
    fn new() -> Looks {
        const TIME: Duration = Duration::from_millis(50);
        Looks {
            left_in_any_case: 16,
            deadline: Deadline::after(TIME),
        }
    }

    /// Reads what a target is that is not gone and, unless `reason` is given, why it is still
    /// there.
    fn see(&mut self, number: u32, reason: Option<Reason>, proc: &mut MaybeProc) -> Survivor {
        let mut survivor = Survivor::unseen(number, reason.unwrap_or(Reason::StillRunning));
        if self.left_in_any_case == 0 && self.deadline.has_passed() {
            return survivor;
        }
        self.left_in_any_case = self.left_in_any_case.saturating_sub(1);
        let (Some(pid), Some(proc)) = (Pid::new(number), proc.get()) else {
            return survivor;
        };
        let mut buf = Vec::new();
        let dir = proc.process(pid);
        if let Ok(Some(stat)) = dir.stat(&mut buf) {
            survivor.state = Some(stat.state);
            survivor.name = Some(OsStr::from_bytes(stat.name).to_owned());
        }
        if reason != Some(Reason::Thread) {
            survivor.id = PidRef::identified(pid, proc)
                .ok()
                .flatten()
                .map(|(_, id)| id);
        }
        if reason.is_none() {
            survivor.reason = why(&dir).unwrap_or(survivor.reason);
        }
        survivor
    }
}

impl Survivor {
    /// One that could not be looked at.
    fn unseen(pid: u32, reason: Reason) -> Survivor {
        Survivor {
            pid,
            id: None,
            reason,
            state: None,
            name: None,
        }
    }
}

impl Proof {
    /// The proof of two searches together.
    pub(crate) fn and(self, other: Proof) -> Proof {
        let is_exact = [self, other]
            .iter()
            .all(|proof| proof.coverage == Coverage::Exact);
        Proof {
            coverage: match is_exact {
                true => Coverage::Exact,
                false => Coverage::BestEffort,
            },
            is_complete: self.is_complete && other.is_complete,
        }
    }
}

impl Targets<'_> {
    /// Tells what became of each target.
    pub(crate) fn finish(mut self, proof: Proof) -> Result<Report> {
        let killed = self.killed.map(|sent| sent.elapsed());
        // What survived is looked at in /proc, and the pidfds may have taken the last descriptor.
        let is_gone = |target: &Target| matches!(target.state, State::Gone(_));
        if !self.targets.iter().all(is_gone) && self.proc.get().is_none() {
            self.make_room();
        }
        let mut looks = Looks::new();
        let all = 0..self.targets.len();
        let survivors: Vec<_> = all
            .filter_map(|index| self.survivor(index, &mut looks))
            .collect();
        let report = self.report(proof.coverage);
        let error = match (survivors.is_empty(), proof.is_complete) {
            (true, true) => return Ok(report),
            (true, false) => Error::unproven(report),
            (false, is_complete) => Error::survived(survivors, report, killed, is_complete),
        };
        let error = error.with_starved(self.starved());
        let mut left_alone = std::mem::take(&mut self.left_alone);
        left_alone.append(&mut self.saved);
        left_alone.sort_unstable();
        left_alone.dedup();
        let see = |pid: Pid| looks.see(pid.get(), None, &mut self.proc);
        let left_alone = left_alone.into_iter().map(see);
        // One without a state has ended since.
        Err(error.with_left_alone(left_alone.filter(|seen| seen.state.is_some()).collect()))
    }

    /// Notes that a freeze begins.
    pub(crate) fn begin_freeze(&mut self) {
        if self.froze.is_none() {
            self.froze = Some((Instant::now(), self.waited_for_processor()));
        }
    }

    /// How long this thread has waited for a processor since the freeze began, if it did little else. A
    /// tree that forks without pause can take almost all of its time.
    fn starved(&mut self) -> Option<Duration> {
        const LEAST: Duration = Duration::from_millis(100);
        let (began, before) = self.froze?;
        let waited = self.waited_for_processor()?.checked_sub(before?)?;
        (waited > LEAST.max(began.elapsed() / 2)).then_some(waited)
    }

    fn waited_for_processor(&mut self) -> Option<Duration> {
        self.proc.get()?.waited_for_processor()
    }

    /// `None`: the target is gone.
    fn survivor(&mut self, index: usize, looks: &mut Looks) -> Option<Survivor> {
        let Target { number, doubt, .. } = self.targets[index];
        let mut survivor = None;
        // A target that ended since the deadline, while others were looked at, is no survivor.
        let outcome = doubt.map_or(self.outcome, |_| Outcome::Exited);
        self.act(index, outcome, |held, proc, _| {
            let mut seen = looks.see(number, doubt, proc);
            // If it still has its number, what was read under the number is its own.
            if !held.has_its_pid() {
                (seen.id, seen.state, seen.name) = (None, None, None);
            }
            let gone = held.is_gone(proc)?;
            survivor = Some(seen);
            Ok(gone)
        });
        match self.targets[index].state {
            State::Gone(_) => None,
            // The number may be that of another process.
            State::Refused(reason @ Reason::Unverifiable) => Some(Survivor::unseen(number, reason)),
            State::Refused(reason) => Some(looks.see(number, Some(reason), &mut self.proc)),
            State::Live(_) | State::Parked(_) | State::Pending(_) => {
                Some(survivor.unwrap_or_else(|| Survivor::unseen(number, Reason::Unverifiable)))
            }
        }
    }

    /// The error of a call that found more than it may kill. Nothing was sent.
    pub(crate) fn too_many(&mut self, most: usize) -> Error {
        let mut looks = Looks::new();
        let live: Vec<Pid> = self.all_live().collect();
        let see = |pid: Pid| looks.see(pid.get(), Some(Reason::StillRunning), &mut self.proc);
        let found = live.into_iter().map(see).collect();
        self.targets.clear();
        Error::too_many(found, most, self.report(Coverage::BestEffort))
    }

    fn report(&self, coverage: Coverage) -> Report {
        let gone = |target: &Target| match target.state {
            State::Gone(outcome) => Some((target.number, outcome)),
            _ => None,
        };
        Report {
            targets: self.targets.iter().filter_map(gone).collect(),
            elapsed: self.started.elapsed(),
            coverage,
        }
    }
}

/// Why a process is still there. One thread that is held keeps the whole process.
fn why(dir: &ProcessDir<'_>) -> io::Result<Reason> {
    let mut buf = Vec::new();
    let mut reason = Reason::StillExiting;
    for tid in dir.threads()?.unwrap_or_default() {
        let Some(stat) = dir.thread_stat(tid, &mut buf)? else {
            continue;
        };
        // A dead thread of a traced process stays until its tracer has waited for it.
        let is_held = stat.state == 't' || (stat.leader_exited() && tid != dir.pid());
        match is_held.then(|| dir.tracer(tid)).transpose()? {
            Some(by) if by != 0 || stat.state == 't' => return Ok(Reason::Traced { by }),
            _ => {}
        }
        match stat.state {
            'D' => reason = Reason::Uninterruptible,
            _ if stat.leader_exited() || stat.is_exiting() => {}
            _ if reason == Reason::StillExiting => reason = Reason::StillRunning,
            _ => {}
        }
    }
    Ok(reason)
}

//! The verdict: which targets are gone, and why the others are not.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::{MaybeProc, ProcessDir};
use super::super::report::{Coverage, Outcome, Reason, Report, Survivor};
use super::super::sys::Pid;
use super::super::wait::Deadline;
use super::{State, Target, Targets};

/// How the members of what was to go were found.
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

    /// It is not sure that all were found.
    pub(crate) const NONE: Proof = Proof {
        coverage: Coverage::BestEffort,
        is_complete: false,
    };
}

impl Targets<'_> {
    /// Tells what became of each target.
    pub(crate) fn finish(mut self, proof: Proof) -> Result<Report> {
        /// So many survivors are looked at in any case, and the others while there is time: reading
        /// thousands would take longer than was promised.
        const IN_ANY_CASE: usize = 16;
        const TIME: Duration = Duration::from_millis(50);
        let deadline = Deadline::after(TIME);
        let mut survivors: Vec<Survivor> = Vec::new();
        for index in 0..self.targets.len() {
            let Target { number, doubt, .. } = self.targets[index];
            let is_looked_at = survivors.len() < IN_ANY_CASE || !deadline.has_passed();
            let see = |reason, proc: &mut MaybeProc| match is_looked_at {
                true => Survivor::see(number, reason, proc),
                false => Survivor::unseen(number, reason),
            };
            let mut survivor = None;
            // What ended since the deadline, while others were looked at, is no survivor.
            let outcome = doubt.map_or(self.outcome, |_| Outcome::Exited);
            self.act(index, outcome, |held, proc, _| {
                let seen = see(doubt, proc);
                let gone = held.is_gone(proc)?;
                survivor = Some(seen);
                Ok(gone)
            });
            match self.targets[index].state {
                State::Gone(_) => {}
                State::Refused(reason) => survivors.push(see(Some(reason), &mut self.proc)),
                State::Live(_) | State::Parked(_) => survivors.push(
                    survivor
                        .unwrap_or_else(|| Survivor::unseen(number, Some(Reason::Unverifiable))),
                ),
            }
        }
        let gone = |target: &Target| match target.state {
            State::Gone(outcome) => Some((target.number, outcome)),
            _ => None,
        };
        let report = Report {
            targets: self.targets.iter().filter_map(gone).collect(),
            elapsed: self.started.elapsed(),
            coverage: proof.coverage,
        };
        match (survivors.is_empty(), proof.is_complete) {
            (true, true) => Ok(report),
            (true, false) => Err(Error::unproven(report)),
            (false, is_complete) => Err(Error::survived(survivors, report, is_complete)),
        }
    }
}

impl Survivor {
    fn unseen(number: u32, reason: Option<Reason>) -> Survivor {
        Survivor {
            pid: number,
            reason: reason.unwrap_or(Reason::StillRunning),
            state: None,
            name: None,
        }
    }

    /// Looks in /proc for what it is and, unless a reason is given, why it is still there.
    fn see(number: u32, reason: Option<Reason>, proc: &mut MaybeProc) -> Survivor {
        let mut survivor = Survivor::unseen(number, reason);
        let (Some(pid), Some(proc)) = (Pid::new(number), proc.get()) else {
            return survivor;
        };
        let mut buf = Vec::new();
        let dir = proc.process(pid);
        if let Ok(Some(stat)) = dir.stat(&mut buf) {
            survivor.state = Some(stat.state);
            survivor.name = Some(OsStr::from_bytes(stat.name).to_owned());
        }
        if reason.is_none() {
            survivor.reason = why(&dir).unwrap_or(survivor.reason);
        }
        survivor
    }
}

/// Why a process is still there. Every thread counts: one that is held holds all.
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

//! Whether the numbers of the tree's sessions and groups are still their own.
//!
//! The kernel gives a number away once its session and group are empty. What is in a session or group
//! of that number after that is a stranger's. So each look begins with [`Kin::refresh`]:
//!
//! 1. The leader and the fork counter tell ([`Number`]) that the number is its own, or that it was
//!    given away. A session or group whose number was given away is forgotten.
//! 2. If they cannot tell, a live target in the session or group tells: the number was never free.
//! 3. If there is none, the number is *unsure*. What is in it is no member. If a process is left in it
//!    at the end, the call is not `Ok` (`last_look.rs`).
//!
//! The number may be given away while the processes are listed. So each process is judged once more
//! after it is held ([`Kin::is_proven`]).

use std::collections::HashSet;
use std::sync::Arc;

use super::super::super::super::error::Result;
use super::super::super::super::proc::fork_counter::Newest;
use super::super::super::super::proc::{self, Stat};
use super::super::super::super::sys::Pid;
use super::super::super::super::targets::Targets;
use super::super::newest_and_forks;
use super::{Kin, MemberGroup};

impl Kin {
    /// Finds out which sessions and groups still have their numbers. Forgets the others.
    pub(super) fn refresh(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        if self.sessions.is_empty() && self.groups.is_empty() {
            return Ok(());
        }
        let now = newest_and_forks(targets)?;
        self.looked = now;
        let mut asked = HashSet::new();
        self.sessions.retain(|&sid, number| {
            let names = number.names_session(now);
            asked.extend(names.is_none().then_some(sid));
            names != Some(false)
        });
        self.groups.retain(|&pgid, group| {
            // A number that names a group cannot name another process's session.
            match group.number.names_group(now) {
                None => drop(asked.insert(pgid)),
                Some(true) => drop(asked.remove(&pgid)),
                Some(false) => return false,
            }
            true
        });
        self.with_targets = numbers_of_live(&asked, targets)?;
        self.unsure.extend(asked);
        self.unsure
            .retain(|number| !self.with_targets.contains(number));
        self.groups.retain(|pgid, group| {
            let is_lost = self.unsure.contains(pgid);
            if is_lost && group.is_owned {
                self.lost.push(Arc::clone(&group.number.of));
            }
            !is_lost
        });
        self.current.clear();
        for (&sid, number) in &mut self.sessions {
            if !self.unsure.contains(&sid) {
                number.note(now);
                self.current.insert(sid);
            }
        }
        for group in self.groups.values_mut() {
            group.number.note(now);
        }
        Ok(())
    }

    /// As [`Kin::is_sure`], after the process is held: the number may have been given away while the
    /// processes were listed.
    pub(super) fn is_proven(&self, stat: &Stat<'_>, now: Newest) -> bool {
        let sid = Pid::new(stat.session).filter(|sid| self.current.contains(sid));
        let session = sid.and_then(|sid| self.sessions.get(&sid));
        let group = Pid::new(stat.group).and_then(|pgid| self.groups.get(&pgid));
        session.is_some_and(|session| {
            self.with_targets.contains(&session.of.pgid) || session.names_session(now) == Some(true)
        }) || (group.is_some_and(|group| group.is_owned) && self.is_in_group(stat, now))
    }

    /// Whether it is in a group of the tree that still has its number.
    pub(super) fn is_in_group(&self, stat: &Stat<'_>, now: Newest) -> bool {
        let group = Pid::new(stat.group).and_then(|pgid| self.groups.get(&pgid));
        group.is_some_and(|MemberGroup { number, .. }| {
            // Without a counter the latest look must do.
            let is_current = now.is_unknown() || self.with_targets.contains(&number.of.pgid);
            number.names_group(now).unwrap_or(is_current)
        })
    }
}

/// Those of the numbers that a live target has as its session or group. Both keep a number in use.
pub(in super::super::super) fn numbers_of_live(
    asked: &HashSet<Pid>,
    targets: &mut Targets<'_>,
) -> Result<HashSet<Pid>> {
    let mut found = HashSet::new();
    let mut buf = Vec::new();
    for index in 0..targets.len() {
        let Some(pid) = targets.live(index).filter(|_| !asked.is_empty()) else {
            continue;
        };
        let stat = targets.proc()?.process(pid).stat(&mut buf);
        let Some(stat) = proc::readable(pid, stat)? else {
            continue;
        };
        let numbers = [stat.session, stat.group]
            .map(Pid::new)
            .into_iter()
            .flatten();
        let mut numbers = numbers.filter(|number| asked.contains(number)).peekable();
        // If it still has its pid, what was read under the pid is its own.
        if numbers.peek().is_some() && targets.has_its_pid(index)? {
            found.extend(numbers);
        }
    }
    Ok(found)
}

//! The last look, after all members were killed: for an orphan that may be a member's child.
//!
//! A member can start a process and end before the process is listed. It may do so in a handler of the
//! first signal, or when a debugger or another process's SIGCONT lets it run on. The kernel gives the
//! orphan to another process and keeps no record of its parent. So it may be a stranger. It is not
//! killed, but the call is not `Ok`.
//!
//! An orphan is suspected only if all of this is true:
//!
//! 1. It was born since the call began, by its start time. In the clock tick in which the call began,
//!    its number tells.
//! 2. It is in the session and group of a member. A child inherits both.
//! 3. It may have been adopted. A process is born into the session and group of its parent. So it
//!    may have been adopted if these differ. A process that was put into the group of a member since
//!    looks the same. If they do not differ, it may be an orphan that init or the caller has adopted.
//!    The kernel gives orphans to the first thread, so there a child of another thread of the caller
//!    is no orphan.
//!
//! An orphan that has left the session or the group is not found. Neither is one whose new parent is in
//! the same session and group, a subreaper other than init and the caller: the subreaper's own children
//! look the same, as those of make(1) do. The same is true of a child that a member made a child of its
//! own parent (clone(2) `CLONE_PARENT`). The coverage is `BestEffort` then, because the fork counter has
//! moved. One case is left out: a child that a child of the caller has made the caller's, and that has
//! left group or session. It looks the same as one that another thread of the caller has started.
//!
//! A suspect that is dying forks no more. Another call may be killing the tree that it belongs to. So
//! this call waits for its end and looks again. By then its children have been adopted, and are
//! suspected themselves.
//!
//! Two more things are suspected: a process in a session or group whose number may have been given
//! to a stranger, and a member that /proc hides (`hidepid`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::super::super::error::{Error, Result};
use super::super::super::proc::fork_counter::Newest;
use super::super::super::proc::{self, Stat};
use super::super::super::process::ProcessGroup;
use super::super::super::sys::{self, Pid};
use super::super::super::targets::Targets;
use super::super::super::wait::{Backoff, Deadline, Ppoll};
use super::{Kin, newest};

/// Session and group, by their numbers.
type Place = (u32, u32);

/// What one look at all processes shows.
enum Suspicion {
    None,
    /// All suspects are dying.
    Dying,
    /// These are not dying.
    Some(Vec<Pid>),
}

impl Kin {
    /// Whether a process lives that may be an unknown member. `since` is what the fork counter showed
    /// when the call began. Suspects that are dying are waited for until the deadline. The others are
    /// noted for the error.
    pub(in super::super) fn may_have_missed(
        &self,
        targets: &mut Targets<'_>,
        since: Newest,
        deadline: Deadline,
    ) -> Result<bool> {
        /// A stranger that cannot end must not hold up a call that waits for ever.
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.has_hidden_member(targets)? {
            return Ok(true);
        }
        let patience = deadline.or_after(PATIENCE);
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
        loop {
            match self.suspicion(targets, since)? {
                Suspicion::None => return Ok(false),
                Suspicion::Dying if !patience.has_passed() => {
                    backoff.pause(patience, &mut Ppoll);
                }
                Suspicion::Dying => return Ok(true),
                Suspicion::Some(suspects) => {
                    targets.leave_alone(suspects);
                    return Ok(true);
                }
            }
        }
    }

    /// Looks at every process, unless none was born since and every number is sure.
    fn suspicion(&self, targets: &mut Targets<'_>, since: Newest) -> Result<Suspicion> {
        let now = newest(targets)?;
        if now.is_still(since) && self.unsure.is_empty() {
            return Ok(Suspicion::None);
        }
        let mut places = HashMap::new();
        let mut suspects = Vec::new();
        let mut buf = Vec::new();
        for pid in proc::visible(targets.proc()?)? {
            let stat = proc::readable(pid, targets.proc()?.process(pid).stat(&mut buf))?;
            let Some(stat) = stat else {
                continue;
            };
            places.insert(pid, (stat.session, stat.group));
            let is_spared = targets.spared_reason(pid).is_some();
            if stat.is_zombie() || targets.contains(pid) || is_spared {
                continue;
            }
            let mut numbers = [stat.session, stat.group].into_iter().filter_map(Pid::new);
            if numbers.any(|number| self.unsure.contains(&number)) {
                return Ok(Suspicion::Some(vec![pid]));
            }
            let is_young = targets.is_surely_younger(&stat)
                || (targets.is_younger(&stat) && now.may_include_soon(since, pid));
            if is_young && self.may_be_born_to_member(pid, &stat) {
                let (parent, place) = (Pid::new(stat.parent), (stat.session, stat.group));
                // At once, before it ends. One that has ended already is as one that was not seen.
                let is_dying = proc::readable(pid, targets.proc()?.process(pid).is_dying())?;
                suspects.push(Suspect {
                    pid,
                    parent,
                    place,
                    is_dying: is_dying.unwrap_or(true),
                });
            }
        }
        adopted(&suspects, &places, targets)
    }

    fn may_be_born_to_member(&self, pid: Pid, stat: &Stat<'_>) -> bool {
        let leads_session = stat.session == pid.get();
        !leads_session && self.places.contains(&(stat.session, stat.group))
    }

    /// Whether an owned group has a member that /proc hides. The kernel tells that it has one. If the
    /// number may be a stranger's by now, the member may be the stranger.
    fn has_hidden_member(&self, targets: &mut Targets<'_>) -> Result<bool> {
        let owned: Vec<&ProcessGroup> = self.owned_groups().collect();
        if owned.is_empty() || !targets.is_partial()? {
            return Ok(false);
        }
        let mut seen = HashSet::new();
        let mut buf = Vec::new();
        for pid in proc::visible(targets.proc()?)? {
            let stat = proc::readable(pid, targets.proc()?.process(pid).stat(&mut buf))?;
            seen.extend(stat.and_then(|stat| Pid::new(stat.group)));
        }
        // If a member is visible, it is a target, or a zombie that keeps the number in use.
        Ok(owned
            .into_iter()
            .any(|group| !seen.contains(&group.pgid) && !matches!(group.signal(0), Ok(false))))
    }
}

/// A process that was born since the call began, in the session and group of a member.
struct Suspect {
    pid: Pid,
    /// `None`: it was started from outside of this PID namespace. No orphan of a member is.
    parent: Option<Pid>,
    place: Place,
    is_dying: bool,
}

impl Suspect {
    /// Whether it may have been adopted.
    fn is_adopted(&self, places: &HashMap<Pid, Place>, targets: &mut Targets<'_>) -> Result<bool> {
        let Some(parent) = self.parent else {
            return Ok(false);
        };
        if targets.has_live(parent) {
            return Ok(true);
        }
        if parent.is_init() || places.get(&parent).is_some_and(|of| *of != self.place) {
            return Ok(true);
        }
        Ok(parent.is_caller() && adopts(self.pid, targets)?)
    }
}

/// `places` are those of all processes, also of zombies.
fn adopted(
    suspects: &[Suspect],
    places: &HashMap<Pid, Place>,
    targets: &mut Targets<'_>,
) -> Result<Suspicion> {
    let (mut is_one_dying, mut others) = (false, Vec::new());
    for suspect in suspects {
        if suspect.is_adopted(places, targets)? {
            match suspect.is_dying {
                true => is_one_dying = true,
                false => others.push(suspect.pid),
            }
        }
    }
    Ok(match (others.is_empty(), is_one_dying) {
        (false, _) => Suspicion::Some(others),
        (true, true) => Suspicion::Dying,
        (true, false) => Suspicion::None,
    })
}

/// Whether a child of the caller may be an orphan that was given to it.
fn adopts(child: Pid, targets: &mut Targets<'_>) -> Result<bool> {
    let caller = targets.proc()?.caller();
    // If it cannot be told, it may be one.
    if !caller.is_init() && !sys::process::is_child_subreaper().unwrap_or(true) {
        return Ok(false);
    }
    let (mut children, mut buf) = (Vec::new(), Vec::new());
    let listed = targets.proc()?.process(caller);
    let failed = |e| Error::io("list the caller's children", e);
    let stat = listed.stat(&mut buf).map_err(failed)?;
    // Without the first thread, another one is given the orphans.
    if stat.is_none_or(|stat| stat.leader_exited()) {
        return Ok(true);
    }
    match listed.children(caller, &mut children, &mut buf) {
        Ok(_) => Ok(children.contains(&child)),
        // Linux without CONFIG_PROC_CHILDREN.
        Err(e) if proc::is_absent(&e) => Ok(true),
        Err(e) => Err(failed(e)),
    }
}

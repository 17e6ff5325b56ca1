//! The children of one process after another: by the kernel's lists or, if those do not tell, by
//! one scan of all parents. After a scan all later answers come from it.

use std::collections::HashMap;
use std::time::Duration;

use super::super::super::error::{Error, Result};
use super::super::super::find::descent::{ChildLists, NoList, all_children};
use super::super::super::proc::Proc;
use super::super::super::proc::fork_counter::Newest;
use super::super::super::sys::Pid;
use super::super::super::targets::Targets;
use super::super::super::wait::Deadline;
use super::super::Found;
use super::Kin;

/// Adds the descendants of all live targets and their kin, without a stop.
pub(in super::super) fn add_members(
    targets: &mut Targets<'_>,
    kin: &mut Kin,
    deadline: Deadline,
) -> Result<Found> {
    let before = targets.len();
    let mut is_complete = add_descendants(targets, deadline)?;
    // Now, because a leader that obeys a signal cannot be asked any more.
    kin.note_leaders(targets)?;
    // Once: a chain of orphans that fork and exit has new ones for ever.
    if is_complete && kin.add(targets, false)? {
        is_complete = add_descendants(targets, deadline)?;
        kin.note_leaders(targets)?;
    }
    Ok(Found {
        is_new: targets.len() > before,
        is_complete,
    })
}

/// Adds children of targets as they are born, for a moment or until all targets are gone. A handler
/// of the first signal may fork and exit at once. Its child is then found only as the newest process,
/// as long as its parent lives.
pub(in super::super) fn watch_births(targets: &mut Targets<'_>, before: Newest) {
    const MOMENT: Duration = Duration::from_millis(20);
    /// So many births between two looks are looked at.
    const FEW: usize = 8;
    let until = Deadline::after(MOMENT);
    let Some(mut seen) = before.pid().map(Pid::get) else {
        return;
    };
    // A number is given out before its process can be looked at.
    let mut unborn: Vec<Pid> = Vec::new();
    let mut buf = Vec::new();
    while !until.has_passed() && targets.are_left() {
        let newest = targets.proc().map(|proc| proc.newest());
        let Some(newest) = newest.ok().and_then(|newest| newest.ok()?.pid()) else {
            return;
        };
        let births = (seen + 1..=newest.get()).rev().take(FEW);
        unborn.extend(births.filter_map(Pid::new));
        seen = newest.get();
        unborn.drain(..unborn.len().saturating_sub(FEW));
        unborn.retain(|&born| {
            let stat = targets.proc().map(|proc| proc.process(born).stat(&mut buf));
            let Ok(Ok(Some(stat))) = stat else {
                return true;
            };
            let (parent, start_time) = (Pid::new(stat.parent), stat.start_time);
            // The number of a target that was reaped may be a stranger's by now.
            let is_member = |parent| targets.is_still(parent).unwrap_or(false);
            if parent.filter(|&p| !p.is_caller()).is_some_and(is_member) {
                // Its parent may have ended since. An error is met again by the next search.
                drop(targets.add_found(born, |stat, _| Ok(stat.start_time == start_time)));
            }
            false
        });
    }
}

/// Lists the descendants of all live targets and adds them, until the deadline: some fork as fast as
/// they are listed. False: the deadline came first.
fn add_descendants(targets: &mut Targets<'_>, deadline: Deadline) -> Result<bool> {
    let mut listing = Listing::default();
    let mut index = 0;
    while index < targets.len() {
        if let Some(parent) = targets.live(index) {
            if deadline.has_passed() {
                break;
            }
            let listed = listing.children(parent, targets)?;
            for child in targets.own_children(parent, listed)?.unwrap_or_default() {
                targets.add_child(parent, child)?;
            }
        }
        index += 1;
    }
    Ok(index == targets.len())
}

#[derive(Default)]
pub(in super::super) struct Listing {
    lists: ChildLists,
    all: Option<HashMap<Pid, Vec<Pid>>>,
}

impl Listing {
    /// The children of a process. None is missing that lives through the call.
    pub(in super::super) fn children(
        &mut self,
        parent: Pid,
        targets: &mut Targets<'_>,
    ) -> Result<Vec<Pid>> {
        self.list(parent, targets, |lists, proc| lists.children(parent, proc))
    }

    /// As [`Listing::children`], for a process that was seen stopped with a single thread.
    pub(super) fn children_of_stopped(
        &mut self,
        parent: Pid,
        targets: &mut Targets<'_>,
    ) -> Result<Vec<Pid>> {
        self.list(parent, targets, |lists, proc| {
            lists.children_of_stopped(parent, proc)
        })
    }

    /// The children that one look shows, the oldest first. Some may be missing.
    pub(super) fn seen(&mut self, parent: Pid, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
        self.list(parent, targets, |lists, proc| {
            match lists.pass(parent, proc)? {
                pass if pass.is_complete || !pass.children.is_empty() => Ok(pass.children),
                _ => Err(NoList::Scan),
            }
        })
    }

    fn list(
        &mut self,
        parent: Pid,
        targets: &mut Targets<'_>,
        list: impl FnOnce(&mut ChildLists, &Proc) -> std::result::Result<Vec<Pid>, NoList>,
    ) -> Result<Vec<Pid>> {
        let proc = targets.proc()?;
        let failed = |e| Error::io(format!("list the children of {}", parent.get()), e);
        if self.all.is_none() {
            match list(&mut self.lists, proc) {
                Ok(children) => return Ok(children),
                Err(NoList::Failed(e)) => return Err(failed(e)),
                Err(NoList::Scan) => self.all = Some(all_children(proc).map_err(failed)?),
            }
        }
        let all = self.all.as_ref();
        Ok(all
            .and_then(|all| all.get(&parent).cloned())
            .unwrap_or_default())
    }
}

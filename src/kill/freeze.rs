//! Freezing a tree: stop its members and list them, until it is sure that none is missing.
//!
//! 1. Send SIGSTOP to every member and to what children it is seen to have, without waiting. Most of
//!    a fork storm is over before the first of its processes is waited for.
//! 2. A pass: wait until a member is seen stopped, every thread of it, then list its children; so on
//!    through all members; then look for members in the sessions and groups that are the tree's own
//!    ([`Kin`]). What is found is stopped and visited in the same pass.
//! 3. A pass is *quiet* if it found no new member, no listed child was reaped before it could be held,
//!    and every member was still. It closes the tree if no process was born during it, or only
//!    strangers were ([fork counter](Newest)).
//! 4. On a machine that forks without pause the counter never rests: there two quiet passes in a row
//!    close the tree. That is no proof against chains of processes that fork and exit, so the
//!    coverage is `BestEffort`.
//!
//! Invariant: a process that is seen stopped forks no more, so the children listed after that are all
//! it has. A member in state D is not still, because SIGSTOP does not abort a fork that is under way.
//! Two cases of D remain:
//!
//! - A vfork(2) parent sleeps in D until its child has executed or exited. It is still if that child
//!   is a member.
//! - A member that is in D when the time is over gets SIGKILL, which does abort a fork; see
//!   [`end_forks`].

use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc::Stillness;
use super::super::proc::fork_counter::Newest;
use super::super::report::Outcome;
use super::super::sys::{self, Pid, SIGKILL};
use super::super::targets::found::Added;
use super::super::targets::{Proof, Targets};
use super::super::wait::Deadline;

mod kin;
mod listing;

pub(super) use kin::Kin;
pub(super) use listing::{Listing, add_members};

/// What came of one pass.
struct Pass {
    /// Nothing new was found, and all but the next were still.
    is_quiet: bool,
    /// The members in state D that are no vfork(2) parents of members.
    uninterruptible: Vec<usize>,
}

/// Stops all live targets and their kin, which are added as they are found. `since` is what the fork
/// counter showed when the call began.
pub(super) fn freeze(
    targets: &mut Targets<'_>,
    kin: &mut Kin,
    since: Newest,
    deadline: Deadline,
) -> Result<Proof> {
    stop_seen(targets, deadline)?;
    let mut quiet = 0;
    loop {
        let before = newest(targets)?;
        let Some(pass) = pass(targets, kin, deadline)? else {
            return Ok(Proof::NONE);
        };
        let is_quiet = pass.is_quiet && pass.uninterruptible.is_empty();
        if is_quiet && kin.only_strangers_since(targets, before)? {
            // Kin may be hidden.
            return match kin.only_strangers_since(targets, since)? && !targets.is_partial()? {
                true => Ok(Proof::EXACT),
                false => Ok(Proof::BEST_EFFORT),
            };
        }
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(Proof::BEST_EFFORT);
        }
        if deadline.has_passed() {
            return match pass.is_quiet && end_forks(targets, kin, &pass.uninterruptible)? {
                true => Ok(Proof::BEST_EFFORT),
                false => Ok(Proof::NONE),
            };
        }
    }
}

pub(super) fn newest(targets: &mut Targets<'_>) -> Result<Newest> {
    let newest = targets.proc()?.newest();
    newest.map_err(|e| Error::io("read the number of the newest process", e))
}

/// `None`: the time was over before the pass was.
fn pass(targets: &mut Targets<'_>, kin: &mut Kin, deadline: Deadline) -> Result<Option<Pass>> {
    let mut pass = Pass {
        is_quiet: true,
        uninterruptible: Vec::new(),
    };
    let mut listing = Listing::default();
    let mut index = 0;
    loop {
        while index < targets.len() {
            // A storm makes a pass too long to be gone through when there is no time left.
            if targets.live(index).is_some() && deadline.has_passed() {
                return Ok(None);
            }
            visit(targets, kin, index, deadline, &mut listing, &mut pass)?;
            index += 1;
        }
        if !kin.add(targets, true)? {
            return Ok(Some(pass));
        }
        pass.is_quiet = false;
    }
}

/// Sees a member stopped, and adds and stops its children.
fn visit(
    targets: &mut Targets<'_>,
    kin: &mut Kin,
    index: usize,
    deadline: Deadline,
    listing: &mut Listing,
    pass: &mut Pass,
) -> Result<()> {
    let Some(parent) = targets.live(index) else {
        return Ok(());
    };
    let seen = targets.await_stopped(index, deadline)?;
    let stillness = seen.stillness;
    // A member that may not be signalled is a survivor anyway. Waiting for it to stop is in vain.
    pass.is_quiet &= stillness != Stillness::Running || targets.is_doubtful(index);
    if seen.session == parent.get() {
        kin.note_leader(targets, index)?;
    }
    if stillness == Stillness::Gone || targets.live(index).is_none() {
        return Ok(());
    }
    let children = match stillness == Stillness::Stopped && seen.threads == 1 {
        true => listing.children_of_stopped(parent, targets)?,
        false => listing.children(parent, targets)?,
    };
    if !children.is_empty() && !targets.is_still(parent) {
        pass.is_quiet = false;
        return Ok(());
    }
    for &child in &children {
        match targets.add_child(parent, child)? {
            Added::New => {
                pass.is_quiet = false;
                targets.send_sigstop(targets.len() - 1);
            }
            Added::Vanished => pass.is_quiet = false,
            Added::Known | Added::Dead => {}
        }
    }
    if stillness == Stillness::Uninterruptible && !is_vfork_parent(targets, parent, &children)? {
        pass.uninterruptible.push(index);
    }
    Ok(())
}

/// Sends SIGKILL to members in state D. True: none of them has a child that is not known.
///
/// It is proven so: the threads of a member have not run while its children were listed, so no fork
/// of theirs came to its end meanwhile. A fork that ended between the list and SIGKILL was given its
/// number in that time, and the counter would have moved.
fn end_forks(targets: &mut Targets<'_>, kin: &mut Kin, members: &[usize]) -> Result<bool> {
    let before = newest(targets)?;
    let mut listing = Listing::default();
    let mut is_proven = true;
    for &index in members {
        if let Some(pid) = targets.live(index) {
            let asleep = times_run(targets, pid)?;
            let children = listing.children(pid, targets)?;
            is_proven &= children.into_iter().all(|child| targets.has_live(child));
            is_proven &= times_run(targets, pid)? == asleep;
        }
        targets.signal_one(index, &[SIGKILL], Outcome::Killed);
    }
    Ok(is_proven && kin.only_strangers_since(targets, before)?)
}

fn times_run(targets: &mut Targets<'_>, pid: Pid) -> Result<Vec<(Pid, u64)>> {
    let times = targets.proc()?.process(pid).times_run();
    times.map_err(|e| Error::io(format!("read process {}", pid.get()), e))
}

/// Whether each thread in state D may be in vfork(2): there are as many children that share the
/// process's memory, and they are members. kcmp(2) may be forbidden; then it is not known.
fn is_vfork_parent(targets: &mut Targets<'_>, parent: Pid, children: &[Pid]) -> Result<bool> {
    let threads = targets.proc()?.process(parent).count_in_state('D');
    let threads = threads.map_err(|e| Error::io(format!("read process {}", parent.get()), e))?;
    let shares = |child: &&Pid| {
        targets.has_live(**child) && sys::process::share_memory(parent, **child).unwrap_or(false)
    };
    Ok(children.iter().filter(shares).count() >= threads)
}

/// Sends SIGSTOP to all live targets and to what descendants they are seen to have, without waiting.
fn stop_seen(targets: &mut Targets<'_>, deadline: Deadline) -> Result<()> {
    /// For one look at a tree that is not a storm, however little time was given.
    const AT_LEAST: Duration = Duration::from_millis(50);
    let at_least = Deadline::after(AT_LEAST);
    for index in 0..targets.len() {
        targets.send_sigstop(index);
    }
    let mut listing = Listing::default();
    let mut index = 0;
    while index < targets.len() {
        if let Some(parent) = targets.live(index) {
            // The more processes of a storm still run, the less of the machine is left to us.
            if deadline.has_passed() && at_least.has_passed() {
                break;
            }
            let children = listing.seen(parent, targets)?;
            for child in targets.own_children(parent, children) {
                if targets.add_child(parent, child)? == Added::New {
                    targets.send_sigstop(targets.len() - 1);
                }
            }
        }
        index += 1;
    }
    Ok(())
}

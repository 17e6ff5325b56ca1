//! Freezing a tree: stop its members and list them, until it is certain that none is missing.
//!
//! 1. Send SIGSTOP to every member and to the children that it is seen to have, without waiting.
//!    Most of a fork storm ends before the first of its processes is waited for.
//! 2. A pass: wait until a member is seen stopped, every thread of it, then list its children. Do
//!    this for all members. Then look for members in the sessions and groups of the tree ([`Kin`]).
//!    What is found is stopped and visited in the same pass.
//! 3. A pass is *quiet* if it found no new member, every list was its parent's own, no listed child
//!    was reaped before it was held, and every member was still. A quiet pass closes the tree if no
//!    process was born during it, or only strangers were ([fork counter](Newest)). The coverage is
//!    `Exact` if that is also true for the time since the call began, and `BestEffort` if not.
//! 4. On a machine that forks without pause the counter never rests. There two quiet passes in a
//!    row close the tree. That is no proof against chains of processes that fork and exit, so the
//!    coverage is `BestEffort`.
//!
//! Invariant: a process that is seen stopped forks no more, so the children that are listed after
//! that are all it has. A member that a debugger holds is not certain to stay stopped, so the
//! coverage is `BestEffort`. A member in state D is not still, because SIGSTOP does not abort a fork
//! that is under way. Two cases of D remain:
//!
//! - A vfork(2) parent sleeps in D until its child has called execve(2) or exited. So the child is
//!   killed before the others, and the parent stops; see [`end_vforks`].
//! - A member that is in D when the time is over gets SIGKILL, which aborts a fork; see
//!   [`end_forks`]. The coverage is `BestEffort`.

use std::collections::HashSet;
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
mod last_look;
mod listing;

pub(super) use kin::{Kin, numbers_of_live};
pub(super) use listing::{Listing, add_members, watch_births};

/// The result of one pass.
struct Pass {
    /// Nothing new was found, and no member was running. Members in state D are not counted here.
    is_quiet: bool,
    /// The members in state D.
    uninterruptible: Vec<usize>,
    /// A debugger holds a member and may let it run on.
    is_traced: bool,
}

/// Stops all live targets and their kin, and adds the kin as targets. `since` is what the fork
/// counter showed when the call began.
pub(super) fn freeze(
    targets: &mut Targets<'_>,
    kin: &mut Kin,
    since: Newest,
    deadline: Deadline,
) -> Result<Proof> {
    targets.begin_freeze();
    stop_seen(targets, deadline)?;
    let mut quiet = 0;
    // The members that were in state D in the latest whole pass, if it was quiet but for them.
    let mut stuck = None;
    loop {
        let before = newest_and_forks(targets)?;
        let pass = pass(targets, kin, deadline)?;
        if let Some(pass) = pass {
            let is_quiet = pass.is_quiet && pass.uninterruptible.is_empty();
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if is_quiet && kin.only_strangers_since(targets, before)? {
                let since = if pass.is_traced {
                    Newest::UNKNOWN
                } else {
                    since
                };
                kin.closed = before;
                return closed(targets, kin, since);
            }
            if quiet == 2 {
                return closed(targets, kin, Newest::UNKNOWN);
            }
            if pass.is_quiet {
                end_vforks(targets, &pass.uninterruptible);
            }
            stuck = pass.is_quiet.then_some(pass.uninterruptible);
        }
        if deadline.has_passed() {
            return match stuck {
                Some(members) if end_forks(targets, kin, &members)? => {
                    closed(targets, kin, Newest::UNKNOWN)
                }
                _ => Ok(Proof::NONE),
            };
        }
    }
}

/// What is proven by a tree that was closed. `since` is what the fork counter showed when the call
/// began; `UNKNOWN`: the coverage is `BestEffort` in any case.
fn closed(targets: &mut Targets<'_>, kin: &mut Kin, since: Newest) -> Result<Proof> {
    // A member that could not be stopped may have forked.
    if targets.has_doubtful() {
        return Ok(Proof::NONE);
    }
    // Kin may be hidden.
    let is_exact = !targets.has_lost()
        && kin.only_strangers_since(targets, since)?
        && !targets.is_partial()?;
    match is_exact {
        true => Ok(Proof::EXACT),
        false => Ok(Proof::BEST_EFFORT),
    }
}

/// How long the freeze may take: most of the time, and a bounded part of a very long one, because a
/// tree must not stay stopped for ever. The rest is for the members to end.
pub(super) fn frozen_by(deadline: Deadline) -> Deadline {
    const LONGEST: Duration = Duration::from_secs(10);
    deadline.three_quarters().or_after(LONGEST)
}

pub(super) fn newest(targets: &mut Targets<'_>) -> Result<Newest> {
    let newest = targets.proc()?.newest();
    newest.map_err(|e| Error::io("read the number of the newest process", e))
}

/// As [`newest`], and counts the forks.
pub(super) fn newest_and_forks(targets: &mut Targets<'_>) -> Result<Newest> {
    let newest = targets.proc()?.newest_and_forks();
    newest.map_err(|e| Error::io("count the forks", e))
}

/// Makes one pass. `None`: the time was over before it ended.
fn pass(targets: &mut Targets<'_>, kin: &mut Kin, deadline: Deadline) -> Result<Option<Pass>> {
    let mut pass = Pass {
        is_quiet: true,
        uninterruptible: Vec::new(),
        is_traced: false,
    };
    let mut listing = Listing::default();
    let mut index = 0;
    loop {
        while index < targets.len() {
            // In a storm a pass takes too long to be finished after the deadline.
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
        if deadline.has_passed() {
            return Ok(None);
        }
    }
}

/// Waits until a member is seen stopped, and adds and stops its children.
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
    // A member that may not be signalled is a survivor anyway. It would never stop.
    pass.is_quiet &= stillness != Stillness::Running || targets.is_doubtful(index);
    pass.is_traced |= stillness == Stillness::Traced;
    if seen.session == parent.get() {
        kin.note_leader(targets, index)?;
    }
    if stillness == Stillness::Gone || targets.live(index).is_none() {
        return Ok(());
    }
    kin.places.insert((seen.session, seen.group));
    let listed = match stillness == Stillness::Stopped && seen.threads == 1 {
        true => listing.children_of_stopped(parent, targets)?,
        false => listing.children(parent, targets)?,
    };
    let Some(children) = targets.own_children(parent, listed)? else {
        pass.is_quiet = false;
        return Ok(());
    };
    for &child in &children {
        pass.is_quiet &= add_child(targets, kin, parent, child)?;
    }
    if stillness == Stillness::Uninterruptible {
        pass.uninterruptible.push(index);
    }
    Ok(())
}

/// Adds and stops a listed child. False: it was not known, or it was reaped before it was held.
fn add_child(targets: &mut Targets<'_>, kin: &mut Kin, parent: Pid, child: Pid) -> Result<bool> {
    Ok(match targets.add_child(parent, child)? {
        Added::New => {
            targets.send_sigstop(targets.len() - 1);
            false
        }
        Added::Vanished => false,
        Added::Dead => targets.contains(child) || !kin.is_newly_dead(child),
        Added::Known => true,
    })
}

/// Sends SIGKILL to members in state D. True: it is proven that none of them has an unknown child.
///
/// The proof: the threads of a member have not run while its children were listed, so none of their
/// forks ended meanwhile. A fork that ended between the list and SIGKILL got its number in that
/// time, so the counter would have moved.
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

/// Kills the children that share the memory of a member in state D, with all their descendants. If
/// the member waits for one of them in vfork(2), it stops then. If not, it stays in state D.
fn end_vforks(targets: &mut Targets<'_>, members: &[usize]) {
    let parents = members.iter().filter_map(|&index| targets.live(index));
    let parents: HashSet<Pid> = parents.collect();
    if !parents.is_empty() {
        targets.kill_below(|parent, child| {
            let may_wait = parents.contains(&parent);
            may_wait && sys::process::share_memory(parent, child).unwrap_or(false)
        });
    }
}

/// Sends SIGSTOP to all live targets and to the descendants that they are seen to have, without
/// waiting.
fn stop_seen(targets: &mut Targets<'_>, deadline: Deadline) -> Result<()> {
    /// Enough for one look at a tree that is not a storm, even if less time was given.
    const AT_LEAST: Duration = Duration::from_millis(50);
    let at_least = Deadline::after(AT_LEAST);
    for index in 0..targets.len() {
        targets.send_sigstop(index);
    }
    let mut listing = Listing::default();
    let mut index = 0;
    while index < targets.len() {
        if let Some(parent) = targets.live(index) {
            // The running processes of a storm take the time of this thread.
            if deadline.has_passed() && at_least.has_passed() {
                break;
            }
            let listed = listing.seen(parent, targets)?;
            for child in targets.own_children(parent, listed)?.unwrap_or_default() {
                if targets.add_child(parent, child)? == Added::New {
                    targets.send_sigstop(targets.len() - 1);
                }
            }
        }
        index += 1;
    }
    Ok(())
}

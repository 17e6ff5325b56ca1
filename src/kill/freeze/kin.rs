//! Members of a tree that its lists of children do not show, because they lost their parent.
//!
//! | found by | it is a member |
//! |---|---|
//! | a session that a member leads or led as a member | always: only birth enters a session |
//! | a group that was made for the tree ([`OwnedGroup`]) | always: its owner says so |
//! | the group of a root that is the caller's own child | only as an orphan |
//!
//! An orphan has no parent in this PID namespace, or its parent is init, a member, or a process
//! that may be a subreaper: an ancestor of the caller or of a root, or the caller.
//!
//! Any other process that shares only a group with the tree may be a stranger's child, such as the
//! job mates of a shell. It is left alone.
//!
//! If all processes of a group are members, the group is stopped and killed as a whole: a process
//! that forks and exits cannot escape that. This holds for every group of a session of the tree,
//! because a group lies within one session.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::super::error::{Error, Result};
use super::super::super::proc::fork_counter::Newest;
use super::super::super::proc::{self, Stat};
use super::super::super::process::group::{Number, OwnedGroup};
use super::super::super::process::{ProcessGroup, pid_of};
use super::super::super::sys::{self, Pid, SIGCONT, SIGKILL, SIGSTOP};
use super::super::super::targets::found::Added;
use super::super::super::targets::{Proof, Targets};

mod numbers;

pub(in super::super) use numbers::numbers_of_live;

/// The kin of the targets, found by session and group.
#[derive(Default)]
pub(in super::super) struct Kin {
    sessions: HashMap<Pid, Number>,
    groups: HashMap<Pid, MemberGroup>,
    /// The sessions whose number was their own at the latest look.
    current: HashSet<Pid>,
    /// The numbers that are their own because a live target was in the session or group at the latest
    /// look. Only what the leader and the fork counter could not tell was asked for.
    with_targets: HashSet<Pid>,
    /// What the fork counter showed before the latest look.
    looked: Newest,
    /// Numbers of sessions and groups that may be a stranger's by now.
    pub(super) unsure: HashSet<Pid>,
    /// The owned groups of these numbers. Nothing is sent to them any more.
    lost: Vec<Arc<ProcessGroup>>,
    /// Children that were zombies when they were listed.
    dead: HashSet<Pid>,
    /// Groups that got SIGSTOP as a whole. They are killed, or continued on drop.
    stopped: HashMap<Pid, Arc<ProcessGroup>>,
    ancestry: Option<Ancestry>,
    /// The session and group of each member that was looked at, by their numbers.
    pub(super) places: HashSet<(u32, u32)>,
    /// What the fork counter showed before the pass that closed the tree.
    pub(super) closed: Newest,
}

struct MemberGroup {
    number: Number,
    /// False: only orphans in it are members.
    is_owned: bool,
}

/// It is read once in a call, and only if a session or group is known.
#[derive(Clone)]
struct Ancestry {
    /// The caller, init, and the ancestors that are spared.
    spared: HashSet<Pid>,
    /// The processes that may be given an orphan of the tree.
    reapers: HashSet<Pid>,
}

/// A process that was found by session or group.
struct Mate {
    pid: Pid,
    group: Option<Pid>,
    parent: Option<Pid>,
    /// It was found by session, or in an owned group.
    is_sure: bool,
}

impl Kin {
    pub(in super::super) fn of(owned: &[OwnedGroup]) -> Kin {
        let mut kin = Kin::default();
        for own in owned {
            kin.own_number(Number::of_owned_group(Arc::clone(&own.group)));
            if own.is_session {
                kin.own_session(&own.group);
            }
        }
        kin
    }

    pub(in super::super) fn own_group(&mut self, group: Arc<ProcessGroup>) {
        self.own_number(Number::of_group(group));
    }

    fn own_number(&mut self, number: Number) {
        let pgid = number.of.pgid;
        let is_owned = true;
        self.groups.insert(pgid, MemberGroup { number, is_owned });
    }

    pub(in super::super) fn own_session(&mut self, leader: &Arc<ProcessGroup>) {
        let number = Number::of_session(Arc::clone(leader));
        self.sessions.insert(leader.pgid, number);
    }

    /// The groups of which every member is meant, also those whose number is unsure.
    pub(super) fn owned_groups(&self) -> impl Iterator<Item = &ProcessGroup> {
        let owned = self.groups.values().filter(|group| group.is_owned);
        let owned = owned.map(|group| &group.number.of);
        owned.chain(&self.lost).map(|group| &**group)
    }

    /// Adds the group of a root that is the caller's own child.
    pub(in super::super) fn add_group_of_root(&mut self, group: &Arc<ProcessGroup>) {
        let number = Number::of_group(Arc::clone(group));
        let is_owned = false;
        let group = MemberGroup { number, is_owned };
        self.groups.entry(group.number.of.pgid).or_insert(group);
    }

    /// Notes the session of a target that was seen to lead it.
    pub(super) fn note_leader(&mut self, targets: &mut Targets<'_>, index: usize) -> Result<()> {
        let Some(pid) = targets.live(index) else {
            return Ok(());
        };
        if self.sessions.contains_key(&pid) {
            return Ok(());
        }
        let session = targets.open_group(pid)?;
        // If it still has its number, what was read and opened under the number is its own.
        if targets.has_its_pid(index)? {
            self.own_session(&Arc::new(session));
        }
        Ok(())
    }

    /// Notes the sessions of all live targets that lead one.
    pub(in super::super) fn note_leaders(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        let mut buf = Vec::new();
        for index in 0..targets.len() {
            if let Some(pid) = targets.live(index) {
                let stat = targets.proc()?.process(pid).stat(&mut buf);
                let Some(stat) = proc::readable(pid, stat)? else {
                    continue;
                };
                self.places.insert((stat.session, stat.group));
                if stat.session == pid.get() {
                    self.note_leader(targets, index)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the kin that are not yet targets. With `stop`, stops them and the groups in which all
    /// are members.
    ///
    /// True: another look is needed, because there was a new one, a group to stop, or one that
    /// could not be judged. A mate whose parent is another mate is judged by that parent.
    pub(in super::super) fn add(&mut self, targets: &mut Targets<'_>, stop: bool) -> Result<bool> {
        self.refresh(targets)?;
        if self.sessions.is_empty() && self.groups.is_empty() {
            return Ok(false);
        }
        let Ancestry { spared, reapers } = self.ancestry(targets)?.clone();
        let mates = self.mates(targets)?;
        let pids: HashSet<Pid> = mates.iter().map(|mate| mate.pid).collect();
        let mut is_new = false;
        let (mut seen_in, mut shared) = (HashMap::new(), HashSet::new());
        for mate in mates {
            let is_orphan = match mate.parent {
                None => true,
                Some(parent) => reapers.contains(&parent) || is_member(parent, targets)?,
            };
            if spared.contains(&mate.pid) {
                shared.extend(mate.group);
            } else if mate.is_sure || is_orphan || is_member(mate.pid, targets)? {
                is_new |= self.add_mate(&mate, targets, stop)?;
                // One that is held does not vanish before its group is stopped.
                if targets.has_live(mate.pid) {
                    seen_in.extend(mate.group.map(|group| (group, mate.pid)));
                }
            } else if !mate.parent.is_some_and(|parent| pids.contains(&parent)) {
                match self.has_strange_parent(&mate, targets)? {
                    true => shared.extend(mate.group),
                    // Its parent has ended since, or was born since. Another look tells.
                    false => is_new = true,
                }
            }
        }
        if stop {
            // A group may hold strangers that /proc hides.
            if self.groups.values().any(|group| !group.is_owned) && targets.is_partial()? {
                let unsure = self.groups.iter().filter(|(_, group)| !group.is_owned);
                shared.extend(unsure.map(|(pgid, _)| *pgid));
            }
            for (group, member) in seen_in {
                if !shared.contains(&group) {
                    is_new |= self.stop_group(group, member, targets)?;
                }
            }
        }
        Ok(is_new)
    }

    /// All processes in a session or group of the tree, without zombies.
    fn mates(&self, targets: &mut Targets<'_>) -> Result<Vec<Mate>> {
        let mut mates = Vec::new();
        let mut buf = Vec::new();
        let is_meant = |group, session| {
            Pid::new(group).is_some_and(|group| self.groups.contains_key(&group))
                || Pid::new(session).is_some_and(|session| self.current.contains(&session))
        };
        for pid in proc::visible_in(targets.proc()?, is_meant)? {
            let stat = proc::readable(pid, targets.proc()?.process(pid).stat(&mut buf))?;
            mates.extend(
                stat.filter(|stat| !stat.is_zombie() && self.holds(stat))
                    .map(|stat| Mate {
                        pid,
                        group: Pid::new(stat.group),
                        parent: Pid::new(stat.parent),
                        is_sure: self.is_sure(&stat),
                    }),
            );
        }
        Ok(mates)
    }

    /// Whether the parent of a mate is alive and outside of the tree's sessions and groups.
    fn has_strange_parent(&self, mate: &Mate, targets: &mut Targets<'_>) -> Result<bool> {
        let Some(parent) = mate.parent else {
            return Ok(false);
        };
        let mut buf = Vec::new();
        match targets.proc()?.process(parent).stat(&mut buf) {
            Ok(stat) => Ok(stat.is_some_and(|stat| !stat.is_zombie() && !self.holds(&stat))),
            // Hidden: it is another user's.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(true),
            Err(e) => Err(proc::reading(parent, e)),
        }
    }

    /// True: it was no target before, or it ended before it could be held, and may have forked.
    fn add_mate(&self, mate: &Mate, targets: &mut Targets<'_>, stop: bool) -> Result<bool> {
        if targets.has_live(mate.pid) {
            return Ok(false);
        }
        let added = targets.add_found(mate.pid, |stat, proc| {
            let is_still = Pid::new(stat.parent) == mate.parent;
            let now = proc.newest_after(self.looked)?;
            Ok(self.is_proven(stat, now) || (is_still && self.is_in_group(stat, now)))
        })?;
        if added == Added::New && stop {
            targets.send_sigstop(targets.len() - 1);
        }
        Ok(added != Added::Known)
    }

    /// Stops a group as a whole, the first time. All its members are kin, because one is. True: that
    /// was done, or the member has left the group or ended, so that another look is due.
    fn stop_group(&mut self, pgid: Pid, member: Pid, targets: &mut Targets<'_>) -> Result<bool> {
        if self.stopped.contains_key(&pgid) || pgid.get() == sys::process::getpgrp() {
            return Ok(false);
        }
        let known = self.groups.get(&pgid).map(|group| &group.number);
        let group = match known.or_else(|| self.sessions.get(&pgid)) {
            Some(number) => Arc::clone(&number.of),
            None => Arc::new(targets.open_group(pgid)?),
        };
        // If the member is still in it, the group that was opened is the one that the member was
        // seen in.
        let mut buf = Vec::new();
        let stat = targets.proc()?.process(member).stat(&mut buf);
        let is_in = proc::readable(member, stat)?
            .is_some_and(|stat| stat.group == pgid.get() && self.holds(&stat));
        // EPERM: no member may be signalled, and each is a survivor by itself.
        if !is_in {
            return Ok(true);
        }
        if !group.signal(SIGSTOP).unwrap_or(false) {
            return Ok(false);
        }
        self.stopped.insert(pgid, group);
        Ok(true)
    }

    /// Kills the groups that were stopped, after their members got SIGKILL one by one, children first.
    pub(in super::super) fn kill(&mut self) {
        for group in std::mem::take(&mut self.stopped).into_values() {
            // An error does not count: each member is held, killed and verified by itself.
            group.signal(SIGKILL).unwrap_or(false);
        }
    }

    /// As [`Proc::only_strangers_since`](proc::Proc::only_strangers_since): whether no process was
    /// born that may be a member.
    pub(super) fn only_strangers_since(
        &mut self,
        targets: &mut Targets<'_>,
        since: Newest,
    ) -> Result<bool> {
        let now = targets.proc()?.newest_after(since);
        if now.is_ok_and(|now| now.is_still(since)) {
            return Ok(true);
        }
        let known = self.ancestry(targets)?.reapers.clone();
        let Some(mut reapers) = targets.ancestors_of_all()? else {
            return Ok(false);
        };
        // The caller is the parent of its own children, but may be no subreaper.
        reapers.remove(&targets.proc()?.caller());
        reapers.extend(known);
        let members: HashSet<Pid> = targets.all_live().collect();
        let has_gone = members.len() < targets.len();
        let proc = targets.proc()?;
        let caller = proc.caller();
        let only = proc.only_strangers_since(since, |pid, stat| {
            if members.contains(&pid) {
                return Ok(true);
            }
            let Some(parent) = Pid::new(stat.parent) else {
                return Ok(false);
            };
            // An orphan of a member looks like any child of the process that it was given to. A member
            // can also make its child one of its own parent (clone(2) `CLONE_PARENT`).
            let place = (stat.session, stat.group);
            // The init of a PID namespace that a member entered (setns(2)) is given its orphans there.
            let may_be_adopted_below = || match proc.process(pid).may_be_adopted_below(stat) {
                Err(e) if proc::is_absent(&e) => Ok(true),
                told => told,
            };
            let may_be_orphan = reapers.contains(&parent)
                || (parent == caller && self.places.contains(&place))
                || (has_gone && may_be_adopted_below()?);
            Ok(!may_be_orphan && !members.contains(&parent) && !self.holds(stat))
        });
        match only {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(false),
            only => only.map_err(|e| Error::io("look at the newest processes", e)),
        }
    }

    /// What is left of a proof after the members were killed. Someone may have continued a member before
    /// it got SIGKILL.
    pub(in super::super) fn kept(&mut self, proof: Proof, targets: &mut Targets<'_>) -> Proof {
        let since = self.closed;
        match proof == Proof::EXACT && !self.only_strangers_since(targets, since).unwrap_or(false) {
            true => Proof::BEST_EFFORT,
            false => proof,
        }
    }

    /// Whether it is in a session or group of the tree.
    fn holds(&self, stat: &Stat<'_>) -> bool {
        let group = Pid::new(stat.group);
        self.is_sure(stat) || group.is_some_and(|group| self.groups.contains_key(&group))
    }

    /// Whether its session or group alone makes it a member.
    fn is_sure(&self, stat: &Stat<'_>) -> bool {
        let group = Pid::new(stat.group).and_then(|group| self.groups.get(&group));
        Pid::new(stat.session).is_some_and(|session| self.current.contains(&session))
            || group.is_some_and(|group| group.is_owned)
    }

    /// Whether a child is seen dead for the first time. It may have been alive when it was listed, and
    /// have given its own children away since.
    pub(super) fn is_newly_dead(&mut self, child: Pid) -> bool {
        self.dead.insert(child)
    }

    fn ancestry(&mut self, targets: &mut Targets<'_>) -> Result<&Ancestry> {
        let ancestry = match self.ancestry.take() {
            Some(ancestry) => ancestry,
            None => {
                let (caller, init) = (targets.proc()?.caller(), pid_of(1)?);
                let mut reapers = targets.ancestors();
                let spared = reapers.iter().copied().chain([caller, init]);
                let spared = spared.filter(|&pid| targets.spared_reason(pid).is_some());
                let spared = spared.collect();
                reapers.insert(init);
                // If it cannot be told, the caller may be one.
                match sys::process::is_child_subreaper().unwrap_or(true) || caller.is_init() {
                    true => reapers.insert(caller),
                    false => reapers.remove(&caller),
                };
                Ancestry { spared, reapers }
            }
        };
        Ok(self.ancestry.insert(ancestry))
    }
}

/// Whether the process that has this number now is a live target.
fn is_member(pid: Pid, targets: &mut Targets<'_>) -> Result<bool> {
    Ok(targets.has_live(pid) && targets.is_still(pid)?)
}

/// Continues the groups that were stopped and not killed.
impl Drop for Kin {
    fn drop(&mut self) {
        for group in self.stopped.values() {
            // Drop can neither report an error nor try anything else.
            group.signal(SIGCONT).unwrap_or(false);
        }
    }
}

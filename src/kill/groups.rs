//! Process groups, signalled as wholes, and jobs: groups with all descendants of their members.
//!
//! 1. Refuse all groups if one holds a process that is spared. Open each group.
//! 2. Signal each group as a whole. No member escapes that by forking.
//! 3. Look for members in /proc. They are held only to be verified and reported.
//! 4. Repeat steps 2 and 3 with SIGKILL until no new member is found.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::super::error::{Error, Result};
use super::super::proc::fork_counter::Newest;
use super::super::proc::{self, Proc, Stat};
use super::super::process::group::Number;
use super::super::process::{ProcessGroup, pid_of};
use super::super::report::{Coverage, Outcome, Report};
use super::super::sys::{self, Pid, SIGKILL};
use super::super::targets::found::Added;
use super::super::targets::{Proof, Spared, Targets};
use super::super::wait::{Deadline, Ppoll};
use super::freeze::{newest_and_forks, numbers_of_live};
use super::{Found, Kill, Selection, retry};

impl Kill {
    /// Kills process groups and verifies that no member is left, under one deadline for all.
    ///
    /// A group is signalled as a whole, and no member escapes that by forking. It is empty when
    /// every member is gone: zombies do not count. If the leader was not reaped when the call
    /// began, a pidfd of it makes sure that no later group of the same number is hit. A group
    /// without members is no error. The report names processes, not groups. Who enters a group during
    /// the call is a member of it, also if it is the caller.
    ///
    /// # Errors
    /// `Refused`: one of the numbers is 0, 1 or above `i32::MAX`, or a group holds the caller or
    /// one of its ancestors; then nothing is sent to any. `Survivors`: not all members are gone.
    /// `Unproven`: more may be left than were found. `Proc` or `Io`: /proc cannot be used or read,
    /// or no descriptor is free, and nothing was sent.
    ///
    /// # Kernel versions
    /// Linux 6.9 for signals to a group by pidfd. Before it, kill(2) sends them.
    ///
    /// ```
    /// use std::os::unix::process::CommandExt;
    ///
    /// let start = || std::process::Command::new("sleep").arg("60").process_group(0).spawn();
    /// let mut jobs = [start()?, start()?];
    /// let report = process_kill::Kill::graceful().groups(&[jobs[0].id(), jobs[1].id()])?;
    /// assert_eq!(report.len(), 2);
    /// for job in &mut jobs {
    ///     job.wait()?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn groups(&self, pgids: &[u32]) -> Result<Report> {
        self.run(Groups::of(pgids))
    }

    /// Kills process groups and every descendant of a member, and verifies that they are gone.
    ///
    /// Before SIGKILL the groups are stopped as wholes. Then the tree of each member is frozen and
    /// killed as by [`Kill::tree`], under one deadline for all. A descendant belongs to the job
    /// even if it left the group. Other processes are left alone. A group without members is no
    /// error.
    ///
    /// # Errors
    /// As [`Kill::groups`] and [`Kill::tree`].
    ///
    /// ```
    /// use std::os::unix::process::CommandExt;
    ///
    /// // The last one leaves the group, and is killed all the same.
    /// let mut sh = std::process::Command::new("sh")
    ///     .args(["-c", "sleep 60 & setsid sleep 60 & wait"])
    ///     .process_group(0)
    ///     .spawn()?;
    /// process_kill::Kill::now().jobs(&[sh.id()])?;
    /// sh.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn jobs(&self, pgids: &[u32]) -> Result<Report> {
        self.jobs_of(pgids)
    }
}

/// Kills a process group: [`Kill::graceful`]`().`[`groups`](Kill::groups)`(&[pgid])`. Graceful:
/// SIGTERM, up to 5 s of grace, SIGKILL.
///
/// A group without members is no error. If a child has no group of its own, its pid names no group,
/// and the child lives on.
///
/// # Errors
/// As [`Kill::groups`].
///
/// ```
/// use std::os::unix::process::CommandExt;
///
/// let mut sh = std::process::Command::new("sh")
///     .args(["-c", "sleep 60 | sleep 60"])
///     .process_group(0)
///     .spawn()?;
/// process_kill::kill_process_group(sh.id())?;
/// sh.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kill_process_group(pgid: u32) -> Result<Report> {
    Kill::graceful().groups(&[pgid])
}

/// Process groups that will be killed.
struct Groups<'a> {
    pgids: &'a [u32],
    groups: Vec<Number>,
    /// What the fork counter showed before the latest look.
    looked: Newest,
    /// Groups whose number may be a stranger's by now.
    unsure: Vec<Number>,
    /// The groups in which a zombie was seen. A zombie keeps the number in use.
    with_zombies: HashSet<Pid>,
    /// The first signal was sent. Members may have forked on it.
    was_signalled: bool,
}

impl<'a> Groups<'a> {
    fn of(pgids: &'a [u32]) -> Groups<'a> {
        Groups {
            pgids,
            groups: Vec::new(),
            looked: Newest::UNKNOWN,
            unsure: Vec::new(),
            with_zombies: HashSet::new(),
            was_signalled: false,
        }
    }

    /// The group that a process is in, if that one has its number still.
    fn group_of(&self, stat: &Stat<'_>, proc: &Proc) -> io::Result<Option<Pid>> {
        let mut groups = self.groups.iter();
        let Some(group) = groups.find(|group| group.of.pgid.get() == stat.group) else {
            return Ok(None);
        };
        let now = proc.newest_after(self.looked)?;
        // Without a counter the latest look must do.
        let is_current = group.names_group(now).unwrap_or(now.is_unknown());
        Ok(is_current.then_some(group.of.pgid))
    }

    /// Leaves out the groups whose number may have been given to another process.
    fn refresh(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        let now = newest_and_forks(targets)?;
        self.looked = now;
        let asked = self.groups.iter();
        let asked = asked.filter(|group| group.names_group(now).is_none());
        let asked = asked.map(|group| group.of.pgid).collect();
        let with_targets = numbers_of_live(&asked, targets)?;
        for mut group in std::mem::take(&mut self.groups) {
            match group.names_group(now) {
                // It is empty.
                Some(false) => {}
                None if !with_targets.contains(&group.of.pgid) => self.unsure.push(group),
                Some(true) | None => {
                    group.note(now);
                    self.groups.push(group);
                }
            }
        }
        Ok(())
    }
}

impl Selection for Groups<'_> {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        let groups = groups_to_kill(self.pgids, targets)?;
        self.groups = groups.into_iter().map(Number::of_group).collect();
        self.find(targets, Deadline::NEVER)?;
        Ok(())
    }

    fn find(&mut self, targets: &mut Targets<'_>, _: Deadline) -> Result<Found> {
        self.refresh(targets)?;
        if self.groups.is_empty() {
            return Ok(Found::NOTHING);
        }
        let before = targets.len();
        let mut with_zombies = HashSet::new();
        let mut buf = Vec::new();
        let has_number = |number, _| {
            self.groups
                .iter()
                .any(|group| group.of.pgid.get() == number)
        };
        for pid in proc::visible_in(targets.proc()?, has_number)? {
            let stat = proc::readable(pid, targets.proc()?.process(pid).stat(&mut buf))?;
            let Some(stat) = stat else {
                continue;
            };
            let group = self.group_of(&stat, targets.proc()?);
            let Some(pgid) = proc::readable(pid, group)? else {
                continue;
            };
            let added =
                targets.add_found(pid, |stat, proc| Ok(self.group_of(stat, proc)?.is_some()))?;
            if added == Added::Dead {
                with_zombies.insert(pgid);
            }
        }
        self.with_zombies = with_zombies;
        Ok(Found {
            is_new: targets.len() > before,
            is_complete: true,
        })
    }

    fn signal(&mut self, targets: &mut Targets<'_>, from: usize, signals: &[i32]) {
        self.was_signalled = true;
        // The first time the groups are signalled as wholes. After that only new members need the
        // signal.
        match signals.split_first() {
            Some((&first, others)) if from == 0 => {
                for group in &self.groups {
                    // `EPERM`: no member may be signalled. Signal 0 notes that for each below.
                    group.of.signal(first).unwrap_or(false);
                }
                // SIGCONT to those alone that may be sent the first one: kill(2) permits it within a
                // session, and someone else may have stopped the others.
                targets.signal(0, &[&[0], others].concat());
            }
            _ => targets.signal(from, signals),
        }
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        // This look is for the report, and leaves out groups that have lost their number. If it
        // fails, only the leader can tell that, until a later look does.
        let mut is_seen = !self.was_signalled || self.find(targets, deadline).is_ok();
        loop {
            for group in &self.groups {
                if is_seen || group.names_group(Newest::UNKNOWN) == Some(true) {
                    // `EPERM` is noted below for each member.
                    group.of.signal(SIGKILL).unwrap_or(false);
                }
            }
            targets.kill(deadline, Outcome::Killed);
            if !retry(deadline, || self.find(targets, deadline))?.is_new {
                break;
            }
            is_seen = true;
            if deadline.has_passed() {
                return Ok(Proof {
                    is_complete: false,
                    ..Proof::EXACT
                });
            }
        }
        self.proof(targets)
    }
}

impl Groups<'_> {
    /// What is proven when the latest look found nothing new.
    fn proof(&self, targets: &mut Targets<'_>) -> Result<Proof> {
        // If no visible process uses the number, a hidden one does.
        let is_empty = |Number { of: group, .. }: &Number| {
            matches!(group.signal(0), Ok(false)) || self.with_zombies.contains(&group.pgid)
        };
        let has_survivors = targets.all_live().next().is_some();
        let mut groups = self.groups.iter().chain(&self.unsure);
        let is_complete = has_survivors || groups.all(is_empty);
        // Beside a visible zombie there may be a hidden process.
        let is_exact = self.with_zombies.is_empty() || !targets.is_partial()?;
        Ok(Proof {
            coverage: match is_exact {
                true => Coverage::Exact,
                false => Coverage::BestEffort,
            },
            is_complete,
        })
    }
}

/// Opens groups that may be killed, each once. Refuses all if one holds a process that is spared.
pub(super) fn groups_to_kill(
    pgids: &[u32],
    targets: &mut Targets<'_>,
) -> Result<Vec<Arc<ProcessGroup>>> {
    let mut seen = HashSet::new();
    let named = pgids.iter().filter(|&&pgid| seen.insert(pgid));
    let named = named
        .map(|&pgid| pid_of(pgid))
        .collect::<Result<Vec<Pid>>>()?;
    let mut buf = Vec::new();
    let mut spared: Vec<Pid> = targets.ancestors().into_iter().collect();
    spared.extend([pid_of(1)?, pid_of(std::process::id())?]);
    // The first bad group refuses them all. Nothing has been sent yet.
    for pid in spared {
        let Some(reason) = targets.spared_reason(pid) else {
            continue;
        };
        let stat = targets.proc()?.process(pid).stat(&mut buf);
        let group = proc::readable(pid, stat)?.and_then(|stat| Pid::new(stat.group));
        if let Some(group) = group.filter(|group| named.contains(group)) {
            let (group, pid) = (group.get(), pid.get());
            return Err(Error::refused(format!(
                "group {group} holds {pid}, which {reason}"
            )));
        }
    }
    let mut open = |pgid: Pid| match pgid.is_init() || pgid.get() == sys::process::getpgrp() {
        true => {
            let why = format!("group {} is init's or the caller's own", pgid.get());
            Err(Error::refused(why))
        }
        false => targets.open_group(pgid).map(Arc::new),
    };
    named.into_iter().map(&mut open).collect()
}

/// As [`groups_to_kill`], for one group.
pub(crate) fn group_to_kill(pgid: u32) -> Result<Arc<ProcessGroup>> {
    let mut targets = Targets::sparing(Spared::new(false), Ppoll);
    let mut groups = groups_to_kill(&[pgid], &mut targets)?;
    let none = || Error::refused(format!("{pgid} is no group"));
    groups.pop().ok_or_else(none)
}

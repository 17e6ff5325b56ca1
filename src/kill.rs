//! The one escalation loop, and the plain functions.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::descent;
use super::error::{Error, Result};
use super::pattern::Pattern;
use super::pipe::Pipes;
use super::proc::{self, Proc, Stat};
use super::process::{self, Pinned, ProcessGroup, ProcessId, check_signal};
use super::report::{Coverage, Outcome, Reason, Report};
use super::sys::{self, Pid, SIGCONT, SIGKILL, SIGTERM};
use super::tree::{self, Orphans, Own};
use super::wait::{Batch, Deadline, Taken};

/// How to kill: first signal, grace, SIGKILL, verify.
///
/// Plain data: keep one and use it as often as you like.
///
/// ```
/// # use std::time::Duration;
/// # use process_kill::{Kill, Outcome};
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// let report = Kill::graceful().grace(Duration::from_secs(1)).pids(&[child.id()])?;
/// assert_eq!(report.pids(Outcome::Exited), [child.id()]);
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is killed until one of its methods names the targets"]
pub struct Kill {
    first: i32,
    grace: Duration,
    verify: Duration,
}

impl Kill {
    /// SIGKILL at once; verify within 2 s.
    pub const fn now() -> Kill {
        Kill {
            first: SIGTERM,
            grace: Duration::ZERO,
            verify: Duration::from_secs(2),
        }
    }

    /// SIGTERM, then SIGCONT, for a stopped process acts on no other signal; up to 5 s of grace; then
    /// SIGKILL, and verify within 2 s.
    pub const fn graceful() -> Kill {
        Kill::now().grace(Duration::from_secs(5))
    }

    /// The signal that opens the grace, `1..=64`; SIGTERM unless set. With SIGKILL there is no grace.
    pub const fn first_signal(mut self, signal: i32) -> Kill {
        self.first = signal;
        self
    }

    /// How long the targets may take after the first signal; it ends when the last one is gone. With
    /// zero SIGKILL is sent at once and the first signal is not; `Duration::MAX` means for ever. If the
    /// targets have to be searched, what that takes beyond 50 ms counts into it.
    pub const fn grace(mut self, grace: Duration) -> Kill {
        self.grace = grace;
        self
    }

    /// How long after SIGKILL the targets may take to be gone. It ends when the last one is gone;
    /// `Duration::MAX` means for ever.
    pub const fn verify_within(mut self, verify: Duration) -> Kill {
        self.verify = verify;
        self
    }

    /// Kills these processes and verifies that they are gone, under one deadline for all.
    ///
    /// All of them are pinned before the first is signalled, so a pid that is given to another
    /// process meanwhile is not signalled. A bad number does not protect the others: it comes back
    /// as a survivor while they are killed. The caller's own children are not reaped.
    ///
    /// # Errors
    /// `Survivors`: not all are gone, or some were refused: 0, 1, numbers above `i32::MAX`, the
    /// caller, threads, kernel threads. `Refused`: the first signal is not in `1..=64`.
    ///
    /// # Kernel versions
    /// Linux 5.3 for pidfds. Where there are none, kill(2) and /proc do, and a pid that is used again
    /// within one clock tick cannot be told apart.
    pub fn pids(&self, pids: &[u32]) -> Result<Report> {
        self.run(Named(pids.iter().map(|&pid| (pid, None))))
    }

    /// As [`Kill::pids`], but never a successor that got the same pid: such a target is gone.
    ///
    /// # Errors
    /// As [`Kill::pids`].
    pub fn processes(&self, ids: &[ProcessId]) -> Result<Report> {
        self.run(Named(ids.iter().map(|id| (id.pid(), Some(id)))))
    }

    /// Kills a process and all its descendants and verifies that they are gone.
    ///
    /// The first signal goes to all that are found. Before SIGKILL the tree is frozen: each process is
    /// stopped before its children are listed, until two passes in a row find nobody new, so that
    /// nothing is forked past the kill. Orphans of the tree that are still in a group or session led
    /// by a member of it are taken in, unless the root's own parent has adopted them: those cannot be
    /// told from its other children ([`Kill::children`] is for that). A daemon that left tree, group and
    /// session before the call is nobody's: [`Coverage::BestEffort`] says so, and
    /// [`pids_with_env`](super::pids_with_env) or a cgroup finds it. Whatever the outcome, nobody is
    /// left stopped. Parents see their children stop (`SIGCHLD`, waitpid(2) with `WUNTRACED`).
    ///
    /// # Errors
    /// `Refused`: `root` is 0, 1, above `i32::MAX`, the caller or one of its ancestors. `Survivors`:
    /// not all are gone, or it is not sure that all were found: then the root is named as
    /// `Unverifiable`. `Proc` or `Io`: /proc cannot be used or read, and nothing was sent.
    ///
    /// ```
    /// let mut sh = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).spawn()?;
    /// let report = process_kill::Kill::now().tree(sh.id())?;
    /// assert_eq!(report.iter().next(), Some((sh.id(), process_kill::Outcome::Killed)));
    /// sh.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tree(&self, root: u32) -> Result<Report> {
        self.run(Tree::of(root)?)
    }

    /// Kills process groups and verifies that no member is left, under one deadline for all.
    ///
    /// A group is signalled as a whole, which no member outruns by forking. It is empty when no member
    /// is left that is not gone: zombies do not count, and the leader may be long gone. Where the
    /// leader has not been reaped, a pidfd of it makes sure that no later group of the same number is
    /// hit. A group without members is no error. The report names processes, not groups.
    ///
    /// # Errors
    /// `Refused`: one of the numbers is 0, 1, above `i32::MAX` or the caller's own group; then nothing
    /// is sent to any. `Survivors`: not all members are gone. `Proc` or `Io`: /proc cannot be used or
    /// read, or no descriptor is free, and nothing was sent.
    ///
    /// # Kernel versions
    /// Linux 6.9 for signals to a group by pidfd; before it, kill(2).
    pub fn groups(&self, pgids: &[u32]) -> Result<Report> {
        self.run(Groups::of(pgids)?)
    }

    /// Kills every process whose command line matches, as [`pids_matching`](super::pids_matching)
    /// finds them, until none matches any more.
    ///
    /// All that match are stopped before the first gets SIGKILL, so that processes which start each
    /// other again lose. Neither the caller nor its ancestors are ever signalled, nor are descendants
    /// that do not match. If nobody matches, that is no error.
    ///
    /// # Errors
    /// `Pattern`: as [`pids_matching`](super::pids_matching). `Survivors`: some are not gone, or there
    /// are always new ones. `Proc` or `Io`: /proc cannot be used or read, and nothing was sent.
    pub fn matching(&self, pattern: &str) -> Result<Report> {
        self.run(Matching::of(pattern)?)
    }

    /// Kills the descendants of the calling process, and verifies that none is left.
    ///
    /// [`Coverage::Exact`] if the caller is PID 1 or a child subreaper (prctl(2)
    /// `PR_SET_CHILD_SUBREAPER`), for then orphans become its children and "no living child" proves
    /// "no living descendant"; [`child::adopt_orphans`](super::child::adopt_orphans) makes it one.
    /// Otherwise orphans are init's: those in a group or session that a descendant leads are found,
    /// daemons of their own are not. The caller's children are not reaped, and none is to be started
    /// meanwhile.
    ///
    /// # Errors
    /// `Survivors`: not all are gone, or it is not sure that all were found: then the caller is named
    /// as `Unverifiable`. `Proc` or `Io`: /proc cannot be used or read, and nothing was sent.
    pub fn children(&self) -> Result<Report> {
        self.run(Children::of_caller()?)
    }

    /// Kills every process in a cgroup (cgroups(7), version 2) and the cgroups below it, and verifies
    /// that it is not populated. The cgroup itself stays.
    ///
    /// # Errors
    /// `Refused`: `dir` is no directory of a cgroup v2 file system, is the root cgroup, or holds the
    /// caller. `Survivors`: not all are gone. `Proc` or `Io`: /proc or the cgroup cannot be read, and
    /// nothing was sent.
    ///
    /// # Kernel versions
    /// Linux 5.14 for `cgroup.kill`. Before it, and for threaded cgroups, the cgroup is frozen while
    /// each process is killed (Linux 5.2).
    pub fn cgroup(&self, dir: &Path) -> Result<Report> {
        self.run(Cgroup::open(dir)?)
    }

    /// Kills children of the caller with their trees, and what is left in groups and sessions that
    /// were made for them, under one deadline for all.
    pub(super) fn families(&self, roots: &[ProcessId], own: &[Own]) -> Result<Report> {
        self.run(Tree::of_children(roots, own)?)
    }

    /// As [`Kill::families`], while pipes are read: who cannot write cannot obey.
    pub(super) fn families_and_read(
        &self,
        roots: &[ProcessId],
        own: &[Own],
        pipes: &mut Pipes,
    ) -> Result<Report> {
        let tree = Tree::of_children(roots, own)?;
        let mut batch = Batch::new();
        std::mem::swap(&mut batch.pipes, pipes);
        let ended = self.escalate(tree, &mut batch);
        std::mem::swap(&mut batch.pipes, pipes);
        ended.and_then(|verdict| verdict.of(batch))
    }

    pub(super) fn check(&self) -> Result<()> {
        check_signal(self.first)
    }

    fn run(&self, selection: impl Selection) -> Result<Report> {
        let mut batch = Batch::new();
        self.escalate(selection, &mut batch)?.of(batch)
    }

    /// The one escalation: first signal, grace, SIGKILL, verify.
    fn escalate(&self, mut selection: impl Selection, batch: &mut Batch) -> Result<Verdict> {
        /// How long the search may take before it counts into the grace.
        const UNCOUNTED: Duration = Duration::from_millis(50);
        self.check()?;
        selection.start(batch)?;
        if !self.grace.is_zero() && self.first != SIGKILL {
            let latest = Deadline::after(self.grace.saturating_add(UNCOUNTED));
            selection.find(batch, latest)?;
            let deadline = latest.earlier(Deadline::after(self.grace));
            let mut signalled = 0;
            loop {
                let all = batch.len();
                selection.signal(batch, signalled, &[self.first, SIGCONT]);
                signalled = all;
                batch.wait(deadline, Outcome::Exited);
                // Those forked meanwhile are due the first signal too. An error here is met again
                // below, where it counts.
                if deadline.has_passed() || !selection.find(batch, deadline).unwrap_or(false) {
                    break;
                }
            }
        }
        let deadline = Deadline::after(self.verify);
        // What cannot be read once signals were sent leaves the rest unverified, not the found alive.
        let is_proven = selection.kill(batch, deadline).unwrap_or_else(|_| {
            batch.signal(0, &[SIGKILL]);
            batch.wait(deadline, Outcome::Killed);
            false
        });
        Ok(Verdict {
            coverage: selection.coverage(),
            unproven: (!is_proven).then(|| selection.number()),
        })
    }
}

/// What an escalation says beyond its targets.
struct Verdict {
    coverage: Coverage,
    /// Whom to name if it is not sure that all were found.
    unproven: Option<u32>,
}

impl Verdict {
    fn of(self, batch: Batch) -> Result<Report> {
        batch.finish(self.coverage, self.unproven)
    }
}

/// What is to go: how its members are found and killed.
trait Selection {
    /// Takes in those that were named.
    fn start(&mut self, batch: &mut Batch) -> Result<()>;

    /// Takes in the members that are not yet known, until the deadline where they can be without end.
    /// True: there was one.
    fn find(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool>;

    /// Sends these to all members, from one on.
    fn signal(&mut self, batch: &mut Batch, from: usize, signals: &[i32]) {
        batch.signal(from, signals);
    }

    /// SIGKILL to all, and waits until they are gone. True: it is sure that none was missed.
    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool>;

    /// Whom to name when it is not sure.
    fn number(&self) -> u32;

    fn coverage(&self) -> Coverage;
}

/// Processes by pid or identity.
struct Named<'a, I: Iterator<Item = (u32, Option<&'a ProcessId>)>>(I);

impl<'a, I: Iterator<Item = (u32, Option<&'a ProcessId>)>> Selection for Named<'a, I> {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        batch.name(&mut self.0, refusal);
        Ok(())
    }

    fn find(&mut self, _: &mut Batch, _: Deadline) -> Result<bool> {
        Ok(false)
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        batch.signal(0, &[SIGKILL]);
        batch.wait(deadline, Outcome::Killed);
        Ok(true)
    }

    fn number(&self) -> u32 {
        0
    }

    fn coverage(&self) -> Coverage {
        Coverage::Exact
    }
}

/// Processes and their descendants.
struct Tree<'a> {
    roots: Vec<(Pid, Option<&'a ProcessId>)>,
    orphans: Orphans,
}

impl<'a> Tree<'a> {
    fn of(root: u32) -> Result<Tree<'a>> {
        let root = process::named(root)?;
        let mut proc = Proc::open()?;
        let spared = caller_and_ancestors(&mut proc)?;
        if root.is_init() || spared.contains(&root) {
            let why = format!("{} is init, the caller or an ancestor of it", root.get());
            return Err(Error::refused(why));
        }
        let ancestors = proc.ancestors(root);
        let ancestors = ancestors.map_err(|e| Error::io("read the ancestors of the root", e))?;
        Ok(Tree {
            roots: vec![(root, None)],
            orphans: Orphans::of(&ancestors, spared, &[]),
        })
    }

    fn of_children(roots: &'a [ProcessId], own: &[Own]) -> Result<Tree<'a>> {
        let caller = process::named(std::process::id())?;
        let mut ancestors = vec![caller];
        let above = Proc::open()?.ancestors(caller);
        ancestors.extend(above.map_err(|e| Error::io("read the caller's ancestors", e))?);
        let spared = ancestors.iter().copied().collect();
        Ok(Tree {
            roots: roots.iter().map(|id| (id.named(), Some(id))).collect(),
            orphans: Orphans::of(&ancestors, spared, own),
        })
    }
}

impl Selection for Tree<'_> {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        batch.name(self.roots.iter().map(|(pid, id)| (pid.get(), *id)), refusal);
        Ok(())
    }

    fn find(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        let found = tree::take_descendants(batch, deadline)?;
        // Once: a chain of orphans that fork and exit has new ones for ever.
        if !self.orphans.take(batch)? {
            return Ok(found);
        }
        tree::take_descendants(batch, deadline)?;
        Ok(true)
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        // The rest is for them to be gone.
        let frozen_by = deadline.three_quarters();
        let is_closed = loop {
            let is_closed = tree::freeze(batch, frozen_by)?;
            // Orphans are to go even if a member cannot be stopped.
            if !self.orphans.stop(batch)? {
                break is_closed;
            }
            if frozen_by.has_passed() {
                break false;
            }
        };
        self.orphans.kill();
        batch.kill_newest_first();
        batch.wait(deadline, Outcome::Killed);
        Ok(is_closed)
    }

    fn number(&self) -> u32 {
        self.roots
            .first()
            .map_or_else(std::process::id, |(root, _)| root.get())
    }

    fn coverage(&self) -> Coverage {
        Coverage::BestEffort
    }
}

/// Process groups.
struct Groups {
    groups: Vec<ProcessGroup>,
    /// Those in which a zombie was seen, which keeps the number in use.
    with_zombies: HashSet<Pid>,
    /// The first signal was sent, on which members may have been forked.
    was_signalled: bool,
    coverage: Coverage,
}

impl Groups {
    fn of(pgids: &[u32]) -> Result<Groups> {
        let mut seen = HashSet::new();
        let named = pgids.iter().filter(|&&pgid| seen.insert(pgid));
        Ok(Groups {
            // The first bad one refuses them all, and nothing has been sent yet.
            groups: named
                .map(|&pgid| group_to_kill(pgid))
                .collect::<Result<_>>()?,
            with_zombies: HashSet::new(),
            was_signalled: false,
            coverage: Coverage::Exact,
        })
    }

    fn holds(&self, stat: &Stat<'_>) -> Option<&ProcessGroup> {
        let of = |group: &&ProcessGroup| group.pgid.get() == stat.group;
        self.groups
            .iter()
            .find(of)
            .filter(|group| !group.was_replaced())
    }
}

impl Selection for Groups {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        self.find(batch, Deadline::NEVER)?;
        Ok(())
    }

    fn find(&mut self, batch: &mut Batch, _: Deadline) -> Result<bool> {
        if self.groups.is_empty() {
            return Ok(false);
        }
        let before = batch.len();
        let mut with_zombies = HashSet::new();
        let mut buf = Vec::new();
        for pid in proc::visible(batch.proc()?)? {
            let stat = proc::readable(pid, batch.proc()?.stat(pid, &mut buf))?;
            let Some(group) = stat.and_then(|stat| self.holds(&stat)) else {
                continue;
            };
            let taken = batch.take(pid, |stat, _| Ok(self.holds(stat).is_some()))?;
            if taken == Taken::Dead {
                with_zombies.insert(group.pgid);
            }
        }
        self.with_zombies = with_zombies;
        Ok(batch.len() > before)
    }

    fn signal(&mut self, batch: &mut Batch, from: usize, signals: &[i32]) {
        self.was_signalled = true;
        // Those forked since the last time were not there then; the others need it only once.
        match from {
            0 => {
                for group in &self.groups {
                    for &signal in signals {
                        // EPERM: no member may be signalled, which shows below.
                        group.signal(signal).unwrap_or(false);
                    }
                }
                batch.signal(0, &[0]);
            }
            _ => batch.signal(from, signals),
        }
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        if self.was_signalled {
            // For the report alone: they are killed in any case. An error is met again below.
            self.find(batch, deadline).unwrap_or(false);
        }
        loop {
            for group in &self.groups {
                // EPERM shows below, member by member.
                group.signal(SIGKILL).unwrap_or(false);
            }
            batch.kill_newest_first();
            batch.wait(deadline, Outcome::Killed);
            if !self.find(batch, deadline)? {
                break;
            }
            if deadline.has_passed() {
                return Ok(false);
            }
        }
        // Beside a zombie whom we see there may be somebody whom we do not.
        if !self.with_zombies.is_empty() && batch.is_partial()? {
            self.coverage = Coverage::BestEffort;
        }
        // A number that is in use by nobody we can see is in use by somebody hidden.
        let is_empty = |group: &ProcessGroup| {
            matches!(group.signal(0), Ok(false)) || self.with_zombies.contains(&group.pgid)
        };
        Ok((0..batch.len()).any(|index| batch.live(index).is_some())
            || self.groups.iter().all(is_empty))
    }

    fn number(&self) -> u32 {
        self.groups.first().map_or(0, |group| group.pgid.get())
    }

    fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// Whoever matches a pattern.
struct Matching {
    pattern: Pattern,
    spared: HashSet<Pid>,
}

impl Matching {
    fn of(pattern: &str) -> Result<Matching> {
        Ok(Matching {
            pattern: Pattern::new(pattern)?,
            spared: caller_and_ancestors(&mut Proc::open()?)?,
        })
    }
}

impl Selection for Matching {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        self.find(batch, Deadline::NEVER)?;
        Ok(())
    }

    fn find(&mut self, batch: &mut Batch, _: Deadline) -> Result<bool> {
        let before = batch.len();
        for pid in self.pattern.find(batch.proc()?)? {
            if self.spared.contains(&pid) {
                continue;
            }
            batch.take(pid, |_, proc| {
                // The number may have gone to another process since.
                let (mut line, mut stat) = (Vec::new(), Vec::new());
                self.pattern
                    .matches_process(pid, proc, &mut line, &mut stat)
            })?;
        }
        Ok(batch.len() > before)
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        loop {
            let frozen_by = deadline.three_quarters();
            loop {
                for index in 0..batch.len() {
                    batch.halt(index);
                }
                for index in 0..batch.len() {
                    // What does not stop is killed all the same.
                    batch.stop(index, frozen_by)?;
                }
                if !self.find(batch, deadline)? || frozen_by.has_passed() {
                    break;
                }
            }
            batch.signal(0, &[SIGKILL]);
            batch.wait(deadline, Outcome::Killed);
            if !self.find(batch, deadline)? {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
        }
    }

    fn number(&self) -> u32 {
        std::process::id()
    }

    fn coverage(&self) -> Coverage {
        Coverage::BestEffort
    }
}

impl Cgroup {
    /// Those in it; of a threaded cgroup's threads, the processes.
    fn processes(&self, batch: &mut Batch) -> Result<Vec<Pid>> {
        let failed = |e| Error::io("list the processes of the cgroup", e);
        let mut processes = Vec::new();
        for number in self.numbers().map_err(failed)? {
            processes.extend(batch.proc()?.process_of(number).map_err(failed)?);
        }
        Ok(processes)
    }
}

impl Selection for Cgroup {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        self.find(batch, Deadline::NEVER)?;
        Ok(())
    }

    fn find(&mut self, batch: &mut Batch, _: Deadline) -> Result<bool> {
        let before = batch.len();
        for pid in self.processes(batch)? {
            batch.take(pid, |_, _| Ok(true))?;
        }
        if batch.len() > before {
            // The number may have gone to a stranger before it was pinned; who is listed again had it
            // here, or is gone.
            let again = self.processes(batch).map(HashSet::<Pid>::from_iter);
            batch.keep(before, |pid| {
                again.as_ref().is_ok_and(|again| again.contains(&pid))
            });
            again?;
        }
        Ok(batch.len() > before)
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        /// How long one write is waited for before the next.
        const PAUSE: Duration = Duration::from_millis(10);
        let failed = |e| Error::io("kill the cgroup", e);
        let mut is_populated = self.is_populated().map_err(failed)?;
        while is_populated {
            // One write can miss a process that is just being forked.
            if !Cgroup::kill(self).map_err(failed)? {
                self.freeze().map_err(failed)?;
                self.find(batch, deadline)?;
                batch.signal(0, &[SIGKILL]);
            }
            let soon = deadline.or_after(PAUSE);
            is_populated = self.is_populated().map_err(failed)?;
            while is_populated && !soon.has_passed() {
                self.wait_for_change(soon).map_err(failed)?;
                is_populated = self.is_populated().map_err(failed)?;
            }
            if is_populated && deadline.has_passed() {
                self.find(batch, deadline)?;
                break;
            }
        }
        batch.wait(deadline, Outcome::Killed);
        Ok(!is_populated)
    }

    fn number(&self) -> u32 {
        std::process::id()
    }

    fn coverage(&self) -> Coverage {
        Coverage::Exact
    }
}

/// Every descendant of the calling process.
struct Children {
    caller: Pid,
    coverage: Coverage,
    /// Zombies that were looked at. They stay listed until they are reaped, and there may be
    /// thousands of them.
    dead: HashSet<Pid>,
}

impl Children {
    fn of_caller() -> Result<Children> {
        let caller = process::named(std::process::id())?;
        let adopts = sys::is_child_subreaper();
        let adopts = adopts.map_err(|e| Error::io("ask whether orphans come here", e))?;
        Ok(Children {
            caller,
            coverage: match adopts || caller.is_init() {
                true => Coverage::Exact,
                false => Coverage::BestEffort,
            },
            dead: HashSet::new(),
        })
    }

    /// As [`Proc::own_children`], from the kernel's lists or by a scan of all parents.
    fn list(&self, batch: &mut Batch) -> Result<Vec<u8>> {
        let proc = batch.proc()?;
        let failed = |e| Error::io("list the caller's children", e);
        match proc.own_children() {
            Err(e) if proc::is_absent(&e) => {
                let all = descent::all_children(proc).map_err(failed)?;
                let children = all.get(&self.caller).into_iter().flatten();
                Ok(children
                    .flat_map(|pid| format!("{} ", pid.get()).into_bytes())
                    .collect())
            }
            listed => listed.map_err(failed),
        }
    }

    /// Takes in the living children, newest first, and stops them at once. Returns the list.
    fn catch(&mut self, batch: &mut Batch) -> Result<Vec<u8>> {
        let listed = self.list(batch)?;
        for child in proc::listed(&listed).rev() {
            if !self.dead.contains(&child) && batch.catch(child, self.caller)? == Taken::Dead {
                self.dead.insert(child);
            }
        }
        Ok(listed)
    }
}

impl Selection for Children {
    fn start(&mut self, batch: &mut Batch) -> Result<()> {
        let listed = self.list(batch)?;
        for child in proc::listed(&listed) {
            batch.take_child(self.caller, child)?;
        }
        Ok(())
    }

    fn find(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        let before = batch.len();
        self.start(batch)?;
        tree::take_descendants(batch, deadline)?;
        Ok(batch.len() > before)
    }

    fn kill(&mut self, batch: &mut Batch, deadline: Deadline) -> Result<bool> {
        loop {
            let listed = self.catch(batch)?;
            let is_left = |index| batch.live(index).is_some() && !batch.is_doubtful(index);
            if (0..batch.len()).any(is_left) {
                // Whether it closed does not matter: the list tells in the end.
                tree::freeze(batch, deadline.three_quarters())?;
                batch.kill_newest_first();
                batch.wait(deadline, Outcome::Killed);
            } else if self.list(batch)? == listed {
                // The numbers of zombies that were reaped may have been used again: so each one is
                // looked at once more.
                self.dead.clear();
                let before = batch.len();
                let looked_at = self.catch(batch)?;
                // Nobody in the list lived, and nobody came or went since.
                if batch.len() == before && looked_at == listed && self.list(batch)? == listed {
                    // Who may not be signalled is a survivor, and may have forked.
                    return Ok((0..batch.len()).all(|index| batch.live(index).is_none()));
                }
            }
            if deadline.has_passed() {
                return Ok(false);
            }
        }
    }

    fn number(&self) -> u32 {
        self.caller.get()
    }

    fn coverage(&self) -> Coverage {
        self.coverage
    }
}

/// Init is among them even for a caller that entered its PID namespace from outside (setns(2)) and
/// has no parent there.
fn caller_and_ancestors(proc: &mut Proc) -> Result<HashSet<Pid>> {
    let (init, caller) = (process::named(1)?, process::named(std::process::id())?);
    let ancestors = proc.ancestors(caller);
    let ancestors = ancestors.map_err(|e| Error::io("read the caller's ancestors", e))?;
    Ok(ancestors.into_iter().chain([init, caller]).collect())
}

/// A group that may be killed.
pub(super) fn group_to_kill(number: u32) -> Result<ProcessGroup> {
    let pgid = process::named(number)?;
    if pgid.is_init() || number == sys::getpgrp() {
        let why = format!("{number} is init's group or the caller's own");
        return Err(Error::refused(why));
    }
    ProcessGroup::open(pgid).map_err(|e| Error::io(format!("pin group {number}"), e))
}

/// Who is never signalled, whoever asks.
pub(super) fn refusal(pid: Pid, pinned: Option<&Pinned>) -> Option<Reason> {
    match pinned {
        _ if pid.is_init() => Some(Reason::Init),
        _ if pid.is_caller() => Some(Reason::Caller),
        // It would ignore SIGKILL or, if it has asked for it, obey.
        Some(pinned) if pinned.is_kernel_thread => Some(Reason::KernelThread),
        _ => None,
    }
}

/// Sends SIGKILL to each and verifies within 2 s that they are gone: [`Kill::now`]`().`[`pids`](Kill::pids).
///
/// `Ok`: all are gone, and with them their descriptors, locks, ports and memory. The caller's own
/// children stay zombies for `Child::wait` to reap.
///
/// # Errors
/// As [`Kill::pids`].
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait()?), Some(9));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sigkill_pids_and_verify(pids: &[u32]) -> Result<Report> {
    Kill::now().pids(pids)
}

/// Kills a process and all its descendants: [`Kill::now`]`().`[`tree`](Kill::tree).
///
/// # Errors
/// As [`Kill::tree`].
pub fn kill_tree_and_verify(root: u32) -> Result<Report> {
    Kill::now().tree(root)
}

/// Ends a process group: [`Kill::graceful`]`().`[`groups`](Kill::groups)`(&[pgid])`.
///
/// A group without members is no error: if the child was not given a group of its own, its pid names
/// none, and the child lives on.
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

/// Ends the descendants of the calling process: [`Kill::graceful`]`().`[`children`](Kill::children).
///
/// # Errors
/// As [`Kill::children`].
pub fn kill_all_children() -> Result<Report> {
    Kill::graceful().children()
}

/// Waits until all of these are gone and sends nothing. It may wait for anyone, init and kernel
/// threads included.
///
/// # Errors
/// `Survivors`: not all are gone, or a number is 0, above `i32::MAX` or a thread's.
///
/// ```
/// # use std::time::Duration;
/// let mut child = std::process::Command::new("true").spawn()?;
/// process_kill::wait_until_gone(&[child.id()], Duration::from_secs(10))?;
/// assert!(child.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait_until_gone(pids: &[u32], within: Duration) -> Result<Report> {
    let deadline = Deadline::after(within);
    let mut batch = Batch::new();
    batch.name(pids.iter().map(|&pid| (pid, None)), |_, _| None);
    batch.wait(deadline, Outcome::Exited);
    batch.finish(Coverage::Exact, None)
}

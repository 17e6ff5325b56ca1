//! Whole trees: a root and all its descendants.
//!
//! 1. Add the roots, and the session and group that a root leads, even if it is a zombie.
//! 2. First signal: list the tree, signal it, and list again at once, because a parent that ends
//!    loses its children.
//! 3. SIGKILL: freeze the tree (`freeze.rs`), kill it with its groups, and wait.

use std::sync::Arc;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::proc;
use super::super::proc::fork_counter::Newest;
use super::super::process::group::OwnedGroup;
use super::super::process::{ProcessGroup, ProcessId, pid_of};
use super::super::report::{Outcome, Reason, Report};
use super::super::sys::Pid;
use super::super::targets::{Proof, Targets};
use super::super::wait::{Deadline, Wait};
use super::freeze::{self, Kin, add_members, freeze};
use super::groups::groups_to_kill;
use super::{Found, Kill, Selection, retry};

impl Kill {
    /// Kills a process and all its descendants, and verifies that they are gone.
    ///
    /// The first signal goes to all that are found. Before SIGKILL the tree is frozen: each process
    /// is stopped before its children are listed, until nothing new is found and no process was
    /// born meanwhile. A child that its parent waits for in vfork(2) is killed at once, because the
    /// parent cannot stop before.
    ///
    /// A process that lost its parent belongs to the tree if it is in a session that a member
    /// leads, or led while it was a member. If the root is the caller's own child and leads its
    /// group, the orphans in that group belong too. Both hold even if the root is a zombie by now.
    /// Any other process that shares only a group with the tree may be a stranger and is left
    /// alone; see [`Kill::jobs`]. If the caller is init or adopts orphans, its own children in that
    /// group look like orphans, and belong too. So does a process that is put into that group during
    /// the call.
    ///
    /// [`Coverage::Exact`](super::super::Coverage): no process was born, or only strangers were,
    /// from the call until the tree was gone, as far as the kernel shows
    /// ([`guide::searches`](super::super::guide::searches)). It is
    /// [`BestEffort`](super::super::Coverage::BestEffort) in each of these cases:
    ///
    /// - The machine kept forking, and two looks in a row found nothing new.
    /// - A member ended before its children were listed, also if it was the root.
    /// - /proc hides processes (`hidepid`).
    /// - A debugger holds a member. If it does not let the member stop, the result is `Unproven`.
    ///
    /// In these cases a daemon that left tree and session before the call is not found, and neither
    /// is a process that a member starts in a new group or session, if the member ends at once after
    /// that. [`pids_with_env`](super::super::pids_with_env) or a cgroup finds it; see
    /// [`guide::searches`](super::super::guide::searches).
    ///
    /// A member can start a process and end before that is listed, for example in a handler of the
    /// first signal. If such an orphan stays in the group and session of the member, it is seen. It
    /// may be a stranger's child too, so it is not killed, and the result is `Unproven`. A process that
    /// something else puts into the group of a member during the call looks the same.
    ///
    /// Nothing is left stopped, whatever the outcome. Parents see their children stop (`SIGCHLD`,
    /// waitpid(2) with `WUNTRACED`).
    ///
    /// A container's init stays a survivor while a process that was started into the container from
    /// outside is a zombie; see [`Reason::StillExiting`].
    ///
    /// # Errors
    /// `Refused`: `root` is 0, 1, above `i32::MAX`, the caller or one of its ancestors.
    /// `Survivors`: not all are gone. `Unproven`: all that were found are gone, but it is not
    /// proven that all were found. `Proc` or `Io`: /proc cannot be used or read, and nothing was
    /// sent.
    ///
    /// ```
    /// let mut sh = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).spawn()?;
    /// let report = process_kill::Kill::now().tree(sh.id())?;
    /// assert_eq!(report.iter().next(), Some((sh.id(), process_kill::Outcome::Killed)));
    /// sh.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tree(&self, root: u32) -> Result<Report> {
        self.run(Tree::of(What::Root(root), Kin::default()))
    }

    /// Kills several processes, each with its tree as [`Kill::tree`] does, under one deadline.
    /// Never kills a successor that got the same pid.
    ///
    /// A root that is gone is no error. If it is a zombie, what is left of its session, and of its
    /// group if it is the caller's own child, is found. If it was reaped, its children that
    /// outlived it are not found.
    ///
    /// This is the call for a supervisor that starts again after a crash and reads from a pid file
    /// what it had started before. [`Kill::tree`] of a pid from a file may hit a successor. What a
    /// pid file misses: [`guide::crashes`](super::super::guide::crashes).
    ///
    /// # Errors
    /// As [`Kill::tree`], but a root that is init, the caller or an ancestor is a survivor, and so
    /// is a root of another PID namespace (`Unverifiable`).
    ///
    /// ```
    /// # use process_kill::{Kill, ProcessId};
    /// # let dir = std::env::temp_dir().join(format!("pids-{}", std::process::id()));
    /// # let pid_file = dir.as_path();
    /// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
    /// let id = ProcessId::of(child.id())?.expect("it was not waited for");
    /// std::fs::write(pid_file, id.to_string())?;
    /// // After a crash, in the next life:
    /// let ids = std::fs::read_to_string(pid_file)?;
    /// let ids = ids.lines().map(str::parse).collect::<Result<Vec<ProcessId>, _>>()?;
    /// Kill::graceful().trees(&ids)?;
    /// # std::fs::remove_file(pid_file)?;
    /// # child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trees(&self, roots: &[ProcessId]) -> Result<Report> {
        self.run(Tree::of(What::Roots(roots), Kin::default()))
    }

    /// Kills children of the caller with their trees, and what is left in groups and sessions that
    /// were made for them, under one deadline for all. `wait` is the way to wait.
    pub(crate) fn families(
        &self,
        roots: &[ProcessId],
        owned: &[OwnedGroup],
        wait: impl Wait,
    ) -> Result<Report> {
        self.run_waiting(Tree::of(What::Roots(roots), Kin::of(owned)), wait)
    }

    pub(super) fn jobs_of(&self, pgids: &[u32]) -> Result<Report> {
        self.run(Tree::of(What::Jobs(pgids), Kin::default()))
    }
}

/// Kills a process and all its descendants: [`Kill::now`]`().`[`tree`](Kill::tree). Not graceful:
/// SIGKILL at once.
///
/// # Errors
/// As [`Kill::tree`].
///
/// ```
/// let mut sh = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60"]).spawn()?;
/// process_kill::kill_tree_and_verify(sh.id())?;
/// sh.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kill_tree_and_verify(root: u32) -> Result<Report> {
    Kill::now().tree(root)
}

/// Processes and their descendants.
struct Tree<'a> {
    what: What<'a>,
    kin: Kin,
    /// What the fork counter showed when the call began.
    since: Newest,
}

enum What<'a> {
    Root(u32),
    Roots(&'a [ProcessId]),
    /// All members of these groups.
    Jobs(&'a [u32]),
}

impl<'a> Tree<'a> {
    fn of(what: What<'a>, kin: Kin) -> Tree<'a> {
        Tree {
            what,
            kin,
            since: Newest::UNKNOWN,
        }
    }

    /// Refuses a root whose tree holds the caller. A child of the caller is no ancestor of it.
    fn check_root(&mut self, root: Pid, targets: &mut Targets<'_>) -> Result<()> {
        let (proc, mut buf) = (targets.proc()?, Vec::new());
        let caller = proc.caller();
        let stat = proc::readable(root, proc.process(root).stat(&mut buf))?;
        let is_own_child = stat.is_some_and(|stat| stat.parent == caller.get());
        if !is_own_child {
            targets.read_ancestors()?;
        }
        let reason = match root {
            _ if root.is_init() => Some(Reason::Init),
            _ if root == caller => Some(Reason::Caller),
            // Refused even with `even_ancestors`, because its tree holds the caller.
            _ if !is_own_child && targets.ancestors().contains(&root) => Some(Reason::Ancestor),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::refused(format!("{} {reason}", root.get())));
        }
        Ok(())
    }

    /// Notes the session that the root leads, and the group that it leads if the root is the
    /// caller's own child: then the caller made that group. Both are also noted if the root is a
    /// zombie, which keeps its number.
    ///
    /// `leader` was opened under the number of the root before anything else was read under it, and
    /// has it still at the end. So all that was read is of one process.
    fn own_what_the_root_leads(
        &mut self,
        leader: ProcessGroup,
        expected: Option<&ProcessId>,
        targets: &mut Targets<'_>,
    ) -> Result<()> {
        let root = leader.pgid;
        if let Some(expected) = expected {
            let found = proc::readable(root, targets.identify(root))?;
            if !found.is_some_and(|id| expected.is_same(&id)) {
                return Ok(());
            }
        }
        let proc = targets.proc()?;
        let mut buf = Vec::new();
        let Some(stat) = proc::readable(root, proc.process(root).stat(&mut buf))? else {
            return Ok(());
        };
        let is_own = stat.parent == proc.caller().get();
        let leads_group = is_own && stat.group == root.get();
        let leads_session = stat.session == root.get();
        if (leads_group || leads_session) && leader.has_leader() {
            let leader = Arc::new(leader);
            if leads_group {
                self.kin.add_group_of_root(&leader);
            }
            if leads_session {
                self.kin.own_session(&leader);
            }
        }
        Ok(())
    }
}

impl Selection for Tree<'_> {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        self.since = freeze::newest_and_forks(targets)?;
        match self.what {
            What::Root(root) => {
                let pid = pid_of(root)?;
                self.check_root(pid, targets)?;
                let leader = targets.open_group(pid)?;
                targets.add_named(std::iter::once((root, None)));
                self.own_what_the_root_leads(leader, None, targets)
            }
            What::Roots(ids) => {
                targets.spare_ancestors();
                targets.add_named(ids.iter().map(|id| (id.pid(), Some(id))));
                for id in ids {
                    if targets.is_here(id) {
                        let leader = targets.open_group(id.number())?;
                        self.own_what_the_root_leads(leader, Some(id), targets)?;
                    }
                }
                Ok(())
            }
            What::Jobs(pgids) => {
                // Whatever `even_ancestors` says: the tree of an ancestor holds the caller.
                targets.spare_ancestors();
                for group in groups_to_kill(pgids, targets)? {
                    self.kin.own_group(group);
                }
                self.kin.add(targets, false)?;
                Ok(())
            }
        }
    }

    fn find(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Found> {
        add_members(targets, &mut self.kin, deadline)
    }

    fn signal(&mut self, targets: &mut Targets<'_>, from: usize, signals: &[i32]) {
        const TIME: Duration = Duration::from_millis(50);
        let before = freeze::newest(targets).unwrap_or(Newest::UNKNOWN);
        targets.signal(from, signals);
        // What is forked between the listing and the exit of its parent would be lost: it is looked
        // for at once. It is not signalled yet, because a handler may have forked it to clean up. If
        // this fails, the freeze meets the error again.
        freeze::watch_births(targets, before);
        self.find(targets, Deadline::after(TIME))
            .unwrap_or(Found::NOTHING);
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        // The rest of the time is for the wait until they are gone.
        let frozen_by = freeze::frozen_by(deadline);
        let proof = retry(frozen_by, || {
            freeze(targets, &mut self.kin, self.since, frozen_by)
        });
        targets.kill_and(deadline, Outcome::Killed, || self.kin.kill());
        let proof = proof.map(|proof| self.kin.kept(proof, targets));
        let is_left = retry(deadline, || {
            targets.read_spared()?;
            self.kin.may_have_missed(targets, self.since, deadline)
        })?;
        if is_left { Ok(Proof::NONE) } else { proof }
    }
}

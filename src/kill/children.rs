//! Every descendant of the calling process.
//!
//! 1. List the caller's children, newest first. Hold each, stop it at once, and then its children.
//!    A process that forks and exits without pause has forked already when it is listed, so its
//!    child must be stopped in time. If the pidfd tells the parent (Linux 6.13), nothing else is
//!    read in between.
//! 2. Freeze and kill what was found, wait, and start again.
//! 3. When no child is left alive: list, look at every entry and see it dead, list again. If both
//!    lists are equal, no child lived, and none came or went. If orphans are given to the caller,
//!    no descendant is left then. If not, the last look (`freeze/last_look.rs`) must find none that
//!    may be one.

use std::collections::HashSet;

use super::super::error::{Error, Result};
use super::super::find::descent::all_children;
use super::super::proc;
use super::super::proc::fork_counter::Newest;
use super::super::report::{Coverage, Outcome, Report};
use super::super::sys::{self, Pid};
use super::super::targets::found::Added;
use super::super::targets::{Proof, Targets};
use super::super::wait::Deadline;
use super::freeze::{self, Kin, add_members, freeze};
use super::{Found, Kill, Selection, retry};

impl Kill {
    /// Kills all descendants of the calling process, and verifies that none is left.
    ///
    /// [`Coverage::Exact`](super::super::Coverage): the caller is pid 1 or a child subreaper
    /// (prctl(2) `PR_SET_CHILD_SUBREAPER`), so orphans become its children, and "no living child"
    /// proves "no living descendant". [`child::adopt_orphans`](super::super::child::adopt_orphans)
    /// makes it a subreaper; see [`guide::orphans`](super::super::guide::orphans).
    ///
    /// [`Coverage::BestEffort`](super::super::Coverage): orphans become children of init. Those in
    /// a session that a descendant leads are found. Daemons in a session of their own are not. The
    /// same holds if the children of a descendant are born into another PID namespace
    /// (pid_namespaces(7)), because orphans there are given to the init of that namespace; also if such
    /// an orphan may have been born during the call. What a descendant left in another PID namespace
    /// before the call is not found if the descendant has ended, and nothing tells of it.
    ///
    /// The caller must not start children meanwhile. Its children are not reaped. If one of them
    /// was started into a container (nsenter(1), setns(2)), the container's init stays a survivor
    /// until the caller reaps that child; see
    /// [`Reason::StillExiting`](super::super::Reason::StillExiting).
    ///
    /// # Errors
    /// `Survivors`: not all are gone. `Unproven`: all that were found are gone, but it is not
    /// proven that all were found. `Proc` or `Io`: /proc cannot be used or read, and nothing was
    /// sent.
    ///
    /// ```no_run
    /// use process_kill::{Coverage, Kill, child::adopt_orphans};
    ///
    /// adopt_orphans()?; // before the first child is started
    /// // ..
    /// let report = Kill::graceful().children()?;
    /// println!("{} gone, daemons too: {}", report.len(), report.coverage() == Coverage::Exact);
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub fn children(&self) -> Result<Report> {
        self.run(Children::default())
    }
}

/// Kills all descendants of the calling process:
/// [`Kill::graceful`]`().`[`children`](Kill::children). Graceful: SIGTERM, up to 5 s of grace, SIGKILL.
///
/// # Errors
/// As [`Kill::children`].
///
/// ```no_run
/// use std::process::ExitCode;
///
/// // The last act of main.
/// fn shut_down() -> ExitCode {
///     match process_kill::kill_all_children() {
///         Ok(_) => ExitCode::SUCCESS,
///         Err(e) => {
///             eprintln!("{e}");
///             ExitCode::FAILURE
///         }
///     }
/// }
/// ```
pub fn kill_all_children() -> Result<Report> {
    Kill::graceful().children()
}

/// Every descendant of the calling process.
#[derive(Default)]
struct Children {
    /// The caller is init or a subreaper, so orphans are given to it.
    adopts: bool,
    kin: Kin,
    /// Zombies that were seen. They stay listed until they are reaped, and there may be thousands.
    dead: HashSet<Pid>,
    /// The children of a descendant are born into another PID namespace, or this could not be told.
    leaves_namespace: bool,
    /// A freeze ended before it had found all members. Orphans in their sessions may be left.
    was_cut_short: bool,
    /// What the fork counter showed when the call began.
    since: Newest,
}

impl Children {
    /// The caller's children, from the kernel's lists or by a scan of all parents. Those of the
    /// leader come last, because orphans are given to it. The newest is at the very end.
    fn list(&self, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
        let proc = targets.proc()?;
        let failed = |e| Error::io("list the caller's children", e);
        match proc.process(proc.caller()).children_of_all_threads() {
            Err(e) if proc::is_absent(&e) => {
                let mut all = all_children(proc).map_err(failed)?;
                Ok(all.remove(&proc.caller()).unwrap_or_default())
            }
            listed => listed.map_err(failed),
        }
    }

    fn add_children(&self, targets: &mut Targets<'_>) -> Result<()> {
        let caller = targets.proc()?.caller();
        for child in self.list(targets)? {
            targets.add_child(caller, child)?;
        }
        Ok(())
    }

    /// Adds the living children, newest first. Stops each at once, then its children and so on.
    /// Returns the list.
    fn catch(&mut self, targets: &mut Targets<'_>) -> Result<Vec<Pid>> {
        let caller = targets.proc()?.caller();
        let listed = self.list(targets)?;
        for &child in listed.iter().rev() {
            if self.dead.contains(&child) {
                continue;
            }
            match stop_at_once(targets, caller, child)? {
                Added::Dead => {
                    self.dead.insert(child);
                }
                Added::New => stop_descendants(targets, child)?,
                Added::Known | Added::Vanished => {}
            }
        }
        Ok(listed)
    }

    /// Notes whether a target's orphans are given to another init than the caller's. The targets
    /// are stopped, so the answer cannot change.
    fn look_at_namespaces(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        if self.leaves_namespace || !self.adopts {
            return Ok(());
        }
        let live: Vec<Pid> = targets.all_live().collect();
        let proc = targets.proc()?;
        let own = proc.pid_namespace().ok().flatten();
        self.leaves_namespace = live.into_iter().any(|pid| {
            match proc.process(pid).namespace_of_children() {
                Ok(namespace) => Some(namespace) != own,
                // It has ended, and has no children any more.
                Err(e) => !proc::is_absent(&e),
            }
        });
        Ok(())
    }

    /// Notes whether a process that was born since may be the orphan of a target that had entered another
    /// PID namespace. Such a target may have ended before it could be asked.
    fn look_for_births_elsewhere(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        if self.leaves_namespace || !self.adopts || freeze::newest(targets)?.is_still(self.since) {
            return Ok(());
        }
        let mut buf = Vec::new();
        for pid in proc::visible(targets.proc()?)? {
            let stat = targets.proc()?.process(pid).stat(&mut buf);
            let stat = proc::readable(pid, stat)?.filter(|stat| !stat.is_zombie());
            if let Some(stat) =
                stat.filter(|stat| targets.is_younger(stat) && !targets.contains(pid))
            {
                let is_one = targets.proc()?.process(pid).may_be_adopted_below(&stat);
                self.leaves_namespace |= proc::readable(pid, is_one.map(Some))? == Some(true);
            }
        }
        Ok(())
    }

    fn proof(&self, is_complete: bool) -> Proof {
        Proof {
            coverage: match self.adopts && !self.leaves_namespace {
                true => Coverage::Exact,
                false => Coverage::BestEffort,
            },
            is_complete,
        }
    }
}

impl Selection for Children {
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        let caller = targets.proc()?.caller();
        let adopts = sys::process::is_child_subreaper();
        let adopts = adopts.map_err(|e| Error::io("ask whether orphans come here", e))?;
        self.adopts = adopts || caller.is_init();
        self.since = freeze::newest(targets)?;
        self.add_children(targets)
    }

    fn find(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Found> {
        let before = targets.len();
        self.add_children(targets)?;
        let found = add_members(targets, &mut self.kin, deadline)?;
        self.look_at_namespaces(targets)?;
        Ok(Found {
            is_new: targets.len() > before,
            ..found
        })
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        loop {
            let listed = retry(deadline, || self.catch(targets))?;
            // Any failure but `EPERM` may pass, also one of the wait after the first signal.
            let is_left = |index| targets.live(index).is_some() && !targets.is_not_permitted(index);
            if (0..targets.len()).any(is_left) {
                let frozen_by = freeze::frozen_by(deadline);
                let proof = retry(frozen_by, || {
                    freeze(targets, &mut self.kin, Newest::UNKNOWN, frozen_by)
                })?;
                self.was_cut_short |= !proof.is_complete;
                self.look_at_namespaces(targets)?;
                targets.kill_and(deadline, Outcome::Killed, || self.kin.kill());
            } else if self.list(targets)? == listed {
                // A zombie may have been reaped, and its number used again. So each one is looked
                // at once more.
                self.dead.clear();
                let before = targets.len();
                let looked_at = self.catch(targets)?;
                // No process in the list lived, and none came or went since.
                if targets.len() == before && looked_at == listed && self.list(targets)? == listed {
                    targets.read_spared()?;
                    // If orphans are given to the caller, the list has shown them.
                    let may_be_left = !self.adopts
                        && (self.was_cut_short
                            || self.kin.may_have_missed(targets, self.since, deadline)?);
                    // A target that may not be signalled is a survivor, and may have forked.
                    let is_doubtful = targets.all_live().next().is_some();
                    self.look_for_births_elsewhere(targets)?;
                    return Ok(self.proof(!may_be_left && !is_doubtful));
                }
            }
            if deadline.has_passed() {
                return Ok(self.proof(false));
            }
        }
    }
}

/// Adds a child and stops it.
fn stop_at_once(targets: &mut Targets<'_>, parent: Pid, child: Pid) -> Result<Added> {
    let added = targets.add_child(parent, child)?;
    if added == Added::New {
        targets.send_sigstop(targets.len() - 1);
    }
    Ok(added)
}

/// Stops the descendants of a target, as the leaders' lists show them.
fn stop_descendants(targets: &mut Targets<'_>, root: Pid) -> Result<()> {
    let mut parents = vec![root];
    let (mut children, mut buf) = (Vec::new(), Vec::new());
    while let Some(parent) = parents.pop() {
        let dir = targets.proc()?.process(parent);
        if dir.children(parent, &mut children, &mut buf).is_err() {
            // It has ended, and its children were given to another process.
            children.clear();
        }
        if !targets.is_still(parent)? {
            children.clear();
        }
        for child in children.drain(..).rev() {
            if stop_at_once(targets, parent, child)? == Added::New {
                parents.push(child);
            }
        }
    }
    Ok(())
}

//! How to kill, and the one escalation loop: first signal, grace, SIGKILL, verify.
//!
//! What will be killed is a [`Selection`]. Each way to select has a file. The loop calls it in this
//! order:
//!
//! 1. `start` adds the targets that were named.
//! 2. With `at_most`: `find` adds the others, and the call ends if there are too many.
//! 3. With a grace: `find` adds the others, `signal` sends the first signal, and the targets are
//!    waited for. What was forked meanwhile is found and signalled too. If `find` is cut short by
//!    its deadline, nothing gets the first signal.
//! 4. `kill` sends SIGKILL, waits, and says whether all members were found.
//!
//! An error in steps 1 and 2, or in the first search of step 3, ends the call: nothing was sent. A
//! later error of `find` does not count, because `kill` meets it again. If `kill` fails, the known
//! targets are killed all the same, and the verdict says that it is not complete. `TooMany` ends the
//! call in every step, because it comes only before anything was sent.

use std::time::Duration;

use super::error::{Error, ErrorKind, Result};
use super::proc::{MaybeProc, Proc};
use super::process::{PidRef, Pin, ProcessId, check_signal, pid_of};
use super::report::{Outcome, Reason, Report};
use super::sys::{SIGCONT, SIGKILL, SIGTERM};
use super::targets::{Proof, Spared, Targets};
use super::wait::{Backoff, Deadline, Ppoll, Wait};

mod cgroup;
mod children;
mod freeze;
pub(crate) mod groups;
mod matching;
mod tree;

pub use children::kill_all_children;
pub use groups::kill_process_group;
pub use tree::kill_tree_and_verify;

/// How to kill: first signal, grace, SIGKILL, verify.
///
/// It is plain data: one value can be used many times. Several threads can kill at once, also the
/// same targets.
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
    most: usize,
    even_ancestors: bool,
}

impl Kill {
    /// SIGKILL at once; verifies within 2 s.
    pub const fn now() -> Kill {
        Kill {
            first: SIGTERM,
            grace: Duration::ZERO,
            verify: Duration::from_secs(2),
            most: usize::MAX,
            even_ancestors: false,
        }
    }

    /// SIGTERM, up to 5 s of grace, SIGKILL; verifies within 2 s. SIGCONT follows SIGTERM, because
    /// a stopped process acts on no signal but SIGKILL.
    pub const fn graceful() -> Kill {
        Kill::now().grace(Duration::from_secs(5))
    }

    /// Sets the first signal, `1..=64`; the default is SIGTERM. With SIGKILL there is no grace.
    /// With any other number the call is `Refused`.
    pub const fn first_signal(mut self, signal: i32) -> Kill {
        self.first = signal;
        self
    }

    /// Sets how long the targets may take after the first signal. The grace ends early when the
    /// last one is gone. With zero, SIGKILL is sent at once and the first signal is not sent.
    /// `Duration::MAX` means for ever. Search time above 50 ms is deducted from the grace.
    pub const fn grace(mut self, grace: Duration) -> Kill {
        self.grace = grace;
        self
    }

    /// Sets how long the targets may take to be gone after SIGKILL. The wait ends early when the
    /// last one is gone. `Duration::MAX` means for ever.
    ///
    /// Trees, jobs, children and searches are stopped first, before SIGKILL is sent. That counts into
    /// this time. If a process does not stop, because a debugger withholds the signal or the machine
    /// is overloaded, it takes up to three quarters of this time, but at most 10 s.
    pub const fn verify_within(mut self, verify: Duration) -> Kill {
        self.verify = verify;
        self
    }

    /// Limits the blast radius: if more than this many targets are found, nothing is sent to any
    /// (`ErrorKind::TooMany`). Targets that are gone already do not count. Neither do processes
    /// that are forked after the first signal or stop.
    ///
    /// `at_most(0)` is a dry run: the error lists what would be hit, with names, and nothing is sent or
    /// stopped. `Ok` says that nothing was found. Processes that fork and exit at once may be missed.
    ///
    /// A process that was there before the first signal can begin to match a search later, or to listen
    /// on the port. It is left alone if it is one too many, and the result is `Unproven`. Groups and
    /// cgroups are killed as wholes, so who joins one after the count is killed with it.
    ///
    /// ```
    /// # use process_kill::{ErrorKind, Kill};
    /// let mut sh = std::process::Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn()?;
    /// # while process_kill::descendant_pids(sh.id())?.len() < 2 {}
    /// let error = Kill::now().at_most(2).tree(sh.id()).unwrap_err();
    /// assert_eq!((error.kind(), error.survivors().len()), (ErrorKind::TooMany, 3));
    /// # Kill::now().tree(sh.id())?;
    /// # sh.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn at_most(mut self, targets: usize) -> Kill {
        self.most = targets;
        self
    }

    /// Allows killing ancestors of the caller, for a child that watches its parent.
    ///
    /// Without this they are spared. Naming one makes it a survivor ([`Reason::Ancestor`]), a
    /// search passes over them, and a group or cgroup that holds one is refused. The caller itself
    /// and init are always spared. [`Kill::tree`] refuses a tree that holds the caller. If
    /// [`Kill::directory`] finds an ancestor, it kills all the tree of that one but the caller.
    ///
    /// ```no_run
    /// let parent = std::os::unix::process::parent_id();
    /// process_kill::Kill::graceful().even_ancestors().pids(&[parent])?;
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub const fn even_ancestors(mut self) -> Kill {
        self.even_ancestors = true;
        self
    }

    /// Kills these processes and verifies that they are gone, under one deadline for all.
    ///
    /// All of them are held before the first is signalled, so a process that gets one of the pids
    /// meanwhile is not signalled. A bad number does not protect the others: it comes back as a
    /// survivor, and the others are killed. The caller's own children are not reaped.
    ///
    /// # Errors
    /// `Survivors`: not all are gone, or some were refused: 0, 1, numbers above `i32::MAX`, the
    /// caller, its ancestors, threads, kernel threads. `Refused`: the first signal is not in
    /// `1..=64`.
    ///
    /// # Kernel versions
    /// Linux 5.3 for pidfds. Without them kill(2) and /proc replace them, and a pid that is used
    /// again within one clock tick cannot be told apart.
    pub fn pids(&self, pids: &[u32]) -> Result<Report> {
        self.run(Named(pids.iter().map(|&pid| (pid, None))))
    }

    /// As [`Kill::pids`], but never kills a successor that got the same pid: then the target is
    /// gone.
    ///
    /// # Errors
    /// As [`Kill::pids`]. An identity of another PID namespace is a survivor (`Unverifiable`).
    ///
    /// ```
    /// use process_kill::{Kill, ProcessId};
    ///
    /// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
    /// let id = ProcessId::of(child.id())?.expect("the child was not waited for");
    /// Kill::now().processes(&[id])?;
    /// child.wait()?;
    /// Kill::now().processes(&[id])?; // whatever has the pid now is not hit
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn processes(&self, ids: &[ProcessId]) -> Result<Report> {
        self.run(Named(ids.iter().map(|id| (id.pid(), Some(id)))))
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_signal(self.first)
    }

    fn run(&self, selection: impl Selection) -> Result<Report> {
        self.run_waiting(selection, Ppoll)
    }

    fn run_waiting(&self, mut selection: impl Selection, wait: impl Wait) -> Result<Report> {
        let spared = Spared::new(self.even_ancestors);
        let mut targets = Targets::sparing(spared, wait);
        let proof = self.escalate(&mut selection, &mut targets)?;
        targets.finish(proof)
    }

    /// What was not counted to the end counts as too many.
    fn check_count(&self, targets: &mut Targets<'_>, found: Found) -> Result<()> {
        let is_limited = self.most < usize::MAX;
        match is_limited && (!found.is_complete || targets.all_live().count() > self.most) {
            true => Err(targets.too_many(self.most)),
            false => Ok(()),
        }
    }

    /// The one escalation: first signal, grace, SIGKILL, verify.
    fn escalate<S: Selection>(
        &self,
        selection: &mut S,
        targets: &mut Targets<'_>,
    ) -> Result<Proof> {
        self.check()?;
        selection.start(targets)?;
        if self.most < usize::MAX {
            let found = selection.find(targets, Deadline::after(SEARCH))?;
            self.check_count(targets, found)?;
            targets.limit(self.most);
            if self.most == 0 && !S::KEEPS_LIMIT {
                // Nothing was found, and what `kill` would find it would kill.
                return Ok(Proof::BEST_EFFORT);
            }
        }
        if !self.grace.is_zero() && self.first != SIGKILL {
            self.give_grace(selection, targets)?;
        }
        let deadline = Deadline::after(self.verify);
        // If something cannot be read now, the call is not complete. The known targets are killed
        // all the same.
        match selection.kill(targets, deadline) {
            Err(e) if e.kind() == ErrorKind::TooMany => Err(e),
            Err(_) => {
                targets.kill(deadline, Outcome::Exited);
                Ok(Proof::NONE)
            }
            proof => proof,
        }
    }

    /// Sends the first signal, and waits for the targets until the grace is over.
    fn give_grace(&self, selection: &mut impl Selection, targets: &mut Targets<'_>) -> Result<()> {
        /// The search time that is not deducted from the grace.
        const UNCOUNTED: Duration = Duration::from_millis(50);
        let latest = Deadline::after(self.grace.saturating_add(UNCOUNTED).min(SEARCH));
        let mut found = selection.find(targets, latest)?;
        self.check_count(targets, found)?;
        let deadline = Deadline::after(self.grace);
        let deadline = match self.grace > SEARCH {
            true => deadline,
            false => latest.earlier(deadline),
        };
        let mut signalled = 0;
        // A part of a tree is not signalled: it would end, and the rest could not be found any
        // more.
        while found.is_complete {
            let all = targets.len();
            selection.signal(targets, signalled, &[self.first, SIGCONT]);
            signalled = all;
            targets.wait_for(signalled, deadline, Outcome::Exited);
            if deadline.has_passed() {
                break;
            }
            // What was forked meanwhile gets the first signal too. `kill` meets an error again.
            found = match selection.find(targets, deadline) {
                Err(e) if e.kind() == ErrorKind::TooMany => return Err(e),
                found => found.unwrap_or(Found::NOTHING),
            };
            if targets.len() == signalled {
                break;
            }
        }
        Ok(())
    }
}

/// How long members are searched that may be without end.
const SEARCH: Duration = Duration::from_secs(10);

/// Repeats an attempt until the deadline, if it failed for a reason that may pass, such as a full
/// descriptor table. The targets are stopped meanwhile, so nothing is lost.
fn retry<T>(deadline: Deadline, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
    loop {
        match attempt() {
            Err(e) if e.kind() == ErrorKind::Io && !deadline.has_passed() => {
                backoff.pause(deadline, &mut Ppoll);
            }
            result => return result,
        }
    }
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    /// There was a target that was not known before.
    is_new: bool,
    /// False: its deadline cut it short.
    is_complete: bool,
}

impl Found {
    const NOTHING: Found = Found {
        is_new: false,
        is_complete: true,
    };
}

/// What will be killed: how its members are found and killed.
trait Selection {
    /// `kill` sends nothing to more than the limit, also if it finds more than `find` did.
    const KEEPS_LIMIT: bool = false;

    /// Adds the targets that were named.
    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()>;

    /// Adds the members that are not yet known. Stops at the deadline, because some selections grow
    /// as fast as they are read.
    fn find(&mut self, _: &mut Targets<'_>, _: Deadline) -> Result<Found> {
        Ok(Found::NOTHING)
    }

    /// Sends these to all members, from one index on.
    fn signal(&mut self, targets: &mut Targets<'_>, from: usize, signals: &[i32]) {
        targets.signal(from, signals);
    }

    /// Sends SIGKILL to all, and waits until they are gone.
    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof>;
}

/// Processes by pid or identity.
struct Named<'a, I: Iterator<Item = (u32, Option<&'a ProcessId>)>>(I);

impl<'a, I: Iterator<Item = (u32, Option<&'a ProcessId>)>> Selection for Named<'a, I> {
    const KEEPS_LIMIT: bool = true;

    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        targets.add_named(&mut self.0);
        Ok(())
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        targets.kill(deadline, Outcome::Exited);
        Ok(Proof::EXACT)
    }
}

/// Kills these processes and verifies within 2 s that they are gone:
/// [`Kill::now`]`().`[`pids`](Kill::pids). Not graceful: SIGKILL at once. Their children live on.
///
/// `Ok`: all are gone, and with them their descriptors, locks, ports and memory. The caller's own
/// children stay zombies until `Child::wait` reaps them.
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

/// Whether every thread of the process that has this pid has ended, or no process has the pid.
///
/// A zombie is gone; `kill(pid, 0)` calls it alive. Nothing is sent. Every process can be asked
/// about, init too.
///
/// A pid names the process that has it now. [`ProcessId::is_gone`] asks about one certain process.
/// See [`guide::gone`](super::guide::gone) and [`guide::identity`](super::guide::identity).
///
/// # Errors
/// `Refused`: 0, above `i32::MAX`, or the number of a thread. `Io`: the kernel did not tell, for
/// example because there are no pidfds and /proc hides the process. `Proc`: there are no pidfds,
/// and /proc cannot be used.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// assert!(!process_kill::is_gone(child.id())?);
/// process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// assert!(process_kill::is_gone(child.id())?); // a zombie: its status waits for us
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_gone(pid: u32) -> Result<bool> {
    let pid = pid_of(pid)?;
    let mut proc = MaybeProc::default();
    let pin = match PidRef::open(pid, None, &mut proc) {
        Pin::NoRoom => PidRef::without_descriptor(pid, None),
        pin => pin,
    };
    let gone = match pin {
        Pin::Gone => Ok(true),
        Pin::Held(held) => held.is_gone(&mut proc),
        Pin::Refused(Reason::Thread) => {
            let why = format!("{} {}", pid.get(), Reason::Thread);
            return Err(Error::refused(why));
        }
        Pin::Failed(e) => Err(e),
        Pin::Refused(_) | Pin::NoRoom => Err(std::io::ErrorKind::Unsupported.into()),
    };
    gone.or_else(|e| {
        // If /proc is missing, the error says so.
        Proc::open()?;
        let what = format!("tell whether process {} is gone", pid.get());
        Err(Error::io(what, e))
    })
}

/// Waits until all of these are gone, and sends nothing. Every process can be waited for, also init
/// and kernel threads.
///
/// A pid names the process that has it when the call begins. To hold one process before, and to wait
/// for it later or several times, use [`Process::wait_until_gone`](super::Process::wait_until_gone):
/// there a process that still runs is `Ok(false)`, here it is an error.
///
/// # Errors
/// `Survivors`: not all are gone; or a number is 0, above `i32::MAX`, or that of a thread.
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
    let mut targets = Targets::watched();
    targets.add_named(pids.iter().map(|&pid| (pid, None)));
    targets.watch(deadline);
    targets.finish(Proof::EXACT)
}

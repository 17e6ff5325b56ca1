//! What a search finds, until it finds nothing.
//!
//! 1. Stop all that are found, and search again, until nothing new is found. So processes that
//!    start each other again lose.
//! 2. Kill them, and wait for them.
//! 3. Search until the search is empty. An empty search counts if no process was born during it, or
//!    only strangers were ([fork counter](Newest)): then the coverage is `Exact`.
//! 4. On a machine that forks without pause, three empty searches in a row count, and the coverage
//!    is `BestEffort`. That is no proof against a chain of processes that fork and exit: each is
//!    gone when the search reaches it. So between the searches the newest processes are looked at
//!    for a moment, as they are born.
//! 5. There may be a chain if one of these matches, or if a search met a newcomer: a process that
//!    matched and was not there before, or that was gone before it was held. Then only the counter
//!    proves that the search is empty.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use super::super::error::{Error, Result};
use super::super::find::Candidate;
use super::super::find::pattern::{Buffers, Match, Pattern};
use super::super::proc::fork_counter::Newest;
use super::super::proc::{self, Proc, ProcessDir};
use super::super::report::{Outcome, Report};
use super::super::sys::Pid;
use super::super::targets::found::Added;
use super::super::targets::{Proof, Targets};
use super::super::wait::Deadline;
use super::freeze::{self, Kin, add_members, freeze};
use super::{Found, Kill, Selection, retry};

mod directory;
mod port;

impl Kill {
    /// Kills every process whose command line matches, as
    /// [`pids_matching`](super::super::pids_matching) finds them, until none matches.
    ///
    /// All that match are stopped before the first gets SIGKILL, so processes that start each other
    /// again lose. The caller is spared, and so are its ancestors unless [`Kill::even_ancestors`]
    /// allows them. Descendants that do not match are left alone. If no process matches, that is no
    /// error.
    ///
    /// [`Coverage::Exact`](super::super::Coverage): no process was born during the last search, or
    /// only strangers were. [`BestEffort`](super::super::Coverage): the machine kept forking, and
    /// three searches in a row found none. See [`guide::searches`](super::super::guide::searches).
    ///
    /// # Errors
    /// `Pattern`: as [`pids_matching`](super::super::pids_matching). `Survivors`: some are not
    /// gone. `Unproven`: all that were found are gone, but new ones keep coming, as from a chain of
    /// processes that fork and exit. `Proc` or `Io`: /proc cannot be used or read, and nothing was
    /// sent.
    ///
    /// ```no_run
    /// // Look first: what would be hit?
    /// let pattern = "^/opt/server/bin/worker --id [0-9]+$";
    /// println!("{:?}", process_kill::pids_matching(pattern)?);
    /// process_kill::Kill::graceful().at_most(8).matching(pattern)?;
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub fn matching(&self, pattern: &str) -> Result<Report> {
        self.run(Search::of(ByPattern {
            pattern: Pattern::new(pattern)?,
            buffers: Buffers::default(),
        }))
    }

    /// Kills every process for which `keep` says true, as
    /// [`processes_where`](super::super::processes_where) shows them, until there is none.
    ///
    /// All that are found are stopped before the first gets SIGKILL, as by [`Kill::matching`]. The
    /// caller is spared, and so are its ancestors unless [`Kill::even_ancestors`] allows them.
    /// Descendants for which `keep` says false are left alone. `keep` is called several times for each
    /// process. It must not start any.
    ///
    /// The coverage is that of [`Kill::matching`]. It is `BestEffort` if `keep` says false of a process
    /// of which it asks what the caller may not read, such as another user's environment. If it asks
    /// for something that execve(2) changes while the process is stuck in execve(2), the result is
    /// `Unproven`.
    ///
    /// # Errors
    /// As [`Kill::matching`], without `Pattern`.
    ///
    /// ```no_run
    /// # use process_kill::Kill;
    /// let mut child = std::process::Command::new("sleep").arg("60").env("JOB", "42").spawn()?;
    /// Kill::now().at_most(1).all_where(|p| p.env("JOB").is_ok_and(|job| job == Some("42".into())))?;
    /// child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn all_where(&self, keep: impl FnMut(&Candidate<'_>) -> bool) -> Result<Report> {
        self.run(Search::of(ByClosure {
            keep,
            stat: Vec::new(),
            passed_over: false,
        }))
    }
}

/// Kills what a search finds.
struct Search<M> {
    seek: M,
    /// Zombies that matched.
    dead: HashSet<Pid>,
    /// One search is done.
    has_searched: bool,
    /// A newcomer was met: a process matched that was not there at the first search, or that was
    /// gone before it was held.
    met_newcomer: bool,
    /// What the fork counter showed before the latest search.
    before: Newest,
    /// The latest search could tell of every process whether it matches.
    is_sure: bool,
    /// The kin of the targets that left their trees.
    kin: Kin,
    /// What the fork counter showed when the call began.
    since: Newest,
    /// How the trees were closed, all freezes together.
    trees: Proof,
    /// A process was listed and could not be looked at.
    passed_over: bool,
}

/// What is looked for.
trait Seek {
    /// Descendants of what is found are killed too.
    const WITH_DESCENDANTS: bool = false;

    fn matches(&mut self, pid: Pid, proc: &Proc) -> io::Result<Match>;

    /// Something that may have matched could not be read, for want of the rights.
    fn has_passed_over(&self) -> bool {
        false
    }

    /// The first search found none but these, which are spared: is that an error?
    fn none_found(&mut self, _spared: &HashSet<Pid>, _: &Proc) -> Result<()> {
        Ok(())
    }
}

/// Stops all live targets, and waits until they have stopped. A target that does not stop is killed
/// all the same.
fn stop(targets: &mut Targets<'_>, deadline: Deadline) -> Result<()> {
    for index in 0..targets.len() {
        targets.send_sigstop(index);
    }
    for index in 0..targets.len() {
        targets.await_stopped(index, deadline)?;
    }
    Ok(())
}

struct ByClosure<F> {
    keep: F,
    stat: Vec<u8>,
    passed_over: bool,
}

impl<F: FnMut(&Candidate<'_>) -> bool> Seek for ByClosure<F> {
    fn matches(&mut self, pid: Pid, proc: &Proc) -> io::Result<Match> {
        let Some((dir, stat)) = ProcessDir::open(proc, pid, &mut self.stat)? else {
            return Ok(Match::No);
        };
        let candidate = Candidate::new(stat, &dir);
        if (self.keep)(&candidate) {
            return Ok(Match::Yes);
        }
        self.passed_over |= candidate.was_refused();
        Ok(match candidate.was_unsettled() {
            true => Match::Unsure,
            false => Match::No,
        })
    }

    fn has_passed_over(&self) -> bool {
        self.passed_over
    }
}

struct ByPattern {
    pattern: Pattern,
    buffers: Buffers,
}

impl Seek for ByPattern {
    fn matches(&mut self, pid: Pid, proc: &Proc) -> io::Result<Match> {
        self.pattern.matches_process(pid, proc, &mut self.buffers)
    }
}

impl<M: Seek> Search<M> {
    fn of(seek: M) -> Search<M> {
        Search {
            seek,
            dead: HashSet::new(),
            has_searched: false,
            met_newcomer: false,
            before: Newest::UNKNOWN,
            is_sure: false,
            kin: Kin::default(),
            since: Newest::UNKNOWN,
            trees: Proof::EXACT,
            passed_over: false,
        }
    }

    /// Searches once; true: there was a new target.
    fn search(&mut self, targets: &mut Targets<'_>) -> Result<bool> {
        self.before = freeze::newest_and_forks(targets)?;
        targets.read_spared()?;
        let proc = targets.proc()?;
        proc.begin_scan();
        self.is_sure = true;
        let mut is_new = false;
        for pid in proc::visible(proc)? {
            if targets.spared_reason(pid).is_some() {
                continue;
            }
            let matches = self.seek.matches(pid, targets.proc()?);
            self.passed_over |= matches
                .as_ref()
                .is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
            match proc::readable(pid, matches.map(Some))? {
                Some(Match::Yes) => {}
                Some(Match::Unsure) => {
                    self.is_sure = false;
                    continue;
                }
                Some(Match::No) | None => continue,
            }
            // The number may have gone to another process since, so the held process must match
            // too.
            let matches = |proc: &Proc| Ok(self.seek.matches(pid, proc)? == Match::Yes);
            let added = targets.add_match(pid, matches)?;
            is_new |= added == Added::New;
            self.met_newcomer |= self.is_newcomer(pid, added, targets);
        }
        self.has_searched = true;
        match targets.exceeded() {
            Some(most) => Err(targets.too_many(most)),
            None => Ok(is_new),
        }
    }

    /// Whether a process that matched was not there at the first search, or was gone before it was
    /// held.
    fn is_newcomer(&mut self, pid: Pid, added: Added, targets: &Targets<'_>) -> bool {
        match added {
            Added::New => self.has_searched,
            Added::Known => false,
            // A zombie matches by its name. It may be a target, or have been there before.
            Added::Dead => {
                let is_new = self.dead.insert(pid);
                is_new && self.has_searched && !targets.contains(pid)
            }
            Added::Vanished => true,
        }
    }

    /// Stops all that are found, until nothing new is found.
    fn stop_all(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<()> {
        loop {
            if M::WITH_DESCENDANTS {
                let proof = freeze(targets, &mut self.kin, self.since, deadline)?;
                self.trees = self.trees.and(proof);
            } else {
                stop(targets, deadline)?;
            }
            if !self.search(targets)? || deadline.has_passed() {
                return Ok(());
            }
        }
    }

    /// Whether the latest search was empty, and no process was born during it that matches.
    fn was_empty(&mut self, targets: &mut Targets<'_>) -> Result<bool> {
        let mut members: HashSet<Pid> = targets.all_live().collect();
        members.extend(targets.ancestors());
        members.insert(targets.proc()?.caller());
        let seek = &mut self.seek;
        let proc = targets.proc()?;
        let only = proc.only_strangers_since(self.before, |pid, _| {
            Ok(members.contains(&pid) || seek.matches(pid, proc)? == Match::No)
        });
        match only {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            only => only.map_err(|e| Error::io("look at the newest processes", e)),
        }
    }

    /// Nothing is proven of processes that may not be looked at.
    fn as_far_as_seen(&self, proof: Proof, targets: &mut Targets<'_>) -> Result<Proof> {
        match self.passed_over || self.seek.has_passed_over() || targets.is_partial()? {
            true => Ok(proof.and(Proof::BEST_EFFORT)),
            false => Ok(proof),
        }
    }

    /// Whether a process may be left that was found, or that is an orphan of one.
    fn has_left(&self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<bool> {
        match M::WITH_DESCENDANTS {
            _ if targets.has_saved() => Ok(true),
            true => retry(deadline, || {
                self.kin.may_have_missed(targets, self.since, deadline)
            }),
            false => Ok(false),
        }
    }

    /// Looks at processes as they are born, for a moment. Each link of a chain has its turn as the
    /// newest process, and its command line is there from the start.
    ///
    /// A machine that is slow or busy may let this thread look only a few times in that moment. So a
    /// number of looks is made in any case.
    fn watch_births(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        const MOMENT: Duration = Duration::from_millis(5);
        const LOOKS: u32 = 64;
        let until = Deadline::after(MOMENT);
        let proc = targets.proc()?;
        let (mut latest, mut looks) = (None, 0);
        while !self.met_newcomer && (looks < LOOKS || !until.has_passed()) {
            let Some(newest) = proc.newest().ok().and_then(Newest::pid) else {
                return Ok(());
            };
            looks += 1;
            // An error says nothing of the newest process. The next search meets it again.
            if latest.replace(newest) != Some(newest) && newest != proc.caller() {
                let matches = self.seek.matches(newest, proc);
                self.met_newcomer |= matches.is_ok_and(|matches| matches == Match::Yes);
            }
        }
        Ok(())
    }

    /// Searches until it is proven that nothing is left; `None`: there was something new.
    fn prove_empty(
        &mut self,
        targets: &mut Targets<'_>,
        deadline: Deadline,
    ) -> Result<Option<Proof>> {
        const IN_A_ROW: u32 = 3;
        let (mut searches, mut empty) = (0, 0);
        loop {
            searches += 1;
            if self.search(targets)? {
                return Ok(None);
            }
            if self.is_sure {
                if self.was_empty(targets)? {
                    return Ok(Some(Proof::EXACT));
                }
                empty += 1;
            }
            self.watch_births(targets)?;
            if empty >= IN_A_ROW && !self.met_newcomer {
                return Ok(Some(Proof::BEST_EFFORT));
            }
            if deadline.has_passed() && searches >= IN_A_ROW {
                return Ok(Some(Proof::NONE));
            }
        }
    }
}

impl<M: Seek> Selection for Search<M> {
    const KEEPS_LIMIT: bool = true;

    fn start(&mut self, targets: &mut Targets<'_>) -> Result<()> {
        self.since = freeze::newest_and_forks(targets)?;
        self.search(targets)?;
        if targets.len() > 0 {
            return Ok(());
        }
        let mut spared = targets.ancestors();
        let proc = targets.proc()?;
        spared.insert(proc.caller());
        self.seek.none_found(&spared, proc)
    }

    fn find(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Found> {
        let before = targets.len();
        self.search(targets)?;
        let is_complete =
            !M::WITH_DESCENDANTS || add_members(targets, &mut self.kin, deadline)?.is_complete;
        Ok(Found {
            is_new: targets.len() > before,
            is_complete,
        })
    }

    fn kill(&mut self, targets: &mut Targets<'_>, deadline: Deadline) -> Result<Proof> {
        // The first search was empty, and may be proof enough.
        if targets.len() == 0 && self.is_sure && self.was_empty(targets)? {
            return self.as_far_as_seen(Proof::EXACT, targets);
        }
        loop {
            let frozen_by = freeze::frozen_by(deadline);
            retry(frozen_by, || self.stop_all(targets, frozen_by))?;
            targets.kill_and(deadline, Outcome::Exited, || self.kin.kill());
            if M::WITH_DESCENDANTS {
                self.trees = self.kin.kept(self.trees, targets);
            }
            match retry(deadline, || self.prove_empty(targets, deadline))? {
                Some(_) if self.has_left(targets, deadline)? => return Ok(Proof::NONE),
                Some(proof) => return self.as_far_as_seen(proof.and(self.trees), targets),
                None if deadline.has_passed() => return Ok(Proof::NONE),
                None => {}
            }
        }
    }
}

//! Wait until gone or deadline; why a survivor survived. The only clock arithmetic.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::proc::{MaybeProc, Proc};
use super::process::{Pin, Pinned, Process, ProcessId};
use super::report::{Coverage, Outcome, Reason, Report, Survivor};
use super::sys::{self, Pid};

/// A point in time that retries and interruptions do not move.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// A time too far away to be told, as `Duration::MAX`, never comes.
    pub(super) fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    /// What is left; `None` for ever.
    fn left(self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

impl Process {
    /// Waits until every thread of it has ended; `Ok(false)`: it is still there.
    ///
    /// # Errors
    /// `Io`: ppoll(2) failed.
    pub fn wait_until_gone(&self, within: Duration) -> Result<bool> {
        let gone = pidfd_is_gone(self.as_fd(), Deadline::after(within));
        gone.map_err(|e| Error::io(format!("wait for process {}", self.id().pid()), e))
    }
}

fn pidfd_is_gone(pidfd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    loop {
        let left = deadline.left();
        match sys::ppoll_readable(pidfd, left) {
            Ok(true) => return Ok(true),
            Ok(false) if left == Some(Duration::ZERO) => return Ok(false),
            // The poll may end early; only the clock says that the time is up.
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The pauses between looks at a process that has no pidfd.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

fn is_gone_by(pinned: &Pinned, deadline: Deadline, proc: &mut MaybeProc) -> io::Result<bool> {
    if let Some(pidfd) = pinned.pidfd() {
        return pidfd_is_gone(pidfd, deadline);
    }
    let mut pause = FIRST_PAUSE;
    loop {
        // Taken before the look, so that the last look is never older than the deadline.
        let left = deadline.left();
        if pinned.is_gone(proc)? {
            return Ok(true);
        }
        match left {
            Some(Duration::ZERO) => return Ok(false),
            // Nothing but a pidfd tells when a stranger ends.
            Some(left) => std::thread::sleep(pause.min(left)),
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The targets of one call, from the first look to the verdict.
pub(super) struct Batch {
    started: Instant,
    proc: MaybeProc,
    targets: Vec<Target>,
}

struct Target {
    number: u32,
    state: State,
    /// Why it will not do to wait for it: `NotPermitted` or `Unverifiable`.
    doubt: Option<Reason>,
}

enum State {
    Live(Pinned),
    /// Its pidfd was closed to make room for others.
    Parked(ProcessId),
    Gone(Outcome),
    Refused(Reason),
}

impl Batch {
    /// Pins each of these once: the process that has the number or, with a `ProcessId`, that very
    /// process. Who is `refused`, for his number or for what he turns out to be, is not to be
    /// signalled.
    pub(super) fn of<'a>(
        named: impl Iterator<Item = (u32, Option<&'a ProcessId>)>,
        refused: impl Fn(Pid, Option<&Pinned>) -> Option<Reason>,
    ) -> Batch {
        let mut batch = Batch {
            started: Instant::now(),
            proc: MaybeProc::default(),
            targets: Vec::new(),
        };
        let mut seen = HashSet::new();
        for (number, expected) in named {
            if !seen.insert((number, expected)) {
                continue;
            }
            let state = match Pid::new(number) {
                None => State::Refused(Reason::InvalidPid),
                // An identity may be that of a process which had the number before.
                Some(pid) => match expected.map_or_else(|| refused(pid, None), |_| None) {
                    Some(reason) => State::Refused(reason),
                    None => match batch.pin(pid, expected) {
                        State::Live(pinned) => match refused(pid, Some(&pinned)) {
                            Some(reason) => State::Refused(reason),
                            None => State::Live(pinned),
                        },
                        state => state,
                    },
                },
            };
            batch.targets.push(Target {
                number,
                state,
                doubt: None,
            });
        }
        batch
    }

    fn pin(&mut self, pid: Pid, expected: Option<&ProcessId>) -> State {
        let pin = loop {
            match Pinned::open(pid, expected, &mut self.proc) {
                Pin::NoRoom if self.make_room() => {}
                Pin::NoRoom => break Pinned::without_descriptor(pid, expected),
                pin => break pin,
            }
        };
        match pin {
            Pin::Held(pinned) => State::Live(pinned),
            Pin::Gone => State::Gone(Outcome::AlreadyGone),
            Pin::Refused(reason) => State::Refused(reason),
            Pin::NoRoom => State::Refused(Reason::Unverifiable),
        }
    }

    /// Closes a few pidfds, so that one can be opened, /proc be read and other threads find room.
    fn make_room(&mut self) -> bool {
        const AT_ONCE: usize = 4;
        let mut parked = 0;
        for target in &mut self.targets {
            let State::Live(pinned) = &target.state else {
                continue;
            };
            if let Some(id) = pinned.identity() {
                target.state = State::Parked(id);
                parked += 1;
            }
            if parked == AT_ONCE {
                break;
            }
        }
        parked > 0
    }

    /// Acts on a target that is not known to be gone, with its pidfd opened again if it was closed to
    /// make room. `act` says whether it is gone, which is then due to `outcome`.
    fn act(
        &mut self,
        index: usize,
        outcome: Outcome,
        act: impl FnOnce(&Pinned, &mut MaybeProc) -> io::Result<bool>,
    ) {
        if let State::Parked(id) = self.targets[index].state {
            self.targets[index].state = match self.pin(id.named(), Some(&id)) {
                State::Gone(_) => State::Gone(outcome),
                state => state,
            };
        }
        let target = &mut self.targets[index];
        let State::Live(pinned) = &target.state else {
            return;
        };
        match act(pinned, &mut self.proc) {
            Ok(true) => target.state = State::Gone(outcome),
            Ok(false) => {}
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                target.doubt = Some(Reason::NotPermitted);
            }
            Err(_) => target.doubt = Some(Reason::Unverifiable),
        }
    }

    /// Sends these to all that live. Who may not be signalled is remembered and watched all the same.
    pub(super) fn signal(&mut self, signals: &[i32]) {
        for index in 0..self.targets.len() {
            self.targets[index].doubt = None;
            self.act(index, Outcome::Exited, |pinned, proc| {
                for &signal in signals {
                    if !pinned.signal(signal, proc)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            });
        }
    }

    /// Waits until all are gone, or as many as are at the deadline; what is gone then is so due to
    /// `outcome`. Those that could not be signalled are looked at last and not waited for.
    pub(super) fn wait(&mut self, deadline: Deadline, outcome: Outcome) {
        // Newest first: it is the last to go, and then most of the others cost one look.
        for index in (0..self.targets.len()).rev() {
            if self.targets[index].doubt.is_none() {
                self.act(index, outcome, |pinned, proc| {
                    is_gone_by(pinned, deadline, proc)
                });
            }
        }
        let now = Deadline::after(Duration::ZERO);
        for index in 0..self.targets.len() {
            if self.targets[index].doubt.is_some() {
                self.act(index, Outcome::Exited, |pinned, proc| {
                    is_gone_by(pinned, now, proc)
                });
            }
        }
    }

    /// The verdict.
    pub(super) fn finish(mut self, coverage: Coverage) -> Result<Report> {
        let mut survivors = Vec::new();
        for index in 0..self.targets.len() {
            let Target { number, doubt, .. } = self.targets[index];
            let mut survivor = None;
            // What ended since the deadline, while others were looked at, is no survivor.
            self.act(index, Outcome::Killed, |pinned, proc| {
                let seen = Survivor::see(number, doubt, proc);
                let gone = pinned.is_gone(proc)?;
                survivor = Some(seen);
                Ok(gone)
            });
            match self.targets[index].state {
                State::Gone(_) => {}
                State::Refused(reason) => {
                    survivors.push(Survivor::see(number, Some(reason), &mut self.proc));
                }
                State::Live(_) | State::Parked(_) => survivors.push(survivor.unwrap_or(Survivor {
                    pid: number,
                    reason: Reason::Unverifiable,
                    state: None,
                    name: None,
                })),
            }
        }
        let gone = |target: &Target| match target.state {
            State::Gone(outcome) => Some((target.number, outcome)),
            _ => None,
        };
        let report = Report {
            targets: self.targets.iter().filter_map(gone).collect(),
            elapsed: self.started.elapsed(),
            coverage,
        };
        match survivors.is_empty() {
            true => Ok(report),
            false => Err(Error::survived(survivors, report)),
        }
    }
}

impl Survivor {
    /// Looks in /proc for what it is and, unless a reason is given, why it is still there.
    fn see(number: u32, reason: Option<Reason>, proc: &mut MaybeProc) -> Survivor {
        let mut survivor = Survivor {
            pid: number,
            reason: reason.unwrap_or(Reason::StillRunning),
            state: None,
            name: None,
        };
        let (Some(pid), Some(proc)) = (Pid::new(number), proc.get()) else {
            return survivor;
        };
        let mut buf = Vec::new();
        if let Ok(Some(stat)) = proc.stat(pid, &mut buf) {
            survivor.state = Some(stat.state);
            survivor.name = Some(OsStr::from_bytes(stat.name).to_owned());
        }
        if reason.is_none() {
            survivor.reason = why(pid, proc).unwrap_or(survivor.reason);
        }
        survivor
    }
}

/// Why a process is still there. Every thread counts: one that is held holds all.
fn why(pid: Pid, proc: &mut Proc) -> io::Result<Reason> {
    let mut buf = Vec::new();
    let mut reason = Reason::StillExiting;
    for tid in proc.threads(pid)?.unwrap_or_default() {
        let Some(stat) = proc.thread_stat(pid, tid, &mut buf)? else {
            continue;
        };
        match stat.state {
            't' => {
                return Ok(Reason::Traced {
                    by: proc.tracer(pid, tid)?,
                });
            }
            'D' => reason = Reason::Uninterruptible,
            _ if stat.leader_exited() || stat.is_exiting() => {}
            _ if reason == Reason::StillExiting => reason = Reason::StillRunning,
            _ => {}
        }
    }
    Ok(reason)
}

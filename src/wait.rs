//! Wait until gone or deadline; why a survivor survived. The only clock arithmetic.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::pipe::Pipes;
use super::proc::{MaybeProc, Proc, Stat};
use super::process::{Pin, Pinned, Process, ProcessId, is_nobody};
use super::report::{Coverage, Outcome, Reason, Report, Survivor};
use super::sys::{self, Pid, SIGCONT, SIGKILL, SIGSTOP};

/// A point in time that retries and interruptions do not move.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) const NEVER: Deadline = Deadline(None);

    /// A time too far away to be told, as `Duration::MAX`, never comes.
    pub(super) fn after(time: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(time))
    }

    /// What is left; `None` for ever.
    pub(super) fn left(self) -> Option<Duration> {
        let at = self.0?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    pub(super) fn has_passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// Three quarters of the way from now to then.
    pub(super) fn three_quarters(self) -> Deadline {
        let left = self.left();
        Deadline(left.and_then(|left| Instant::now().checked_add(left / 4 * 3)))
    }

    pub(super) fn earlier(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(this), Some(other)) => Deadline(Some(this.min(other))),
            (this, other) => Deadline(this.or(other)),
        }
    }

    /// The earlier of this and a time from now.
    pub(super) fn or_after(self, time: Duration) -> Deadline {
        self.earlier(Deadline::after(time))
    }
}

impl Process {
    /// Waits until every thread of it has ended; `Ok(false)`: it is still there.
    ///
    /// # Errors
    /// `Io`: ppoll(2) failed.
    pub fn wait_until_gone(&self, within: Duration) -> Result<bool> {
        let deadline = Deadline::after(within);
        pidfd_is_gone(self.as_fd(), deadline, &mut Pipes::default())
            .map_err(|e| Error::io(format!("wait for process {}", self.id().pid()), e))
    }
}

fn pidfd_is_gone(pidfd: BorrowedFd<'_>, deadline: Deadline, pipes: &mut Pipes) -> io::Result<bool> {
    loop {
        let left = deadline.left();
        match pipes.wait(Some(pidfd), left) {
            Ok(woken) if woken.by_end => return Ok(true),
            Ok(_) if left == Some(Duration::ZERO) => return Ok(false),
            // The poll may end early; only the clock says that the time is up.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The pauses between looks where nothing can be waited on.
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn new(next: Duration, longest: Duration) -> Pauses {
        Pauses { next, longest }
    }

    /// Twice as long each time, but not beyond the deadline.
    fn pause(&mut self, deadline: Deadline, pipes: &mut Pipes) {
        let pause = deadline
            .left()
            .map_or(self.next, |left| left.min(self.next));
        match pipes.are_closed() {
            true => sys::sleep(pause),
            // Cut short by bytes or a signal; the next look is then early, which does no harm.
            false => drop(pipes.wait(None, Some(pause))),
        }
        self.next = (self.next * 2).min(self.longest);
    }
}

/// Waits until a process is gone; false: it was not by the deadline.
pub(super) fn is_gone_by(
    pinned: &Pinned,
    deadline: Deadline,
    proc: &mut MaybeProc,
    pipes: &mut Pipes,
) -> io::Result<bool> {
    if let Some(pidfd) = pinned.pidfd() {
        return pidfd_is_gone(pidfd, deadline, pipes);
    }
    // Nothing but a pidfd tells when a stranger ends.
    let mut pauses = Pauses::new(Duration::from_millis(1), Duration::from_millis(50));
    loop {
        // Read before the look, so that the last look is not older than the deadline.
        let was_last = deadline.has_passed();
        if pinned.is_gone(proc)? {
            return Ok(true);
        }
        if was_last {
            return Ok(false);
        }
        pauses.pause(deadline, pipes);
    }
}

/// The targets of one call, from the first look to the verdict.
pub(super) struct Batch {
    started: Instant,
    proc: MaybeProc,
    targets: Vec<Target>,
    /// Where the latest target with a pid is.
    latest: HashMap<Pid, usize>,
    /// What the latest wait waited for.
    outcome: Outcome,
    /// Read while waiting.
    pub(super) pipes: Pipes,
}

struct Target {
    number: u32,
    state: State,
    /// Why it will not do to wait for it: `NotPermitted` or `Unverifiable`.
    doubt: Option<Reason>,
    /// It was stopped here and is to be continued if it is not killed.
    is_frozen: bool,
    /// Whether it had been stopped by others when it was taken in; `None`: nobody looked.
    was_stopped: Option<bool>,
}

enum State {
    Live(Pinned),
    /// Its pidfd was closed to make room for others.
    Parked(ProcessId),
    Gone(Outcome),
    Refused(Reason),
}

impl From<Pin> for State {
    fn from(pin: Pin) -> State {
        match pin {
            Pin::Held(pinned) => State::Live(pinned),
            Pin::Gone => State::Gone(Outcome::AlreadyGone),
            Pin::Refused(reason) => State::Refused(reason),
            Pin::NoRoom => State::Refused(Reason::Unverifiable),
        }
    }
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            started: Instant::now(),
            proc: MaybeProc::default(),
            targets: Vec::new(),
            latest: HashMap::new(),
            outcome: Outcome::Exited,
            pipes: Pipes::default(),
        }
    }

    /// Pins each of these once: the process that has the number or, with a `ProcessId`, that very
    /// process. Who is `refused`, for his number or for what he turns out to be, is not to be
    /// signalled.
    pub(super) fn name<'a>(
        &mut self,
        named: impl Iterator<Item = (u32, Option<&'a ProcessId>)>,
        refused: impl Fn(Pid, Option<&Pinned>) -> Option<Reason>,
    ) {
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
                    None => match self.pin_named(pid, expected) {
                        State::Live(pinned) => match refused(pid, Some(&pinned)) {
                            Some(reason) => State::Refused(reason),
                            None => State::Live(pinned),
                        },
                        state => state,
                    },
                },
            };
            self.push(number, state, None);
        }
    }

    fn push(&mut self, number: u32, state: State, was_stopped: Option<bool>) {
        if let Some(pid) = Pid::new(number) {
            self.latest.insert(pid, self.targets.len());
        }
        self.targets.push(Target {
            number,
            state,
            doubt: None,
            is_frozen: false,
            was_stopped,
        });
    }

    /// Takes in a process that was listed, if it `belongs` here: that is asked once it is pinned, so
    /// of no successor.
    pub(super) fn take(
        &mut self,
        pid: Pid,
        belongs: impl FnOnce(&Stat<'_>, &mut Proc) -> io::Result<bool>,
    ) -> Result<Taken> {
        if let Some(&index) = self.latest.get(&pid) {
            let is_known = matches!(self.targets[index].state, State::Refused(_));
            if is_known || self.has_its_pid(index) {
                return Ok(Taken::Known);
            }
        }
        let mut was_stopped = None;
        let state = match self.pin(pid, None) {
            State::Gone(_) if is_nobody(pid) => return Ok(Taken::Vanished),
            State::Gone(_) => return Ok(Taken::Dead),
            State::Refused(Reason::Thread) => return Ok(Taken::Vanished),
            State::Live(pinned) => {
                let mut buf = Vec::new();
                let proc = self.proc()?;
                let belongs = match proc.stat(pid, &mut buf) {
                    Ok(Some(stat)) if stat.is_kernel_thread() => Ok(false),
                    Ok(Some(stat)) => {
                        was_stopped = Some(Stillness::of(stat.state) == Stillness::Stopped);
                        belongs(&stat, proc)
                    }
                    Ok(None) => Ok(false),
                    Err(e) => Err(e),
                };
                match belongs {
                    Ok(true) if pinned.has_its_pid() => State::Live(pinned),
                    Ok(_) => return Ok(Taken::Vanished),
                    Err(e) => return Err(Error::io(format!("read process {}", pid.get()), e)),
                }
            }
            state => state,
        };
        self.push(pid.get(), state, was_stopped);
        Ok(Taken::New)
    }

    /// As [`Batch::take`], of a child that was listed under its parent's number: if the parent has it
    /// still, the list was its own.
    pub(super) fn take_child(&mut self, parent: Pid, child: Pid) -> Result<Taken> {
        match self.is_still(parent) {
            true => self.take(child, |stat, _| Ok(stat.parent == parent.get())),
            false => Ok(Taken::Vanished),
        }
    }

    /// Whether a number that was the caller's or a target's is so still.
    fn is_still(&mut self, pid: Pid) -> bool {
        match self.latest.get(&pid) {
            Some(&index) => self.has_its_pid(index),
            None => pid.is_caller(),
        }
    }

    /// Whether a target still has its pid. If it was reaped, it is gone.
    fn has_its_pid(&mut self, index: usize) -> bool {
        let doubt = self.targets[index].doubt;
        self.act(index, self.outcome, |pinned, proc, _| {
            match pinned.pidfd() {
                Some(_) => Ok(!pinned.has_its_pid()),
                None => pinned.is_gone(proc),
            }
        });
        // A look that failed says nothing of what was sent.
        self.targets[index].doubt = doubt;
        self.live(index).is_some()
    }

    /// Forgets the targets from one on, which were not signalled yet, unless they are to be kept.
    pub(super) fn keep(&mut self, from: usize, keep: impl Fn(Pid) -> bool) {
        let mut index = 0;
        self.targets.retain(|target| {
            index += 1;
            index <= from || Pid::new(target.number).is_some_and(&keep)
        });
        self.latest.clear();
        for (index, target) in self.targets.iter().enumerate() {
            self.latest
                .extend(Pid::new(target.number).map(|pid| (pid, index)));
        }
    }

    /// Takes in a child and stops it, and then its children and so on. One that forks and exits without
    /// pause has forked already when it is listed, so what counts is to stop *its* child in time: there
    /// is no other look at /proc in between.
    pub(super) fn catch(&mut self, child: Pid, parent: Pid) -> Result<Taken> {
        let taken = self.catch_one(child, parent)?;
        let mut caught = Vec::new();
        if taken == Taken::New {
            caught.push(child);
        }
        let (mut children, mut buf) = (Vec::new(), Vec::new());
        while let Some(parent) = caught.pop() {
            let listed = self
                .proc()?
                .children(parent, parent, &mut children, &mut buf);
            if listed.is_err() {
                // It has ended; its children are somebody else's now.
                continue;
            }
            for child in children.drain(..).rev() {
                if self.catch_one(child, parent)? == Taken::New {
                    caught.push(child);
                }
            }
        }
        Ok(taken)
    }

    fn catch_one(&mut self, child: Pid, parent: Pid) -> Result<Taken> {
        if !self.is_still(parent) {
            return Ok(Taken::Vanished);
        }
        let known = self.latest.get(&child);
        if known.is_none_or(|&index| matches!(self.targets[index].state, State::Gone(_))) {
            match self.pin(child, None) {
                State::Live(pinned) if pinned.parent() == Some(parent.get()) => {
                    self.push(child.get(), State::Live(pinned), Some(false));
                    self.halt(self.targets.len() - 1);
                    return Ok(Taken::New);
                }
                State::Gone(_) if !is_nobody(child) => return Ok(Taken::Dead),
                _ => {}
            }
        }
        let taken = self.take(child, |stat, _| Ok(stat.parent == parent.get()))?;
        if taken == Taken::New {
            self.halt(self.targets.len() - 1);
        }
        Ok(taken)
    }

    /// /proc, without which nobody can be found.
    pub(super) fn proc(&mut self) -> Result<&mut Proc> {
        match self.proc.get() {
            Some(proc) => Ok(proc),
            // It says why.
            None => Err(Proc::open()
                .err()
                .unwrap_or_else(|| Error::io("open /proc", io::ErrorKind::Interrupted.into()))),
        }
    }

    /// As [`Proc::is_partial`].
    pub(super) fn is_partial(&mut self) -> Result<bool> {
        let partial = self.proc()?.is_partial();
        partial.map_err(|e| Error::io("read /proc/self/mounts", e))
    }

    /// How many targets there are, gone ones included.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The pid of a target that is not known to be gone and may be acted on.
    pub(super) fn live(&self, index: usize) -> Option<Pid> {
        match &self.targets.get(index)?.state {
            State::Live(pinned) => Some(pinned.pid()),
            State::Parked(id) => Some(id.named()),
            State::Gone(_) | State::Refused(_) => None,
        }
    }

    pub(super) fn has_live(&self, pid: Pid) -> bool {
        let index = self.latest.get(&pid);
        index.is_some_and(|&index| self.live(index).is_some())
    }

    /// Whether a target could not be signalled when it last was.
    pub(super) fn is_doubtful(&self, index: usize) -> bool {
        self.targets[index].doubt.is_some()
    }

    fn pin_named(&mut self, pid: Pid, expected: Option<&ProcessId>) -> State {
        match expected.and_then(ProcessId::by_boot) {
            Some(pin) => State::from(pin),
            None => self.pin(pid, expected),
        }
    }

    fn pin(&mut self, pid: Pid, expected: Option<&ProcessId>) -> State {
        let pin = loop {
            match Pinned::open(pid, expected, &mut self.proc) {
                Pin::NoRoom if self.make_room() => {}
                Pin::NoRoom => break Pinned::without_descriptor(pid, expected),
                pin => break pin,
            }
        };
        State::from(pin)
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
        act: impl FnOnce(&Pinned, &mut MaybeProc, &mut Pipes) -> io::Result<bool>,
    ) {
        if let State::Parked(id) = self.targets[index].state {
            match self.pin(id.named(), Some(&id)) {
                State::Gone(_) => self.targets[index].state = State::Gone(outcome),
                // There is no descriptor now. There may be one later.
                State::Refused(reason) => self.targets[index].doubt = Some(reason),
                state => self.targets[index].state = state,
            }
        }
        let target = &mut self.targets[index];
        let State::Live(pinned) = &target.state else {
            return;
        };
        match act(pinned, &mut self.proc, &mut self.pipes) {
            Ok(true) => target.state = State::Gone(outcome),
            Ok(false) => {}
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                target.doubt = Some(Reason::NotPermitted);
            }
            Err(_) => target.doubt = Some(Reason::Unverifiable),
        }
    }

    /// Sends these to all that live, from a target on. Who may not be signalled is remembered and
    /// watched all the same.
    pub(super) fn signal(&mut self, from: usize, signals: &[i32]) {
        for index in from..self.targets.len() {
            self.signal_one(index, signals, Outcome::Exited);
        }
    }

    /// SIGKILL to a frozen tree, children first: the end of a parent can orphan the process group of
    /// its children, and stopped members of an orphaned group are continued by the kernel (setpgid(2)).
    ///
    /// Their groups may have been killed before: who is gone by now is so due to that.
    pub(super) fn kill_newest_first(&mut self) {
        for index in (0..self.targets.len()).rev() {
            self.signal_one(index, &[SIGKILL], Outcome::Killed);
        }
    }

    /// Returns whether the signals were sent; if it is gone instead, that is due to `outcome`.
    fn signal_one(&mut self, index: usize, signals: &[i32], outcome: Outcome) -> bool {
        let mut is_sent = false;
        self.targets[index].doubt = None;
        self.act(index, outcome, |pinned, proc, _| {
            for &signal in signals {
                if !pinned.signal(signal, proc)? {
                    return Ok(true);
                }
            }
            is_sent = true;
            Ok(false)
        });
        // Neither a killed nor a continued process stays stopped.
        if is_sent && (signals.contains(&SIGKILL) || signals.contains(&SIGCONT)) {
            self.targets[index].is_frozen = false;
        }
        is_sent
    }

    /// SIGSTOP. One that was refused it must not be continued: for SIGCONT it is enough to be of the
    /// same session (kill(2)), and others may have stopped it.
    fn stop_one(&mut self, index: usize) {
        let is_sent = self.signal_one(index, &[SIGSTOP], Outcome::Exited);
        self.targets[index].is_frozen |= is_sent;
    }

    /// Stops a target without waiting for it, unless it was stopped already: then it is left so in
    /// the end.
    pub(super) fn halt(&mut self, index: usize) {
        let Some(pid) = self.live(index) else {
            return;
        };
        let was_stopped = match self.targets[index].was_stopped {
            Some(was_stopped) => was_stopped,
            None => matches!(self.stillness(pid), Ok(Stillness::Stopped)),
        };
        self.targets[index].was_stopped = Some(was_stopped);
        if !was_stopped {
            self.stop_one(index);
        }
    }

    /// Stops a target and waits until every thread of it has stopped, or is gone. False: it does not
    /// stop, as when its tracer lets it go on.
    pub(super) fn stop(&mut self, index: usize, deadline: Deadline) -> Result<bool> {
        const PATIENCE: Duration = Duration::from_millis(100);
        /// A vfork parent sleeps so until its child is done, and forks no more until then.
        const UNINTERRUPTIBLE: Duration = Duration::from_millis(10);
        let patience = deadline.or_after(PATIENCE);
        let uninterruptible = Deadline::after(UNINTERRUPTIBLE);
        let mut pauses = Pauses::new(Duration::from_micros(20), Duration::from_millis(1));
        let mut is_halted = false;
        while let Some(pid) = self.live(index) {
            let stillness = self.stillness(pid);
            match stillness.map_err(|e| Error::io(format!("read process {}", pid.get()), e))? {
                Stillness::Stopped | Stillness::Gone => return Ok(true),
                // With a SIGSTOP pending it stops again if its tracer lets it go.
                Stillness::Traced if self.targets[index].is_frozen => return Ok(true),
                Stillness::Uninterruptible if uninterruptible.has_passed() => return Ok(true),
                Stillness::Traced | Stillness::Uninterruptible | Stillness::Running => {}
            }
            if !is_halted {
                is_halted = true;
                self.stop_one(index);
                if self.is_doubtful(index) {
                    return Ok(false);
                }
                continue;
            }
            if patience.has_passed() {
                return Ok(false);
            }
            // Only a parent is told when a process stops.
            pauses.pause(patience, &mut self.pipes);
        }
        Ok(true)
    }

    fn stillness(&mut self, pid: Pid) -> io::Result<Stillness> {
        let Some(proc) = self.proc.get() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut buf = Vec::new();
        let mut stillness = Stillness::Stopped;
        let Some(leader) = proc.stat(pid, &mut buf)? else {
            return Ok(Stillness::Gone);
        };
        if leader.is_zombie() {
            return Ok(Stillness::Gone);
        }
        if leader.threads == 1 {
            return Ok(Stillness::of(leader.state));
        }
        for tid in proc.threads(pid)?.unwrap_or_default() {
            let Some(stat) = proc.thread_stat(pid, tid, &mut buf)? else {
                continue;
            };
            stillness = stillness.max(Stillness::of(stat.state));
        }
        Ok(stillness)
    }

    /// Waits until all are gone, or as many as are at the deadline; what is gone then is so due to
    /// `outcome`. Those that could not be signalled are looked at last and not waited for.
    pub(super) fn wait(&mut self, deadline: Deadline, outcome: Outcome) {
        self.outcome = outcome;
        // Newest first: it is the last to go, and then most of the others cost one look.
        for index in (0..self.targets.len()).rev() {
            if self.targets[index].doubt.is_none() {
                self.act(index, outcome, |pinned, proc, pipes| {
                    is_gone_by(pinned, deadline, proc, pipes)
                });
            }
        }
        let now = Deadline::after(Duration::ZERO);
        for index in 0..self.targets.len() {
            if self.targets[index].doubt.is_some() {
                self.act(index, Outcome::Exited, |pinned, proc, pipes| {
                    is_gone_by(pinned, now, proc, pipes)
                });
            }
        }
    }

    /// The verdict. `unproven`: more of what was to go may be left than was found, and whom to name
    /// for it.
    pub(super) fn finish(mut self, coverage: Coverage, unproven: Option<u32>) -> Result<Report> {
        let mut survivors = Vec::new();
        for index in 0..self.targets.len() {
            let Target { number, doubt, .. } = self.targets[index];
            let mut survivor = None;
            // What ended since the deadline, while others were looked at, is no survivor.
            let outcome = doubt.map_or(self.outcome, |_| Outcome::Exited);
            self.act(index, outcome, |pinned, proc, _| {
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
        if let (true, Some(number)) = (survivors.is_empty(), unproven) {
            let unverifiable = Some(Reason::Unverifiable);
            survivors.push(Survivor::see(number, unverifiable, &mut self.proc));
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

/// Whatever happened, nobody is left stopped.
impl Drop for Batch {
    fn drop(&mut self) {
        for index in 0..self.targets.len() {
            if self.targets[index].is_frozen {
                self.signal_one(index, &[SIGCONT], Outcome::Exited);
            }
            // Without a descriptor the number must do: at worst a stopped successor goes on.
            if let (true, State::Parked(id)) =
                (self.targets[index].is_frozen, &self.targets[index].state)
            {
                drop(sys::kill(id.named(), SIGCONT));
            }
        }
    }
}

/// What became of a process that was listed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    /// It is among the targets.
    Known,
    /// A zombie.
    Dead,
    /// It was reaped after it was listed, or it does not belong here any more.
    Vanished,
}

/// How still a process or thread is, the stillest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stillness {
    Gone,
    Stopped,
    Traced,
    Uninterruptible,
    Running,
}

impl Stillness {
    /// By the state in proc_pid_stat(5) field 3.
    fn of(state: char) -> Stillness {
        match state {
            'T' | 'Z' | 'X' => Stillness::Stopped,
            't' => Stillness::Traced,
            'D' => Stillness::Uninterruptible,
            _ => Stillness::Running,
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

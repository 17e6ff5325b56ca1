//! What a child writes, read within limits.
//!
//! 1. Read both pipes until the child is gone or a time limit is reached.
//! 2. Child gone: drain the pipes, then end what is left of its group. Time limit: end the child
//!    with its tree while its pipes are read.
//! 3. Reap the child. After a time limit, drain the pipes.
//!
//! No step waits for end-of-file without a limit: a daemon may hold a pipe for ever.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use super::super::error::{Error, ErrorKind, Result};
use super::super::kill::Kill;
use super::super::proc::MaybeProc;
use super::super::report::Report;
use super::super::sys;
use super::super::wait::Deadline;
use super::Managed;
use super::pipe::Pipes;
pub use super::pipe::Stream;

/// How long a child may take and how much it may write; see [`Managed::output`].
///
/// ```
/// use process_kill::Kill;
/// use process_kill::child::{CommandExt, Ended, Group, Limits};
/// use std::{process::Command, time::Duration};
///
/// let limits = Limits::new().overall(Duration::from_millis(50)).kill(Kill::now());
/// let output = Command::new("sleep").arg("60").spawn_managed(Group::New)?.output(&limits)?;
/// assert_eq!(output.ended, Ended::OverallTimeout);
/// # Ok::<(), process_kill::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Limits {
    overall: Option<Duration>,
    idle: Option<Duration>,
    kill: Kill,
    drain: Duration,
    max_bytes: usize,
}

impl Limits {
    /// No time limits, [`Kill::graceful`], 2 s of drain, no byte limit.
    pub const fn new() -> Limits {
        Limits {
            overall: None,
            idle: None,
            kill: Kill::graceful(),
            drain: Duration::from_secs(2),
            max_bytes: usize::MAX,
        }
    }

    /// How long it may run, from the call of [`Managed::output`]. The time to end it comes on top,
    /// by default up to 7 s, and then the drain time.
    pub const fn overall(mut self, overall: Duration) -> Limits {
        self.overall = Some(overall);
        self
    }

    /// How long it may run without a byte on either pipe. The limit also holds if it has closed its
    /// pipes or has none: unlike `Command::output`, nothing is piped here unless the command says so.
    pub const fn idle(mut self, idle: Duration) -> Limits {
        self.idle = Some(idle);
        self
    }

    /// How to end it when a time limit is reached, and how to end what is left of its own group
    /// when it has exited.
    pub const fn kill(mut self, kill: Kill) -> Limits {
        self.kill = kill;
        self
    }

    /// How long to read on if the child is gone and a process still holds a pipe, such as a daemon
    /// that the child started. After a normal exit, what is left of its own group is ended when
    /// this time is over.
    pub const fn drain(mut self, drain: Duration) -> Limits {
        self.drain = drain;
        self
    }

    /// How many bytes of each pipe to keep: the first ones. The rest is read and thrown away, so
    /// the child neither blocks nor gets SIGPIPE.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Limits {
        self.max_bytes = max_bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new()
    }
}

/// What a child wrote, and how it ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// Its true status; `None`: it is not gone, or another thread has reaped it.
    pub status: Option<ExitStatus>,
    /// What it wrote to a piped standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to a piped standard error.
    pub stderr: Vec<u8>,
    /// How it ended.
    pub ended: Ended,
    /// False: it is `truncated`, or a process still held a pipe when the drain time was over. That
    /// process may have been ended since.
    pub complete: bool,
    /// There were more bytes than [`Limits::max_bytes`] for one of the pipes, and the rest is lost.
    pub truncated: bool,
    /// The processes that are gone, the child included. After a normal exit the child is `AlreadyGone`,
    /// and the coverage is always `BestEffort`, because the child ended before its children could be
    /// listed.
    pub report: Report,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It ended by itself, or something else ended it: another process, or a kill of this program,
    /// such as [`Registry::kill_all`](super::Registry::kill_all).
    Exited,
    /// It was ended after [`Limits::overall`].
    OverallTimeout,
    /// It was ended after [`Limits::idle`].
    IdleTimeout,
}

impl Managed {
    /// Reads its piped standard output and error until it exits or a limit is reached, then ends
    /// what is left and reaps it. A piped standard input that was not taken is closed first.
    ///
    /// It never waits longer than the limits, the two times of the [`Kill`] and the drain time
    /// together, even if other processes hold the pipes. When it returns `Ok`, the child's own
    /// group or session is gone and, after a time limit, its tree.
    ///
    /// When the child exits by itself, its descendants become orphans. Those in its own group or
    /// session are ended. The others live on, because nothing tells them from other processes: with
    /// [`Group::Inherit`](super::Group) or [`Group::Join`](super::Group) these are all of them. To
    /// find them, mark the environment of the command; see
    /// [`guide::crashes`](super::super::guide::crashes). Or call
    /// [`adopt_orphans`](super::adopt_orphans) before the first child is started: then
    /// [`descendant_pids`](super::super::descendant_pids) of the calling process lists them, and
    /// [`Kill::children`] ends them.
    ///
    /// # Errors
    /// As [`Kill::trees`]. `Survivors`: not all are gone. `Io`: a pipe cannot be read.
    /// [`Error::output`] has what the child wrote.
    ///
    /// ```
    /// use process_kill::child::{CommandExt, Group, Limits};
    /// use std::process::{Command, Stdio};
    ///
    /// let mut command = Command::new("echo");
    /// command.arg("hi").stdout(Stdio::piped());
    /// let output = command.spawn_managed(Group::New)?.output(&Limits::new())?;
    /// assert!(output.status.is_some_and(|status| status.success()));
    /// assert_eq!(output.stdout, b"hi\n");
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub fn output(self, limits: &Limits) -> Result<Output> {
        self.output_with(limits, |_, _| {})
    }

    /// As [`Managed::output`], and shows each piece to `on_bytes` as it is read: a live log.
    /// [`Limits::max_bytes`] limits what is kept, not what is shown.
    ///
    /// `on_bytes` runs between two reads, and no limit is kept while it runs. Writing to a pipe or
    /// terminal that nothing reads blocks. If that may happen, let `on_bytes` send the bytes to
    /// another thread, and drop them if the channel is full
    /// ([`try_send`](std::sync::mpsc::SyncSender::try_send)).
    ///
    /// # Errors
    /// As [`Managed::output`].
    ///
    /// ```
    /// use process_kill::child::{CommandExt, Group, Limits};
    /// use std::process::{Command, Stdio};
    ///
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "echo one; echo two >&2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    /// let mut log = Vec::new();
    /// let output = command
    ///     .spawn_managed(Group::New)?
    ///     .output_with(&Limits::new().max_bytes(2), |_, bytes| log.extend_from_slice(bytes))?;
    /// assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"on"[..], &b"tw"[..]));
    /// assert_eq!(log.len(), "one\ntwo\n".len());
    /// # Ok::<(), process_kill::Error>(())
    /// ```
    pub fn output_with(
        mut self,
        limits: &Limits,
        mut on_bytes: impl FnMut(Stream, &[u8]),
    ) -> Result<Output> {
        let overall = limits.overall.map_or(Deadline::NEVER, Deadline::after);
        let [stdout, stderr] = self.take_pipes().map_err(failed)?;
        let mut pipes = Pipes::new(stdout, stderr, limits.max_bytes, &mut on_bytes);
        let ended = match self.read_until_end(&mut pipes, limits.idle, overall) {
            Ok(ended) => ended,
            Err(e) => return Err(failed(e).with(Output::of(pipes, None, Ended::Exited, false))),
        };
        let mut drained = match ended {
            Ended::Exited => drain(&mut pipes, limits.drain),
            _ => Ok(()),
        };
        // If a process holds a pipe now, it is ended with the group. The output stays incomplete.
        let was_held = ended == Ended::Exited && !pipes.are_closed();
        let stopped = limits
            .kill
            .families(&[self.id], self.own.as_slice(), &mut pipes);
        let status = self.try_wait().ok().flatten();
        self.reap();
        // A second try would not end a survivor, so Drop must not repeat the kill. If nothing was
        // sent, Drop does it.
        let was_sent = |e: &Error| matches!(e.kind(), ErrorKind::Survivors | ErrorKind::Unproven);
        if stopped.as_ref().err().is_none_or(was_sent) {
            self.child = None;
        }
        if ended != Ended::Exited {
            drained = drain(&mut pipes, limits.drain);
        }
        if let Some(e) = pipes.error.take() {
            drained = drained.and(Err(e));
        }
        let mut output = Output::of(pipes, status, ended, !was_held);
        let report = stopped.as_ref().map_or_else(Error::report, Some);
        output.report = report.cloned().unwrap_or_else(Report::empty);
        match stopped.and(drained.map_err(failed)) {
            Ok(()) => Ok(output),
            Err(e) => Err(e.with(output)),
        }
    }

    /// The pipes of standard output and standard error. Closes that of standard input.
    fn take_pipes(&mut self) -> io::Result<[Option<OwnedFd>; 2]> {
        let child = self.child();
        drop(child.stdin.take());
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        for pipe in [&stdout, &stderr].into_iter().flatten() {
            sys::fs::set_nonblocking(pipe.as_fd())?;
        }
        Ok([stdout, stderr])
    }

    fn read_until_end(
        &self,
        pipes: &mut Pipes<'_>,
        idle: Option<Duration>,
        overall: Deadline,
    ) -> io::Result<Ended> {
        /// The pause between looks if there is no pidfd.
        const BLIND: Duration = Duration::from_millis(10);
        let Some(process) = &self.process else {
            return Ok(Ended::Exited);
        };
        let mut proc = MaybeProc::default();
        let idle_until = || idle.map_or(Deadline::NEVER, Deadline::after);
        let mut idle_deadline = idle_until();
        loop {
            let until = overall.earlier(idle_deadline);
            let until = match process.pidfd() {
                Some(_) => until,
                None => until.or_after(BLIND),
            };
            let woken = match pipes.wait(process.pidfd(), until.left()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                woken => woken?,
            };
            if woken.by_end || (process.pidfd().is_none() && process.is_gone(&mut proc)?) {
                return Ok(Ended::Exited);
            }
            if woken.by_bytes {
                idle_deadline = idle_until();
            }
            if overall.has_passed() {
                return Ok(Ended::OverallTimeout);
            }
            if idle_deadline.has_passed() {
                return Ok(Ended::IdleTimeout);
            }
        }
    }
}

impl Output {
    fn of(pipes: Pipes<'_>, status: Option<ExitStatus>, ended: Ended, is_whole: bool) -> Output {
        let truncated = pipes.stdout.is_cut || pipes.stderr.is_cut;
        Output {
            status,
            complete: is_whole && pipes.are_closed() && !truncated,
            truncated,
            stdout: pipes.stdout.bytes,
            stderr: pipes.stderr.bytes,
            ended,
            report: Report::empty(),
        }
    }
}

impl Error {
    /// What a child wrote. `Some` for errors of [`Managed::output`] that come after reading began:
    /// it could not be ended, or a pipe could not be read.
    #[must_use]
    pub fn output(&self) -> Option<&Output> {
        self.more()
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("read the output of a child", error)
}

/// Reads on until no process holds the pipes, or the time is over.
fn drain(pipes: &mut Pipes<'_>, time: Duration) -> io::Result<()> {
    let deadline = Deadline::after(time);
    while !pipes.are_closed() && !deadline.has_passed() {
        match pipes.wait(None, deadline.left()) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
    // What was written by the deadline is in the pipe now. A process that still holds the pipe may
    // write for ever, so later bytes are left.
    pipes.read_what_is_there()?;
    // Sees end-of-file, if the bytes were the last.
    match pipes.wait(None, Some(Duration::ZERO)) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

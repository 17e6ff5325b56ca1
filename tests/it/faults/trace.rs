//! Follows the system calls of one process by ptrace(2).
//!
//! The process stops itself with SIGSTOP: at that point the tracing begins. It ends at a call that
//! [`end`] makes and nothing else does.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

use super::calls::{Call, Case, Mode};
use super::family;

/// How long a call may be late.
const LATE: Duration = Duration::from_millis(50);
/// So many calls in a row a signal may interrupt.
const INTERRUPTIONS: u32 = 20;
/// The longest time that a stop of the subject is waited for.
const LONGEST: u32 = 60;

/// In the subject: write(2) to no descriptor. The tracing ends here.
pub fn end() {
    // SAFETY: the call fails before it looks at the address.
    unsafe { libc::write(-1, std::ptr::null(), 0) };
}

fn is_end(call: &Call) -> bool {
    call.number == libc::SYS_write && call.args[0] as u32 == u32::MAX
}

/// What happened to the subject instead of the stop that was expected.
#[derive(Debug)]
pub enum Lost {
    /// It did not stop in time.
    Overran,
    Ended(WaitStatus),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Overran => write!(f, "no end within {LONGEST} s"),
            Lost::Ended(status) => write!(f, "it ended: {status:?}"),
        }
    }
}

/// The calls of one run, and the fault in it.
pub struct Traced {
    /// With their words, if no fault was asked for.
    pub calls: Vec<(Call, String)>,
    /// The first calls that failed, in words. None: the fault fitted no call.
    pub hits: Vec<String>,
    /// How many calls failed.
    pub failed: usize,
}

extern "C" fn interrupt(_: libc::c_int) {}

/// Makes [`next_stop`] end when the time is up.
pub fn watch_the_clock() {
    let action = SigAction::new(
        SigHandler::Handler(interrupt),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
}

/// Waits until the subject stops itself. Other signals reach it.
pub fn until_it_stops(subject: Pid) -> Result<(), Lost> {
    alarm::set(LONGEST);
    loop {
        match next_stop(subject)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(()),
            WaitStatus::Stopped(_, signal) => ptrace::cont(subject, signal).unwrap(),
            status => return Err(Lost::Ended(status)),
        }
    }
}

fn next_stop(subject: Pid) -> Result<WaitStatus, Lost> {
    match waitpid(subject, None) {
        Err(Errno::EINTR) => Err(Lost::Overran),
        status => Ok(status.unwrap()),
    }
}

/// Kills the subject and reaps it.
pub fn put_away(subject: Pid) {
    // It may have ended.
    let _ = kill(subject, Signal::SIGKILL);
    while matches!(
        waitpid(subject, None),
        Ok(WaitStatus::Stopped(..) | WaitStatus::PtraceSyscall(_)) | Err(Errno::EINTR)
    ) {}
}

/// Lets the stopped subject run to its [`end`], with this fault. `victim` ends if the case is a
/// death.
pub fn trace(subject: Pid, case: Option<Case>, victim: Option<u32>) -> Result<Traced, Lost> {
    ptrace::setoptions(
        subject,
        ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL,
    )
    .unwrap();
    alarm::set(LONGEST);
    let mut fault = Fault {
        case,
        victim,
        traced: Traced {
            calls: Vec::new(),
            hits: Vec::new(),
            failed: 0,
        },
        number: None,
        chance: fastrand::Rng::with_seed(case.map_or(0, |case| case.position as u64)),
        has_sent: false,
    };
    let mut signal = None;
    let mut failure = None;
    let mut is_inside = false;
    loop {
        ptrace::syscall(subject, signal.take()).unwrap();
        match next_stop(subject)? {
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Stopped(_, other) => {
                signal = Some(other);
                continue;
            }
            status => return Err(Lost::Ended(status)),
        }
        is_inside = !is_inside;
        if !is_inside {
            if let Some(errno) = failure.take() {
                let mut registers = ptrace::getregs(subject).unwrap();
                registers.rax = i64::from(-(errno as i32)) as u64;
                ptrace::setregs(subject, registers).unwrap();
            }
            continue;
        }
        let mut registers = ptrace::getregs(subject).unwrap();
        let call = Call {
            number: registers.orig_rax as i64,
            args: [registers.rdi, registers.rsi, registers.rdx, registers.r10],
        };
        if is_end(&call) {
            return Ok(fault.traced);
        }
        failure = fault.of(&call, subject);
        if failure.is_some() {
            // No call has this number, so the kernel does nothing.
            registers.orig_rax = u64::MAX;
            ptrace::setregs(subject, registers).unwrap();
        }
        let words = match case {
            None => in_words(&call, subject),
            Some(_) => String::new(),
        };
        fault.traced.calls.push((call, words));
    }
}

/// Lets the subject go on without following its calls, until it stops itself.
pub fn go_on(subject: Pid) -> Result<(), Lost> {
    ptrace::cont(subject, None).unwrap();
    until_it_stops(subject)
}

struct Fault {
    case: Option<Case>,
    victim: Option<u32>,
    traced: Traced,
    /// The call that fails from now on.
    number: Option<i64>,
    chance: fastrand::Rng,
    has_sent: bool,
}

impl Fault {
    /// How this call fails; `None`: it does not.
    fn of(&mut self, call: &Call, subject: Pid) -> Option<Errno> {
        let case = self.case?;
        if case.mode == Mode::Chance {
            return self.by_chance(call, subject);
        }
        let position = self.traced.calls.len();
        let is_due = match self.number {
            None => position >= case.position,
            Some(number) => case.mode == Mode::Onward && number == call.number,
        };
        let is_due = is_due
            && call.faults(case.mode).contains(&case.errno)
            && !(case.errno == Errno::EINTR && self.traced.failed as u32 == INTERRUPTIONS)
            && (case.errno == Errno::EINTR || !is_read_of_pipe(call, subject));
        if !is_due {
            return None;
        }
        self.number = Some(call.number);
        self.note(call, case.errno, subject);
        match (case.mode, self.victim) {
            (Mode::Once | Mode::Onward, _) => return Some(case.errno),
            (Mode::Late, _) => std::thread::sleep(LATE),
            (Mode::Death, Some(victim)) => family::end(victim),
            (Mode::Death, None) | (Mode::Chance, _) => {}
        }
        None
    }

    fn by_chance(&mut self, call: &Call, subject: Pid) -> Option<Errno> {
        const ONE_IN: u32 = 12;
        self.has_sent |= call.sends();
        // Most failures before the first signal end the call. So every other seed begins there.
        let position = self.case?.position;
        if position % 2 == 1 && !self.has_sent {
            return None;
        }
        let errno = self.chance.choice(call.faults(Mode::Once))?;
        let is_due = self.chance.u32(..ONE_IN) == 0
            && (errno == Errno::EINTR || !is_read_of_pipe(call, subject));
        if !is_due {
            return None;
        }
        self.note(call, errno, subject);
        Some(errno)
    }

    fn note(&mut self, call: &Call, errno: Errno, subject: Pid) {
        let most = match self.case {
            Some(case) if case.mode == Mode::Chance => 60,
            _ => 1,
        };
        if self.traced.hits.len() < most {
            let position = self.traced.calls.len();
            let words = format!("{position} {} {errno:?}", in_words(call, subject));
            self.traced.hits.push(words);
        }
        self.traced.failed += 1;
    }
}

/// A pipe is only ever interrupted. The standard library panics if it fails otherwise.
fn is_read_of_pipe(call: &Call, subject: Pid) -> bool {
    let link = format!("/proc/{subject}/fd/{}", call.args[0]);
    call.number == libc::SYS_read
        && std::fs::read_link(link).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
}

/// Its name, and the path or the first arguments.
fn in_words(call: &Call, subject: Pid) -> String {
    let path = call.path().and_then(|at| text(subject, at).ok());
    match path {
        Some(path) => format!("{}({path})", call.name()),
        None => {
            let descriptor = std::fs::read_link(format!("/proc/{subject}/fd/{}", call.args[0]));
            let descriptor = descriptor.map_or(String::new(), |to| format!(" = {}", to.display()));
            format!(
                "{}({}{descriptor}, {:#x})",
                call.name(),
                call.args[0] as u32 as i32,
                call.args[1]
            )
        }
    }
}

/// The C string at an address of the subject.
fn text(subject: Pid, at: u64) -> io::Result<String> {
    let memory = File::open(format!("/proc/{subject}/mem"))?;
    let mut bytes = [0; 256];
    let got = memory.read_at(&mut bytes, at)?;
    let text = bytes[..got].split(|&b| b == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

//! A name for one process. It outlives the program that wrote it.
//!
//! Two identities name the same process if pid, start time and pidfs inode agree. The inode is
//! compared only if both have one. Boot and PID namespace decide first:
//!
//! | the identity is of | its process |
//! |---|---|
//! | this boot and namespace, or neither side knows them | is looked for |
//! | another boot | is gone |
//! | another PID namespace | cannot be told, because its pid means nothing here |
//! | a boot or namespace that only one side knows | cannot be told, see below |
//!
//! In the last row the process is gone if the namespace is the same and no process has the pid.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::super::error::{Error, Result};
use super::super::proc::{MaybeProc, Proc, ProcessDir};
use super::super::sys::Pid;
use super::{Here, PidRef, Pin, pid_of};

/// The name of one process for all time: a pid is used again, this name is not.
///
/// It holds the pid, the start time, the boot, the PID namespace and, if the kernel has it (Linux
/// 6.9, 64-bit), the pidfs inode number. Without the inode number, a successor that got the same
/// pid within the same clock tick (10 ms on most machines) cannot be told apart.
///
/// The text form is made for pid files. It outlives the program that wrote it, and a reboot. In
/// another PID namespace (a container that shares the file) the pid would mean another process.
/// There [`ProcessId::is_gone`] is an error, and [`Kill::processes`](super::super::Kill::processes)
/// reports the identity as [`Unverifiable`](super::super::Reason::Unverifiable).
///
/// ```
/// # use process_kill::ProcessId;
/// let me = ProcessId::of(std::process::id())?.expect("this process exists");
/// let from_file: ProcessId = me.to_string().parse()?;
/// assert_eq!(from_file, me);
/// assert!(!from_file.is_gone()?);
/// # Ok::<(), process_kill::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    pid: Pid,
    start_time: u64,
    inode: Option<u64>,
    here: Here,
}

impl ProcessId {
    /// The identity of the process that has this pid now; `None`: there is no such process. A
    /// zombie still has its pid. The number of a thread that is not the first of its process gives
    /// `None`.
    ///
    /// # Errors
    /// `Refused`: 0 or above `i32::MAX`. `Proc`: /proc cannot be used. `Io`: the process exists but
    /// cannot be read, as under `hidepid`; or no descriptor is free.
    pub fn of(pid: u32) -> Result<Option<ProcessId>> {
        let (pid, proc) = (pid_of(pid)?, Proc::open()?);
        match PidRef::identified(pid, &proc) {
            Ok(found) => Ok(found.map(|(_, id)| id)),
            Err(e) => Err(Error::io(
                format!("read the identity of process {}", pid.get()),
                e,
            )),
        }
    }

    /// The identity of the calling process.
    ///
    /// # Errors
    /// As [`ProcessId::of`].
    pub fn current() -> Result<ProcessId> {
        ProcessId::of(std::process::id())?
            .ok_or_else(|| Error::io("read the caller's identity", io::ErrorKind::NotFound.into()))
    }

    /// The pid it has, or had.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// Clock ticks after boot (proc_pid_stat(5) field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether every thread of it has ended. A zombie is gone. A process of an earlier boot is
    /// gone. A successor with the same pid does not count.
    ///
    /// # Errors
    /// `Proc`: /proc cannot be used, and without it the process cannot be told from a successor.
    /// `Io`: the kernel did not tell, or the identity is of another PID namespace.
    ///
    /// ```
    /// use process_kill::{Kill, ProcessId};
    ///
    /// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
    /// let id = ProcessId::of(child.id())?.expect("the child was not waited for");
    /// Kill::now().processes(&[id])?;
    /// assert!(id.is_gone()?); // a zombie
    /// child.wait()?;
    /// assert!(id.is_gone()?); // and still, if another process has the pid
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_gone(&self) -> Result<bool> {
        let mut proc = MaybeProc::default();
        let gone = match self.pin(&mut proc) {
            Pin::Gone => return Ok(true),
            Pin::Held(held) => held.is_gone(&mut proc),
            Pin::Refused(_) | Pin::NoRoom | Pin::Failed(_)
                if Here::look(&mut proc).is_elsewhere(self) =>
            {
                Err(io::Error::other("it is of another PID namespace"))
            }
            Pin::Failed(e) => Err(e),
            Pin::Refused(_) | Pin::NoRoom => Err(io::ErrorKind::Unsupported.into()),
        };
        gone.or_else(|e| {
            // If /proc is missing, the error says so.
            Proc::open()?;
            Err(Error::io(
                format!("tell whether process {} is gone", self.pid()),
                e,
            ))
        })
    }

    pub(super) fn new(pid: Pid, start_time: u64, inode: Option<u64>, here: Here) -> ProcessId {
        ProcessId {
            pid,
            start_time,
            inode,
            here,
        }
    }

    /// The start time of an identity that the engine parks without one. No process that can be killed
    /// has it.
    pub(super) const NO_START_TIME: u64 = 0;

    /// Whether it started at this time; `None`: only its inode is known.
    pub(super) fn has_started_at(&self, ticks: u64) -> Option<bool> {
        let is_known = self.inode.is_none() || self.start_time != ProcessId::NO_START_TIME;
        is_known.then_some(self.start_time == ticks)
    }

    /// The identity of the process whose directory is held open; `None`: it is gone.
    pub(crate) fn behind(dir: &ProcessDir<'_>) -> io::Result<Option<ProcessId>> {
        let found = PidRef::identified(dir.pid(), dir.proc())?;
        // The process is still there after its number was looked up. So the number was its own.
        let is_there = dir.stat(&mut Vec::new())?.is_some();
        Ok(found.filter(|_| is_there).map(|(_, id)| id))
    }

    /// The boot and the namespace in which it was read.
    pub(super) fn here(&self) -> Here {
        self.here
    }

    pub(crate) fn number(&self) -> Pid {
        self.pid
    }

    pub(super) fn inode(&self) -> Option<u64> {
        self.inode
    }

    /// Whether both name one process, if both were read in this boot and namespace.
    pub(crate) fn is_same(&self, other: &ProcessId) -> bool {
        let inodes = self.inode.zip(other.inode);
        self.pid == other.pid
            && self.start_time == other.start_time
            && inodes.is_none_or(|(this, other)| this == other)
    }

    /// Holds the process, unless it is gone.
    fn pin(&self, proc: &mut MaybeProc) -> Pin {
        match Here::look(proc).judge(self) {
            Some(pin) => pin,
            None => match PidRef::open(self.pid, Some(self), proc) {
                Pin::NoRoom => PidRef::without_descriptor(self.pid, Some(self)),
                pin => pin,
            },
        }
    }
}

/// Writes `PID:START_TIME:INODE:BOOT:NAMESPACE`, with `-` for a part that is not known.
///
/// For a pid file, format the whole line first and write it with one
/// [`write_all`](std::io::Write::write_all): `write!` writes it in pieces, and a crash between two
/// pieces leaves a line that cannot be parsed. Even one `write_all` can be cut short by SIGKILL. Let a
/// worker wait, for example for a line on a pipe, until its identity is in the file, and exit at
/// end-of-file. Then a last line without a newline names a worker that has not begun.
impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.pid(), self.start_time)?;
        match self.inode {
            Some(inode) => write!(f, "{inode}:")?,
            None => f.write_str("-:")?,
        }
        match self.here.boot {
            Some(boot) => write!(f, "{boot:032x}:")?,
            None => f.write_str("-:")?,
        }
        match self.here.namespace {
            Some(namespace) => write!(f, "{namespace}"),
            None => f.write_str("-"),
        }
    }
}

/// The same as `Display`.
impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads what `Display` writes. White space around it, such as the newline of a pid file, is
/// allowed.
impl FromStr for ProcessId {
    type Err = Error;

    /// # Errors
    /// `Refused`: `Display` does not write this text.
    fn from_str(text: &str) -> Result<ProcessId> {
        parse(text.trim()).ok_or_else(|| {
            Error::refused(format!(
                "{text:?} is not PID:START_TIME:INODE:BOOT:NAMESPACE"
            ))
        })
    }
}

fn parse(text: &str) -> Option<ProcessId> {
    let mut fields = text.split(':');
    let mut number = |radix| match fields.next()? {
        "-" => Some(None),
        field => u128::from_str_radix(field, radix).ok().map(Some),
    };
    let id = ProcessId {
        pid: Pid::new(u32::try_from(number(10)??).ok()?)?,
        start_time: u64::try_from(number(10)??).ok()?,
        inode: number(10)?.map(u64::try_from).transpose().ok()?,
        here: Here {
            boot: number(16)?,
            namespace: number(10)?.map(u64::try_from).transpose().ok()?,
        },
    };
    // A text that was cut short would name another process or namespace. Inodes of PID namespaces
    // have ten digits (linux/proc_ns.h).
    let is_whole = id.here.namespace.is_none_or(|inode| inode >= 1_000_000_000);
    (is_whole && id.to_string() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::super::ErrorKind;
    use super::*;

    fn id(inode: Option<u64>, boot: Option<u128>) -> ProcessId {
        ProcessId {
            pid: Pid::new(4321).unwrap(),
            start_time: 987,
            inode,
            here: Here {
                boot,
                namespace: Some(4_026_531_836),
            },
        }
    }

    #[test]
    fn the_text_form_round_trips() {
        let extremes = ProcessId {
            pid: Pid::new(i32::MAX.unsigned_abs()).unwrap(),
            start_time: u64::MAX,
            inode: Some(u64::MAX),
            here: Here {
                boot: Some(u128::MAX),
                namespace: Some(u64::MAX),
            },
        };
        for (id, text) in [
            (
                id(Some(65), Some(0xab)),
                "4321:987:65:000000000000000000000000000000ab:4026531836",
            ),
            (id(None, None), "4321:987:-:-:4026531836"),
            (id(Some(0), None), "4321:987:0:-:4026531836"),
            (
                extremes,
                "2147483647:18446744073709551615:18446744073709551615:ffffffffffffffffffffffffffffffff:\
                 18446744073709551615",
            ),
        ] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse::<ProcessId>().unwrap(), id);
            assert_eq!(format!("\t{text} \r\n").parse::<ProcessId>().unwrap(), id);
        }
    }

    #[test]
    fn what_is_not_the_text_form_is_refused() {
        for text in [
            "",
            "\n",
            ":",
            ":::",
            "4321",
            "4321:987",
            "4321:987:65",
            "4321:987:65::ns",
            "4321:987::ab:ns",
            "4321::65:ab:ns",
            ":987:65:ab:ns",
            "4321:987:65:ab::ns",
            "4321:987:65:ab:cd:ns",
            "4321:987:65:ab:ns\n4321:987:65:ab:ns",
            "0:987:65:ab:ns",
            "-:987:65:ab:ns",
            "4321:-:65:ab:ns",
            "-1:987:65:ab:ns",
            "+4321:987:65:ab:ns",
            "4321:+987:65:ab:ns",
            "4321:987:65:+ab:ns",
            "4321: 987:65:ab:ns",
            "4321:987:--:ab:ns",
            "4321:987:6f:ab:ns",
            "4321:987:65:xyz:ns",
            "4321:987:65:0xab:ns",
            "2147483648:987:65:ab:ns",
            "4294967297:987:65:ab:ns",
            "4321:18446744073709551616:65:ab:ns",
            "4321:987:18446744073709551616:ab:ns",
            "4321:987:65:100000000000000000000000000000000:ns",
            "4321:987:65:\u{661}:ns",
            "\u{664}\u{663}:987:65:ab:ns",
            "04321:987:65:ab:ns",
            "4321:0987:65:ab:ns",
            "4321:987:065:ab:ns",
            "4321:987:65:0ab:ns",
            "4321:987:65:AB:ns",
            "4321:987:65:ab",
            "4321:987:65:ab:",
            "4321:987:65:ab:ns:",
            "4321:987:65:ab:0ns",
            "4321:987:65:ab:+ns",
            "4321:987:65:ab:999999999",
            "4321:987:65:ab:18446744073709551616",
        ] {
            let text = text.replace("ab", "00112233445566778899aabbccddeeff");
            let text = text.replace("ns", "4026531836");
            let refused = text.parse::<ProcessId>().expect_err(&text);
            assert_eq!(refused.kind(), ErrorKind::Refused);
        }
    }

    /// The text would name another boot or namespace, and the process would count as gone.
    #[test]
    fn a_text_that_was_cut_short_is_refused() {
        for boot in [0, 0xab, u128::MAX] {
            let whole = id(Some(65), Some(boot)).to_string();
            for end in 0..whole.len() {
                whole[..end].parse::<ProcessId>().expect_err(&whole[..end]);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_lie() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let length = random.usize(..24);
            let text: String = (0..length)
                .map(|_| {
                    *random
                        .choice(&[':', ':', '-', '0', '1', '9', 'f', '+', ' ', 'é'])
                        .unwrap()
                })
                .collect();
            if let Ok(id) = text.parse::<ProcessId>() {
                assert_eq!(id.to_string().parse::<ProcessId>().unwrap(), id, "{text}");
            }
        }
    }
}

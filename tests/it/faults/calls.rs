//! System calls, and how each may fail.

use std::collections::BTreeMap;
use std::fmt;

use nix::errno::Errno;

/// A system call, as its registers show it at its start.
#[derive(Clone, Copy)]
pub struct Call {
    pub number: i64,
    pub args: [u64; 4],
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// This call alone fails.
    Once,
    /// This call and all later ones with the same number fail. After a few, `EINTR` ends: no signal
    /// interrupts for ever.
    Onward,
    /// It does not fail, but begins late.
    Late,
    /// It does not fail, but before it a victim ends and is reaped.
    Death,
    /// Each call may fail, as chance has it. The position of the case is the seed.
    Chance,
}

impl Mode {
    pub const ALL: [Mode; 5] = [
        Mode::Once,
        Mode::Onward,
        Mode::Late,
        Mode::Death,
        Mode::Chance,
    ];

    /// Reads what `Debug` writes.
    pub fn parse(text: &str) -> Option<Mode> {
        Mode::ALL
            .into_iter()
            .find(|mode| format!("{mode:?}") == text)
    }
}

/// What stands for an errno if no call fails.
pub const NO_ERRNO: Errno = Errno::UnknownErrno;

use Errno::{
    EAGAIN, EBUSY, EINTR, EINVAL, EIO, EMFILE, ENFILE, ENOMEM, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM,
};

/// The calls that may fail, with the errnos of `Once`. Memory, futexes, clocks, close(2) and exit
/// are left out.
const CALLS: &[(i64, &str, &[Errno])] = &[
    (
        libc::SYS_openat,
        "openat",
        &[EMFILE, ENFILE, ENOMEM, EINTR, EIO],
    ),
    (libc::SYS_read, "read", &[EIO, EINTR, ENOMEM, EAGAIN]),
    (libc::SYS_pread64, "pread64", &[EIO, EINTR, ENOMEM, EAGAIN]),
    (
        libc::SYS_write,
        "write",
        &[EIO, EINTR, ENOMEM, EBUSY, EOPNOTSUPP],
    ),
    (libc::SYS_getdents64, "getdents64", &[ENOMEM, EIO, EINTR]),
    (
        libc::SYS_pidfd_open,
        "pidfd_open",
        &[EMFILE, ENFILE, ENOMEM],
    ),
    (libc::SYS_poll, "poll", &[EINTR, ENOMEM]),
    (libc::SYS_ppoll, "ppoll", &[EINTR, ENOMEM]),
    (libc::SYS_waitid, "waitid", &[EINTR]),
    (libc::SYS_wait4, "wait4", &[EINTR]),
    (libc::SYS_newfstatat, "newfstatat", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_fstat, "fstat", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_statx, "statx", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_statfs, "statfs", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_fstatfs, "fstatfs", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_readlink, "readlink", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_readlinkat, "readlinkat", &[EIO, ENOMEM, EINTR]),
    (libc::SYS_ioctl, "ioctl", &[ENOTTY, EINVAL]),
    (libc::SYS_fcntl, "fcntl", &[EMFILE]),
    (libc::SYS_kcmp, "kcmp", &[EPERM, ENOSYS]),
    (libc::SYS_prctl, "prctl", &[EINVAL]),
    (libc::SYS_kill, "kill", &[EPERM]),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", &[EPERM]),
    (libc::SYS_clone, "clone", &[EAGAIN, ENOMEM]),
    (libc::SYS_clone3, "clone3", &[EAGAIN, ENOMEM]),
    (libc::SYS_pipe2, "pipe2", &[EMFILE, ENFILE]),
];

impl Call {
    /// The failures that fit this call.
    pub fn faults(&self, mode: Mode) -> Vec<Errno> {
        let Some((_, _, errnos)) = CALLS.iter().find(|(number, ..)| *number == self.number) else {
            return Vec::new();
        };
        let arg = |index: usize| self.args[index] as i32;
        let is_possible = match self.number {
            libc::SYS_fcntl => arg(1) == libc::F_DUPFD_CLOEXEC,
            libc::SYS_prctl => arg(0) == libc::PR_GET_CHILD_SUBREAPER,
            // Who may send SIGSTOP may send SIGCONT.
            libc::SYS_kill | libc::SYS_pidfd_send_signal => arg(1) != libc::SIGCONT,
            // It does not wait.
            libc::SYS_wait4 => arg(2) & libc::WNOHANG == 0,
            _ => true,
        };
        if !is_possible {
            return Vec::new();
        }
        let filtered: &[Errno] = match (mode, self.number) {
            (Mode::Late | Mode::Death, _) => return vec![NO_ERRNO],
            // Before Linux 5.3, or under a filter.
            (Mode::Onward, libc::SYS_pidfd_open) => &[ENOSYS, EPERM],
            (Mode::Onward, libc::SYS_pidfd_send_signal) => &[ENOSYS],
            _ => &[],
        };
        [errnos, filtered].concat()
    }

    pub fn name(&self) -> String {
        let known = CALLS.iter().find(|(number, ..)| *number == self.number);
        known.map_or_else(
            || format!("call {}", self.number),
            |(_, name, _)| (*name).to_owned(),
        )
    }

    /// Whether it sends a signal.
    pub fn sends(&self) -> bool {
        matches!(self.number, libc::SYS_kill | libc::SYS_pidfd_send_signal) && self.args[1] != 0
    }

    /// The argument that holds the address of a path.
    pub fn path(&self) -> Option<u64> {
        match self.number {
            libc::SYS_openat | libc::SYS_newfstatat | libc::SYS_readlinkat | libc::SYS_statx => {
                Some(self.args[1])
            }
            libc::SYS_statfs | libc::SYS_readlink => Some(self.args[0]),
            _ => None,
        }
    }
}

/// One fault in one run.
#[derive(Clone, Copy)]
pub struct Case {
    /// The first call that may fail, counted from 0. If it cannot fail like this, the next one that
    /// can.
    pub position: usize,
    pub errno: Errno,
    pub mode: Mode,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            position,
            errno,
            mode,
        } = self;
        write!(f, "{position}:{errno:?}:{mode:?}")
    }
}

impl Case {
    /// Whether the function must succeed, however busy the machine is.
    pub fn is_harmless(&self) -> bool {
        self.errno == EINTR || matches!(self.mode, Mode::Late | Mode::Death)
    }

    /// Whether the failure does not last.
    pub fn passes(&self) -> bool {
        !matches!(self.mode, Mode::Onward | Mode::Chance)
            && self.errno != EPERM
            && self.errno != ENOSYS
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Case> {
        let mut fields = text.split(':');
        let (position, errno, mode) = (fields.next()?, fields.next()?, fields.next()?);
        let errnos = (0..200).map(Errno::from_raw).chain([NO_ERRNO]);
        Some(Case {
            position: position.parse().ok()?,
            errno: errnos.into_iter().find(|e| format!("{e:?}") == errno)?,
            mode: Mode::parse(mode)?,
        })
    }
}

/// Every case of a function that made these calls, each with its words. Of calls that are repeated
/// again and again, only the first ones count.
pub fn cases(calls: &[(Call, String)]) -> Vec<Case> {
    const REPEATED: usize = 6;
    /// A late call costs time.
    const STRIDE: usize = 11;
    const SEEDS: usize = 200;
    // Not a `HashMap`: its keys are random, and the first one in a thread asks the kernel for them.
    // The subjects are forks of this thread, and must make the same calls as the first one.
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (position, (call, words)) in calls.iter().enumerate() {
        let times = seen.entry(words).or_default();
        *times += 1;
        if *times > REPEATED {
            continue;
        }
        for mode in Mode::ALL {
            if mode == Mode::Chance || (mode == Mode::Late && position % STRIDE != 0) {
                continue;
            }
            let faults = call.faults(mode).into_iter();
            cases.extend(faults.map(|errno| Case {
                position,
                errno,
                mode,
            }));
        }
    }
    cases.extend((0..SEEDS).map(|position| Case {
        position,
        errno: NO_ERRNO,
        mode: Mode::Chance,
    }));
    cases
}

//! The fork counter: the number of the newest process or thread in the caller's PID namespace.
//!
//! It works as a sequence lock over the process table. Every clone(2) moves it: of a process or a
//! thread, in child namespaces too. If a search reads the same value before and after itself,
//! nothing was born into the table meanwhile.
//!
//! If it moved by a few, a look at just those numbers may explain it. A number that belongs to a
//! stranger is explained. A number that is gone again is not, because its process may have left a
//! child.
//!
//! The kernel takes a number before it lists the process anywhere. So the counter proves nothing
//! about a fork that is under way. The members of a tree must be seen stopped first.
//!
//! After the highest number the kernel starts again at low ones. If enough time for a whole lap has
//! passed between two values, they prove nothing about a single number.
//!
//! clone3(2) with `set_tid` is not counted: it chooses the number itself (CRIU does that, as root).

use std::io;
use std::time::{Duration, Instant};

use super::super::sys::Pid;
use super::stat::{Stat, TICK};
use super::{Proc, field, is_absent, number};

/// What the counter showed; `None`: the kernel does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Newest(Option<Shown>);

#[derive(Clone, Copy, Debug)]
struct Shown {
    number: u32,
    at: Instant,
    /// About how many numbers there are (`pid_max`).
    most: u32,
    /// How many forks there were since boot on the whole machine, if that was read.
    forks: Option<u64>,
}

/// A fork takes longer on any machine, because all forks take turns for the number.
const FASTEST_FORK: Duration = Duration::from_micros(1);

impl Shown {
    /// Whether so many forks were possible since an earlier value that every number was given out.
    /// Numbers in use are left out, so a part of all numbers is enough.
    fn may_be_a_lap_after(self, earlier: Shown) -> bool {
        let forks = self.forks.zip(earlier.forks);
        let is_too_soon =
            self.at.saturating_duration_since(earlier.at) < FASTEST_FORK.saturating_mul(self.most);
        !is_too_soon
            && forks.is_none_or(|(now, then)| now.wrapping_sub(then) >= u64::from(self.most / 4))
    }
}

impl Newest {
    /// Counts as a counter that moves all the time.
    pub(crate) const UNKNOWN: Newest = Newest(None);

    pub(crate) fn is_unknown(self) -> bool {
        self.0.is_none()
    }

    /// Whether a number may have been given out between an earlier value and this one.
    pub(crate) fn may_include(self, earlier: Newest, number: Pid) -> bool {
        let both = earlier.0.zip(self.0);
        both.is_none_or(|(then, now)| {
            // Smaller: the numbers have begun anew.
            now.may_be_a_lap_after(then)
                || now.number < then.number
                || (then.number + 1..=now.number).contains(&number.get())
        })
    }

    /// Whether a number may have been given out within a clock tick after an earlier value.
    pub(crate) fn may_include_soon(self, earlier: Newest, number: Pid) -> bool {
        let Some((then, now)) = earlier.0.zip(self.0) else {
            return true;
        };
        let possible = TICK.as_micros() / FASTEST_FORK.as_micros();
        let steps = number.get().checked_sub(then.number).map(u128::from);
        // Smaller: the numbers have begun anew.
        now.number < then.number || steps.is_some_and(|steps| (1..=possible).contains(&steps))
    }

    /// Whether no number was given out since an earlier value.
    pub(crate) fn is_still(self, earlier: Newest) -> bool {
        let numbers = self.0.zip(earlier.0);
        numbers
            .is_some_and(|(now, then)| now.number == then.number && !now.may_be_a_lap_after(then))
    }

    /// The number of the newest process or thread, which may be gone by now.
    pub(crate) fn pid(self) -> Option<Pid> {
        Pid::new(self.0?.number)
    }
}

impl Proc {
    pub(crate) fn newest(&self) -> io::Result<Newest> {
        /// With fewer numbers than this they begin anew so soon that the counter can show the same
        /// value after a whole lap.
        const FEWEST: u32 = 32768;
        let mut buf = Vec::new();
        let most = self.most_pids(&mut buf)?;
        if most < FEWEST {
            return Ok(Newest::UNKNOWN);
        }
        // ns_last_pid: Linux 3.3, CONFIG_CHECKPOINT_RESTORE. loadavg: the last field, since Linux
        // 2.4; lxcfs may have mounted a file of its own there.
        for path in ["sys/kernel/ns_last_pid", "loadavg"] {
            match self.load_if_procfs(path, &mut buf) {
                Ok(true) => {
                    let last = buf.trim_ascii().rsplit(|&b| b == b' ').next();
                    let shown = |number| Shown {
                        number,
                        at: Instant::now(),
                        most,
                        forks: None,
                    };
                    return Ok(Newest(last.and_then(number).map(shown)));
                }
                Ok(false) => {}
                Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Newest(None))
    }

    /// As [`Proc::newest`], and counts the forks, so that a later value tells whether all numbers were
    /// given out in between.
    pub(crate) fn newest_and_forks(&self) -> io::Result<Newest> {
        let Newest(mut shown) = self.newest()?;
        if let Some(shown) = &mut shown {
            shown.forks = self.forks()?;
        }
        Ok(Newest(shown))
    }

    /// As [`Proc::newest`]. Counts the forks too if that is needed to compare it with an earlier value.
    pub(crate) fn newest_after(&self, earlier: Newest) -> io::Result<Newest> {
        let now = self.newest()?;
        match earlier.0.zip(now.0) {
            Some((then, now)) if now.may_be_a_lap_after(then) => self.newest_and_forks(),
            _ => Ok(now),
        }
    }

    /// proc_stat(5) `processes`; `None`: /proc does not tell.
    fn forks(&self) -> io::Result<Option<u64>> {
        let mut stat = Vec::new();
        match self.load_all(self.base(), format_args!("stat"), &mut stat) {
            Ok(()) => Ok(field(&stat, b"processes ").and_then(|n| number(n.trim_ascii()))),
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// /proc/sys/kernel/pid_max, read once. If it cannot be read, there are enough.
    fn most_pids(&self, buf: &mut Vec<u8>) -> io::Result<u32> {
        if let Some(most) = self.most_pids.get() {
            return Ok(most);
        }
        let most = match self.load_if_procfs("sys/kernel/pid_max", buf) {
            Ok(_) => number(buf.trim_ascii()).unwrap_or(u32::MAX),
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => u32::MAX,
            Err(e) => return Err(e),
        };
        self.most_pids.set(Some(most));
        Ok(most)
    }

    /// Whether every process that was born since is a stranger and still there, and there were few.
    /// `is_stranger` decides about each.
    pub(crate) fn only_strangers_since(
        &self,
        since: Newest,
        mut is_stranger: impl FnMut(Pid, &Stat<'_>) -> io::Result<bool>,
    ) -> io::Result<bool> {
        const FEW: u32 = 64;
        let Some((then, now)) = since.0.zip(self.newest_after(since)?.0) else {
            return Ok(false);
        };
        if now.may_be_a_lap_after(then) {
            return Ok(false);
        }
        let mut seen = then.number;
        let mut buf = Vec::new();
        let mut left = FEW;
        loop {
            let Some(newest) = self.newest()?.pid().map(Pid::get) else {
                return Ok(false);
            };
            if newest == seen {
                return Ok(true);
            }
            // After the highest number the kernel starts again at low ones. Then `newest` is
            // smaller.
            let Some(rest) = newest
                .checked_sub(seen)
                .and_then(|born| left.checked_sub(born))
            else {
                return Ok(false);
            };
            for born in (seen + 1..=newest).filter_map(Pid::new) {
                let Some(pid) = self.process(born).thread_group()? else {
                    return Ok(false);
                };
                match self.process(pid).stat(&mut buf)? {
                    Some(stat) if is_stranger(pid, &stat)? => {}
                    _ => return Ok(false),
                }
            }
            (left, seen) = (rest, newest);
        }
    }
}

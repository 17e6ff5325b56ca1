//! proc_pid_stat(5): the line of a process or thread, and everything that interprets its state
//! letter.
//!
//! A process ends in two steps. Its leader may exit first: the state is `Z` while
//! [`threads`](Stat::threads) is above 1, and the process runs on. When no other thread is left, it
//! is a zombie, and gone. A line with 0 threads was read while its task was released. It says
//! nothing; see [`whole`].

use std::io;
use std::time::Duration;

use super::super::sys;
use super::{malformed, number};

/// Start times are in clock ticks, rounded down.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The fields of proc_pid_stat(5) that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    /// Field 2, without its parentheses. It may hold any bytes.
    pub(crate) name: &'a [u8],
    /// Field 3.
    pub(crate) state: char,
    /// Field 4. In this and the next two, 0 means: none in this PID namespace.
    pub(crate) parent: u32,
    /// Field 5.
    pub(crate) group: u32,
    /// Field 6.
    pub(crate) session: u32,
    /// Field 9.
    flags: u32,
    /// Field 20; 0 if the task was released during the read.
    pub(crate) threads: u32,
    /// Field 22, in clock ticks after boot.
    pub(crate) start_time: u64,
    /// Field 26. 1: the reader may not know it. 0: execve(2) has not set it yet.
    start_code: u64,
    /// Field 51, which execve(2) sets last. 0 also if the reader may not know it; 1 if the kernel
    /// does not tell.
    pub(crate) env_end: u64,
}

impl<'a> Stat<'a> {
    /// `None`: not a line that the kernel writes.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Stat<'a>> {
        let open = line.iter().position(|&b| b == b'(')?;
        // The last parenthesis, because the name may hold parentheses, blanks and newlines.
        let close = line.iter().rposition(|&b| b == b')')?;
        let name = line.get(open + 1..close)?;
        let mut fields = line[close + 1..].trim_ascii().split(|&b| b == b' ');
        let state = char::from(*fields.next()?.first()?);
        // Group and session are -1 while the process is being reaped.
        let relative = |id: &[u8]| Some(u32::try_from(number::<i64>(id)?).unwrap_or(0));
        let parent = relative(fields.next()?)?;
        let group = relative(fields.next()?)?;
        let session = relative(fields.next()?)?;
        let flags = number(fields.nth(2)?)?;
        let threads = number(fields.nth(10)?)?;
        let start_time = number(fields.nth(1)?)?;
        // Kernels before Linux 3.5 do not have the later fields.
        let start_code = fields.nth(3).and_then(number).unwrap_or(1);
        let env_end = fields.nth(24).and_then(number).unwrap_or(1);
        Some(Stat {
            name,
            state,
            parent,
            group,
            session,
            flags,
            threads,
            start_time,
            start_code,
            env_end,
        })
    }

    /// Whether the leader has exited. Other threads may live on.
    pub(crate) fn leader_exited(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether it is a zombie without other threads, and so gone.
    pub(crate) fn is_zombie(&self) -> bool {
        self.leader_exited() && self.threads <= 1
    }

    /// Whether the leader has exited, or is exiting, while other threads may run. Then they have
    /// the texts and links.
    pub(crate) fn has_left(&self) -> bool {
        self.leader_exited() || (self.is_exiting() && self.threads > 1)
    }

    pub(crate) fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it was forked and has not called execve(2) yet.
    pub(crate) fn is_before_exec(&self) -> bool {
        const PF_FORKNOEXEC: u32 = 0x40;
        self.flags & PF_FORKNOEXEC != 0
    }

    /// The time since it started, to the clock tick.
    pub(crate) fn age(&self) -> io::Result<Duration> {
        Ok(sys::since_boot()?.saturating_sub(self.started()))
    }

    /// When it started, as the time since boot, to the clock tick.
    pub(crate) fn started(&self) -> Duration {
        let ticks = sys::ticks_per_second();
        let (seconds, rest) = (self.start_time / ticks, self.start_time % ticks);
        Duration::from_secs(seconds) + Duration::from_millis(rest * 1000 / ticks)
    }

    /// `moment` is a time since boot.
    pub(crate) fn may_have_started_since(&self, moment: Duration) -> bool {
        self.started().saturating_add(TICK) >= moment
    }

    /// As [`Stat::may_have_started_since`], without a doubt.
    pub(crate) fn has_started_since(&self, moment: Duration) -> bool {
        self.started() >= moment
    }

    pub(crate) fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 0x4;
        self.flags & PF_EXITING != 0
    }

    /// Whether it is in execve(2), between the new memory map and its arguments: `cmdline` and
    /// `environ` read empty.
    pub(crate) fn is_in_exec(&self) -> bool {
        self.start_code != 1 && self.env_end == 0
    }
}

/// How still a process or thread is, the stillest first.
///
/// | state | letters | forks |
/// |---|---|---|
/// | `Gone` | none: there is no such task, or the process is a zombie | no |
/// | `Stopped` | `T`, and a dead thread's `Z` and `X` | no |
/// | `Traced` | `t` | if its tracer continues it |
/// | `Uninterruptible` | `D` | it may be in a fork, which SIGSTOP does not abort |
/// | `Running` | all others | yes |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stillness {
    Gone,
    Stopped,
    Traced,
    Uninterruptible,
    Running,
}

impl Stillness {
    /// By the state of proc_pid_stat(5) field 3.
    pub(crate) fn of(state: char) -> Stillness {
        match state {
            'T' | 'Z' | 'X' | 'x' => Stillness::Stopped,
            't' => Stillness::Traced,
            'D' => Stillness::Uninterruptible,
            _ => Stillness::Running,
        }
    }
}

/// Parses a line. `None`: the task was released during the read. It was reaped, or a thread has
/// taken its place and number in execve(2). Another look tells which.
pub(crate) fn whole(line: &[u8]) -> io::Result<Option<Stat<'_>>> {
    let stat = Stat::parse(line).ok_or_else(malformed)?;
    Ok((stat.threads > 0).then_some(stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as Linux 6.18 writes it, for a process of this name.
    fn line(name: &[u8]) -> Vec<u8> {
        let mut line = b"4321 (".to_vec();
        line.extend_from_slice(name);
        line.extend_from_slice(
            b") S 1234 1230 1229 34816 4321 4194560 120 0 3 0 5 6 0 0 20 0 7 0 987654 \
              5869568 402 18446744073709551615 94112 94113 140735 0 0 0 0 4 0 0 0 0 17 1 0 0 0 0 0 \
              94114 94115 94116 140736 140737 140738 140739 0\n",
        );
        line
    }

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let line = line(b"cat");
        let expected = Stat {
            name: b"cat",
            state: 'S',
            parent: 1234,
            group: 1230,
            session: 1229,
            flags: 4194560,
            threads: 7,
            start_time: 987654,
            start_code: 94112,
            env_end: 140739,
        };
        assert_eq!(Stat::parse(&line), Some(expected));
    }

    #[test]
    fn a_name_cannot_pass_for_the_fields_behind_it() {
        let names: [&[u8]; 9] = [
            b"",
            b" ",
            b")",
            b"(",
            b"))) R 1 (((",
            b"a) R 1 1 1 1 1 1",
            b"\n",
            b"x\n1 (y) Z 1",
            b"\xff\xfe) \x80",
        ];
        let plain = line(b"cat");
        let plain = Stat::parse(&plain).unwrap();
        for name in names {
            let line = line(name);
            assert_eq!(Stat::parse(&line), Some(Stat { name, ..plain }));
        }
    }

    #[test]
    fn a_line_cut_off_is_no_line_until_the_start_time_is_in_it() {
        let whole = line(b"a) (b");
        let needed = whole.windows(6).position(|w| w == b"987654").unwrap();
        for end in 0..whole.len() {
            let stat = Stat::parse(&whole[..end]);
            assert_eq!(stat.is_some(), end > needed, "{end}");
            if end >= needed + 6 {
                assert_eq!(stat.unwrap().start_time, 987654);
            }
        }
    }

    /// Linux before 3.5 has 44 fields. A reader that may not trace the process sees 0 and 1.
    #[test]
    fn what_is_not_told_does_not_look_like_an_exec() {
        let whole = line(b"cat");
        let short: Vec<&[u8]> = whole.split(|&b| b == b' ').take(44).collect();
        assert!(!Stat::parse(&short.join(&b' ')).unwrap().is_in_exec());
        assert!(!Stat::parse(&whole).unwrap().is_in_exec());
        let mut fields: Vec<&[u8]> = whole.split(|&b| b == b' ').collect();
        fields[51 - 1] = b"0";
        assert!(Stat::parse(&fields.join(&b' ')).unwrap().is_in_exec());
        fields[26 - 1] = b"1";
        assert!(!Stat::parse(&fields.join(&b' ')).unwrap().is_in_exec());
    }

    #[test]
    fn numbers_of_a_process_that_is_being_reaped_are_none() {
        let whole = line(b"cat");
        let mut fields: Vec<&[u8]> = whole.split(|&b| b == b' ').collect();
        (fields[4], fields[5], fields[19]) = (b"-1", b"-1", b"0");
        let text = fields.join(&b' ');
        let stat = Stat::parse(&text).unwrap();
        assert_eq!((stat.group, stat.session, stat.threads), (0, 0, 0));
        assert_eq!(super::whole(&text).unwrap(), None);
    }

    #[test]
    fn a_leader_that_has_exited_is_a_zombie_only_without_threads() {
        let whole = line(b"cat");
        let plain = Stat::parse(&whole).unwrap();
        for (state, threads, exited, zombie) in [
            ('S', 1, false, false),
            ('Z', 2, true, false),
            ('Z', 1, true, true),
            ('X', 1, true, true),
            ('t', 1, false, false),
        ] {
            let stat = Stat {
                state,
                threads,
                ..plain
            };
            assert_eq!((stat.leader_exited(), stat.is_zombie()), (exited, zombie));
        }
    }

    #[test]
    fn garbage_is_no_line() {
        let lines: [&[u8]; 12] = [
            b"",
            b"(",
            b")",
            b")(",
            b"()",
            b"1 (cat)",
            b"1 (cat) ",
            b"1 (cat) S",
            b"1 (cat) S 1 1 1 0 -1 x 0 0 0 0 0 0 0 0 20 0 1 0 5",
            b"1 (cat) S x 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5",
            b"1 (cat) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 18446744073709551616",
            b"1 (cat) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 -1 0 5",
        ];
        for line in lines {
            assert_eq!(Stat::parse(line), None, "{}", line.escape_ascii());
        }
        // The bytes that matter, in any order.
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let length = random.usize(..80);
            let line: Vec<u8> = (0..length)
                .map(|_| *random.choice(b"() \n-0123456789SZ\xff").unwrap())
                .collect();
            if let Some(stat) = Stat::parse(&line) {
                assert!(
                    line.windows(stat.name.len()).any(|w| w == stat.name) || stat.name.is_empty()
                );
            }
        }
    }
}

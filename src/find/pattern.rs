//! What `pgrep -f` matches: patterns, and command lines as it shows them.

use std::ffi::{CStr, CString};
use std::io;

use super::super::error::{Error, Result};
use super::super::proc::{self, Proc, Reading, Stat, Text};
use super::super::sys::{self, Pid};
use super::pattern_bounds::{Bounds, is_bounded};

/// The processes whose command line matches a POSIX extended regular expression (regex(7)),
/// ascending, without the caller: the answer of `pgrep -f`, without running it.
///
/// The command line is the arguments joined by one space, without the empty ones at its end. If
/// nothing is left, as for kernel threads, zombies and programs that cleared it, it is the process
/// name in brackets. A pattern that starts with `-` is a pattern.
///
/// The syntax is that of `grep -E`, not that of Perl or the crate `regex`. `\d` is no digit (glibc
/// takes it for the letter `d`): write `[0-9]`. There is no `(?i)` and no `*?`.
///
/// These differ from `pgrep -f`: bytes are taken as they are (pgrep replaces newlines and bytes
/// that are not UTF-8, and marks zombies). A command line may have any length. If the leader has
/// exited, a live thread has the command line. The empty pattern is refused.
///
/// These are the same: what the caller may not read is left out, and the locale of the calling
/// program (setlocale(3)) decides what a character is. With musl and a UTF-8 locale, a byte that is
/// no character is taken as U+FFFD. Each C library refuses other patterns: musl has no `{,2}` and no
/// collating symbols.
///
/// Do not take patterns from strangers: nested repeats, anchors in a row and back-references can
/// take regcomp(3) and regexec(3) very long. If a process is stuck in the kernel while it holds its
/// memory map, reading its command line blocks the reader, as it blocks ps(1).
///
/// # Errors
/// `Pattern`: empty; with a NUL; refused by regcomp(3), whose words are in the text; or so large
/// that regcomp could overflow the stack or exhaust the memory: more than 8192 characters with its
/// intervals written out, with 64 for an anchor and 256 for `\b`, or parentheses 256 deep. With
/// musl: more than 4096, with 2 for each byte in brackets (4 if negated). A pattern without
/// metacharacters may have any length. `Proc`: /proc cannot be used. `Io`: reading it failed.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("61.5").spawn()?;
/// assert_eq!(process_kill::pids_matching("^sleep 61[.]5$")?, [child.id()]);
/// # process_kill::sigkill_pids_and_verify(&[child.id()])?;
/// # child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pids_matching(pattern: &str) -> Result<Vec<u32>> {
    let found = Pattern::new(pattern)?.find(&Proc::open()?)?;
    Ok(found.into_iter().map(Pid::get).collect())
}

/// Turns /proc/PID/cmdline into what pgrep shows. `stat` is read if nothing is left.
pub(crate) fn join_arguments(line: &mut Vec<u8>, stat: &[u8]) {
    let end = line
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    line.truncate(end);
    for byte in line.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    if line.is_empty() {
        let name = Stat::parse(stat).map_or(&b""[..], |stat| stat.name);
        line.push(b'[');
        line.extend_from_slice(name);
        line.push(b']');
    }
}

/// Whether a process matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Yes,
    No,
    /// It stayed in execve(2) until the patience was used up.
    Unsure,
}

/// Buffers that are used again for each process.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(super) line: Vec<u8>,
    pub(super) stat: Vec<u8>,
}

pub(crate) enum Pattern {
    /// A pattern without metacharacters.
    Literal(CString),
    Regex(sys::Regex),
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Result<Pattern> {
        if pattern.is_empty() {
            return Err(Error::pattern(
                "it is empty and would match everyone".into(),
            ));
        }
        let Ok(text) = CString::new(pattern) else {
            return Err(Error::pattern("it holds a NUL".into()));
        };
        if !pattern.contains(METACHARACTERS) {
            return Ok(Pattern::Literal(text));
        }
        const BOUNDS: Bounds = Bounds::HERE;
        if !is_bounded(pattern.as_bytes(), BOUNDS) {
            return Err(Error::pattern(format!(
                "larger than {} with its repeats written out, or nested deeper than {}",
                BOUNDS.largest, BOUNDS.deepest
            )));
        }
        let words = |words| Error::pattern(format!("{pattern}: {words}"));
        sys::Regex::new(&text).map(Pattern::Regex).map_err(words)
    }

    /// Every process that matches, without the caller, ascending.
    fn find(&self, proc: &Proc) -> Result<Vec<Pid>> {
        let mut buffers = Buffers::default();
        let mut found = Vec::new();
        proc.begin_scan();
        for pid in proc::visible(proc)? {
            if pid == proc.caller() {
                continue;
            }
            let matches = self.matches_process(pid, proc, &mut buffers);
            if proc::readable(pid, matches.map(Some))? == Some(Match::Yes) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    pub(crate) fn matches_process(
        &self,
        pid: Pid,
        proc: &Proc,
        Buffers { line, stat }: &mut Buffers,
    ) -> io::Result<Match> {
        match proc.process(pid).text(Text::Arguments, line, stat)? {
            Reading::Absent => return Ok(Match::No),
            Reading::Unsettled => return Ok(Match::Unsure),
            Reading::Settled => {}
        }
        join_arguments(line, stat);
        Ok(match self.matches(line)? {
            true => Match::Yes,
            false => Match::No,
        })
    }

    pub(crate) fn matches(&self, line: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Pattern::Literal(text) => Ok(sys::memmem(line, text)),
            Pattern::Regex(regex) => {
                line.push(0);
                let line = CStr::from_bytes_until_nul(line).map_err(io::Error::other)?;
                regex.is_match(line)
            }
        }
    }
}

const METACHARACTERS: [char; 14] = [
    '\\', '.', '[', ']', '(', ')', '{', '}', '*', '+', '?', '^', '$', '|',
];

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(line: &[u8], stat: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        join_arguments(&mut line, stat);
        line
    }

    #[test]
    fn arguments_are_joined_as_pgrep_does() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"a\0", b"a"),
            (b"a", b"a"),
            (b"a\0b\0", b"a b"),
            (b"a\0\0b\0", b"a  b"),
            (b"\0a\0", b" a"),
            (b"a\0\0\0\0", b"a"),
            (b"a \0", b"a "),
            (b"a\n\xff\0\t\0", b"a\n\xff \t"),
            (b" \0\0", b" "),
        ];
        for (line, expected) in cases {
            assert_eq!(joined(line, b"not looked at"), expected, "{line:?}");
        }
    }

    #[test]
    fn where_nothing_is_left_the_name_is_in_brackets() {
        let stat = |name: &[u8]| {
            let mut stat = b"7 (".to_vec();
            stat.extend_from_slice(name);
            stat.extend_from_slice(b") S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0");
            stat
        };
        for name in [&b"cat"[..], b"a) S (b", b"\n\xff", b"", b"  "] {
            for line in [&b""[..], b"\0", b"\0\0\0"] {
                assert_eq!(joined(line, &stat(name)), [b"[", name, b"]"].concat());
            }
        }
        assert_eq!(joined(b"", b"no stat"), b"[]");
    }

    #[test]
    fn a_pattern_without_metacharacters_matches_as_regcomp_has_it() {
        let mut random = fastrand::Rng::with_seed(14);
        let mut text = |longest| -> String {
            let mut any = || match random.u8(..4) {
                0 => char::from(random.u8(1..128)),
                _ => char::from(random.u8(b'a'..=b'c')),
            };
            (0..longest).map(|_| any()).collect()
        };
        let (mut literal, mut matched) = (0, 0);
        for _ in 0..20_000 {
            let (pattern, line) = (text(2), text(12));
            let Ok(found @ Pattern::Literal(_)) = Pattern::new(&pattern) else {
                continue;
            };
            literal += 1;
            let regex = sys::Regex::new(&CString::new(&*pattern).unwrap()).unwrap();
            let regex = Pattern::Regex(regex);
            let mut line = line.into_bytes();
            let by_regex = regex.matches(&mut line.clone()).unwrap();
            let by_memmem = found.matches(&mut line).unwrap();
            assert_eq!(by_memmem, by_regex, "{pattern:?} {line:?}");
            matched += u32::from(by_memmem);
        }
        assert!(literal > 10_000 && matched > 1000, "{literal} {matched}");
    }

    /// Tries each ASCII character: does it mean something to regcomp in a pattern?
    #[test]
    fn every_metacharacter_is_known() {
        for byte in 1..127_u8 {
            let c = char::from(byte);
            let means_itself = |pattern: &str, line: &str, expected| {
                let pattern = CString::new(pattern).unwrap();
                let line = CString::new(line).unwrap();
                sys::Regex::new(&pattern)
                    .is_ok_and(|regex| regex.is_match(&line).unwrap() == expected)
            };
            let plain = means_itself(&format!("x{c}"), &format!("ax{c}b"), true)
                && means_itself(&format!("x{c}"), "x", false)
                && means_itself(&format!("x{c}y"), "x\x7fy", false);
            // Closing characters mean something only after their opening ones.
            if !matches!(c, ']' | '}' | ')') {
                assert_eq!(plain, !METACHARACTERS.contains(&c), "{c:?}");
            }
        }
    }
}

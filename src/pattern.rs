//! What pgrep -f matches: patterns, and command lines as it shows them.

use std::ffi::{CStr, CString};
use std::io;

use super::error::{Error, Result};
use super::proc::{self, Proc, Stat};
use super::sys::{self, Pid};

/// Makes of /proc/PID/cmdline what pgrep shows; `stat` is looked at if nothing is left.
pub(super) fn join_arguments(line: &mut Vec<u8>, stat: &[u8]) {
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

pub(super) enum Pattern {
    /// Without metacharacters.
    Literal(CString),
    Regex(sys::Regex),
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Result<Pattern> {
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
        if !is_bounded(pattern.as_bytes()) {
            return Err(Error::pattern(format!(
                "larger than {LARGEST} with its repeats written out, or nested deeper than {DEEPEST}"
            )));
        }
        let words = |words| Error::pattern(format!("{pattern}: {words}"));
        sys::Regex::new(&text).map(Pattern::Regex).map_err(words)
    }

    /// Every process that matches but the caller, ascending.
    pub(super) fn find(&self, proc: &mut Proc) -> Result<Vec<Pid>> {
        let (mut line, mut stat) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for pid in proc::visible(proc)? {
            if pid.is_caller() {
                continue;
            }
            let matches = self.matches_process(pid, proc, &mut line, &mut stat);
            if proc::readable(pid, matches.map(Some))? == Some(true) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    pub(super) fn matches_process(
        &self,
        pid: Pid,
        proc: &mut Proc,
        line: &mut Vec<u8>,
        stat: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if !proc.settled(pid, "cmdline", line, stat)? {
            return Ok(false);
        }
        join_arguments(line, stat);
        self.matches(line)
    }

    pub(super) fn matches(&self, line: &mut Vec<u8>) -> io::Result<bool> {
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

/// What glibc's regcomp may be given. It recurses once for each open parenthesis and for each part in
/// a row that may match nothing, and copies what an interval or a `+` repeats: `(a?){1,30000}` and
/// `a{1,200}{1,200}` overflow a stack of 2 MiB, thirty `+` in a row exhaust the memory. Within these
/// bounds it takes less than half a MiB of stack.
const LARGEST: usize = 8192;
const DEEPEST: usize = 256;

/// What a part that may match nothing adds to the size of a pattern; a character adds 1.
const HOP: usize = 8;

/// What an anchor adds, and one that is two alternatives to regcomp: a thousand `$` in a row or 64 `\b`
/// take it gigabytes.
const ANCHOR: usize = 64;
const BOUNDARY: usize = 256;

/// Whether a pattern stays within [`LARGEST`] and [`DEEPEST`]. It need not be a correct one.
fn is_bounded(pattern: &[u8]) -> bool {
    // The size of each open group, and of the atom in the innermost that a repeat would copy.
    let mut open = vec![0_usize];
    let mut atom = 0_usize;
    let mut rest = pattern;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let mut copies = None;
        let mut grown = 1;
        match byte {
            b'(' => {
                open.push(0);
                grown = HOP;
            }
            b')' if open.len() > 1 => grown = open.pop().unwrap_or_default(),
            b'^' | b'$' => grown = ANCHOR,
            b'*' | b'?' => copies = Some(1),
            // One that must be there, and a starred one.
            b'+' => copies = Some(2),
            b'{' => (copies, rest) = interval(rest),
            b'[' => rest = after_bracket(rest),
            b'\\' => {
                grown = match rest.first() {
                    Some(b'b' | b'B') => BOUNDARY,
                    Some(b'<' | b'>' | b'`' | b'\'') => ANCHOR,
                    _ => HOP,
                };
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
        match copies {
            Some(copies) => {
                let repeated = atom.saturating_add(HOP).saturating_mul(copies);
                grown = repeated - atom;
                atom = repeated;
            }
            None => atom = grown,
        }
        if let Some(size) = open.last_mut() {
            *size = size.saturating_add(grown);
        }
        let total = open
            .iter()
            .fold(0_usize, |sum, &size| sum.saturating_add(size));
        if total > LARGEST || open.len() > DEEPEST {
            return false;
        }
    }
    true
}

/// How many copies an interval makes whose `{` has been read, and what follows it; `None` if it is
/// none.
fn interval(bounds: &[u8]) -> (Option<usize>, &[u8]) {
    let end = bounds
        .iter()
        .position(|&b| !b.is_ascii_digit() && b != b',')
        .filter(|&end| bounds[end] == b'}');
    let Some(end) = end else {
        return (None, bounds);
    };
    let (bounds, tail) = (&bounds[..end], &bounds[end + 1..]);
    // A number that is too large for usize is for regcomp to refuse.
    let copies = |bound: &[u8]| proc::number::<usize>(bound).unwrap_or(0);
    let copies = match bounds.iter().position(|&b| b == b',') {
        None => copies(bounds),
        Some(comma) if comma + 1 == bounds.len() => copies(&bounds[..comma]).saturating_add(1),
        Some(comma) => copies(&bounds[..comma]).max(copies(&bounds[comma + 1..])),
    };
    (Some(copies.max(1)), tail)
}

/// What follows a bracket expression whose `[` has been read.
fn after_bracket(expression: &[u8]) -> &[u8] {
    let mut rest = expression.strip_prefix(b"^").unwrap_or(expression);
    // A bracket that comes first is a member.
    rest = rest.strip_prefix(b"]").unwrap_or(rest);
    loop {
        rest = match rest {
            [] => return rest,
            [b']', tail @ ..] => return tail,
            [b'[', class @ (b':' | b'.' | b'='), tail @ ..] => {
                let end = tail.windows(2).position(|pair| pair == [*class, b']']);
                end.map_or(&[][..], |end| &tail[end + 2..])
            }
            [_, tail @ ..] => tail,
        };
    }
}

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
    fn a_bracket_expression_ends_where_it_ends() {
        for (expression, rest) in [
            ("a]x", "x"),
            ("]]x", "x"),
            ("^]]x", "x"),
            ("]x", ""),
            ("^]x", ""),
            ("[:alpha:]]x", "x"),
            ("^[:alpha:]b]x", "x"),
            ("[.].]]x", "x"),
            ("[=]=]]x", "x"),
            ("[:]x", ""),
            ("[a]x", "x"),
            ("(]x", "x"),
            ("\\]x", "x"),
            ("a-[.].]]x", "x"),
            ("^", ""),
            ("", ""),
        ] {
            let found = after_bracket(expression.as_bytes());
            assert_eq!(found, rest.as_bytes(), "[{expression}");
        }
    }

    #[test]
    fn only_what_regcomp_can_take_is_bounded() {
        for pattern in [
            "",
            "a",
            "^sleep 61[.]5$",
            r"^(/usr)?/bin/(a|b)+ .*[[:space:]]--x=[0-9]{1,3}(\.[0-9]{1,3}){3}$",
            "a{1,800}",
            "(a{1,9}){1,80}",
            "a{1}{1}{1}",
            "[(](((",
            ")))",
            "{{{",
            r"\(\(",
            "a{,}",
            "a{x}",
        ] {
            assert!(is_bounded(pattern.as_bytes()), "{pattern}");
        }
        assert!(is_bounded(&b"a|".repeat(4000)));
        assert!(is_bounded(&[b"(".repeat(255), b")".repeat(255)].concat()));
        // In brackets and behind a backslash they repeat nothing.
        assert!(is_bounded(&b"[+*?{()]".repeat(1000)));
        assert!(is_bounded(&b"\\+".repeat(1000)));
        for pattern in [
            "a{8193}",
            "(a?){1,30000}",
            "((a{1,100}){1,100}){1,100}",
            "a{1,200}{1,200}",
            "a{10,}{10,}{10,}{10,}",
            "a++++++++++++++++++++++++++++++",
            "a{18446744073709551615}",
            "(a{4294967296}){4294967296}",
        ] {
            assert!(!is_bounded(pattern.as_bytes()), "{pattern}");
        }
        for part in ["a?", "()", "(a)", "^", "$", "a*", r"\1", "a{1}", "[a]b?"] {
            assert!(!is_bounded(&part.repeat(4100).into_bytes()), "{part}");
        }
        assert!(!is_bounded(&b"a".repeat(8193)));
        assert!(!is_bounded(&b"(".repeat(256)));
        let nested = |n| [b"(".repeat(n), b"a".to_vec(), b")+".repeat(n)].concat();
        assert!(is_bounded(&nested(7)));
        assert!(!is_bounded(&nested(20)));
    }

    #[test]
    fn an_interval_makes_so_many_copies() {
        for (text, copies, rest) in [
            ("3}x", Some(3), "x"),
            ("2,5}x", Some(5), "x"),
            (",5}", Some(5), ""),
            ("5,}", Some(6), ""),
            ("0}", Some(1), ""),
            ("0,}", Some(1), ""),
            (",}", Some(1), ""),
            ("}", Some(1), ""),
            ("5,2}", Some(5), ""),
            ("3", None, "3"),
            ("(}", None, "(}"),
            ("1,(}", None, "1,(}"),
            ("", None, ""),
        ] {
            assert_eq!(
                interval(text.as_bytes()),
                (copies, rest.as_bytes()),
                "{text}"
            );
        }
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

    /// Each ASCII character that means something to regcomp in a pattern.
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
            // Closing ones mean something only after their opening ones.
            if !matches!(c, ']' | '}' | ')') {
                assert_eq!(plain, !METACHARACTERS.contains(&c), "{c:?}");
            }
        }
    }
}

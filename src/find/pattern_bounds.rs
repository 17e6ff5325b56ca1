//! Which patterns regcomp(3) can compile without overflowing the stack or exhausting the memory.

/// How large a pattern may be, and what its parts count. A character counts 1.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) largest: usize,
    pub(super) deepest: usize,
    /// An anchor.
    anchor: usize,
    /// `\b`.
    boundary: usize,
    /// Each byte in a bracket expression, and twice as much if it is negated; 0: all of it counts 1.
    member: usize,
    /// `*` makes what it repeats count this many times.
    star: usize,
}

/// glibc's regcomp recurses once for each open parenthesis and for each part in a row that may match
/// nothing, and it copies what an interval or a `+` repeats. `(a?){1,30000}` and `a{1,200}{1,200}`
/// overflow a stack of 2 MiB. Thirty `+` in a row exhaust the memory. A thousand `$` in a row, or 64
/// `\b`, which is two alternatives to it, take gigabytes. Within these bounds it needs less than half
/// a MiB of stack.
const GLIBC: Bounds = Bounds {
    largest: 8192,
    deepest: 256,
    anchor: 64,
    boundary: 256,
    member: 0,
    star: 1,
};

/// musl's regcomp recurses once for each part of a branch, each branch and each member of a bracket
/// expression. Its memory grows with the square of the branches and of the members: 4096 branches
/// take 900 MiB, and 10,000 members take 5 GiB. An unbounded repeat adds the square of what it
/// repeats, so it counts as two copies. Within these bounds it needs less than 400 MiB, and half a
/// MiB of stack.
const MUSL: Bounds = Bounds {
    largest: 4096,
    deepest: 256,
    anchor: HOP,
    boundary: HOP,
    member: 2,
    star: 2,
};

impl Bounds {
    /// For the C library that this program is linked with.
    pub(super) const HERE: Bounds = match cfg!(target_env = "musl") {
        true => MUSL,
        false => GLIBC,
    };
}

/// What a part that may match nothing adds to the size of a pattern.
const HOP: usize = 8;

/// Whether a pattern stays within its bounds. It need not be a valid one. One pass over the bytes, as
/// regcomp makes: each kind of byte says how much it adds.
pub(super) fn is_bounded(pattern: &[u8], bounds: Bounds) -> bool {
    // The size of each open group, and of the atom in the innermost one that a repeat would copy.
    let mut open = vec![0_usize];
    let mut atom = 0_usize;
    let mut rest = pattern;
    while let Some((&byte, tail)) = rest.split_first() {
        let piece;
        (piece, rest) = match byte {
            b')' if open.len() > 1 => (Piece::Atom(open.pop().unwrap_or_default()), tail),
            _ => next_piece(byte, tail, bounds),
        };
        if byte == b'(' {
            open.push(0);
        }
        let grown = match piece {
            Piece::Atom(size) => {
                atom = size;
                size
            }
            Piece::Repeat(copies) => {
                let repeated = atom.saturating_add(HOP).saturating_mul(copies);
                let grown = repeated - atom;
                atom = repeated;
                grown
            }
        };
        if let Some(size) = open.last_mut() {
            *size = size.saturating_add(grown);
        }
        let total = open
            .iter()
            .fold(0_usize, |sum, &size| sum.saturating_add(size));
        if total > bounds.largest || open.len() > bounds.deepest {
            return false;
        }
    }
    true
}

/// A piece of an expression.
enum Piece {
    /// With its size.
    Atom(usize),
    /// How often the atom before it is copied.
    Repeat(usize),
}

/// The piece that begins with `byte`, and what follows it.
fn next_piece(byte: u8, rest: &[u8], bounds: Bounds) -> (Piece, &[u8]) {
    match byte {
        b'(' => (Piece::Atom(HOP), rest),
        b'^' | b'$' => (Piece::Atom(bounds.anchor), rest),
        b'?' => (Piece::Repeat(1), rest),
        b'*' => (Piece::Repeat(bounds.star), rest),
        // `a+` is `aa*` to regcomp.
        b'+' => (Piece::Repeat(2), rest),
        b'{' => match interval(rest, bounds.star) {
            (Some(copies), tail) => (Piece::Repeat(copies), tail),
            (None, tail) => (Piece::Atom(1), tail),
        },
        b'[' => {
            let tail = after_bracket(rest);
            let twice = if rest.starts_with(b"^") { 2 } else { 1 };
            let length = rest.len() - tail.len();
            let size = length.saturating_mul(bounds.member * twice).max(1);
            (Piece::Atom(size), tail)
        }
        b'\\' => {
            let size = match rest.first() {
                Some(b'b' | b'B') => bounds.boundary,
                Some(b'<' | b'>' | b'`' | b'\'') => bounds.anchor,
                _ => HOP,
            };
            (Piece::Atom(size), rest.get(1..).unwrap_or_default())
        }
        _ => (Piece::Atom(1), rest),
    }
}

/// How many copies an interval makes, at least `star` if it has no end, and what follows it. Its `{`
/// was read. `None`: it is no interval.
fn interval(text: &[u8], star: usize) -> (Option<usize>, &[u8]) {
    let end = text
        .iter()
        .position(|&b| !b.is_ascii_digit() && b != b',')
        .filter(|&end| text[end] == b'}');
    let Some(end) = end else {
        return (None, text);
    };
    let (numbers, tail) = (&text[..end], &text[end + 1..]);
    // If a number is too large for usize, regcomp refuses it.
    let parse = |number: &[u8]| -> usize {
        let number = std::str::from_utf8(number).unwrap_or_default();
        number.parse().unwrap_or(0)
    };
    let copies = match numbers.iter().position(|&b| b == b',') {
        None => parse(numbers),
        Some(comma) if comma + 1 == numbers.len() => {
            parse(&numbers[..comma]).saturating_add(1).max(star)
        }
        Some(comma) => parse(&numbers[..comma]).max(parse(&numbers[comma + 1..])),
    };
    (Some(copies.max(1)), tail)
}

/// What follows a bracket expression. Its `[` was read.
fn after_bracket(expression: &[u8]) -> &[u8] {
    let mut rest = expression.strip_prefix(b"^").unwrap_or(expression);
    // A `]` that comes first is a member.
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
        let is_bounded = |pattern: &[u8]| is_bounded(pattern, GLIBC);
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
        // In brackets and after a backslash they repeat nothing.
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
    fn musl_counts_what_is_repeated_without_end_and_what_is_in_brackets() {
        let is_bounded = |pattern: &[u8]| is_bounded(pattern, MUSL);
        for pattern in [
            "^sleep 61[.]5$",
            r"^(/usr)?/bin/(a|b)+ .*[[:space:]]--x=[0-9]{1,3}(\.[0-9]{1,3}){3}$",
            "(a{1,9}){1,38}",
            r"\b(a|b|c)\b.*\b(d|e|f)\b",
        ] {
            assert!(is_bounded(pattern.as_bytes()), "{pattern}");
        }
        assert!(is_bounded(&b"a|".repeat(2000)));
        assert!(!is_bounded(&b"a|".repeat(2100)));
        let members = |open: &str, n| format!("{open}{}]", "a".repeat(n)).into_bytes();
        assert!(is_bounded(&members("[", 2000)));
        assert!(!is_bounded(&members("[", 2100)));
        assert!(is_bounded(&members("[^", 1000)));
        assert!(!is_bounded(&members("[^", 1100)));
        for repeat in ["*", "+", "{0,}", "{1,}"] {
            let repeated = |n| [b"(a|b|c)".to_vec(), repeat.repeat(n).into_bytes()].concat();
            assert!(is_bounded(&repeated(7)), "{repeat}");
            assert!(!is_bounded(&repeated(8)), "{repeat}");
        }
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
                interval(text.as_bytes(), 1),
                (copies, rest.as_bytes()),
                "{text}"
            );
        }
    }
}

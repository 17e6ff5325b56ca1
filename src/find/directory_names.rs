//! Whether bytes name a path or one below it.
//!
//! The path must stand alone. The byte before it is not `/` and not a character of a name. The byte
//! after it is `/`, or not a character of a name. So a path that merely ends or starts the same is
//! not named.

/// Whether bytes name a path or one below it. Arguments with a NUL after each can be searched at
/// once: a path holds no NUL, and NUL is no character of a name.
pub(super) fn names(bytes: &[u8], path: &[u8]) -> bool {
    let is_at = |start: usize| {
        let before = bytes[..start].last();
        let after = bytes.get(start + path.len());
        !before.is_some_and(|&b| b == b'/' || is_of_name(b))
            && !after.is_some_and(|&b| is_of_name(b))
    };
    // An empty path has a window of 1, which never equals it.
    let mut windows = bytes.windows(path.len().max(1)).enumerate();
    windows.any(|(start, window)| window == path && is_at(start))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte > 0x7f || b"_-.+@~%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_names_a_path_by_its_bytes() {
        let cases: [(&[u8], bool); 61] = [
            (b"/srv/tree-7", true),
            (b"/srv/tree-7/", true),
            (b"/srv/tree-7//", true),
            (b"/srv/tree-7/src/main.rs", true),
            (b"cd /srv/tree-7 && make", true),
            (b"--tree=/srv/tree-7", true),
            (b"PATH=/srv/tree-7/bin:/bin", true),
            (b"PATH=/bin:/srv/tree-7", true),
            (b"'/srv/tree-7'", true),
            (b"\"/srv/tree-7\";", true),
            (b"(/srv/tree-7)", true),
            (b"[/srv/tree-7]", true),
            (b"{/srv/tree-7,/x}", true),
            (b"a\n/srv/tree-7\nb", true),
            (b"\t/srv/tree-7\t", true),
            (b"x</srv/tree-7>y", true),
            (b"!/srv/tree-7!", true),
            (b"\\/srv/tree-7\\ x", true),
            (b"\x7f/srv/tree-7\x7f", true),
            (b"/srv/tree-7*", true),
            (b"/srv/tree-7?x", true),
            (b"host:/srv/tree-7:ro", true),
            (b"/mnt/srv/tree-7", false),
            (b"./srv/tree-7", false),
            (b"../srv/tree-7", false),
            (b"//srv/tree-7", false),
            (b"file:///srv/tree-7", false),
            (b"-I/srv/tree-7", false),
            (b"~/srv/tree-7", false),
            (b"a_/srv/tree-7", false),
            (b"-/srv/tree-7", false),
            (b"+/srv/tree-7", false),
            (b"@/srv/tree-7", false),
            (b"%/srv/tree-7", false),
            (b"9/srv/tree-7", false),
            (b"Z/srv/tree-7", false),
            (b"\x80/srv/tree-7", false),
            (b"\xff/srv/tree-7", false),
            (b"/srv/tree-70", false),
            (b"/srv/tree-7a", false),
            (b"/srv/tree-7A", false),
            (b"/srv/tree-7_", false),
            (b"/srv/tree-7-", false),
            (b"/srv/tree-7.", false),
            (b"/srv/tree-7.git", false),
            (b"/srv/tree-7+", false),
            (b"/srv/tree-7@x", false),
            (b"/srv/tree-7~", false),
            (b"/srv/tree-7%", false),
            (b"/srv/tree-7\x80", false),
            (b"/srv/tree-7\xff", false),
            (b"/srv/tree-7\xc3\xa9", false),
            (b"/srv/tree-", false),
            (b"/srv", false),
            (b"srv/tree-7", false),
            (b"/SRV/tree-7", false),
            (b"/srv/./tree-7", false),
            (b"", false),
            (b"/srv/tree-70 /srv/tree-7", true),
            (b"/srv/tree-7/srv/tree-7", true),
            (b"/x/srv/tree-7 /srv/tree-70", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                names(bytes, b"/srv/tree-7"),
                expected,
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn each_argument_is_looked_at() {
        let cases: [(&[u8], bool); 9] = [
            (b"make\0-C\0/srv/a\0", true),
            (b"/srv/a\0x\0", true),
            (b"\0\0/srv/a\0\0", true),
            (b"\0\0\0", false),
            (b"x\0/srv/a", true),
            // An argument does not continue in the next.
            (b"/srv\0/a\0", false),
            (b"/srv/\0a\0", false),
            (b"x\0/srv/ab\0-I/srv/a\0", false),
            (b"/srv/ab\0-I/srv/a\0/srv/a\0", true),
        ];
        for (bytes, expected) in cases {
            let named = names(bytes, b"/srv/a");
            assert_eq!(named, expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_later_occurrence_counts_if_the_first_does_not() {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (b"/a/ab/a/a", b"/a/a", false),
            (b"/a/ab:/a/a", b"/a/a", true),
            (b"x/a/a /a/a", b"/a/a", true),
            // They overlap. The byte before the first one, or after it, is of a name.
            (b"x/a /a /a", b"/a /a", true),
            (b"x/a /a /ab", b"/a /a", false),
            (b"x/, /, /,", b"/, /,", true),
            (b"x/, /, /,x", b"/, /,", false),
            (b"//a /a /a /a", b"/a /a", true),
        ];
        for (bytes, path, expected) in cases {
            let named = names(bytes, path);
            assert_eq!(named, expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_path_is_no_pattern_and_may_hold_any_bytes() {
        for (bytes, path, expected) in [
            (&b"/srv/a.b"[..], &b"/srv/a.b"[..], true),
            (b"/srv/axb", b"/srv/a.b", false),
            (b"/srv/a*", b"/srv/a*", true),
            (b"/srv/abc", b"/srv/a*", false),
            (b"x=/srv/\xff\xfe/y", b"/srv/\xff\xfe", true),
            (b"x=/srv/\xff\xfe\xfd", b"/srv/\xff\xfe", false),
            (b"/srv/a b/c", b"/srv/a b", true),
            (b"/srv/a\nb", b"/srv/a\nb", true),
            (b"/srv/[", b"/srv/[", true),
            (b"/srv/a (deleted)", b"/srv/a (deleted)", true),
            (b"/srv/", b"", false),
            (b"", b"", false),
        ] {
            let named = names(bytes, path);
            assert_eq!(named, expected, "{}", bytes.escape_ascii());
        }
    }
}

//! Joined command lines and matches, compared with a line built by the documentation, with
//! regexec(3) and with a naive search.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use std::ffi::CString;
use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;

include!("source.rs");

// The input is a pattern, a newline and a /proc/PID/cmdline.
fuzz_target!(|input: &[u8]| {
    /// Nested repeats take regexec(3) time that is exponential in the lengths of pattern and line.
    const LONGEST: usize = 48;
    let end = input.iter().position(|&b| b == b'\n').unwrap_or(0);
    let (text, arguments) = input.split_at(end);
    let arguments = arguments.get(1..).unwrap_or_default();
    let mut line = arguments.to_vec();
    let stat = b"1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5";
    find::pattern::join_arguments(&mut line, stat);
    assert_eq!(line, joined(arguments));

    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    // Back-references also take regexec(3) exponential time.
    let refers_back = text
        .as_bytes()
        .windows(2)
        .any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit());
    if text.len() > LONGEST || line.len() > LONGEST || refers_back {
        return;
    }
    let pattern = match find::pattern::Pattern::new(text) {
        Ok(pattern) => pattern,
        Err(e) => {
            assert_eq!(e.kind(), error::ErrorKind::Pattern);
            let is_too_large = e.to_string().contains("larger than");
            assert!(
                text.is_empty()
                    || text.contains('\0')
                    || is_too_large
                    || regexec(text, &line).is_none()
            );
            return;
        }
    };
    let expected = regexec(text, &line).expect("what was accepted is accepted here");
    if let find::pattern::Pattern::Literal(_) = pattern {
        let naive = line.windows(text.len()).any(|w| w == text.as_bytes());
        assert_eq!(expected, naive);
    }
    assert_eq!(pattern.matches(&mut line).expect("enough memory"), expected);
});

fn joined(arguments: &[u8]) -> Vec<u8> {
    let mut arguments: Vec<&[u8]> = arguments.split(|&b| b == 0).collect();
    while arguments.last().is_some_and(|last| last.is_empty()) {
        arguments.pop();
    }
    match arguments.is_empty() {
        true => b"[a) b]".to_vec(),
        false => arguments.join(&b' '),
    }
}

/// `None` if regcomp(3) refused the pattern.
fn regexec(pattern: &str, line: &[u8]) -> Option<bool> {
    let (pattern, line) = (CString::new(pattern).ok()?, CString::new(line).ok()?);
    let mut regex = MaybeUninit::<libc::regex_t>::zeroed();
    // SAFETY: valid for writes. All strings are NUL-terminated. The regex is freed once, if it was
    // compiled.
    unsafe {
        if libc::regcomp(regex.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED) != 0 {
            return None;
        }
        let mut at = [libc::regmatch_t { rm_so: 0, rm_eo: 0 }];
        let rc = libc::regexec(regex.as_ptr(), line.as_ptr(), 1, at.as_mut_ptr(), 0);
        libc::regfree(regex.as_mut_ptr());
        Some(rc == 0)
    }
}

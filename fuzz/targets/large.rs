//! Large patterns that are made of repeated parts. None overflows the stack.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use std::thread::Builder;

use libfuzzer_sys::fuzz_target;

include!("source.rs");

// The input is parts. Each is a count and, up to a newline, the text that is repeated that many
// times.
fuzz_target!(|input: &[u8]| {
    const LONGEST: usize = 20_000;
    let mut text = Vec::new();
    for part in input.split(|&b| b == b'\n') {
        let Some((&[high, low], part)) = part.split_first_chunk() else {
            continue;
        };
        let count = usize::from(u16::from_be_bytes([high, low]));
        if text.len() + count * part.len() > LONGEST {
            return;
        }
        text.extend(part.repeat(count));
    }
    // A repeat of a repeat takes regcomp(3) time that is exponential in the number of such repeats.
    let repeats = |b: &u8| b"*+?{".contains(b);
    let ends = |b: &u8| b")}".contains(b) || repeats(b);
    if text
        .windows(2)
        .any(|pair| ends(&pair[0]) && repeats(&pair[1]))
    {
        return;
    }
    let Ok(text) = String::from_utf8(text) else {
        return;
    };
    // Half of the stack that a search has in the smallest usual thread.
    let thread = Builder::new().stack_size(1 << 20);
    let compile = thread.spawn(move || match find::pattern::Pattern::new(&text) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), error::ErrorKind::Pattern),
    });
    compile.expect("a thread").join().expect("no panic");
});

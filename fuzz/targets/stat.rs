//! The reader of /proc/PID/stat, compared with one that uses the field numbers of proc_pid_stat(5).

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use libfuzzer_sys::fuzz_target;

include!("source.rs");

fuzz_target!(|line: &[u8]| {
    let parsed = proc::Stat::parse(line);
    let expected = Slow::parse(line);
    assert_eq!(parsed.is_some(), expected.is_some());
    let (Some(parsed), Some(expected)) = (parsed, expected) else {
        return;
    };
    assert_eq!(parsed.name, expected.name);
    assert_eq!(parsed.state, expected.state);
    assert_eq!(parsed.parent, expected.parent);
    assert_eq!(parsed.group, expected.group);
    assert_eq!(parsed.session, expected.session);
    assert_eq!(parsed.threads, expected.threads);
    assert_eq!(parsed.start_time, expected.start_time);
    assert_eq!(parsed.is_kernel_thread(), expected.flags & (1 << 21) != 0);
    assert_eq!(parsed.is_exiting(), expected.flags & (1 << 2) != 0);
    let is_dead = ['Z', 'X', 'x'].contains(&expected.state);
    assert_eq!(parsed.leader_exited(), is_dead);
    assert_eq!(parsed.is_zombie(), is_dead && expected.threads < 2);
    let is_in_exec = expected.start_code != 1 && expected.env_end == 0;
    assert_eq!(parsed.is_in_exec(), is_in_exec);
});

struct Slow {
    name: Vec<u8>,
    state: char,
    parent: u32,
    group: u32,
    session: u32,
    flags: u32,
    threads: u32,
    start_time: u64,
    start_code: u64,
    env_end: u64,
}

impl Slow {
    fn parse(line: &[u8]) -> Option<Slow> {
        let at = |wanted: u8| (0..line.len()).filter(move |&i| line[i] == wanted);
        let (open, close) = (at(b'(').next()?, at(b')').last()?);
        if close <= open {
            return None;
        }
        let is_blank = |b: &u8| b" \t\n\x0c\r".contains(b);
        let mut rest: Vec<u8> = line[close + 1..]
            .iter()
            .copied()
            .skip_while(is_blank)
            .collect();
        while rest.last().is_some_and(is_blank) {
            rest.pop();
        }
        // The first of these is field 3.
        let mut fields: Vec<Vec<u8>> = vec![Vec::new(); 4];
        for byte in rest {
            match byte {
                b' ' => fields.push(Vec::new()),
                _ => fields.last_mut()?.push(byte),
            }
        }
        let field = |n: usize| fields.get(n);
        let id = |n: usize| {
            let id = signed(field(n)?)?;
            i64::try_from(id).ok()?;
            Some(u32::try_from(id).unwrap_or(0))
        };
        let tail = |n: usize| field(n).and_then(|field| unsigned(field)).unwrap_or(1);
        Some(Slow {
            name: line[open + 1..close].to_vec(),
            state: (*field(3)?.first()?).into(),
            parent: id(4)?,
            group: id(5)?,
            session: id(6)?,
            flags: unsigned(field(9)?)?.try_into().ok()?,
            threads: unsigned(field(20)?)?.try_into().ok()?,
            start_time: unsigned(field(22)?)?,
            start_code: tail(26),
            env_end: tail(51),
        })
    }
}

fn digits(text: &[u8]) -> Option<i128> {
    let mut value = (!text.is_empty()).then_some(0_i128)?;
    for byte in text {
        let digit = (b'0'..=b'9').position(|digit| digit == *byte)?;
        // This value is too large for any field, but not for an i128.
        value = (value * 10 + i128::try_from(digit).ok()?).min(i128::from(u64::MAX) + 1);
    }
    Some(value)
}

fn signed(text: &[u8]) -> Option<i128> {
    match text {
        [b'-', rest @ ..] => Some(-digits(rest)?),
        [b'+', rest @ ..] => digits(rest),
        _ => digits(text),
    }
}

fn unsigned(text: &[u8]) -> Option<u64> {
    match text {
        [b'-', ..] => None,
        _ => signed(text)?.try_into().ok(),
    }
}

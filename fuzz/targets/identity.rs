//! The text form of an identity, compared with a second reader, and back again.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use libfuzzer_sys::fuzz_target;

include!("source.rs");

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let parsed = text.parse::<process::ProcessId>();
    let Some(expected) = canonical(text) else {
        assert_eq!(parsed.unwrap_err().kind(), error::ErrorKind::Refused);
        return;
    };
    let id = parsed.expect("a text form");
    assert_eq!(id.to_string(), expected);
    assert!(id.pid() > 0 && i32::try_from(id.pid()).is_ok());
    assert!(expected.starts_with(&format!("{}:{}:", id.pid(), id.start_time())));
    assert_eq!(
        expected
            .parse::<process::ProcessId>()
            .expect("our own text"),
        id
    );
});

/// The text without white space around it, if it is exactly what `Display` writes.
fn canonical(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.trim().split(':').collect();
    let &[pid, start_time, inode, boot, namespace] = fields.as_slice() else {
        return None;
    };
    let pid = digits(pid, 10, u128::from(i32::MAX.unsigned_abs()))?;
    let start_time = digits(start_time, 10, u64::MAX.into())?;
    let inode = match inode {
        "-" => "-".to_owned(),
        _ => digits(inode, 10, u64::MAX.into())?.to_string(),
    };
    let boot = match boot {
        "-" => "-".to_owned(),
        _ => format!("{:032x}", digits(boot, 16, u128::MAX)?),
    };
    let namespace = match namespace {
        "-" => "-".to_owned(),
        // Such inodes have ten digits: a shorter number was cut.
        _ => digits(namespace, 10, u64::MAX.into())
            .filter(|&inode| inode >= 1_000_000_000)?
            .to_string(),
    };
    let canonical = format!("{pid}:{start_time}:{inode}:{boot}:{namespace}");
    (pid > 0 && canonical == text.trim()).then_some(canonical)
}

fn digits(text: &str, radix: u32, most: u128) -> Option<u128> {
    let mut value = (!text.is_empty()).then_some(0_u128)?;
    for digit in text.chars() {
        let digit = digit.to_digit(radix)?;
        value = value.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    (value <= most).then_some(value)
}

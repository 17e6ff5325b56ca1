//! Whatever a caller names, only the named processes are due a signal. Init, the caller, its
//! ancestors and numbers that mean several processes never are. Targets are held, and no signal is
//! sent.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;

include!("source.rs");

fuzz_target!(|input: &[u8]| {
    let (caller, parent) = (std::process::id(), std::os::unix::process::parent_id());
    let number = |chunk: &[u8]| {
        let number = u32::from_le_bytes(chunk[1..].try_into().unwrap());
        match chunk[0] % 8 {
            0 => caller,
            1 => parent,
            2 => number % 4,
            3 => number % 65536,
            4 => u32::MAX - number % 4,
            5 => i32::MAX.unsigned_abs() - 1 + number % 4,
            // A number that a cast turns into a group.
            6 => (number % 65536).wrapping_neg(),
            _ => number,
        }
    };
    let named: Vec<u32> = input.chunks_exact(5).take(64).map(number).collect();
    let spared = targets::Spared::new(false);
    let mut targets = targets::Targets::sparing(spared, wait::Ppoll);
    targets.add_named(named.iter().map(|&number| (number, None)));

    let distinct: HashSet<u32> = named.iter().copied().collect();
    assert_eq!(targets.len(), distinct.len());
    let due: Vec<u32> = (0..targets.len())
        .filter_map(|at| targets.live(at))
        .map(sys::Pid::get)
        .collect();
    let mut once = HashSet::new();
    for &pid in &due {
        assert!(once.insert(pid), "{pid} twice");
        assert!(distinct.contains(&pid), "{pid} was not named");
        assert!(
            pid > 1 && i32::try_from(pid).is_ok(),
            "{pid} is not one process"
        );
        assert_ne!(pid, caller);
    }
    assert!(!due.contains(&parent), "an ancestor");
    // Bad numbers do not protect other targets.
    let spared = targets::Spared::new(true);
    let mut targets = targets::Targets::sparing(spared, wait::Ppoll);
    targets.add_named(named.iter().map(|&number| (number, None)));
    if parent > 1 && distinct.contains(&parent) && std::os::unix::process::parent_id() == parent {
        let parent = sys::Pid::new(parent).unwrap();
        assert!(targets.has_live(parent), "{parent:?} was left out");
    }
});

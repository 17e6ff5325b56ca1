//! Search among a thousand processes, compared with `pgrep` and with the least work that a search
//! needs.
#![expect(unsafe_code, reason = "fork(2)")]
#![allow(missing_docs, reason = "benchmarks")]

mod idle;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::OnceLock;

use divan::{Bencher, black_box};
use idle::Idle;
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use process_kill::{descendant_pids, pids_matching};

const PROCESSES: usize = 1000;
/// Some of those are a tree. Its root forks `BRANCHES` children with `TWIGS` children each.
const BRANCHES: usize = 9;
const TWIGS: usize = 10;
const TREE: usize = 1 + BRANCHES + BRANCHES * TWIGS;
/// Some of those are the processes that the patterns match.
const SOUGHT: usize = 10;
const LITERAL: &str = "sleep 599";
const REGEX: &str = "^[^ ]*sleep 5[0-9]{2}$";

/// The root of the tree.
static ROOT: OnceLock<u32> = OnceLock::new();

fn main() {
    let tree = Idle::with(|| {
        for _ in 0..BRANCHES {
            std::mem::forget(Idle::with(|| {
                for _ in 0..TWIGS {
                    std::mem::forget(Idle::start());
                }
            }));
        }
    });
    let sleep = || Command::new("sleep").arg("599").spawn().unwrap();
    let sought = Sought(Vec::from_iter(std::iter::repeat_with(sleep).take(SOUGHT)));
    let rest = PROCESSES - TREE - SOUGHT;
    let crowd = Vec::from_iter(std::iter::repeat_with(Idle::start).take(rest));

    let there = pids().count();
    assert!(there >= PROCESSES, "only {there} processes are there");
    let root = tree.pid();
    while by_parents(root).len() < TREE - 1 {
        std::thread::yield_now();
    }
    assert_eq!(
        sorted(descendant_pids(root).unwrap()),
        sorted(by_parents(root))
    );
    for pattern in [LITERAL, REGEX] {
        for found in [pids_matching(pattern).unwrap(), pgrep(pattern)] {
            assert!(sought.0.iter().all(|child| found.contains(&child.id())));
        }
    }
    println!("among {there} processes:");
    ROOT.set(root).unwrap();
    divan::main();
    drop(crowd);
}

#[divan::bench_group(sample_size = 1, sample_count = 300)]
mod by_pattern {
    use super::*;

    #[divan::bench]
    fn floor() -> usize {
        read_every_command_line()
    }

    #[divan::bench(args = [LITERAL, REGEX])]
    fn pids_matching(pattern: &str) -> Vec<u32> {
        super::pids_matching(pattern).unwrap()
    }

    #[divan::bench(args = [LITERAL, REGEX])]
    fn pgrep(pattern: &str) -> Vec<u32> {
        super::pgrep(pattern)
    }
}

#[divan::bench_group(sample_size = 1, sample_count = 300)]
mod by_descent {
    use super::*;

    #[divan::bench]
    fn descendant_pids(bencher: Bencher<'_, '_>) {
        let root = *ROOT.get().unwrap();
        bencher.bench_local(|| super::descendant_pids(root).unwrap());
    }

    #[divan::bench]
    fn full_scan_of_parents(bencher: Bencher<'_, '_>) {
        let root = *ROOT.get().unwrap();
        bencher.bench_local(|| by_parents(root));
    }
}

struct Sought(Vec<Child>);

impl Drop for Sought {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
}

/// One getdents(2) walk. Each command line is opened, read into one buffer, and closed.
fn read_every_command_line() -> usize {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut proc = Dir::open("/proc", flags, Mode::empty()).unwrap();
    let mut names = Vec::new();
    for entry in proc.iter() {
        let entry = entry.unwrap();
        if entry.file_name().to_bytes()[0].is_ascii_digit() {
            names.extend_from_slice(entry.file_name().to_bytes());
            names.extend_from_slice(b"/cmdline\n");
        }
    }
    let mut line = vec![0; 65536];
    let mut read = 0;
    for name in names.split(|&b| b == b'\n').filter(|name| !name.is_empty()) {
        if let Ok(file) = openat(proc.as_fd(), name, flags, Mode::empty()) {
            read += nix::unistd::read(file, &mut line).unwrap_or(0);
            black_box(&line);
        }
    }
    read
}

fn pgrep(pattern: &str) -> Vec<u32> {
    let output = Command::new("pgrep").args(["-f", "--", pattern]).output();
    let output = output.expect("pgrep, of procps");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|pid| pid.parse().unwrap()).collect()
}

/// What a program does that does not know of lists of children.
fn by_parents(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some((_, parent)) = idle::stat(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = Some(root);
    let mut walked = 0;
    while let Some(parent) = next {
        found.extend(children.remove(&parent).unwrap_or_default());
        next = found.get(walked).copied();
        walked += 1;
    }
    found
}

//! The tables of `cargo bench` with other crates in them:
//! `cargo run --release --manifest-path tests/benches/peers/Cargo.toml`.

#[path = "../cost.rs"]
mod cost;

use std::process::ExitCode;

use kill_tree::Config;
use kill_tree::blocking::kill_tree_with_config;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

fn main() -> ExitCode {
    cost::measure(&cost::Peers {
        matching: vec![
            ("the crate procfs", by_procfs),
            ("the crate sysinfo", by_sysinfo),
        ],
        descendants: vec![
            // This signal does nothing to a process that is not stopped.
            ("the crate kill_tree, SIGCONT", |root| {
                signalled(root, "SIGCONT")
            }),
            ("the crate sysinfo", descendants_by_sysinfo),
        ],
        tree: vec![("the crate kill_tree, which does not wait", |root| {
            signalled(root, "SIGKILL");
        })],
    })
}

fn by_procfs(pattern: &str) -> usize {
    let processes = procfs::process::all_processes().unwrap();
    let lines = processes.filter_map(|process| process.ok()?.cmdline().ok());
    lines
        .filter(|line| line.join(" ").contains(pattern))
        .count()
}

fn by_sysinfo(pattern: &str) -> usize {
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    let matches = |process: &&sysinfo::Process| {
        let words = process.cmd().iter().map(|word| word.to_string_lossy());
        Vec::from_iter(words).join(" ").contains(pattern)
    };
    refreshed(what).processes().values().filter(matches).count()
}

fn descendants_by_sysinfo(root: u32) -> usize {
    let system = refreshed(ProcessRefreshKind::nothing());
    let mut found = vec![sysinfo::Pid::from_u32(root)];
    let mut walked = 0;
    while let Some(&parent) = found.get(walked) {
        let children = system.processes().values();
        let children = children.filter(|process| process.parent() == Some(parent));
        found.extend(children.map(sysinfo::Process::pid));
        walked += 1;
    }
    walked - 1
}

fn refreshed(what: ProcessRefreshKind) -> System {
    let mut system = System::new().unwrap();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what.without_tasks());
    system
}

/// How many descendants got the signal.
fn signalled(root: u32, signal: &str) -> usize {
    let config = Config {
        signal: signal.into(),
        ..Config::default()
    };
    kill_tree_with_config(root, &config).unwrap().len() - 1
}

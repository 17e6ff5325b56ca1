//! With two free descriptors every kill works on any number of targets. With one or none it either
//! does so, or says what it could not do, and no process is left stopped.

use std::path::Path;
use std::time::Duration;

use process_kill::child::Registry;
use process_kill::{ErrorKind, Kill, ProcessId, Result};

use super::cgroup::Cgroup;
use super::descriptors::fill_the_table;
use super::fixture::{OWN_PIDS, SLOWNESS, Victim, alone, is_root, release, states, stubborn};

/// Victims whose first process leads a group that all are in.
const SPEC: &str = "setpgid { { } { } } { { } } { }";

fn hasty() -> Kill {
    Kill::now().verify_within(Duration::from_secs(2) * SLOWNESS)
}

type Call<'a> = Box<dyn Fn() -> Result<()> + 'a>;

/// Each way to select targets.
fn calls<'a>(
    victim: &'a Victim,
    cgroup: &'a Cgroup,
    registry: &'a Registry,
) -> Vec<(&'static str, Call<'a>)> {
    let root = victim.pid();
    let pids = victim.pids();
    let ids: Vec<ProcessId> = pids
        .iter()
        .map(|&pid| ProcessId::of(pid).unwrap().unwrap())
        .collect();
    let kill = hasty();
    let roots = [ids[0]];
    vec![
        ("pids", Box::new(move || kill.pids(&pids).map(drop))),
        (
            "processes",
            Box::new(move || hasty().processes(&ids).map(drop)),
        ),
        ("tree", Box::new(move || hasty().tree(root).map(drop))),
        ("trees", Box::new(move || hasty().trees(&roots).map(drop))),
        (
            "groups",
            Box::new(move || hasty().groups(&[root]).map(drop)),
        ),
        ("jobs", Box::new(move || hasty().jobs(&[root]).map(drop))),
        (
            "matching",
            Box::new(|| hasty().matching("^[^ ]*/stubborn( scarce)?$").map(drop)),
        ),
        (
            "all_where",
            Box::new(|| hasty().all_where(|p| p.has_env("SCARCE", "yes")).map(drop)),
        ),
        (
            "directory",
            Box::new(|| hasty().directory(Path::new("/sys/kernel")).map(drop)),
        ),
        ("children", Box::new(|| hasty().children().map(drop))),
        (
            "cgroup",
            Box::new(|| hasty().cgroup(cgroup.dir()).map(drop)),
        ),
        (
            "registry",
            // The registry holds the group before the descriptors get scarce.
            Box::new(|| registry.kill_all(&hasty()).map(drop)),
        ),
    ]
}

#[test]
fn two_free_descriptors_are_enough_for_every_kill() {
    if !is_root("two_free_descriptors_are_enough_for_every_kill")
        || !alone!(two_free_descriptors_are_enough_for_every_kill in OWN_PIDS)
    {
        return;
    }
    let Some(cgroup) = Cgroup::new("scarce") else {
        return;
    };
    let mut wrong = Vec::new();
    for free in [0, 1, 2, 3, 8] {
        let mut row = Vec::new();
        for which in 0.. {
            let mut command = stubborn(SPEC);
            command
                .arg("scarce")
                .current_dir("/sys/kernel")
                .env("SCARCE", "yes");
            let mut victim = Victim::spawn(command);
            cgroup.take(&victim.pids());
            let registry = Registry::new();
            let ticket = registry.add_group(victim.pid()).unwrap();
            let mut calls = calls(&victim, &cgroup, &registry);
            if which == calls.len() {
                break;
            }
            let (name, call) = calls.swap_remove(which);
            let mut full = fill_the_table();
            full.truncate(full.len() - free);
            let ended = call();
            drop(full);
            drop(call);
            drop(calls);
            drop(ticket);
            let stopped = victim
                .pids()
                .into_iter()
                .filter(|&pid| states(pid).contains(&'T'));
            assert_eq!(stopped.count(), 0, "{name} with {free}");
            match ended {
                Ok(()) => {
                    if !victim.is_all_gone(Duration::from_secs(2)) {
                        wrong.push(format!("{name} with {free}: false Ok"));
                    }
                    row.push(format!("{name} ok"));
                }
                Err(e) => {
                    let kinds = [ErrorKind::Io, ErrorKind::Survivors, ErrorKind::Unproven];
                    assert!(kinds.contains(&e.kind()), "{name} with {free}: {e}");
                    // Before Linux 5.14 a cgroup may need more.
                    if free >= 2 && (name != "cgroup" || release() >= [5, 14] || free == 8) {
                        wrong.push(format!("{name} with {free}: {e:?}"));
                    }
                    row.push(format!("{name} {:?}", e.kind()));
                }
            }
        }
        println!("{free} free: {}", row.join(", "));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

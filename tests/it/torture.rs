//! All calls at once, from many threads, on the same targets.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use process_kill::child::{self, CommandExt, Group, Limits, Registry};
use process_kill::{
    ErrorKind, Kill, Process, ProcessId, Report, descendant_pids, descendants, kill_all_children,
    kill_process_group, kill_tree_and_verify, pids_in_group, pids_in_session, pids_matching,
    pids_with_cwd_under, pids_with_env, processes_where, sigkill_pids_and_verify, wait_until_gone,
};

use super::fixture::{
    OWN_PIDS, Victim, alone, eventually, is_root, open_descriptors, states, stubborn,
};

const THREADS: usize = 32;
const TIME: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(20);

const TARGETS: [&str; 6] = [
    "{ } { ignore=TERM }",
    "setpgid { } { }",
    "setsid { ignore=TERM { } }",
    "threads=2 { setpgid { } }",
    "ignore=TERM thread{ }",
    "leader-exits",
];

/// This uses none of the crate's code. No number is used again in so short a time.
fn is_gone(pid: u32) -> bool {
    states(pid).iter().all(|state| matches!(state, 'Z' | 'X'))
}

/// A process that is reported gone is gone, whatever happened to the others.
fn judge(result: process_kill::Result<Report>) {
    let report = match &result {
        Ok(report) => report,
        Err(error) => {
            let kinds = [ErrorKind::Survivors, ErrorKind::Unproven];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            error.report().unwrap()
        }
    };
    for (pid, outcome) in report.iter() {
        assert!(is_gone(pid), "{pid} {outcome:?} {:?}", states(pid));
    }
}

/// Starts one target after another. Each replaces the target that was killed before it.
fn supply(spec: &str, pool: &Mutex<Vec<u32>>, end: Instant) {
    while Instant::now() < end {
        let mut command = stubborn(spec);
        command.arg("tortured").env("TORTURED", "yes");
        // `Err` means that it was killed before it was ready.
        if let Ok(mut victim) = Victim::try_spawn(command) {
            *pool.lock().unwrap() = victim.pids();
            victim.all_gone();
        }
    }
}

/// One call of one public function.
fn call(targets: &[u32], alive: &Process) {
    let alive_pid = alive.id().pid();
    let one = targets[fastrand::usize(..targets.len())];
    let kill = match fastrand::bool() {
        true => Kill::now(),
        false => Kill::graceful().grace(MOMENT),
    };
    let pids = |ids: Vec<ProcessId>| ids.iter().map(ProcessId::pid).collect::<Vec<u32>>();
    match fastrand::u8(..26) {
        0 => judge(sigkill_pids_and_verify(targets)),
        1 => judge(kill.pids(&[one, 0, 1, std::process::id(), one])),
        2 => judge(kill_tree_and_verify(one)),
        3 => judge(kill.tree(one)),
        4 => judge(kill_process_group(one)),
        5 => judge(kill.groups(targets)),
        6 => judge(kill_all_children()),
        7 => judge(kill.children()),
        8 => judge(kill.matching("stubborn tortured$")),
        9 => {
            let ids: Vec<ProcessId> = targets
                .iter()
                .filter_map(|&pid| ProcessId::of(pid).unwrap())
                .collect();
            judge(kill.processes(&ids));
        }
        10 => judge(wait_until_gone(targets, MOMENT)),
        11 => {
            let error = wait_until_gone(&[one, alive_pid], MOMENT).unwrap_err();
            let survivors: Vec<u32> = error.survivors().iter().map(|s| s.pid()).collect();
            assert!(survivors.contains(&alive_pid), "{error}");
            judge(Err(error));
        }
        12 => {
            assert!(!alive.wait_until_gone(MOMENT).unwrap());
            assert!(!alive.id().is_gone().unwrap());
            assert_eq!(ProcessId::of(alive_pid).unwrap(), Some(alive.id()));
        }
        13 => {
            if let Some(process) = Process::open(one).unwrap() {
                process.signal(libc::SIGTERM).unwrap();
                if process.wait_until_gone(MOMENT).unwrap() {
                    assert!(process.id().is_gone().unwrap());
                    assert!(is_gone(one));
                }
            }
        }
        // No process has the victim's own arguments, because its children are started without them.
        14 | 15 => assert!(pids_matching("stubborn$").unwrap().contains(&alive_pid)),
        16 => assert_eq!(pids_in_session(alive_pid).unwrap(), [alive_pid]),
        17 => assert_eq!(pids_in_group(alive_pid).unwrap(), [alive_pid]),
        18 => assert_eq!(pids_with_env("CALM", "yes").unwrap(), [alive_pid]),
        19 => assert!(
            pids_with_cwd_under(Path::new("/proc"))
                .unwrap()
                .contains(&alive_pid)
        ),
        20 => {
            let keep = |p: &process_kill::Candidate<'_>| p.pid() == alive_pid;
            assert_eq!(processes_where(keep).unwrap(), [alive.id()]);
        }
        21 => {
            let found = descendant_pids(1).unwrap();
            assert!(found.contains(&alive_pid), "{found:?}");
        }
        22 => drop(pids(descendants(one).unwrap())),
        23 => {
            let error = kill.cgroup(Path::new("/proc")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
        24 => {
            let group = [Group::Inherit, Group::New, Group::NewSession][fastrand::usize(..3)];
            let mut managed = Command::new("sleep")
                .arg("60")
                .spawn_managed(group)
                .unwrap();
            let registry = Registry::new();
            let ticket = registry.add(&managed).unwrap();
            match fastrand::bool() {
                true => judge(registry.kill_all(&kill)),
                false => judge(managed.stop(&kill)),
            }
            drop(ticket);
        }
        _ => {
            child::adopt_orphans().unwrap();
            let mut command = Command::new("sleep");
            command.arg("60").stdout(std::process::Stdio::piped());
            let limits = Limits::new().overall(MOMENT).kill(kill);
            let managed = command.spawn_managed(Group::New).unwrap();
            match managed.output(&limits) {
                Ok(output) => assert!(output.stdout.is_empty()),
                Err(error) => judge(Err(error)),
            }
        }
    }
}

#[test]
fn every_function_holds_while_all_others_run() {
    let test = "every_function_holds_while_all_others_run";
    if !is_root(test) || !alone!(every_function_holds_while_all_others_run in OWN_PIDS) {
        return;
    }
    // Its parent exits, so it is not a child of this program when all children are killed.
    let mut calm = stubborn("{ setsid } exit");
    calm.env("CALM", "yes").current_dir("/proc");
    let mut calm = Victim::spawn(calm);
    let alive_pid = calm.others()[0];
    calm.until_zombie();
    calm.child().wait().unwrap();
    let alive = Process::open(alive_pid).unwrap().unwrap();

    // From here on this program adopts every process that loses its parent, even one that is not
    // yet ready and named. The calls that kill all children then find it. Otherwise its supplier
    // would wait for it forever.
    child::adopt_orphans().unwrap();
    let before = open_descriptors();
    let pools = TARGETS.map(|_| Mutex::new(Vec::new()));
    let end = Instant::now() + TIME;
    thread::scope(|scope| {
        for (spec, pool) in TARGETS.iter().zip(&pools) {
            scope.spawn(move || supply(spec, pool, end));
        }
        let (pools, alive) = (&pools, &alive);
        let named = move || -> Vec<u32> {
            let all = pools.iter().map(|pool| pool.lock().unwrap().clone());
            all.flatten().collect()
        };
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(move || {
                    let mut calls = 0;
                    while Instant::now() < end {
                        let targets = named();
                        if !targets.is_empty() {
                            call(&targets, alive);
                            calls += 1;
                        }
                    }
                    calls
                })
            })
            .collect();
        let calls: Vec<u32> = callers.into_iter().map(|c| c.join().unwrap()).collect();
        assert!(calls.iter().all(|&calls| calls > 0), "{calls:?}");
        println!("{} calls", calls.iter().sum::<u32>());

        // No process was left stopped.
        for entry in std::fs::read_dir("/proc").unwrap() {
            let name = entry.unwrap().file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            assert!(!states(pid).contains(&'T'), "{pid}");
        }
        // The targets that are left end here, so the threads that wait for them end too.
        eventually("the end of all targets", || {
            sigkill_pids_and_verify(&named()).is_ok() && kill_all_children().is_ok()
        });
    });
    assert_eq!(open_descriptors(), before);
    assert!(calm.answers());
    calm.let_go();
    calm.all_gone();
}

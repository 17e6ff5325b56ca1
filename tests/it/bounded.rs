//! Calls end in time, and with the truth, whatever the size of a set and the state of its members.

use std::panic::{UnwindSafe, catch_unwind};
use std::process::{Command, id};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use process_kill::child::{CommandExt, Group};
use process_kill::{
    Kill, Outcome, Report, Result, descendant_pids, pids_matching, pids_with_env, processes_where,
};

use super::fixture::{OWN_PIDS, PATIENCE, Victim, alone, eventually, findable, is_root, states};

/// For a call that does not end: much longer than it may take.
const HANGS: Duration = Duration::from_secs(5);

/// What `f` returns, and how long it took. A call that does not end fails the test; its thread is left
/// behind, so the test must run in a process of its own.
fn timed<T: Send + 'static>(what: &str, f: impl FnOnce() -> T + Send + 'static) -> (T, Duration) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let begun = Instant::now();
        let result = f();
        // Nobody listens any more if it took too long.
        drop(tell.send((result, begun.elapsed())));
    });
    let ended = told.recv_timeout(HANGS);
    ended.unwrap_or_else(|e| panic!("{what} has not ended after {HANGS:?}: {e}"))
}

/// The number in the next line, which is `word NUMBER`.
fn number(victim: &mut Victim, word: &str) -> u32 {
    let line = victim.line();
    let number = line.strip_prefix(word).and_then(|n| n.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn a_leaderless_process_stuck_exiting_holds_up_no_search() {
    let name = "a_leaderless_process_stuck_exiting_holds_up_no_search";
    if !is_root(name) || !alone!(a_leaderless_process_stuck_exiting_holds_up_no_search in OWN_PIDS)
    {
        return;
    }
    let mut victim = findable("stuck-init=leaderless");
    let stuck = number(&mut victim, "stuck");
    // Its leader has exited, and its last thread waits in the kernel.
    eventually("stuck", || states(stuck) == ['Z', 'S']);
    let (found, _) = timed("Candidate::env", move || {
        let mut env = None;
        let found = processes_where(|candidate| {
            if candidate.pid() == stuck {
                env = Some(candidate.env("PROCESS_KILL_FINDABLE").ok().flatten());
            }
            false
        });
        (found.unwrap(), env)
    });
    // There is no memory to read it from.
    assert_eq!(found, (vec![], Some(None)));
    let (found, _) = timed("pids_with_env", || {
        pids_with_env("PROCESS_KILL_FINDABLE", "yes").unwrap()
    });
    assert_eq!(found, [victim.pid()]);
    assert_eq!(states(stuck), ['Z', 'S']);
}

#[test]
fn processes_that_are_stuck_exiting_are_not_waited_for() {
    let name = "processes_that_are_stuck_exiting_are_not_waited_for";
    if !is_root(name) || !alone!(processes_that_are_stuck_exiting_are_not_waited_for in OWN_PIDS) {
        return;
    }
    let mut stuck = Vec::new();
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut holder = Victim::start("stuck-init");
        stuck.push(number(&mut holder, "stuck"));
        holders.push(holder);
    }
    for &pid in &stuck {
        eventually("stuck", || states(pid) == ['S']);
    }
    let mut victim = findable("");
    let (found, scan) = timed("pids_matching", || pids_matching("stubborn findable$"));
    assert_eq!(found.unwrap(), victim.pids());
    let (found, by_env) = timed("pids_with_env", || {
        pids_with_env("PROCESS_KILL_FINDABLE", "yes")
    });
    assert_eq!(found.unwrap(), victim.pids());
    let begun = Instant::now();
    let kill = Kill::now().verify_within(Duration::from_millis(200));
    let killed = kill.matching("stubborn findable$");
    let kill = begun.elapsed();
    println!("3 stuck: pids_matching {scan:?}, pids_with_env {by_env:?}, matching {kill:?}");
    assert_eq!(killed.unwrap().pids(Outcome::Killed), victim.pids());
    victim.all_gone();
    for pid in stuck {
        assert_eq!(states(pid), ['S']);
    }
    let scans = scan.max(by_env);
    assert!(scans < Duration::from_millis(500), "a scan took {scans:?}");
    assert!(kill < Duration::from_secs(1), "the kill took {kill:?}");
}

/// Runs `work` in a child process whose main thread has exited, and sees it pass.
fn without_main_thread(work: impl FnOnce() + Send + UnwindSafe + 'static) {
    // SAFETY: the test runs in a process of its own, in which no other thread holds a lock.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            thread::spawn(move || {
                eventually("the main thread exits", || states(id())[0] == 'Z');
                let has_failed = catch_unwind(work).is_err();
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(has_failed.into()) };
            });
            // SAFETY: ends this thread alone; the other one owns nothing of its stack.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("the main thread has exited");
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
}

#[test]
fn a_program_whose_main_thread_has_exited_kills_as_any_other() {
    if !alone!(a_program_whose_main_thread_has_exited_kills_as_any_other in OWN_PIDS) {
        return;
    }
    without_main_thread(|| {
        let mut failed = Vec::new();
        let mut kill = |what, spec, kill: &dyn Fn(u32) -> Result<Report>| {
            let mut victim = Victim::start(spec);
            match kill(victim.pid()) {
                Ok(report) => {
                    assert_eq!(report.pids(Outcome::Killed).len(), victim.ready.len());
                    victim.all_gone();
                }
                Err(e) => failed.push(format!("{what}: {e}")),
            }
        };
        let now = || Kill::now().verify_within(PATIENCE);
        kill("pids", "", &|pid| now().pids(&[pid]));
        kill("groups", "setpgid { }", &|pid| now().groups(&[pid]));
        kill("tree", "{ }", &|pid| now().tree(pid));
        kill("a tree that leads a group", "setpgid { }", &|pid| {
            now().tree(pid)
        });
        kill("children", "setsid { }", &|_| now().children());
        let mut managed = Command::new("sleep")
            .arg("300")
            .spawn_managed(Group::New)
            .unwrap();
        match managed.stop(&now()) {
            Ok(report) => assert_eq!(report.pids(Outcome::Killed), [managed.id()]),
            Err(e) => failed.push(format!("stop: {e}")),
        }
        assert!(failed.is_empty(), "{failed:#?}");
    });
}

/// How many of these are not gone.
fn alive(pids: &[u32]) -> usize {
    // One that is just being reaped is X.
    let is_gone = |pid: &&u32| states(**pid).iter().all(|state| matches!(state, 'Z' | 'X'));
    pids.len() - pids.iter().filter(is_gone).count()
}

/// Victims by `spec`, and the pids of all, the root first.
fn family(spec: &str, size: usize) -> (Victim, Vec<u32>) {
    let victim = Victim::start(spec);
    let mut pids = vec![victim.pid()];
    pids.extend(descendant_pids(victim.pid()).unwrap());
    assert_eq!(pids.len(), size);
    (victim, pids)
}

/// Kills two equal sets, one by its pids and one as a tree, and compares the times.
fn a_tree_costs_little_more_than_its_pids(spec: &str, size: usize) {
    let (mut victim, pids) = family(spec, size);
    let begun = Instant::now();
    let report = Kill::now().verify_within(PATIENCE).pids(&pids).unwrap();
    let by_pid = begun.elapsed();
    assert_eq!(report.pids(Outcome::Killed).len(), size);
    victim.all_gone();
    drop(victim);

    let (mut victim, pids) = family(spec, size);
    let begun = Instant::now();
    let ended = Kill::now().tree(victim.pid());
    let as_tree = begun.elapsed();
    println!("{spec}: by pid {by_pid:?}, as a tree {as_tree:?}");
    match ended {
        Ok(report) => assert_eq!(report.pids(Outcome::Killed).len(), size),
        Err(e) => panic!(
            "{} alive after {as_tree:?}: {:.200}",
            alive(&pids),
            e.to_string()
        ),
    }
    assert_eq!(alive(&pids), 0);
    victim.all_gone();
    let limit = 3 * by_pid + Duration::from_millis(200);
    assert!(as_tree <= limit, "{as_tree:?}, by pid {by_pid:?}");
}

#[test]
fn a_process_of_ten_thousand_threads_is_killed_as_a_tree() {
    if !alone!(a_process_of_ten_thousand_threads_is_killed_as_a_tree in OWN_PIDS) {
        return;
    }
    a_tree_costs_little_more_than_its_pids("threads=9999", 1);
}

#[test]
fn a_tree_of_five_thousand_is_killed() {
    if !alone!(a_tree_of_five_thousand_is_killed in OWN_PIDS) {
        return;
    }
    a_tree_costs_little_more_than_its_pids("wide=4999", 5000);
}

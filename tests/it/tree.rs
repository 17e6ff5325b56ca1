//! Whole trees.

use std::os::unix::process::CommandExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process_kill::child::adopt_orphans;
use process_kill::{Coverage, ErrorKind, Kill, Outcome, Reason, Report, kill_tree_and_verify};

use super::fixture::{
    FairClock, OWN_PIDS, PATIENCE, SLOWNESS, Victim, alone, as_nobody, eventually, filtered,
    is_root, outcomes, reasons, runs, states, stubborn,
};

/// The time that a call may take beyond its deadline, on a machine that is busy.
const ROOM: Duration = Duration::from_secs(1).saturating_mul(SLOWNESS);

/// The targets that have this outcome, ascending.
fn sorted(report: &Report, outcome: Outcome) -> Vec<u32> {
    let mut pids = report.pids(outcome);
    pids.sort_unstable();
    pids
}

/// The processes that are not zombies, ascending.
fn living(victim: &Victim) -> Vec<u32> {
    let lives = |&pid: &u32| !matches!(states(pid)[..], [] | ['Z']);
    victim.pids().into_iter().filter(lives).collect()
}

fn is_stopped(pid: u32) -> bool {
    states(pid)
        .iter()
        .any(|&state| state == 'T' || state == 't')
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    !status.contains("TracerPid:\t0\n")
}

/// Whether the process lives and runs on.
fn is_going(pid: u32) -> bool {
    matches!(states(pid)[..], ['S' | 'R' | 'D', ..])
}

/// Runs `f`, and looks at these processes without pause. None of them is ever seen stopped, and all
/// live on.
pub fn unmoved<T: Send>(pids: &[u32], f: impl FnOnce() -> T + Send) -> T {
    let over = AtomicBool::new(false);
    let seen = Mutex::new(Vec::<u32>::new());
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let stopped = pids.iter().filter(|&&pid| is_stopped(pid));
                seen.lock().unwrap().extend(stopped);
            }
        });
        let call = scope.spawn(f);
        let done = call.join();
        over.store(true, Ordering::Relaxed);
        done.unwrap()
    });
    assert_eq!(*seen.lock().unwrap(), []);
    for &pid in pids {
        assert!(is_going(pid), "{pid}");
    }
    done
}

/// Binds this thread, and what it starts, to one processor.
fn on_one_processor() {
    // SAFETY: a set of bits; all zero is the empty set.
    let mut processors: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: reads and writes the set of this thread.
    unsafe {
        let size = size_of_val(&processors);
        assert_eq!(libc::sched_getaffinity(0, size, &mut processors), 0);
        let first = (0..size * 8).find(|&n| libc::CPU_ISSET(n, &processors));
        libc::CPU_ZERO(&mut processors);
        libc::CPU_SET(first.unwrap(), &mut processors);
        assert_eq!(libc::sched_setaffinity(0, size, &processors), 0);
    }
}

fn set_nice(nice: i32) {
    // SAFETY: changes the priority of this thread.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// This has enough time for a machine that is busy.
fn now() -> Kill {
    Kill::now().verify_within(PATIENCE)
}

fn kill_tree(root: u32) -> process_kill::Result<Report> {
    now().tree(root)
}

#[test]
fn a_tree_is_killed_whole() {
    let mut victim = Victim::start("{ ignore=TERM { } } { setsid { } } thread{ threads=3 { } }");
    let report = kill_tree(victim.pid()).unwrap();
    assert_eq!(report.iter().next().unwrap().0, victim.pid());
    assert_eq!(sorted(&report, Outcome::Killed), victim.pids());
    victim.all_gone();
}

#[test]
fn parents_are_reported_before_their_children() {
    let victim = Victim::start("deep=20");
    let tree = process_kill::descendant_pids(victim.pid()).unwrap();
    let report = kill_tree(victim.pid()).unwrap();
    let expected: Vec<u32> = [victim.pid()].into_iter().chain(tree).collect();
    assert_eq!(report.pids(Outcome::Killed), expected);
}

#[test]
fn a_respawning_parent_loses() {
    if !alone!(a_respawning_parent_loses in OWN_PIDS) {
        return;
    }
    for _ in 0..30 {
        let mut victim = Victim::start("respawn{ { } }");
        kill_tree(victim.pid()).unwrap();
        victim.all_gone();
    }
}

#[test]
fn a_respawning_parent_that_obeys_loses_too() {
    if !alone!(a_respawning_parent_that_obeys_loses_too in OWN_PIDS) {
        return;
    }
    for _ in 0..5 {
        let mut victim = Victim::start("ignore=TERM respawn{ { } }");
        let kill = Kill::graceful().grace(Duration::from_millis(20));
        kill.tree(victim.pid()).unwrap();
        victim.all_gone();
    }
}

#[test]
fn orphans_in_a_group_of_the_tree_are_killed() {
    let mut victim = Victim::start("setpgid { { ignore=TERM } exit }");
    eventually("the middle one exits", || living(&victim).len() == 2);
    let expected = living(&victim);
    let report = kill_tree(victim.pid()).unwrap();
    assert_eq!(sorted(&report, Outcome::Killed), expected);
    victim.all_gone();
}

#[test]
fn orphans_in_a_session_of_the_tree_are_killed_in_whatever_group() {
    if !alone!(orphans_in_a_session_of_the_tree_are_killed_in_whatever_group in OWN_PIDS) {
        return;
    }
    for kill in [now(), Kill::graceful().grace(PATIENCE)] {
        let spec = "{ setsid { { setpgid { } } { { setpgid } } exit } { setpgid } }";
        let mut victim = Victim::start(spec);
        eventually("the middle one exits", || living(&victim).len() == 7);
        let expected = living(&victim);
        let report = kill.tree(victim.pid()).unwrap();
        let mut all: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        all.sort_unstable();
        assert_eq!(all, expected);
        victim.all_gone();
    }
}

#[test]
fn orphans_in_the_group_of_the_callers_child_are_killed_whoever_adopted_them() {
    if !alone!(orphans_in_the_group_of_the_callers_child_are_killed_whoever_adopted_them) {
        return;
    }
    adopt_orphans().unwrap();
    let mut victim = Victim::start("setpgid { { ignore=TERM } exit }");
    eventually("the middle one exits", || living(&victim).len() == 2);
    let orphan = *living(&victim)
        .iter()
        .find(|&&pid| pid != victim.pid())
        .unwrap();
    let report = kill_tree(victim.pid()).unwrap();
    let killed = [victim.pid(), orphan].map(|pid| (pid, Outcome::Killed));
    assert_eq!(outcomes(&report), killed);
    victim.all_gone();
}

#[test]
fn vfork_parents_and_their_children_are_killed() {
    if !alone!(vfork_parents_and_their_children_are_killed in OWN_PIDS) {
        return;
    }
    for kill in [now(), Kill::graceful().grace(PATIENCE)] {
        let mut victim = Victim::start("vfork");
        let child: u32 = victim
            .line()
            .strip_prefix("vforked ")
            .unwrap()
            .parse()
            .unwrap();
        eventually("D", || states(victim.pid()) == ['D']);
        let report = kill.tree(victim.pid()).unwrap();
        let pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [victim.pid(), child]);
        victim.all_gone();
    }
}

#[test]
fn stopped_members_are_killed() {
    let mut victim = Victim::start("{ stop { } } stop");
    eventually("the stop", || {
        victim.pids().iter().filter(|&&pid| is_stopped(pid)).count() == 2
    });
    let report = kill_tree(victim.pid()).unwrap();
    assert_eq!(sorted(&report, Outcome::Killed), victim.pids());
    victim.all_gone();
    let mut victim = Victim::start("{ stop { } } stop");
    eventually("the stop", || {
        victim.pids().iter().filter(|&&pid| is_stopped(pid)).count() == 2
    });
    let report = Kill::graceful().grace(PATIENCE).tree(victim.pid()).unwrap();
    assert_eq!(sorted(&report, Outcome::Exited), victim.pids());
    victim.all_gone();
}

#[test]
fn a_tracer_in_the_tree_dies_with_what_it_traces() {
    if !is_root("a_tracer_in_the_tree_dies_with_what_it_traces") {
        return;
    }
    for word in ["trace", "let-go"] {
        let mut traced = Victim::start("{ }");
        let mut tracer = Victim::start(&format!("{{ {word}={} }}", traced.pid()));
        eventually("the tracer", || is_traced(traced.pid()));
        kill_tree(tracer.pid()).unwrap();
        tracer.all_gone();
        assert!(is_going(traced.pid()));
        kill_tree(traced.pid()).unwrap();
        traced.all_gone();
    }
}

#[test]
fn a_member_whose_tracer_lets_it_go_on_is_killed_in_time() {
    if !is_root("a_member_whose_tracer_lets_it_go_on_is_killed_in_time") {
        return;
    }
    const VERIFY: Duration = Duration::from_secs(2);
    let mut victim = Victim::start("{ } { }");
    let traced = victim.others()[0];
    let mut tracer = Victim::start(&format!("let-go={traced}"));
    eventually("the tracer", || is_traced(traced));
    let begun = FairClock::start();
    let ended = Kill::now().verify_within(VERIFY).tree(victim.pid());
    assert!(begun.elapsed() < VERIFY + 4 * ROOM);
    // The tree may have forked until the end, so there may be no proof. But all processes that were
    // found are gone.
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::Unproven);
        assert_eq!(
            sorted(error.report().unwrap(), Outcome::Killed),
            victim.pids()
        );
    }
    victim.all_gone();
    tracer.all_gone();
}

#[test]
fn a_storm_is_killed_in_every_run() {
    if !alone!(a_storm_is_killed_in_every_run in OWN_PIDS) {
        return;
    }
    for _ in 0..runs(5) {
        let mut victim = Victim::start("storm=200");
        assert_eq!(victim.line(), "storming");
        // Where an emulator runs it, a storm leaves no processor to a thread like others.
        let nice = if SLOWNESS > 1 { -20 } else { 0 };
        set_nice(nice);
        kill_tree(victim.pid()).unwrap();
        victim.all_gone();
        set_nice(0);
    }
}

#[test]
fn a_walk_that_cannot_be_closed_in_time_says_so() {
    if !alone!(a_walk_that_cannot_be_closed_in_time_says_so in OWN_PIDS) {
        return;
    }
    for verify in [Duration::ZERO, Duration::from_millis(1)] {
        let mut victim = Victim::start("storm=60");
        assert_eq!(victim.line(), "storming");
        let kill = Kill::now().verify_within(verify);
        let begun = FairClock::start();
        let error = kill.tree(victim.pid()).unwrap_err();
        let elapsed = begun.elapsed();
        // The storm itself leaves this program little time on the machine.
        assert!(elapsed < verify + 4 * ROOM, "{elapsed:?}");
        // The storm may be over before the call returns its error.
        let kinds = [ErrorKind::Survivors, ErrorKind::Unproven];
        assert!(kinds.contains(&error.kind()), "{error}");
        // Each process that is left runs on, so it sees that it is let go.
        victim.let_go();
        victim.all_gone();
    }
}

/// The caller shares one processor with busy strangers that weigh far more than it does.
#[test]
fn a_caller_that_gets_no_processor_says_so() {
    if !alone!(a_caller_that_gets_no_processor_says_so in OWN_PIDS) {
        return;
    }
    if !std::path::Path::new("/proc/thread-self/schedstat").exists() {
        eprintln!("skipped: this kernel does not tell who waits for a processor");
        return;
    }
    on_one_processor();
    let mut victim = Victim::start(&format!("jobs={}", 200 / SLOWNESS));
    let busy: Vec<Victim> = (0..8).map(|_| Victim::start("spin")).collect();
    set_nice(19);
    let error = Kill::now().verify_within(Duration::ZERO).tree(victim.pid());
    let error = error.unwrap_err().to_string();
    drop(busy);
    assert!(error.ends_with(" s for a processor"), "{error}");
    victim.let_go();
    victim.all_gone();
}

#[test]
fn a_chain_in_a_group_of_the_tree_is_outrun() {
    if !alone!(a_chain_in_a_group_of_the_tree_is_outrun in OWN_PIDS) {
        return;
    }
    for _ in 0..runs(20) {
        let mut victim = Victim::start("setpgid { leapfrog=stay }");
        kill_tree(victim.pid()).unwrap();
        victim.all_gone();
    }
}

/// The kernel continues the stopped members of a group that becomes orphaned (setpgid(2)). The end of
/// a parent orphans the groups of its children. So each child must get SIGKILL first.
#[test]
fn no_member_is_continued_by_the_end_of_its_parent() {
    type Call = fn(&Kill, u32) -> process_kill::Result<Report>;
    let calls: [(&str, Call); 3] = [
        ("setsid jobs=100", |kill, root| kill.tree(root)),
        ("setpgid jobs=100", |kill, root| kill.tree(root)),
        ("setpgid jobs=100", |kill, root| kill.jobs(&[root])),
    ];
    for (spec, call) in calls {
        for _ in 0..runs(5) {
            let mut victim = Victim::start(spec);
            let report = call(&now(), victim.pid()).unwrap();
            assert_eq!(report.len(), 101);
            assert_eq!(victim.last_words(), "", "{spec}");
        }
    }
}

/// It has ended by the time that the births are looked at once more.
#[test]
fn a_member_that_was_born_in_the_call_leaves_no_doubt() {
    if !alone!(a_member_that_was_born_in_the_call_leaves_no_doubt in OWN_PIDS) {
        return;
    }
    let mut victim = Victim::start("heir=stay");
    let kill = Kill::graceful().grace(Duration::from_millis(100));
    let report = kill.tree(victim.pid()).unwrap();
    assert_eq!(victim.last_words(), "heir\n");
    assert_eq!(report.len(), 2);
    assert_eq!(report.coverage(), Coverage::Exact);
}

/// Someone else continues a stopped member before it gets SIGKILL.
#[test]
fn a_member_that_is_woken_has_no_secret_child() {
    if !alone!(a_member_that_is_woken_has_no_secret_child in OWN_PIDS) {
        return;
    }
    for _ in 0..runs(20) {
        let mut victim = Victim::start("jobs=20 heir=woken");
        let root = victim.pid();
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !matches!(states(root)[..], ['T' | 'Z'] | []) {}
                // SAFETY: sends a signal to a child that was not reaped.
                unsafe { libc::kill(root as i32, libc::SIGCONT) };
            });
            kill_tree(root)
        });
        if ended.is_ok_and(|report| report.coverage() == Coverage::Exact) {
            assert!(victim.is_all_gone(Duration::from_secs(5)));
        }
        victim.let_go();
        victim.all_gone();
    }
}

#[test]
fn siblings_in_the_group_are_neither_killed_nor_stopped() {
    for kill in [now(), Kill::graceful().grace(PATIENCE)] {
        let victim = Victim::start("setpgid { { } } { } { }");
        let parents = |pid: &u32| !process_kill::descendant_pids(*pid).unwrap().is_empty();
        let root = victim.others().into_iter().find(parents).unwrap();
        let below = process_kill::descendant_pids(root).unwrap()[0];
        let rest: Vec<u32> = (victim.pids().into_iter())
            .filter(|&pid| pid != root && pid != below)
            .collect();
        assert_eq!(rest.len(), 3);
        let report = unmoved(&rest, || kill.tree(root).unwrap());
        let pids: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [root, below]);
    }
}

#[test]
fn strangers_in_a_group_that_the_tree_leads_are_left_alone() {
    let mut leader = stubborn("{ }");
    leader.process_group(0);
    let mut leader = Victim::spawn(leader);
    let group = i32::try_from(leader.pid()).unwrap();
    let mut stranger = stubborn("");
    stranger.process_group(group);
    let mut stranger = Victim::spawn(stranger);
    let report = unmoved(&[stranger.pid()], || kill_tree(leader.pid()).unwrap());
    assert_eq!(sorted(&report, Outcome::Killed), leader.pids());
    leader.all_gone();
    assert!(stranger.answers());
}

/// If init is the parent of the root, an orphan cannot be told from other children of init. A group
/// that the root leads is then not killed as a whole.
#[test]
fn strangers_in_a_group_led_by_a_child_of_init_are_left_alone() {
    let name = "strangers_in_a_group_led_by_a_child_of_init_are_left_alone";
    if !is_root(name)
        || !alone!(strangers_in_a_group_led_by_a_child_of_init_are_left_alone in OWN_PIDS)
    {
        return;
    }
    let daemon = || {
        let family = Victim::start("{ setpgid } exit");
        let daemon = family.others()[0];
        eventually("init adopts it", || {
            let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap();
            stat.contains(") S 1 ")
        });
        (family, daemon)
    };
    let (mut family, leader) = daemon();
    let mut stranger = stubborn("");
    stranger.process_group(leader.try_into().unwrap());
    let mut stranger = Victim::spawn(stranger);
    let report = unmoved(&[stranger.pid()], || kill_tree(leader).unwrap());
    assert_eq!(outcomes(&report), [(leader, Outcome::Killed)]);
    family.all_gone();
    assert!(stranger.answers());

    // The caller must not be stopped, like every other process.
    let (mut family, leader) = daemon();
    let led = nix::unistd::Pid::from_raw(leader.try_into().unwrap());
    let caller = nix::unistd::Pid::from_raw(0);
    nix::unistd::setpgid(caller, led).unwrap();
    let report = kill_tree(leader).unwrap();
    assert_eq!(outcomes(&report), [(leader, Outcome::Killed)]);
    family.all_gone();
}

#[test]
fn nobody_is_left_stopped_who_may_not_be_killed() {
    if !is_root("nobody_is_left_stopped_who_may_not_be_killed") {
        return;
    }
    for kill in [now(), Kill::graceful().grace(PATIENCE)] {
        let kill = kill.verify_within(PATIENCE);
        let mut victim = Victim::start("{ ignore=TERM } { nobody } { stop }");
        eventually("the stop", || {
            victim.pids().iter().any(|&pid| is_stopped(pid))
        });
        let stopped = victim
            .pids()
            .into_iter()
            .find(|&pid| is_stopped(pid))
            .unwrap();
        let begun = Instant::now();
        let error = as_nobody(|| kill.tree(victim.pid()).unwrap_err());
        assert!(begun.elapsed() < PATIENCE / 3);
        assert_eq!(error.report().unwrap().len(), 1);
        assert_eq!(reasons(&error).len(), 3);
        assert_eq!(reasons(&error)[0], (victim.pid(), Reason::NotPermitted));
        for (pid, reason) in reasons(&error) {
            assert_eq!(reason, Reason::NotPermitted);
            // A process that another process has stopped stays stopped.
            assert_eq!(is_stopped(pid), pid == stopped, "{pid}");
        }
        assert!(victim.answers());
    }
}

#[test]
fn orphans_are_killed_even_if_a_member_may_not_be() {
    if !is_root("orphans_are_killed_even_if_a_member_may_not_be") {
        return;
    }
    let victim = Victim::start("setpgid { } { { nobody } exit } nobody");
    eventually("the middle one exits", || living(&victim).len() == 3);
    let error = as_nobody(|| kill_tree(victim.pid()).unwrap_err());
    assert_eq!(reasons(&error).len(), 1);
    let (forbidden, reason) = reasons(&error)[0];
    assert_eq!(reason, Reason::NotPermitted);
    assert_eq!(living(&victim), [forbidden]);
    assert_eq!(error.report().unwrap().len(), 2);
    assert!(is_going(forbidden));
}

#[test]
fn an_error_in_the_middle_leaves_nobody_stopped() {
    // The root is already stopped when its threads are counted.
    let calls = [libc::SYS_newfstatat, libc::SYS_statx];
    let victim = Victim::start("{ } { { } }");
    let error = filtered(&calls, libc::EIO, || kill_tree(victim.pid()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unproven);
    assert_eq!(reasons(&error), []);
    assert_eq!(states(victim.pid()), ['Z']);
    for pid in victim.others() {
        assert!(is_going(pid), "{pid}");
    }
}

#[test]
fn a_refused_first_signal_stops_nobody() {
    let mut victim = Victim::start("{ }");
    let pids = victim.pids();
    let error = unmoved(&pids, || {
        let kill = Kill::graceful().first_signal(65);
        kill.tree(victim.pid()).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(victim.answers());
}

#[test]
fn two_threads_may_kill_the_same_tree() {
    for _ in 0..10 {
        let mut victim = Victim::start("{ } { { ignore=TERM } } wide=20");
        let root = victim.pid();
        thread::scope(|scope| {
            let kills = [
                now(),
                now(),
                Kill::graceful().grace(Duration::from_millis(50)),
            ];
            let calls = kills.map(|kill| scope.spawn(move || kill.tree(root)));
            for call in calls {
                call.join().unwrap().unwrap();
            }
        });
        victim.all_gone();
    }
}

#[test]
fn a_tree_is_killed_by_a_drop_during_a_panic() {
    struct KillOnDrop(u32);
    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            kill_tree(self.0).unwrap();
        }
    }
    let mut victim = Victim::start("{ { } }");
    let root = victim.pid();
    let panicked = thread::spawn(move || {
        let _kill = KillOnDrop(root);
        std::panic::resume_unwind(Box::new(()));
    });
    panicked.join().unwrap_err();
    victim.all_gone();
}

#[test]
fn an_obedient_tree_ends_the_grace_at_once() {
    let mut victim = Victim::start("{ } { { } }");
    let report = Kill::graceful()
        .grace(Duration::MAX)
        .tree(victim.pid())
        .unwrap();
    assert_eq!(report.iter().next().unwrap().0, victim.pid());
    assert_eq!(sorted(&report, Outcome::Exited), victim.pids());
    victim.all_gone();
}

#[test]
fn a_stubborn_grandchild_of_an_obedient_leader_is_killed() {
    let mut victim = Victim::start("{ { ignore=TERM } }");
    let below = process_kill::descendant_pids(victim.pid()).unwrap();
    let kill = Kill::graceful().grace(Duration::from_millis(200));
    let begun = FairClock::start();
    let report = kill.tree(victim.pid()).unwrap();
    let elapsed = begun.elapsed();
    let expected = [
        (victim.pid(), Outcome::Exited),
        (below[0], Outcome::Exited),
        (below[1], Outcome::Killed),
    ];
    assert_eq!(outcomes(&report), expected);
    assert!(report.elapsed() >= Duration::from_millis(200));
    assert!(elapsed < Duration::from_millis(2200) + 4 * ROOM);
    victim.all_gone();
}

#[test]
fn who_is_forked_on_the_first_signal_is_killed() {
    if !alone!(who_is_forked_on_the_first_signal_is_killed in OWN_PIDS) {
        return;
    }
    // In the three trees, the new process has its parent, is in a group that the root leads, or is
    // in a group that another member leads.
    for spec in ["{ heir=stay }", "setpgid { heir }", "{ setsid { heir } }"] {
        {
            let mut victim = Victim::start(spec);
            let kill = Kill::graceful().grace(ROOM);
            let report = kill.tree(victim.pid()).unwrap();
            assert_eq!(victim.line(), "heir", "{spec}");
            assert_eq!(report.len(), victim.pids().len() + 1, "{spec}");
            let stay = usize::from(spec.contains("stay"));
            assert_eq!(report.pids(Outcome::Killed).len(), 1 + stay, "{spec}");
            victim.all_gone();
        }
    }
}

#[test]
fn a_dead_root_is_already_gone() {
    let mut victim = Victim::start("exit");
    let root = victim.pid();
    victim.until_zombie();
    for _ in 0..2 {
        for kill in [now(), Kill::graceful().grace(PATIENCE)] {
            let report = kill.tree(root).unwrap();
            assert_eq!(outcomes(&report), [(root, Outcome::AlreadyGone)]);
            assert!(report.elapsed() < PATIENCE / 3);
        }
        victim.child().wait().unwrap();
    }
}

#[test]
fn a_thread_or_a_kernel_thread_is_no_root() {
    let mut victim = Victim::start("threads=1 { }");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let tid = tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .find(|&tid: &u32| tid != victim.pid())
        .unwrap();
    let error = kill_tree_and_verify(tid).unwrap_err();
    assert_eq!(reasons(&error), [(tid, Reason::Thread)]);
    assert!(error.report().unwrap().is_empty());
    assert!(victim.answers());
    match std::fs::read("/proc/2/comm") {
        Ok(name) if name == b"kthreadd\n" => {
            let error = kill_tree_and_verify(2).unwrap_err();
            assert_eq!(reasons(&error), [(2, Reason::KernelThread)]);
        }
        _ => println!("skipped: no kernel thread is seen"),
    }
}

#[test]
fn init_and_the_caller_and_its_ancestors_are_refused() {
    let parent = std::os::unix::process::parent_id();
    for root in [0, 1, u32::MAX, 1 << 31, std::process::id(), parent] {
        for kill in [now(), Kill::graceful()] {
            let error = kill.tree(root).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{root}");
        }
    }
}

#[test]
fn a_member_that_is_held_is_a_survivor_and_the_rest_is_reported() {
    if !is_root("a_member_that_is_held_is_a_survivor_and_the_rest_is_reported") {
        return;
    }
    let (grace, verify) = (Duration::from_millis(200), Duration::from_secs(2));
    let mut victim = Victim::start("{ ignore=TERM } { }");
    let held = victim.others()[0];
    let mut tracer = Victim::start(&format!("trace={held}"));
    let kill = Kill::graceful().grace(grace).verify_within(verify);
    let begun = FairClock::start();
    let error = kill.tree(victim.pid()).unwrap_err();
    let elapsed = begun.elapsed();
    let by = tracer.pid();
    assert_eq!(reasons(&error), [(held, Reason::Traced { by })]);
    let report = error.report().unwrap();
    let rest: Vec<u32> = (victim.pids().into_iter())
        .filter(|&pid| pid != held)
        .collect();
    let mut gone: Vec<u32> = report.iter().map(|(pid, _)| pid).collect();
    gone.sort_unstable();
    assert_eq!(gone, rest);
    assert_eq!(report.iter().next(), Some((victim.pid(), Outcome::Exited)));
    assert!(elapsed < grace + verify + 4 * ROOM, "{elapsed:?}");
    tracer.let_go();
    tracer.all_gone();
    victim.all_gone();
}

//! The same results without pidfds: Linux before 5.3, or a filter that forbids them.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use process_kill::child::Registry;
use process_kill::{
    ErrorKind, Kill, Outcome, Process, ProcessId, Reason, sigkill_pids_and_verify, wait_until_gone,
};

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, as_nobody, asleep_in, eventually, filtered, is_root,
    outcomes, reasons, states, stubborn, without_pidfds,
};

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn children_and_orphans_are_killed_and_verified() {
    without_pidfds(|| {
        let mut victim = Victim::start("ignore=TERM { ignore=TERM } { setsid { threads=2 } }");
        let (first, all) = (victim.pid(), victim.pids());
        let report = sigkill_pids_and_verify(&[first]).unwrap();
        assert_eq!(outcomes(&report), [(first, Outcome::Killed)]);
        // The child is a zombie now. The others are orphans.
        let report = sigkill_pids_and_verify(&all).unwrap();
        assert_eq!(report.pids(Outcome::AlreadyGone), [first]);
        assert_eq!(report.pids(Outcome::Killed), victim.others());
        victim.all_gone();
        assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn killing_escalates() {
    without_pidfds(|| {
        let mut obedient = Victim::start("");
        let report = Kill::graceful().pids(&[obedient.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(obedient.pid(), Outcome::Exited)]);
        assert_eq!(obedient.child().wait().unwrap().signal(), Some(15));

        let stopped = Victim::start("stop");
        eventually("stopped", || states(stopped.pid()) == ['T']);
        let report = Kill::graceful().pids(&[stopped.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(stopped.pid(), Outcome::Exited)]);

        let mut stubborn = Victim::start("ignore=TERM");
        let kill = Kill::graceful().grace(MOMENT);
        let report = kill.pids(&[stubborn.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(stubborn.pid(), Outcome::Killed)]);
        assert!(report.elapsed() >= MOMENT);
        assert_eq!(stubborn.child().wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn trees_groups_and_patterns_are_killed_whole() {
    without_pidfds(|| {
        let mut tree = Victim::start("ignore=TERM { ignore=TERM { } } thread{ setsid } { stop }");
        let kill = Kill::graceful().grace(MOMENT);
        let report = kill.tree(tree.pid()).unwrap();
        assert_eq!(report.len(), 5);
        assert_eq!(report.iter().next(), Some((tree.pid(), Outcome::Killed)));
        tree.all_gone();

        let mut respawner = Victim::start("respawn{ { } }");
        Kill::now().tree(respawner.pid()).unwrap();
        respawner.all_gone();

        let mut command = stubborn("{ ignore=TERM } { }");
        command.process_group(0);
        let mut group = Victim::spawn(command);
        let report = kill.groups(&[group.pid()]).unwrap();
        assert_eq!(report.pids(Outcome::Exited).len(), 2);
        assert_eq!(report.pids(Outcome::Killed).len(), 1);
        group.all_gone();

        let mark = format!("no-pidfd-{}-{}", std::process::id(), group.pid());
        let mut command = stubborn("ignore=TERM");
        command.arg(&mark);
        let mut matching = Victim::spawn(command);
        let report = Kill::now().matching(&format!("{mark}$")).unwrap();
        assert_eq!(outcomes(&report), [(matching.pid(), Outcome::Killed)]);
        matching.all_gone();
    });
}

#[test]
fn a_zombie_is_gone() {
    without_pidfds(|| {
        let mut victim = Victim::start("exit");
        eventually("a zombie", || states(victim.pid()) == ['Z']);
        for report in [
            sigkill_pids_and_verify(&[victim.pid()]),
            wait_until_gone(&[victim.pid()], Duration::ZERO),
        ] {
            let gone = [(victim.pid(), Outcome::AlreadyGone)];
            assert_eq!(outcomes(&report.unwrap()), gone);
        }
        let id = ProcessId::of(victim.pid()).unwrap().unwrap();
        assert!(id.is_gone().unwrap());
        assert!(victim.child().wait().unwrap().success());
    });
}

#[test]
fn a_dead_leader_with_live_threads_is_not_gone() {
    without_pidfds(|| {
        // One is a child of the caller, and the other is not.
        for spec in ["leader-exits", "{ leader-exits }"] {
            let mut victim = Victim::start(spec);
            let pid = *victim.others().first().unwrap_or(&victim.pid());
            eventually("the leader's exit", || matches!(states(pid)[..], ['Z', _]));
            let id = ProcessId::of(pid).unwrap().unwrap();
            assert!(!id.is_gone().unwrap());
            let error = wait_until_gone(&[pid], MOMENT).unwrap_err();
            assert_eq!(reasons(&error), [(pid, Reason::StillRunning)]);
            assert_eq!(error.survivors()[0].state(), Some('Z'));
            let report = sigkill_pids_and_verify(&[pid]).unwrap();
            assert_eq!(outcomes(&report), [(pid, Outcome::Killed)]);
            assert!(id.is_gone().unwrap());
            victim.let_go();
            victim.all_gone();
        }
    });
}

#[test]
fn threads_are_refused() {
    without_pidfds(|| {
        let mut victim = Victim::start("threads=2");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
        let tids: Vec<u32> = tasks
            .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .filter(|&tid| tid != victim.pid())
            .collect();
        assert_eq!(tids.len(), 2);
        let refused = tids.iter().map(|&tid| (tid, Reason::Thread));
        let refused: Vec<_> = refused.collect();
        let error = sigkill_pids_and_verify(&tids).unwrap_err();
        assert_eq!(reasons(&error), refused);
        let error = wait_until_gone(&tids, Duration::ZERO).unwrap_err();
        assert_eq!(reasons(&error), refused);
        assert_eq!(ProcessId::of(tids[0]).unwrap(), None);
        assert!(victim.answers());
    });
}

#[test]
fn bad_numbers_do_not_protect_the_others() {
    without_pidfds(|| {
        let mut reaped = Victim::start("");
        let nobody = reaped.pid();
        reaped.child().kill().unwrap();
        reaped.child().wait().unwrap();
        let victim = Victim::start("");
        let me = std::process::id();
        let all = [0, 1, me, u32::MAX, 1 << 31, nobody, victim.pid()];
        let error = sigkill_pids_and_verify(&all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Survivors);
        let refused = [
            (0, Reason::InvalidPid),
            (1, Reason::Init),
            (me, Reason::Caller),
            (u32::MAX, Reason::InvalidPid),
            (1 << 31, Reason::InvalidPid),
        ];
        assert_eq!(reasons(&error), refused);
        let gone = [
            (nobody, Outcome::AlreadyGone),
            (victim.pid(), Outcome::Killed),
        ];
        assert_eq!(outcomes(error.report().unwrap()), gone);
    });
}

#[test]
fn kernel_threads_are_refused() {
    const KTHREADD: u32 = 2;
    if !std::fs::read("/proc/2/stat").is_ok_and(|stat| stat.starts_with(b"2 (kthreadd)")) {
        println!("skipped: kernel_threads_are_refused sees none in its PID namespace");
        return;
    }
    without_pidfds(|| {
        let error = sigkill_pids_and_verify(&[KTHREADD]).unwrap_err();
        assert_eq!(reasons(&error), [(KTHREADD, Reason::KernelThread)]);
    });
}

#[test]
fn a_stale_identity_is_gone_and_its_successor_not_signalled() {
    // Alone, so that no other process takes the number.
    if !is_root("a_stale_identity_is_gone_and_its_successor_not_signalled")
        || !alone!(a_stale_identity_is_gone_and_its_successor_not_signalled in OWN_PIDS)
    {
        return;
    }
    without_pidfds(|| {
        let mut first = Victim::start("");
        let pid = first.pid();
        let id = ProcessId::of(pid).unwrap().unwrap();
        let report = Kill::now().processes(&[id]).unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::Killed)]);
        first.child().wait().unwrap();
        let stale = |id: &ProcessId| {
            assert!(id.is_gone().unwrap());
            let report = Kill::now().processes(&[*id]).unwrap();
            assert_eq!(outcomes(&report), [(pid, Outcome::AlreadyGone)]);
        };
        stale(&id);

        // Without inode numbers only the start time tells the two apart.
        eventually("the next tick", || uptime() > id.start_time() + 1);
        let mut successor = Victim::start(&format!("reuse={pid}"));
        assert_eq!(successor.ready, [(pid, None)]);
        stale(&id);
        assert!(successor.answers());
        let report = sigkill_pids_and_verify(&[pid]).unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::Killed)]);
        successor.all_gone();
    });
}

#[test]
fn a_child_that_another_thread_reaped_is_gone_though_its_number_lives_on() {
    if !is_root("a_child_that_another_thread_reaped_is_gone_though_its_number_lives_on")
        || !alone!(a_child_that_another_thread_reaped_is_gone_though_its_number_lives_on in OWN_PIDS)
    {
        return;
    }
    // This is as with a full table: there is no pidfd, and /proc cannot be read.
    let no_room = [libc::SYS_pidfd_open, libc::SYS_openat];
    let mut first = Victim::start("");
    let pid = first.pid();
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            filtered(&no_room, libc::EMFILE, || {
                tell.send(nix::unistd::gettid()).unwrap();
                wait_until_gone(&[pid], PATIENCE)
            })
        });
        let tid = told.recv().unwrap();
        asleep_in(tid, libc::SYS_ppoll);
        let first_sleep = sleeps(tid);
        // By then the pauses are long, and one has just begun. The call may still look in between,
        // and see a zombie or no process.
        eventually("long pauses", || sleeps(tid) >= first_sleep + 10);
        first.child().kill().unwrap();
        first.child().wait().unwrap();
        let mut successor = Victim::start(&format!("reuse={pid}"));
        let report = waiting.join().unwrap().unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::Exited)]);
        assert!(successor.answers());
    });
}

/// How many times a thread of this program has gone to sleep.
fn sleeps(tid: nix::unistd::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

/// In clock ticks of 10 ms, as in proc_pid_stat(5) field 22 on every common architecture.
fn uptime() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    uptime
        .split(' ')
        .next()
        .unwrap()
        .replace('.', "")
        .parse()
        .unwrap()
}

#[test]
fn the_wait_ends_when_the_last_one_does() {
    without_pidfds(|| {
        // A child of the caller, and a process that is not one.
        let mut victim = Victim::start("{ }");
        let all = victim.pids();
        let (tell, told) = channel();
        let report = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                tell.send(nix::unistd::gettid()).unwrap();
                wait_until_gone(&all, Duration::MAX)
            });
            asleep_in(told.recv().unwrap(), libc::SYS_ppoll);
            victim.let_go();
            waiting.join().unwrap()
        });
        assert_eq!(report.unwrap().pids(Outcome::Exited), all);
        assert!(victim.child().wait().unwrap().success());
    });
}

#[test]
fn the_wait_keeps_its_deadline() {
    without_pidfds(|| {
        let victim = Victim::start("{ }");
        let begun = Instant::now();
        let error = wait_until_gone(&victim.pids(), MOMENT).unwrap_err();
        assert!((MOMENT..PATIENCE).contains(&begun.elapsed()));
        let all = victim.pids();
        let running = all.iter().map(|&pid| (pid, Reason::StillRunning));
        assert_eq!(reasons(&error), running.collect::<Vec<_>>());
    });
}

#[test]
fn one_held_by_a_debugger_is_a_survivor() {
    without_pidfds(|| {
        let victim = Victim::start("");
        let pid = victim.pid();
        let mut tracer = Victim::start(&format!("trace={pid}"));
        let kill = Kill::now().verify_within(MOMENT);
        let error = kill.pids(&[pid]).unwrap_err();
        let by = tracer.pid();
        assert_eq!(tracer.line(), "held");
        // The test cannot decide whether the process was held before the time was up.
        let error = match reasons(&error)[..] {
            [(_, Reason::Traced { .. })] => error,
            _ => kill.pids(&[pid]).unwrap_err(),
        };
        assert_eq!(reasons(&error), [(pid, Reason::Traced { by })]);
        sigkill_pids_and_verify(&[by]).unwrap();
        wait_until_gone(&[pid], PATIENCE).unwrap();
    });
}

#[test]
fn what_may_not_be_signalled_is_watched() {
    if !is_root("what_may_not_be_signalled_is_watched") {
        return;
    }
    without_pidfds(|| {
        let mut foreign = Victim::start("");
        let mut command = stubborn("ignore=TERM");
        command.uid(65534).gid(65534);
        let mut own = Victim::spawn(command);
        let pids = [foreign.pid(), own.pid()];
        let (tell, told) = channel();
        let attempt = || {
            let kill = Kill::now().verify_within(PATIENCE);
            let error = kill.pids(&pids[..1]).unwrap_err();
            assert_eq!(reasons(&error), [(pids[0], Reason::NotPermitted)]);
            // No signal was sent, so the call had nothing to wait for.
            assert!(error.report().unwrap().elapsed() < PATIENCE / 2);
            tell.send(nix::unistd::gettid()).unwrap();
            Kill::graceful().grace(Duration::MAX).pids(&pids)
        };
        std::thread::scope(|scope| {
            let killing = scope.spawn(|| as_nobody(attempt));
            asleep_in(told.recv().unwrap(), libc::SYS_ppoll);
            foreign.let_go();
            eventually("its end", || states(foreign.pid()) == ['Z']);
            own.let_go();
            let report = killing.join().unwrap().unwrap();
            assert_eq!(outcomes(&report), pids.map(|pid| (pid, Outcome::Exited)));
        });
        assert!(foreign.child().wait().unwrap().success());
        assert!(own.child().wait().unwrap().success());
    });
}

#[test]
fn a_process_cannot_be_pinned() {
    without_pidfds(|| {
        let victim = Victim::start("");
        let error = Process::open(victim.pid()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let source = std::error::Error::source(&error).unwrap();
        let source: &io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::Unsupported);
    });
}

#[test]
fn identities_hold_all_the_same() {
    without_pidfds(|| {
        let mut victim = Victim::start("");
        let id = ProcessId::of(victim.pid()).unwrap().unwrap();
        assert_eq!(id.pid(), victim.pid());
        let again: ProcessId = id.to_string().parse().unwrap();
        assert_eq!(again, id);
        assert!(!again.is_gone().unwrap());
        let report = Kill::graceful().processes(&[again]).unwrap();
        assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Exited)]);
        assert!(id.is_gone().unwrap());
        victim.child().wait().unwrap();
        assert!(id.is_gone().unwrap());
        assert_eq!(ProcessId::of(victim.pid()).unwrap(), None);
    });
}

#[test]
fn a_filter_may_forbid_the_signal_alone() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        filtered(&[libc::SYS_pidfd_send_signal], errno, || {
            let mut victim = Victim::start("ignore=TERM { ignore=TERM }");
            let all = victim.pids();
            let report = Kill::graceful().grace(MOMENT).pids(&all).unwrap();
            assert_eq!(report.pids(Outcome::Killed), all);
            victim.all_gone();
            let report = sigkill_pids_and_verify(&all).unwrap();
            assert_eq!(report.pids(Outcome::AlreadyGone), all);
        });
    }
}

#[test]
fn permission_is_told_where_the_signal_alone_is_forbidden() {
    if !is_root("permission_is_told_where_the_signal_alone_is_forbidden") {
        return;
    }
    for errno in [libc::ENOSYS, libc::EPERM] {
        filtered(&[libc::SYS_pidfd_send_signal], errno, || {
            let mut victim = Victim::start("");
            let pid = victim.pid();
            let error = as_nobody(|| sigkill_pids_and_verify(&[pid])).unwrap_err();
            assert_eq!(reasons(&error), [(pid, Reason::NotPermitted)]);
            assert!(victim.answers());
        });
    }
}

/// The pidfd of a reaped process polls `POLLHUP` since Linux 6.9. A filter of the signal does not
/// hide that.
#[test]
fn a_later_group_is_spared_where_the_signal_alone_is_forbidden() {
    let test = "a_later_group_is_spared_where_the_signal_alone_is_forbidden";
    if !is_root(test)
        || !alone!(a_later_group_is_spared_where_the_signal_alone_is_forbidden in OWN_PIDS)
    {
        return;
    }
    let me = ProcessId::of(std::process::id()).unwrap().unwrap();
    if me.to_string().contains(":-:") {
        println!("skipped: {test} needs the pidfds of Linux 6.9");
        return;
    }
    for errno in [libc::ENOSYS, libc::EPERM] {
        filtered(&[libc::SYS_pidfd_send_signal], errno, || {
            let mut old = Victim::start("setpgid");
            let pid = old.pid();
            let registry = Registry::new();
            let ticket = registry.add_group(pid).unwrap();
            old.let_go();
            old.all_gone();
            old.child().wait().unwrap();
            let mut later = Victim::start(&format!("reuse={pid} setpgid"));
            assert_eq!(later.ready, [(pid, None)]);
            assert!(registry.kill_all(&Kill::now()).unwrap().is_empty());
            assert!(later.answers());
            drop(ticket);
        });
    }
}

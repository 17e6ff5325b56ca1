//! Kill by pid, and verify.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use process_kill::{
    Coverage, ErrorKind, Kill, Outcome, ProcessId, Reason, Report, Result, sigkill_pids_and_verify,
    wait_until_gone,
};

use super::fixture::{PATIENCE, Victim, alone, eventually, is_pinned, signal_thread, states};

/// Well below [`PATIENCE`]. A call has that much time, and must not use it up.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);

/// Names targets by pid or by identity.
pub(crate) type Way = fn(&Kill, &[u32]) -> Result<Report>;

/// Runs the test for both ways, side by side.
pub(crate) fn both_ways(test: impl Fn(Way) + Sync) {
    let by_pid: Way = |kill, pids| kill.pids(pids);
    let by_identity: Way = |kill, pids| {
        let id = |&pid| ProcessId::of(pid).unwrap().unwrap();
        kill.processes(&pids.iter().map(id).collect::<Vec<_>>())
    };
    let test = &test;
    thread::scope(|scope| {
        for way in [by_pid, by_identity] {
            scope.spawn(move || test(way));
        }
    });
}

pub(crate) fn outcomes(report: &Report) -> Vec<(u32, Outcome)> {
    report.iter().collect()
}

/// An exited child that is not reaped.
pub(crate) fn zombie(spec: &str) -> Victim {
    let victim = Victim::start(spec);
    eventually("a zombie", || states(victim.pid()) == ['Z']);
    victim
}

/// Lets go of a single victim and waits until it ends. End-of-file alone would come too early,
/// because files are closed before the process is gone.
pub(crate) fn exit(victim: &mut Victim) {
    victim.let_go();
    eventually("a zombie", || states(victim.pid()) == ['Z']);
}

fn stopped() -> Victim {
    let victim = Victim::start("stop");
    eventually("the stop", || states(victim.pid()) == ['T']);
    victim
}

fn status(victim: &mut Victim) -> ExitStatus {
    victim.child().wait().unwrap()
}

#[test]
fn a_killed_child_is_gone_and_keeps_its_status() {
    let mut victim = Victim::start("ignore=TERM ignore=HUP");
    let report = sigkill_pids_and_verify(&[victim.pid()]).unwrap();
    assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Killed)]);
    assert_eq!(report.coverage(), Coverage::Exact);
    victim.all_gone();
    assert_eq!(status(&mut victim).signal(), Some(9));
}

#[test]
fn orphans_are_killed_too() {
    let mut victim = Victim::start("{ ignore=TERM } { setsid { } } thread{ threads=3 }");
    let all = victim.pids();
    sigkill_pids_and_verify(&[victim.pid()]).unwrap();
    let report = sigkill_pids_and_verify(&all).unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), [victim.pid()]);
    assert_eq!(report.pids(Outcome::Killed), victim.others());
    victim.all_gone();
}

#[test]
fn strangers_are_killed_and_their_zombies_are_gone() {
    both_ways(|way| {
        // The parent lives on and never waits for these.
        let victim = Victim::start("{ ignore=TERM } { threads=3 }");
        let others = victim.others();
        let report = way(&Kill::now(), &others).unwrap();
        assert_eq!(report.pids(Outcome::Killed), others);
        for &pid in &others {
            assert_eq!(states(pid), ['Z']);
        }
        let report = way(&Kill::graceful().grace(PATIENCE), &others).unwrap();
        assert_eq!(report.pids(Outcome::AlreadyGone), others);
        assert!(report.elapsed() < AT_ONCE, "{report:?}");
        let error = wait_until_gone(&[victim.pid()], Duration::ZERO).unwrap_err();
        assert_eq!(error.survivors()[0].reason(), Reason::StillRunning);
    });
}

#[test]
fn a_zombie_is_gone_and_keeps_its_exit_code() {
    both_ways(|way| {
        let mut victim = zombie("exit=7");
        let pid = victim.pid();
        for kill in [Kill::now(), Kill::graceful()] {
            let kill = kill.verify_within(PATIENCE);
            let report = way(&kill, &[pid]).unwrap();
            assert_eq!(outcomes(&report), [(pid, Outcome::AlreadyGone)]);
            assert!(report.elapsed() < AT_ONCE, "{report:?}");
        }
        let report = wait_until_gone(&[pid], PATIENCE).unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::AlreadyGone)]);
        assert_eq!(status(&mut victim).code(), Some(7));
        // The process is reaped now, so it does not exist.
        let report = sigkill_pids_and_verify(&[pid]).unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::AlreadyGone)]);
    });
}

#[test]
fn an_obedient_child_ends_the_grace_before_it_is_waited_for() {
    both_ways(|way| {
        let mut victim = Victim::start("");
        let report = way(&Kill::graceful().grace(PATIENCE), &[victim.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Exited)]);
        assert!(report.elapsed() < AT_ONCE, "{report:?}");
        assert_eq!(states(victim.pid()), ['Z']);
        assert_eq!(status(&mut victim).signal(), Some(15));
    });
}

#[test]
fn a_dead_leader_hides_no_living_thread() {
    both_ways(|way| {
        let mut victim = Victim::start("leader-exits");
        let pid = victim.pid();
        eventually("the end of the leader", || states(pid) == ['Z', 'S']);
        let error = wait_until_gone(&[pid], Duration::ZERO).unwrap_err();
        assert_eq!(error.survivors()[0].reason(), Reason::StillRunning);
        assert_eq!(error.survivors()[0].state(), Some('Z'));
        assert!(victim.answers());
        let report = way(&Kill::now(), &[pid]).unwrap();
        assert_eq!(outcomes(&report), [(pid, Outcome::Killed)]);
        victim.all_gone();
        assert_eq!(status(&mut victim).signal(), Some(9));
    });
}

#[test]
fn ports_and_locks_are_free_when_it_returns() {
    // No other test run uses this address, so none can take a port in between.
    let address = Ipv4Addr::from(0x7f00_0000 | std::process::id());
    let dir = tempfile::tempdir().unwrap();
    for kill in [Kill::now(), Kill::graceful().grace(PATIENCE)] {
        let kill = kill.verify_within(PATIENCE);
        for count in [1, 3] {
            let locks = ["a", "b", "c"].map(|name| dir.path().join(name));
            let mut victims: Vec<Victim> = locks[..count]
                .iter()
                .map(|lock| {
                    let lock = lock.display();
                    // The kernel takes back memory before it closes files.
                    Victim::start(&format!("memory=64 listen={address} flock={lock}"))
                })
                .collect();
            let pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
            let report = kill.pids(&pids);
            let ports = victims.iter().map(|victim| {
                let (_, port) = victim.ready[0];
                TcpListener::bind((address, port.unwrap()))
            });
            let ports: Vec<_> = ports.collect();
            let locks = locks[..count].iter().map(|lock| {
                let file = File::open(lock).unwrap();
                Flock::lock(file, FlockArg::LockExclusiveNonblock)
            });
            let locks: Vec<_> = locks.collect();
            assert_eq!(report.unwrap().len(), count);
            for (port, lock) in ports.into_iter().zip(locks) {
                port.unwrap();
                lock.map_err(|(_, e)| e).unwrap();
            }
            victims.iter_mut().for_each(Victim::all_gone);
        }
    }
}

#[test]
fn the_first_signal_is_the_chosen_one() {
    both_ways(|way| {
        for signal in [1, libc::SIGUSR1, libc::SIGRTMIN(), 64] {
            let mut victim = Victim::start("ignore=TERM");
            let kill = Kill::graceful().grace(PATIENCE).first_signal(signal);
            let report = way(&kill, &[victim.pid()]).unwrap();
            assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Exited)]);
            assert_eq!(status(&mut victim).signal(), Some(signal));
        }
    });
}

#[test]
fn a_stopped_process_is_woken_to_obey() {
    both_ways(|way| {
        let mut victim = stopped();
        let report = way(&Kill::graceful().grace(PATIENCE), &[victim.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Exited)]);
        assert!(report.elapsed() < AT_ONCE, "{report:?}");
        assert_eq!(status(&mut victim).signal(), Some(15));
    });
}

#[test]
fn sigkill_needs_no_wake_up() {
    both_ways(|way| {
        let mut victim = stopped();
        let report = way(&Kill::now(), &[victim.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Killed)]);
        assert_eq!(status(&mut victim).signal(), Some(9));
    });
}

#[test]
fn one_grace_is_shared_by_all() {
    const GRACE: Duration = Duration::from_millis(500);
    both_ways(|way| {
        let victims: Vec<Victim> = (0..10).map(|_| Victim::start("ignore=TERM")).collect();
        let pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
        let kill = Kill::graceful().grace(GRACE).verify_within(PATIENCE);
        let report = way(&kill, &pids).unwrap();
        assert_eq!(report.pids(Outcome::Killed), pids);
        assert!(report.elapsed() >= GRACE, "{report:?}");
        assert!(report.elapsed() < 8 * GRACE, "{report:?}");
    });
}

#[test]
fn each_of_a_mixed_list_has_its_own_outcome() {
    both_ways(|way| {
        let (gone, mut stubborn) = (zombie("exit"), Victim::start("ignore=TERM"));
        let (mut obedient, mut asleep) = (Victim::start("threads=3"), stopped());
        let leaderless = Victim::start("leader-exits");
        let pid = leaderless.pid();
        eventually("the end of the leader", || states(pid) == ['Z', 'S']);
        let named = [&stubborn, &gone, &leaderless, &obedient, &asleep, &gone];
        let kill = Kill::graceful().grace(Duration::from_secs(2));
        let report = way(&kill, &named.map(Victim::pid)).unwrap();
        let expected = [
            (stubborn.pid(), Outcome::Killed),
            (gone.pid(), Outcome::AlreadyGone),
            (leaderless.pid(), Outcome::Exited),
            (obedient.pid(), Outcome::Exited),
            (asleep.pid(), Outcome::Exited),
        ];
        assert_eq!(outcomes(&report), expected);
        assert_eq!(report.pids(Outcome::Killed), [stubborn.pid()]);
        assert_eq!((report.len(), report.is_empty()), (5, false));
        assert_eq!(status(&mut stubborn).signal(), Some(9));
        assert_eq!(status(&mut obedient).signal(), Some(15));
        assert_eq!(status(&mut asleep).signal(), Some(15));
    });
}

#[test]
fn duplicates_are_reported_once_in_the_order_first_named() {
    both_ways(|way| {
        let victims = [""; 3].map(Victim::start);
        let [a, b, c] = victims.each_ref().map(Victim::pid);
        let named = [c, a, c, b, a, c];
        let error = wait_until_gone(&named, Duration::ZERO).unwrap_err();
        let still: Vec<u32> = error.survivors().iter().map(|s| s.pid()).collect();
        assert_eq!(still, [c, a, b]);
        let report = way(&Kill::now(), &named).unwrap();
        let killed = [c, a, b].map(|pid| (pid, Outcome::Killed));
        assert_eq!(outcomes(&report), killed);
    });
}

#[test]
fn nobody_to_kill_is_an_empty_report() {
    for report in [
        sigkill_pids_and_verify(&[]),
        Kill::graceful().pids(&[]),
        Kill::graceful().processes(&[]),
        wait_until_gone(&[], Duration::MAX),
    ] {
        let report = report.unwrap();
        assert_eq!((report.len(), report.is_empty()), (0, true));
        assert_eq!(outcomes(&report), []);
        assert_eq!(report.coverage(), Coverage::Exact);
    }
}

#[test]
fn a_bad_first_signal_is_refused_and_nothing_is_sent() {
    both_ways(|way| {
        let mut victim = Victim::start("");
        for signal in [i32::MIN, -9, -1, 0, 65, i32::MAX] {
            for kill in [Kill::now(), Kill::graceful()] {
                let error = way(&kill.first_signal(signal), &[victim.pid()]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Refused);
                assert!(error.survivors().is_empty());
                assert!(error.report().is_none());
            }
        }
        assert!(victim.answers());
    });
}

#[test]
fn with_sigkill_as_first_signal_or_no_grace_sigkill_comes_at_once() {
    both_ways(|way| {
        for kill in [
            Kill::graceful().grace(PATIENCE).first_signal(libc::SIGKILL),
            Kill::graceful().grace(Duration::ZERO),
            Kill::now().first_signal(libc::SIGTERM),
        ] {
            let mut victim = Victim::start("");
            let report = way(&kill, &[victim.pid()]).unwrap();
            assert_eq!(outcomes(&report), [(victim.pid(), Outcome::Killed)]);
            assert!(report.elapsed() < AT_ONCE, "{report:?}");
            assert_eq!(status(&mut victim).signal(), Some(9));
        }
    });
}

#[test]
fn a_time_without_end_ends_with_the_process() {
    both_ways(|way| {
        let for_ever = Kill::graceful()
            .grace(Duration::MAX)
            .verify_within(Duration::MAX);
        let [obedient, stubborn] = ["", "ignore=TERM"].map(Victim::start);
        let report = way(&for_ever, &[obedient.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(obedient.pid(), Outcome::Exited)]);
        let report = way(&for_ever.grace(Duration::from_millis(1)), &[stubborn.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(stubborn.pid(), Outcome::Killed)]);
        let report = wait_until_gone(&[obedient.pid(), stubborn.pid()], Duration::MAX).unwrap();
        assert_eq!(report.pids(Outcome::AlreadyGone).len(), 2);
    });
}

#[test]
fn waiting_sees_the_end_and_sends_nothing() {
    for within in [PATIENCE, Duration::MAX] {
        let mut victim = Victim::start("{ threads=2 }");
        let pids = victim.pids();
        let mut last = Victim::start("");
        let named = [pids.as_slice(), &[last.pid()]].concat();
        thread::scope(|scope| {
            let call = scope.spawn(|| wait_until_gone(&named, within));
            // The targets are pinned one after another, so the other ones are watched by then.
            eventually("the wait", || is_pinned(last.pid()));
            victim.let_go();
            victim.all_gone();
            assert!(!call.is_finished());
            last.let_go();
            let report = call.join().unwrap().unwrap();
            assert_eq!(report.len(), 3);
            assert_eq!(report.pids(Outcome::Exited)[..2], pids);
        });
        assert_eq!(status(&mut victim).code(), Some(0));
        assert_eq!(status(&mut last).code(), Some(0));
    }
}

#[test]
fn who_ends_while_survivors_are_looked_at_was_not_killed() {
    // The call asks every thread why the process lives on. The other target ends during that time.
    let crowd = Victim::start("threads=1000");
    for _ in 0..10 {
        let mut late = Victim::start("");
        let named = [crowd.pid(), late.pid()];
        let end = thread::scope(|scope| {
            let call = scope.spawn(|| wait_until_gone(&named, Duration::ZERO));
            // The call waits for nothing, so it may be over before this sees it.
            eventually("the wait", || call.is_finished() || is_pinned(late.pid()));
            late.let_go();
            call.join().unwrap()
        });
        let error = end.unwrap_err();
        let report = error.report().unwrap();
        assert_eq!(report.pids(Outcome::Killed), []);
    }
}

#[test]
fn a_wait_holds_one_deadline_for_all() {
    const WITHIN: Duration = Duration::from_millis(500);
    let victims: Vec<Victim> = (0..10).map(|_| Victim::start("")).collect();
    let mut gone = Victim::start("");
    exit(&mut gone);
    let mut pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
    pids.insert(5, gone.pid());
    let error = wait_until_gone(&pids, WITHIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Survivors);
    let report = error.report().unwrap();
    assert_eq!(
        (report.len(), report.iter().next().unwrap().0),
        (1, gone.pid())
    );
    assert!(report.elapsed() >= WITHIN, "{error}");
    assert!(report.elapsed() < 8 * WITHIN, "{error}");
    pids.remove(5);
    let still: Vec<u32> = error.survivors().iter().map(|s| s.pid()).collect();
    assert_eq!(still, pids);
    for (mut victim, survivor) in victims.into_iter().zip(error.survivors()) {
        assert_eq!(survivor.reason(), Reason::StillRunning);
        assert_eq!(survivor.name().unwrap(), "stubborn");
        assert!(victim.answers());
    }
}

#[test]
fn init_and_the_caller_may_be_waited_for() {
    let pids = [1, std::process::id()];
    let error = wait_until_gone(&pids, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Survivors);
    assert!(error.report().unwrap().is_empty());
    let reasons = error.survivors().iter().map(|s| (s.pid(), s.reason()));
    let expected = pids.map(|pid| (pid, Reason::StillRunning));
    assert_eq!(reasons.collect::<Vec<_>>(), expected);
}

static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn interrupted(_: libc::c_int) {
    INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends the calling thread one signal after another while `f` runs. The handler applies to the
/// whole process.
fn interrupting(f: impl FnOnce()) {
    let action = SigAction::new(
        SigHandler::Handler(interrupted),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler adds to an atomic number and does nothing else.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let caller = nix::unistd::gettid();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = SetOnDrop(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                signal_thread(caller, libc::SIGUSR1);
                thread::yield_now();
            }
        });
        f();
    });
    assert!(INTERRUPTIONS.load(Ordering::Relaxed) > 10);
}

#[test]
fn interruptions_neither_end_nor_prolong_a_wait() {
    if !alone!(interruptions_neither_end_nor_prolong_a_wait) {
        return;
    }
    const TIME: Duration = Duration::from_millis(500);
    let [waited, killed] = ["ignore=TERM"; 2].map(Victim::start);
    interrupting(|| {
        let error = wait_until_gone(&[waited.pid()], TIME).unwrap_err();
        assert_eq!(error.survivors()[0].reason(), Reason::StillRunning);
        let elapsed = error.report().unwrap().elapsed();
        assert!(elapsed >= TIME && elapsed < 8 * TIME, "{elapsed:?}");
        let kill = Kill::graceful().grace(TIME).verify_within(PATIENCE);
        let report = kill.pids(&[killed.pid()]).unwrap();
        assert_eq!(outcomes(&report), [(killed.pid(), Outcome::Killed)]);
        assert!(report.elapsed() >= TIME, "{report:?}");
        assert!(report.elapsed() < 8 * TIME, "{report:?}");
    });
}

#[test]
fn interruptions_blur_no_look() {
    if !alone!(interruptions_blur_no_look) {
        return;
    }
    let (alive, gone) = (Victim::start(""), zombie("exit"));
    let id = ProcessId::of(gone.pid()).unwrap().unwrap();
    interrupting(|| {
        for _ in 0..2000 {
            let error = wait_until_gone(&[alive.pid()], Duration::ZERO).unwrap_err();
            assert_eq!(error.survivors()[0].reason(), Reason::StillRunning);
            let report = sigkill_pids_and_verify(&[gone.pid()]).unwrap();
            assert_eq!(outcomes(&report), [(gone.pid(), Outcome::AlreadyGone)]);
            assert!(id.is_gone().unwrap());
        }
    });
}

//! Calls work from any thread and from `Drop`, whatever happens to signals and children at the same
//! time. They change nothing of the calling process.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use process_kill::{
    ErrorKind, Kill, Outcome, Process, ProcessId, Reason, pids_matching, pids_with_cwd_under,
    pids_with_env, processes_where, sigkill_pids_and_verify, wait_until_gone,
};

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, as_nobody, eventually, filtered, findable, finders,
    open_descriptors, outcomes, reasons, signal_thread, states, without_pidfds,
};

const MOMENT: Duration = Duration::from_millis(100);

/// Kills when dropped.
struct Guard<'a> {
    pid: u32,
    ended: &'a mut Vec<(u32, Outcome)>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Ok(report) = sigkill_pids_and_verify(&[self.pid]) {
            self.ended.extend(report.iter());
        }
    }
}

#[test]
fn a_panic_kills_on_its_way_out() {
    let mut victim = Victim::start("ignore=TERM");
    let pid = victim.pid();
    let mut ended = Vec::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = Guard {
            pid,
            ended: &mut ended,
        };
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(ended, [(pid, Outcome::Killed)]);
    victim.all_gone();
    assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
}

#[test]
fn the_end_of_a_thread_kills() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<KillLast>> = const { std::cell::RefCell::new(None) };
    }
    struct KillLast(u32);
    impl Drop for KillLast {
        fn drop(&mut self) {
            // Other values of the thread may be gone already. The victim shows whether this failed.
            let _ = sigkill_pids_and_verify(&[self.0]);
        }
    }
    let mut victim = Victim::start("ignore=TERM");
    let pid = victim.pid();
    let thread = std::thread::spawn(move || LAST.set(Some(KillLast(pid))));
    thread.join().unwrap();
    assert_eq!(states(pid), ['Z']);
    assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
}

#[test]
fn many_threads_may_kill_the_same() {
    for _ in 0..10 {
        let mut victim = Victim::start("{ ignore=TERM } { } ignore=TERM");
        let all = victim.pids();
        let attempt = || {
            let report = sigkill_pids_and_verify(&all).unwrap();
            assert!(report.iter().map(|(pid, _)| pid).eq(all.iter().copied()));
            for &pid in &all {
                assert!(matches!(states(pid)[..], ['Z' | 'X'] | []));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(attempt);
            }
        });
        victim.all_gone();
        assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    }
}

/// With pidfds, without pidfds, and with nothing but the children themselves because the table is
/// full.
fn in_every_way(f: impl Fn() + Sync) {
    f();
    without_pidfds(&f);
}

/// Leaves no descriptor free while `f` runs.
fn with_a_full_table<T>(f: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut full = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => full.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let result = f();
    drop(full);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    result
}

/// Kills children that another part of the program may reap at once.
fn children_that_reap_themselves_are_killed() {
    in_every_way(|| {
        for _ in 0..20 {
            let mut victim = Victim::start("ignore=TERM { ignore=TERM }");
            let all = victim.pids();
            let report = sigkill_pids_and_verify(&all).unwrap();
            assert_eq!(report.pids(Outcome::Killed), all);
            victim.all_gone();
            let report = sigkill_pids_and_verify(&all).unwrap();
            assert_eq!(report.pids(Outcome::AlreadyGone), all);
        }
        let mut victim = Victim::start("");
        let all = victim.pids();
        let report = Kill::graceful().grace(PATIENCE).pids(&all).unwrap();
        assert_eq!(report.pids(Outcome::Exited), all);
        victim.all_gone();
    });
    let victims: Vec<Victim> = (0..100).map(|_| Victim::start("ignore=TERM")).collect();
    let all: Vec<u32> = victims.iter().map(Victim::pid).collect();
    for some in all.chunks(5) {
        let report = with_a_full_table(|| sigkill_pids_and_verify(some)).unwrap();
        assert_eq!(report.pids(Outcome::Killed), some);
    }
}

#[test]
fn children_are_killed_while_sigchld_is_ignored() {
    if !alone!(children_are_killed_while_sigchld_is_ignored) {
        return;
    }
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { sigaction(Signal::SIGCHLD, &ignored) }.unwrap();
    children_that_reap_themselves_are_killed();
}

#[test]
fn children_are_killed_while_another_thread_reaps_them() {
    if !alone!(children_are_killed_while_another_thread_reaps_them) {
        return;
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match waitpid(None, None) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(Errno::ECHILD) => std::thread::yield_now(),
                    Err(e) => panic!("{e}"),
                }
            }
        });
        let result = catch_unwind(children_that_reap_themselves_are_killed);
        over.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::Relaxed);
}

/// Interrupts the calling thread again and again while `f` runs.
fn in_a_storm_of_signals(f: impl FnOnce()) {
    let handler = SigHandler::Handler(count_signal);
    let no_restart = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler adds to an atomic integer only.
    unsafe { sigaction(Signal::SIGUSR1, &no_restart) }.unwrap();
    let target = nix::unistd::gettid();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                signal_thread(target, libc::SIGUSR1);
                std::thread::yield_now();
            }
        });
        let before = CAUGHT.load(Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(f));
        over.store(true, Ordering::Relaxed);
        result.unwrap();
        assert!(CAUGHT.load(Ordering::Relaxed) > before + 10);
    });
}

#[test]
fn interruptions_neither_end_nor_prolong_a_wait() {
    if !alone!(interruptions_neither_end_nor_prolong_a_wait) {
        return;
    }
    in_every_way(|| {
        let mut victim = findable("setsid ignore=TERM { ignore=TERM }");
        let all = victim.pids();
        let root = victim.pid();
        let running: Vec<_> = all.iter().map(|&pid| (pid, Reason::StillRunning)).collect();
        // Only if there are pidfds.
        let pinned = Process::open(root).ok().flatten();
        in_a_storm_of_signals(|| {
            let begun = Instant::now();
            let error = wait_until_gone(&all, MOMENT).unwrap_err();
            assert_eq!(reasons(&error), running);
            assert!((MOMENT..PATIENCE).contains(&begun.elapsed()));
            if let Some(pinned) = &pinned {
                let begun = Instant::now();
                assert!(!pinned.wait_until_gone(MOMENT).unwrap());
                assert!((MOMENT..PATIENCE).contains(&begun.elapsed()));
            }
            let id = ProcessId::of(root).unwrap().unwrap();
            for _ in 0..3_000 {
                assert!(!id.is_gone().unwrap());
            }
            for _ in 0..5 {
                for answer in finders(root) {
                    match answer {
                        Ok(found) => assert!(!found.is_empty()),
                        Err(e) => assert!(pinned.is_none() && e.to_string().contains("pidfd")),
                    }
                }
            }
            let report = Kill::graceful().grace(MOMENT).pids(&all).unwrap();
            assert_eq!(report.pids(Outcome::Killed), all);
            assert!((MOMENT..PATIENCE).contains(&report.elapsed()));
        });
        victim.all_gone();
        assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn nobody_is_reaped() {
    in_every_way(|| {
        let kills: [&dyn Fn(u32) -> Outcome; 4] = [
            &|pid| outcomes(&sigkill_pids_and_verify(&[pid]).unwrap())[0].1,
            &|pid| {
                let id = ProcessId::of(pid).unwrap().unwrap();
                outcomes(&Kill::now().processes(&[id]).unwrap())[0].1
            },
            &|pid| {
                let kill = Kill::graceful().first_signal(libc::SIGHUP);
                outcomes(&kill.pids(&[pid]).unwrap())[0].1
            },
            &|pid| {
                nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid.try_into().unwrap()),
                    Signal::SIGINT,
                )
                .unwrap();
                eventually("its end", || states(pid) == ['Z']);
                outcomes(&wait_until_gone(&[pid], PATIENCE).unwrap())[0].1
            },
        ];
        let expected = [
            (Outcome::Killed, libc::SIGKILL),
            (Outcome::Killed, libc::SIGKILL),
            (Outcome::Exited, libc::SIGHUP),
            (Outcome::AlreadyGone, libc::SIGINT),
        ];
        for (kill, (outcome, signal)) in kills.iter().zip(expected) {
            let mut victim = Victim::start("");
            assert_eq!(kill(victim.pid()), outcome);
            // The finders look at zombies, and leave them.
            for _ in finders(victim.pid()) {}
            assert_eq!(states(victim.pid()), ['Z']);
            assert_eq!(victim.child().wait().unwrap().signal(), Some(signal));
        }
    });
}

/// Calls every function of the crate, with calls that succeed and calls that fail. `family` is a
/// findable tree that ignores SIGCONT. `victims` are killed.
fn everything(family: &Victim, stale: &ProcessId, victims: &[u32]) {
    let root = family.pid();
    for pid in [root, stale.pid(), 0] {
        for _ in finders(pid) {}
    }
    for pattern in ["", "(", "stubborn", "^(a|b)$", "\0"] {
        let _ = pids_matching(pattern);
    }
    assert!(pids_with_env("", "").is_err());
    let _ = pids_with_cwd_under(Path::new("/dev/null/nothing"));
    let _ = pids_with_cwd_under(Path::new("."));
    let seen = processes_where(|p| {
        drop((p.args(), p.command_line(), p.exe(), p.cwd()));
        drop((p.uid(), p.env("PATH")));
        p.pid() == 0
    });
    assert_eq!(seen.unwrap(), []);
    let unwound = catch_unwind(|| processes_where(|_| std::panic::resume_unwind(Box::new(()))));
    assert!(unwound.is_err());

    let id = ProcessId::of(root).unwrap().unwrap();
    assert!(!id.is_gone().unwrap());
    assert!(stale.is_gone().unwrap());
    assert!("nonsense".parse::<ProcessId>().is_err());
    if let Ok(Some(process)) = Process::open(root) {
        // A filter may forbid this call.
        let _ = process.signal(libc::SIGCONT);
        let error = process.signal(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!process.wait_until_gone(Duration::ZERO).unwrap());
    }

    let me = std::process::id();
    let wrong = [0, 1, me, u32::MAX, stale.pid()];
    assert_eq!(
        reasons(&sigkill_pids_and_verify(&wrong).unwrap_err()).len(),
        4
    );
    assert!(wait_until_gone(&[root, 1, me], Duration::ZERO).is_err());
    assert!(Kill::graceful().first_signal(65).pids(&[root]).is_err());
    assert!(Kill::now().processes(&[*stale]).is_ok());
    let report = match victims {
        [] => return,
        [first, rest @ ..] => {
            let hasty = Kill::graceful().grace(Duration::from_millis(1));
            hasty.pids(&[*first]).unwrap();
            sigkill_pids_and_verify(rest)
        }
    };
    assert_eq!(report.unwrap().pids(Outcome::Killed), victims[1..]);
}

fn stale() -> ProcessId {
    let mut victim = Victim::start("");
    let id = ProcessId::of(victim.pid()).unwrap().unwrap();
    victim.child().kill().unwrap();
    victim.child().wait().unwrap();
    id
}

#[test]
fn no_descriptor_is_leaked() {
    let root = nix::unistd::geteuid().is_root();
    // A few processes are listed faster than many, so the test sees only its own.
    if !alone!(no_descriptor_is_leaked in if root { OWN_PIDS } else { &[] }) {
        return;
    }
    let (family, stale) = (findable("setsid { threads=1 } { leader-exits }"), stale());
    in_every_way(|| {
        let before = open_descriptors();
        for round in 0..100 {
            let victim = (round % 10 == 0).then(|| Victim::start("ignore=TERM { }"));
            let victims = victim.iter().flat_map(Victim::pids).collect::<Vec<_>>();
            everything(&family, &stale, &victims);
            if root && round % 10 == 0 {
                let error = as_nobody(|| sigkill_pids_and_verify(&[family.pid()])).unwrap_err();
                assert_eq!(reasons(&error), [(family.pid(), Reason::NotPermitted)]);
            }
        }
        assert_eq!(open_descriptors(), before);
    });
    let before = open_descriptors();
    for _ in 0..100 {
        with_a_full_table(|| {
            for _ in finders(family.pid()) {}
            // What cannot be held is tried again until the deadline.
            let hasty = Kill::now().verify_within(Duration::from_millis(1));
            let error = hasty.pids(&family.others()).unwrap_err();
            assert_eq!(error.survivors().len(), 2);
        });
    }
    assert_eq!(open_descriptors(), before);
}

/// What a program has once, and what this thread has.
fn state_of_the_process() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let kept = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "Threads",
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Cap",
        "NoNewPrivs",
        "Seccomp",
        "Cpus_allowed",
        "CoreDumping",
    ];
    let lines = status.lines().map(str::to_owned);
    let mut all: Vec<String> = lines
        .filter(|line| kept.iter().any(|key| line.starts_with(key)))
        .collect();
    all.push(std::env::current_dir().unwrap().display().to_string());
    all.extend(std::env::vars().map(|(key, value)| format!("{key}={value}")));
    all.push(std::fs::read_to_string("/proc/self/limits").unwrap());
    for option in [libc::PR_GET_DUMPABLE, libc::PR_GET_TIMERSLACK] {
        // SAFETY: these take no pointer.
        all.push(unsafe { libc::prctl(option, 0, 0, 0, 0) }.to_string());
    }
    let mut subreaper: libc::c_int = -1;
    // SAFETY: the pointer is valid for writes of an int.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper, 0, 0, 0) };
    assert_eq!(subreaper, 0);
    all.push(open_descriptors().to_string());
    all
}

#[test]
fn nothing_of_the_calling_process_changes() {
    if !alone!(nothing_of_the_calling_process_changes) {
        return;
    }
    // A value that a reset would not restore.
    umask(Mode::from_bits_truncate(0o137));
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let caught = SigHandler::Handler(count_signal);
    let caught = SigAction::new(caught, SaFlags::empty(), SigSet::empty());
    for (signal, action) in [
        (Signal::SIGUSR2, &ignored),
        (Signal::SIGCHLD, &caught),
        (Signal::SIGALRM, &caught),
    ] {
        // SAFETY: the handler adds to an atomic integer only.
        unsafe { sigaction(signal, action) }.unwrap();
    }
    std::env::set_current_dir("/usr").unwrap();
    let (family, stale) = (findable("setsid { }"), stale());
    let mut victim = Victim::start("ignore=TERM { }");
    let blocked = SigSet::from(Signal::SIGWINCH);
    blocked.thread_block().unwrap();

    let before = state_of_the_process();
    everything(&family, &stale, &victim.pids());
    assert_eq!(state_of_the_process(), before);
    victim.all_gone();
}

#[test]
fn no_thread_and_no_program_is_started() {
    let (family, stale) = (findable("setsid { }"), stale());
    let mut victim = Victim::start("ignore=TERM { }");
    let pids = victim.pids();
    filtered(&[libc::SYS_clone, libc::SYS_clone3], libc::EPERM, || {
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        everything(&family, &stale, &pids);
    });
    victim.all_gone();
}

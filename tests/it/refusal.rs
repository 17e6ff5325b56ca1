//! Processes that are not killed, and why.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, gettid};
use process_kill::{
    Error, ErrorKind, Kill, Outcome, Process, ProcessId, Reason, Report, pids_with_cwd_under,
    sigkill_pids_and_verify, wait_until_gone,
};

use super::fixture::{PATIENCE, Victim, as_nobody, eventually, is_pinned, is_root};
use super::kill::{AT_ONCE, both_ways, exit, outcomes, zombie};

/// Beyond all process numbers, and -2147483648 to a careless cast.
const TOO_LARGE: u32 = i32::MAX.unsigned_abs() + 1;

fn reasons(error: &Error) -> Vec<(u32, Reason)> {
    assert_eq!(error.kind(), ErrorKind::Survivors);
    let survivors = error.survivors().iter();
    survivors.map(|s| (s.pid(), s.reason())).collect()
}

fn killed(error: &Error) -> Vec<u32> {
    let report = error.report().unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), report.len());
    report.pids(Outcome::Killed)
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap())
}

/// The numbers of the threads of a process, without the leader's.
fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|&tid| tid != pid)
        .collect()
}

/// Runs `f` in a thread of this program that is not its leader. `f` gets the number of that thread.
fn with_thread<T: Send>(f: impl FnOnce(u32) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| f(gettid().as_raw().unsigned_abs()));
        thread.join().unwrap()
    })
}

/// kthreadd, the parent of all kernel threads, if it can be seen. A PID namespace hides it.
fn kernel_thread(test: &str) -> Option<u32> {
    let found = fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n");
    if !found {
        println!("skipped: {test} sees no kernel thread");
    }
    found.then_some(2)
}

#[test]
fn bad_numbers_are_named_and_protect_no_one() {
    let mut threaded = Victim::start("threads=3");
    let tids = threads(threaded.pid());
    let [mut first, mut last] = [Victim::start("ignore=TERM"), Victim::start("")];
    let me = std::process::id();
    let (error, own_thread) = with_thread(|own_thread| {
        let mut named = vec![0, first.pid(), u32::MAX, TOO_LARGE, own_thread, 1, me, 0];
        named.extend(&tids);
        named.push(last.pid());
        let kill = Kill::now().verify_within(PATIENCE);
        (kill.pids(&named).unwrap_err(), own_thread)
    });
    let mut expected = vec![
        (0, Reason::InvalidPid),
        (u32::MAX, Reason::InvalidPid),
        (TOO_LARGE, Reason::InvalidPid),
        (own_thread, Reason::Thread),
        (1, Reason::Init),
        (me, Reason::Caller),
    ];
    expected.extend(tids.iter().map(|&tid| (tid, Reason::Thread)));
    assert_eq!(tids.len(), 3);
    assert_eq!(reasons(&error), expected);
    assert_eq!(killed(&error), [first.pid(), last.pid()]);
    let elapsed = error.report().unwrap().elapsed();
    assert!(elapsed < AT_ONCE, "{elapsed:?}");
    first.all_gone();
    last.all_gone();
    assert!(threaded.answers());
    for survivor in &error.survivors()[..3] {
        assert_eq!((survivor.state(), survivor.name()), (None, None));
    }
    for survivor in &error.survivors()[3..] {
        assert!(survivor.state().is_some() && survivor.name().is_some());
    }
}

#[test]
fn the_refused_alone_take_no_time() {
    let me = std::process::id();
    for kill in [Kill::now(), Kill::graceful().grace(PATIENCE)] {
        let kill = kill.verify_within(PATIENCE);
        let error = with_thread(|tid| kill.pids(&[0, TOO_LARGE, me, tid]).unwrap_err());
        let reasons: Vec<Reason> = reasons(&error).into_iter().map(|(_, r)| r).collect();
        use Reason::{Caller, InvalidPid, Thread};
        assert_eq!(reasons, [InvalidPid, InvalidPid, Caller, Thread]);
        let report = error.report().unwrap();
        assert!(report.is_empty());
        assert!(report.elapsed() < AT_ONCE, "{report:?}");
    }
}

#[test]
fn waiting_refuses_what_names_no_process() {
    let error = with_thread(|tid| {
        let error = wait_until_gone(&[u32::MAX, tid, 0], Duration::MAX).unwrap_err();
        let expected = [
            (u32::MAX, Reason::InvalidPid),
            (tid, Reason::Thread),
            (0, Reason::InvalidPid),
        ];
        assert_eq!(reasons(&error), expected);
        error
    });
    assert!(error.report().unwrap().is_empty());
}

#[test]
fn the_caller_and_init_are_refused_by_identity_too() {
    both_ways(|way| {
        let me = std::process::id();
        let victim = Victim::start("");
        let error = way(&Kill::now(), &[me, 1, victim.pid()]).unwrap_err();
        assert_eq!(reasons(&error), [(me, Reason::Caller), (1, Reason::Init)]);
        assert_eq!(killed(&error), [victim.pid()]);
    });
}

#[test]
fn kernel_threads_are_refused_at_once() {
    let Some(kthreadd) = kernel_thread("kernel_threads_are_refused_at_once") else {
        return;
    };
    both_ways(|way| {
        let victim = Victim::start("");
        let kill = Kill::now().verify_within(PATIENCE);
        let error = way(&kill, &[kthreadd, victim.pid()]).unwrap_err();
        assert_eq!(reasons(&error), [(kthreadd, Reason::KernelThread)]);
        assert_eq!(error.survivors()[0].name().unwrap(), "kthreadd");
        assert_eq!(killed(&error), [victim.pid()]);
        let elapsed = error.report().unwrap().elapsed();
        assert!(elapsed < AT_ONCE, "{elapsed:?}");
    });
    let error = wait_until_gone(&[kthreadd], Duration::from_millis(1)).unwrap_err();
    assert_eq!(reasons(&error), [(kthreadd, Reason::StillRunning)]);
}

#[test]
fn who_may_not_be_signalled_is_not_waited_for() {
    if !is_root("who_may_not_be_signalled_is_not_waited_for") {
        return;
    }
    both_ways(|way| {
        let mut forbidden = Victim::start("");
        for kill in [Kill::now(), Kill::graceful().grace(PATIENCE)] {
            let permitted = Victim::start("nobody ignore=HUP");
            let kill = kill.verify_within(PATIENCE);
            let named = [forbidden.pid(), permitted.pid()];
            let error = as_nobody(|| way(&kill, &named).unwrap_err());
            assert_eq!(reasons(&error), [(forbidden.pid(), Reason::NotPermitted)]);
            assert!(error.survivors()[0].state().is_some());
            let report = error.report().unwrap();
            assert_eq!(report.iter().next().unwrap().0, permitted.pid());
            assert_eq!(report.len(), 1);
            assert!(report.elapsed() < AT_ONCE, "{report:?}");
            let error = as_nobody(|| way(&kill, &[forbidden.pid()]).unwrap_err());
            assert_eq!(reasons(&error), [(forbidden.pid(), Reason::NotPermitted)]);
            let report = error.report().unwrap();
            assert!(report.is_empty());
            assert!(report.elapsed() < AT_ONCE, "{report:?}");
            assert!(forbidden.answers());
        }
    });
}

/// The report of a call that is made as `nobody`. The last process named is pinned last. While the
/// call waits for it, `meanwhile` runs.
fn as_nobody_with(
    call: impl FnOnce() -> process_kill::Result<Report> + Send,
    last: u32,
    meanwhile: impl FnOnce(),
) -> Report {
    thread::scope(|scope| {
        let call = scope.spawn(|| as_nobody(call));
        eventually("the wait", || is_pinned(last));
        meanwhile();
        call.join().unwrap().unwrap()
    })
}

#[test]
fn who_may_not_be_signalled_is_watched_during_the_grace() {
    if !is_root("who_may_not_be_signalled_is_watched_during_the_grace") {
        return;
    }
    for by_identity in [false, true] {
        let mut forbidden = Victim::start("");
        let mut permitted = Victim::start("nobody ignore=TERM");
        let named = [forbidden.pid(), permitted.pid()];
        let ids = named.map(|pid| ProcessId::of(pid).unwrap().unwrap());
        let kill = Kill::graceful().grace(PATIENCE);
        let report = as_nobody_with(
            || match by_identity {
                true => kill.processes(&ids),
                false => kill.pids(&named),
            },
            permitted.pid(),
            || {
                exit(&mut forbidden);
                permitted.let_go();
            },
        );
        let first = report.iter().next().unwrap();
        assert_eq!(first, (forbidden.pid(), Outcome::Exited));
        assert_eq!(report.len(), 2);
        assert!(report.elapsed() < AT_ONCE, "{report:?}");
        assert_eq!(forbidden.child().wait().unwrap().code(), Some(0));
    }
}

#[test]
fn who_may_not_be_signalled_is_watched_during_the_verify_too() {
    if !is_root("who_may_not_be_signalled_is_watched_during_the_verify_too") {
        return;
    }
    let mut forbidden = Victim::start("");
    let (held, tracer) = held("nobody");
    let named = [forbidden.pid(), held.pid()];
    let kill = Kill::now().verify_within(PATIENCE);
    let report = as_nobody_with(
        || kill.pids(&named),
        held.pid(),
        || {
            exit(&mut forbidden);
            drop(tracer);
        },
    );
    let first = report.iter().next().unwrap();
    assert_eq!(first, (forbidden.pid(), Outcome::Exited));
    assert_eq!(report.len(), 2);
}

#[test]
fn the_zombie_of_another_user_is_gone() {
    if !is_root("the_zombie_of_another_user_is_gone") {
        return;
    }
    both_ways(|way| {
        let zombie = zombie("exit");
        let report = as_nobody(|| way(&Kill::graceful(), &[zombie.pid()]).unwrap());
        assert_eq!(outcomes(&report), [(zombie.pid(), Outcome::AlreadyGone)]);
    });
}

#[test]
fn waiting_needs_no_permission() {
    if !is_root("waiting_needs_no_permission") {
        return;
    }
    let [mut first, mut last] = [""; 2].map(Victim::start);
    let [a, b] = [first.pid(), last.pid()];
    let report = as_nobody_with(
        || wait_until_gone(&[a, b], PATIENCE),
        b,
        || {
            exit(&mut first);
            last.let_go();
        },
    );
    // Whether the first one ends before it is looked at is chance: the last one is held after it.
    let (pid, outcome) = report.iter().next().unwrap();
    assert_eq!(pid, a);
    assert!(matches!(outcome, Outcome::Exited | Outcome::AlreadyGone));
    assert_eq!(report.len(), 2);
}

/// A process that took its SIGKILL and is kept in the stop before its end, and the process that
/// keeps it there.
fn held(spec: &str) -> (Victim, Victim) {
    let victim = Victim::start(spec);
    let mut tracer = Victim::start(&format!("trace={}", victim.pid()));
    kill(raw(victim.pid()), Signal::SIGKILL).unwrap();
    assert_eq!(tracer.line(), "held");
    (victim, tracer)
}

#[test]
fn who_is_held_by_a_debugger_survives_until_it_lets_go() {
    const VERIFY: Duration = Duration::from_millis(100);
    if !is_root("who_is_held_by_a_debugger_survives_until_it_lets_go") {
        return;
    }
    both_ways(|way| {
        let (mut victim, tracer) = held("threads=2");
        let other = Victim::start("");
        let traced = [(victim.pid(), Reason::Traced { by: tracer.pid() })];
        let kill = Kill::now().verify_within(VERIFY);
        let error = way(&kill, &[victim.pid(), other.pid()]).unwrap_err();
        assert_eq!(reasons(&error), traced);
        assert_eq!(error.survivors()[0].state(), Some('t'));
        assert_eq!(killed(&error), [other.pid()]);
        let elapsed = error.report().unwrap().elapsed();
        assert!(elapsed >= VERIFY && elapsed < AT_ONCE, "{elapsed:?}");
        let kill = kill.verify_within(Duration::ZERO);
        assert_eq!(reasons(&way(&kill, &[victim.pid()]).unwrap_err()), traced);
        let error = wait_until_gone(&[victim.pid()], Duration::ZERO).unwrap_err();
        assert_eq!(reasons(&error), traced);
        // Both targets have the same deadline. The tracer may die first or last.
        let report = way(
            &Kill::now().verify_within(PATIENCE),
            &[victim.pid(), tracer.pid()],
        );
        assert_eq!(report.unwrap().pids(Outcome::Killed).len(), 2);
        victim.all_gone();
        assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn a_debugger_is_named_by_its_process_whichever_thread_it_uses() {
    let victim = Victim::start("");
    let pid = raw(victim.pid());
    with_thread(|_| {
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT).unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        let error = wait_until_gone(&[victim.pid()], Duration::ZERO).unwrap_err();
        let by = std::process::id();
        assert_eq!(reasons(&error), [(victim.pid(), Reason::Traced { by })]);
    });
    // The thread has ended, so it holds the process no more.
    wait_until_gone(&[victim.pid()], PATIENCE).unwrap();
}

/// A frozen cgroup for one process. Dropping it thaws and removes the cgroup.
struct Frozen(PathBuf);

impl Frozen {
    /// `None`, with a message, if there is no v1 freezer.
    fn with(test: &str, pid: u32) -> Option<Frozen> {
        let freezer = Path::new("/sys/fs/cgroup/freezer");
        if !freezer.join("cgroup.procs").exists() {
            println!("skipped: {test} needs the freezer of cgroup v1");
            return None;
        }
        let frozen = Frozen(freezer.join(format!("process-kill-test-{pid}")));
        fs::create_dir(&frozen.0).unwrap();
        fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(frozen.0.join("freezer.state"), "FROZEN").unwrap();
        eventually("the freeze", || {
            fs::read(frozen.0.join("freezer.state")).unwrap() == b"FROZEN\n"
        });
        Some(frozen)
    }

    fn thaw(&self) -> std::io::Result<()> {
        fs::write(self.0.join("freezer.state"), "THAWED")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        // Every failed step is tried again. A process that is exiting cannot be moved, and the
        // cgroup cannot be removed while that process is in it.
        while self.0.exists() && Instant::now() < end {
            let _ = self.thaw();
            let procs = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines() {
                let _ = fs::write(self.0.with_file_name("cgroup.procs"), pid);
            }
            let _ = fs::remove_dir(&self.0);
        }
    }
}

#[test]
fn who_is_frozen_is_uninterruptible_until_the_thaw() {
    const TEST: &str = "who_is_frozen_is_uninterruptible_until_the_thaw";
    if !is_root(TEST) {
        return;
    }
    let mut victim = Victim::start("threads=2");
    let pid = victim.pid();
    let Some(frozen) = Frozen::with(TEST, pid) else {
        return;
    };
    let kill = Kill::graceful()
        .grace(Duration::from_millis(50))
        .verify_within(Duration::from_millis(50));
    let error = kill.pids(&[pid]).unwrap_err();
    assert_eq!(reasons(&error), [(pid, Reason::Uninterruptible)]);
    assert_eq!(error.survivors()[0].state(), Some('D'));
    assert!(error.report().unwrap().is_empty());
    frozen.thaw().unwrap();
    wait_until_gone(&[pid], PATIENCE).unwrap();
    victim.all_gone();
}

#[test]
fn an_error_names_every_survivor_in_plain_characters() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(OsStr::from_bytes(b"a\n\x1b(\xff) b"));
    symlink(env!("CARGO_BIN_EXE_stubborn"), &program).unwrap();
    let mut command = Command::new(&program);
    command.env("STUBBORN", "");
    let (odd, plain) = (Victim::spawn(command), Victim::start("name=plain"));
    let me = std::process::id();
    let error = wait_until_gone(&[odd.pid(), 0, plain.pid()], Duration::ZERO).unwrap_err();
    let text = error.to_string();
    for survivor in error.survivors() {
        let line = survivor.to_string();
        assert!(line.starts_with(&survivor.pid().to_string()), "{line}");
        assert!(line.contains(&survivor.reason().to_string()), "{line}");
        assert!(text.contains(&line), "{text}");
    }
    let name = error.survivors()[0].name().unwrap();
    assert_eq!(name.as_bytes(), b"a\n\x1b(\xff) b");
    assert!(text.contains(&format!(r"{} (a\n\x1b(\xff) b)", odd.pid())));
    assert!(text.contains(&format!("{} (plain)", plain.pid())));
    assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{text}");
    let text = sigkill_pids_and_verify(&[me]).unwrap_err().to_string();
    assert!(text.contains(&me.to_string()) && text.contains(&Reason::Caller.to_string()));
}

#[test]
fn reasons_read_differently() {
    let all = [
        Reason::InvalidPid,
        Reason::Init,
        Reason::Caller,
        Reason::Thread,
        Reason::KernelThread,
        Reason::NotPermitted,
        Reason::Traced { by: 0 },
        Reason::Traced { by: 77 },
        Reason::Uninterruptible,
        Reason::StillExiting,
        Reason::StillRunning,
        Reason::Unverifiable,
    ];
    let mut texts = all.map(|reason| reason.to_string()).to_vec();
    assert!(texts[7].contains("77"));
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn an_error_does_not_repeat_its_source() {
    use std::error::Error as _;
    let refused = Kill::now().first_signal(0).pids(&[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let survivors = sigkill_pids_and_verify(&[0]).unwrap_err();
    assert_eq!(survivors.kind(), ErrorKind::Survivors);
    for error in [refused, survivors] {
        assert!(error.source().is_none());
    }
    let dir = tempfile::tempdir().unwrap();
    let circle = dir.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let unresolved = pids_with_cwd_under(&circle).unwrap_err();
    let mut errors = vec![(unresolved, libc::ELOOP)];
    if is_root("part of an_error_does_not_repeat_its_source") {
        let victim = Victim::start("");
        let process = Process::open(victim.pid()).unwrap().unwrap();
        let forbidden = as_nobody(|| process.signal(libc::SIGTERM).unwrap_err());
        errors.push((forbidden, libc::EPERM));
    }
    for (error, errno) in errors {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.survivors().is_empty());
        assert!(error.report().is_none());
        let source = error.source().unwrap();
        let system: &std::io::Error = source.downcast_ref().unwrap();
        assert_eq!(system.raw_os_error(), Some(errno));
        let strerror = std::io::Error::from_raw_os_error(errno).to_string();
        let words = strerror.split(" (os").next().unwrap();
        assert!(!error.to_string().contains(words), "{error}");
    }
}

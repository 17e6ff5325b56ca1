//! Aim: which processes are spared.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, parent_id};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpgrp, pipe2, setpgid};
use process_kill::{Error, ErrorKind, Kill, Outcome, ProcessId, Reason, Report};

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, eventually, is_root, outcomes, patient, reasons, stubborn,
};
use super::tree::unmoved;

pub fn of(pid: u32) -> ProcessId {
    ProcessId::of(pid).unwrap().expect("a process")
}

pub fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap())
}

pub fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// A tree in a group of its own. The first process leads the group.
pub fn group(spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.process_group(0);
    Victim::spawn(command)
}

fn in_group(spec: &str, pgid: u32) -> Victim {
    let mut command = stubborn(spec);
    command.process_group(pgid.try_into().unwrap());
    Victim::spawn(command)
}

pub fn naming(argument: &str) -> Victim {
    let mut command = stubborn("");
    command.arg(argument);
    Victim::spawn(command)
}

pub fn at(dir: &Path, spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.current_dir(dir);
    Victim::spawn(command)
}

/// Both ways to kill, with enough time for a machine that is busy.
pub fn ways() -> [Kill; 2] {
    [
        patient(),
        Kill::graceful().grace(PATIENCE).verify_within(PATIENCE),
    ]
}

/// Runs `f` in a grandchild of this program, with the pid of its parent. Both are copies of this
/// program. The parent first does `prepare`, and then only waits. Returns how the parent ended.
pub fn grandchild(prepare: impl FnOnce(), f: impl FnOnce(u32)) -> WaitStatus {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    // SAFETY: no other thread of this program holds a lock that the copy needs, because the thread
    // that runs the tests waits for this one.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(read);
            let parent = catch_unwind(AssertUnwindSafe(|| {
                prepare();
                // SAFETY: a process of one thread.
                match unsafe { fork() }.unwrap() {
                    ForkResult::Child => {
                        let result = catch_unwind(AssertUnwindSafe(|| f(parent_id())));
                        if result.is_ok() {
                            File::from(write).write_all(b"done").unwrap();
                        }
                    }
                    ForkResult::Parent { child } => {
                        drop(write);
                        waitpid(child, None).unwrap();
                    }
                }
            }));
            // SAFETY: ends this process at once, so nothing else is dropped in it.
            unsafe { libc::_exit(i32::from(parent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut said = String::new();
            // End-of-file says that both have finished, or are gone.
            File::from(read).read_to_string(&mut said).unwrap();
            let status = waitpid(child, None).unwrap();
            assert_eq!(said, "done", "{status:?}");
            status
        }
    }
}

/// The grandparent of the calling process. In [`grandchild`] that is the test.
pub fn grandparent(parent: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{parent}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("PPid:"));
    let words = line.unwrap().split_whitespace();
    words.last().unwrap().parse().unwrap()
}

/// The error of a call that sends nothing and stops none of these processes.
pub fn refusal(pids: &[u32], f: impl FnOnce() -> process_kill::Result<Report> + Send) -> Error {
    let error = unmoved(pids, f).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.survivors().is_empty() && error.report().is_none());
    error
}

#[test]
fn an_ancestor_in_a_list_is_a_survivor_and_the_others_are_killed() {
    if !is_root("an_ancestor_in_a_list_is_a_survivor_and_the_others_are_killed")
        || !alone!(an_ancestor_in_a_list_is_a_survivor_and_the_others_are_killed in OWN_PIDS)
    {
        return;
    }
    let status = grandchild(
        || {},
        |parent| {
            let above = [parent, grandparent(parent)];
            type Way = fn(&Kill, &[u32]) -> process_kill::Result<Report>;
            let pids: Way = |kill, pids| kill.pids(pids);
            let processes: Way = |kill, pids| {
                let ids: Vec<ProcessId> = pids.iter().map(|&pid| of(pid)).collect();
                kill.processes(&ids)
            };
            let trees: Way = |kill, pids| {
                let ids: Vec<ProcessId> = pids.iter().map(|&pid| of(pid)).collect();
                kill.trees(&ids)
            };
            for way in [pids, processes, trees] {
                for kill in ways() {
                    let mut victims = [""; 2].map(Victim::start);
                    let [first, last] = [victims[0].pid(), victims[1].pid()];
                    let named = [first, above[0], above[1], last];
                    let error = unmoved(&above, || way(&kill, &named).unwrap_err());
                    let expected = above.map(|pid| (pid, Reason::Ancestor));
                    assert_eq!(error.kind(), ErrorKind::Survivors);
                    assert_eq!(reasons(&error), expected);
                    let gone: Vec<u32> = error.report().unwrap().iter().map(|(p, _)| p).collect();
                    assert_eq!(gone, [first, last]);
                    for survivor in error.survivors() {
                        assert_eq!(survivor.id(), Some(of(survivor.pid())));
                    }
                    for victim in &mut victims {
                        victim.all_gone();
                    }
                }
            }
        },
    );
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn what_holds_an_ancestor_is_refused_and_nothing_is_stopped() {
    if !is_root("what_holds_an_ancestor_is_refused_and_nothing_is_stopped")
        || !alone!(what_holds_an_ancestor_is_refused_and_nothing_is_stopped in OWN_PIDS)
    {
        return;
    }
    let leads = || setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
    let status = grandchild(leads, |parent| {
        leads();
        let above = [parent, grandparent(parent)];
        // One is in the group of an ancestor. The other is in another group, and the call names
        // both groups.
        let mut mate = in_group("", parent);
        let mut other = group("");
        let watched = [parent, above[1], mate.pid(), other.pid()];
        for kill in ways() {
            for root in above {
                let error = refusal(&watched, || kill.tree(root));
                let text = error.to_string();
                assert!(text.contains(&root.to_string()), "{text}");
                assert!(text.contains("ancestor"), "{text}");
            }
            for pgids in [&[parent][..], &[other.pid(), parent]] {
                for error in [
                    refusal(&watched, || kill.groups(pgids)),
                    refusal(&watched, || kill.jobs(pgids)),
                ] {
                    let text = error.to_string();
                    assert!(text.contains(&format!("group {parent} ")), "{text}");
                    assert!(text.contains("is an ancestor"), "{text}");
                }
            }
            // The group of the caller.
            let own = getpgrp().as_raw().unsigned_abs();
            for error in [
                refusal(&watched, || kill.groups(&[other.pid(), own])),
                refusal(&watched, || kill.jobs(&[other.pid(), own])),
            ] {
                let text = error.to_string();
                assert!(text.contains(&format!("group {own} ")), "{text}");
                assert!(text.contains("is the calling process"), "{text}");
            }
        }
        assert!(mate.answers() && other.answers());
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn searches_pass_over_ancestors() {
    if !is_root("searches_pass_over_ancestors") || !alone!(searches_pass_over_ancestors in OWN_PIDS)
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let status = grandchild(
        || std::env::set_current_dir(&dir).unwrap(),
        |parent| {
            let above = [parent, grandparent(parent)];
            // Every process that runs this test has this command line, also the caller.
            let pattern = "searches_pass_over_ancestors";
            for kill in ways() {
                let elsewhere = |spec| at(Path::new("/"), spec);
                let mut victims = [naming(pattern), elsewhere(""), elsewhere("{ }")];
                let [matched, kept, root] = [0, 1, 2].map(|at| victims[at].pid());
                let family = victims[2].pids();
                let inside = at(&dir, "");
                let caller = std::process::id();
                unmoved(&above, || {
                    let gone = |report: Report| -> Vec<u32> {
                        report.iter().map(|(pid, _)| pid).collect()
                    };
                    assert_eq!(gone(kill.matching(pattern).unwrap()), [matched]);
                    let wanted = [above[0], above[1], kept, caller, 1];
                    let report = kill.all_where(|p| wanted.contains(&p.pid()));
                    assert_eq!(gone(report.unwrap()), [kept]);
                    assert_eq!(gone(kill.directory(&dir).unwrap()), [inside.pid()]);
                    let report = sorted(gone(kill.children().unwrap()));
                    assert_eq!(report, family);
                });
                assert!(family.contains(&root));
                for victim in &mut victims {
                    victim.all_gone();
                }
            }
        },
    );
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

#[test]
fn a_port_of_an_ancestor_is_not_free() {
    if !is_root("a_port_of_an_ancestor_is_not_free")
        || !alone!(a_port_of_an_ancestor_is_not_free in OWN_PIDS)
    {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut listener = Some(listener);
    let mine = listener.as_ref().unwrap().try_clone().unwrap();
    grandchild(
        || drop(mine),
        |parent| {
            // The caller does not have the listener. Its parent and the test have the same one.
            drop(listener.take());
            let above = [grandparent(parent), parent];
            for kill in ways() {
                let error = unmoved(&above, || kill.port(port).unwrap_err());
                assert_eq!(error.kind(), ErrorKind::Survivors, "{error}");
                assert_eq!(reasons(&error), above.map(|pid| (pid, Reason::Ancestor)));
                assert!(error.report().unwrap().is_empty());
            }
        },
    );
}

/// Runs `f` in a process that has lost its parent, with the pid of the leader of its session. The
/// leader is not an ancestor of it. Returns how the leader ended.
fn orphan(f: impl FnOnce(u32)) -> WaitStatus {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    // SAFETY: as in `grandchild`, here and below.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(read);
            let leader = nix::unistd::setsid().unwrap();
            // SAFETY: a process of one thread.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    // SAFETY: a process of one thread. It ends at once and leaves its child to
                    // init.
                    unsafe {
                        if let ForkResult::Parent { .. } = fork().unwrap() {
                            libc::_exit(0);
                        }
                    }
                    eventually("init adopts it", || parent_id() == 1);
                    let leader = leader.as_raw().unsigned_abs();
                    if catch_unwind(AssertUnwindSafe(|| f(leader))).is_ok() {
                        File::from(write).write_all(b"done").unwrap();
                    }
                }
                ForkResult::Parent { .. } => {
                    drop(write);
                    loop {
                        nix::unistd::pause();
                    }
                }
            }
            // SAFETY: ends this process at once, so nothing else is dropped in it.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut said = String::new();
            File::from(read).read_to_string(&mut said).unwrap();
            assert_eq!(said, "done");
            waitpid(child, None).unwrap()
        }
    }
}

#[test]
fn the_caller_lives_on_in_a_session_that_is_killed() {
    if !is_root("the_caller_lives_on_in_a_session_that_is_killed")
        || !alone!(the_caller_lives_on_in_a_session_that_is_killed in OWN_PIDS)
    {
        return;
    }
    type Way = fn(&Kill, u32) -> process_kill::Result<Report>;
    let by_session: [Way; 3] = [
        |kill, leader| kill.tree(leader),
        |kill, leader| kill.trees(&[of(leader)]),
        |kill, leader| {
            // The caller needs a group of its own. Without one, the job is refused.
            assert_eq!(kill.jobs(&[leader]).unwrap_err().kind(), ErrorKind::Refused);
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            kill.jobs(&[leader])
        },
    ];
    for way in by_session {
        for kill in ways() {
            let status = orphan(|leader| {
                let mut mates = [Victim::start(""), group("{ }")];
                let all = mates.each_ref().map(Victim::pids).concat();
                let report = unmoved(&[1], || way(&kill, leader).unwrap());
                let gone = sorted(report.iter().map(|(pid, _)| pid).collect());
                assert_eq!(gone, sorted([&all[..], &[leader]].concat()));
                for mate in &mut mates {
                    mate.all_gone();
                }
            });
            assert!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
        }
    }
}

/// Runs `f` in a grandchild. `f` has to kill the parent of that grandchild.
pub fn patricide(f: impl FnOnce(u32, &Kill)) {
    let leads = || setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
    let status = grandchild(leads, |parent| {
        leads();
        f(parent, &patient().even_ancestors());
    });
    let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
    assert!(killed, "{status:?}");
}

#[test]
fn an_ancestor_is_killed_only_if_that_is_allowed() {
    if !is_root("an_ancestor_is_killed_only_if_that_is_allowed")
        || !alone!(an_ancestor_is_killed_only_if_that_is_allowed in OWN_PIDS)
    {
        return;
    }
    type Way = fn(&Kill, u32) -> process_kill::Result<Report>;
    let ways: [Way; 4] = [
        |kill, parent| kill.pids(&[parent]),
        |kill, parent| kill.processes(&[of(parent)]),
        |kill, parent| kill.groups(&[parent]),
        |kill, parent| kill.all_where(|p| [parent, std::process::id(), 1].contains(&p.pid())),
    ];
    for way in ways {
        patricide(|parent, kill| {
            let report = way(kill, parent).unwrap();
            assert_eq!(outcomes(&report), [(parent, Outcome::Killed)]);
        });
    }
}

#[test]
fn a_search_kills_an_ancestor_only_if_that_is_allowed() {
    if !is_root("a_search_kills_an_ancestor_only_if_that_is_allowed")
        || !alone!(a_search_kills_an_ancestor_only_if_that_is_allowed in OWN_PIDS)
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let by_port = |parent: u32, kill: &Kill| {
        let report = kill.port(address.port()).unwrap();
        assert_eq!(outcomes(&report), [(parent, Outcome::Killed)]);
        drop(TcpListener::bind(address).unwrap());
    };
    let by_directory = |parent: u32, kill: &Kill| {
        let report = kill.directory(&dir).unwrap();
        assert_eq!(outcomes(&report), [(parent, Outcome::Killed)]);
    };
    for is_port in [true, false] {
        let mut listener = None;
        let prepare = || {
            listener = Some(TcpListener::bind(address).unwrap());
            std::env::set_current_dir(&dir).unwrap();
        };
        let status = grandchild(prepare, |parent| {
            std::env::set_current_dir("/").unwrap();
            // The caller closes its copies of its parent's socket.
            for fd in 3..20 {
                let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
                if link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:")) {
                    nix::unistd::close(fd).unwrap();
                }
            }
            let kill = patient().even_ancestors();
            match is_port {
                true => by_port(parent, &kill),
                false => by_directory(parent, &kill),
            }
        });
        let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
        assert!(killed, "{status:?}");
    }
}

#[test]
fn the_caller_and_init_stay_spared_whatever_is_allowed() {
    if !is_root("the_caller_and_init_stay_spared_whatever_is_allowed")
        || !alone!(the_caller_and_init_stay_spared_whatever_is_allowed in OWN_PIDS)
    {
        return;
    }
    patricide(|parent, kill| {
        let me = std::process::id();
        let watched = [1, parent];
        for root in [1, me, parent] {
            refusal(&watched, || kill.tree(root));
        }
        for pgid in [1, getpgrp().as_raw().unsigned_abs()] {
            refusal(&watched, || kill.groups(&[pgid]));
            refusal(&watched, || kill.jobs(&[pgid]));
        }
        // The tree of an ancestor holds the caller.
        let error = unmoved(&watched, || kill.trees(&[of(parent)]).unwrap_err());
        assert_eq!(reasons(&error), [(parent, Reason::Ancestor)]);
        let error = unmoved(&[1], || kill.pids(&[me, parent, 1]).unwrap_err());
        assert_eq!(reasons(&error), [(me, Reason::Caller), (1, Reason::Init)]);
        let report = error.report().unwrap();
        assert_eq!(report.pids(Outcome::Killed), [parent]);
    });
}

/// Runs `f` in a great-grandchild of this program, with the pid of this program. `f` says whether all
/// is right. At one of its stops before and after system calls, one of the two processes between them
/// is killed and reaped: the `upper` one or the other. This program must be a subreaper.
///
/// Returns whether `f` was right; `None`: it ended before that stop.
fn while_one_between_ends(f: fn(u32) -> bool, upper: bool, stop: usize) -> Option<bool> {
    let above = std::process::id();
    let (told, tell) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (wait, go) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut tell = File::from(tell);
    // SAFETY: as in `grandchild`, here and below.
    if let ForkResult::Child = unsafe { fork() }.unwrap() {
        drop(go);
        for _ in 0..2 {
            tell.write_all(&std::process::id().to_ne_bytes()).unwrap();
            // SAFETY: no handler. A child that ends is reaped at once.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            // SAFETY: a process of one thread.
            if let ForkResult::Parent { .. } = unsafe { fork() }.unwrap() {
                loop {
                    nix::unistd::pause();
                }
            }
        }
        tell.write_all(&std::process::id().to_ne_bytes()).unwrap();
        File::from(wait).read_to_end(&mut Vec::new()).unwrap();
        let is_right = catch_unwind(|| f(above)).unwrap_or(false);
        // SAFETY: ends this process at once, so nothing else is dropped in it.
        unsafe { libc::_exit(i32::from(!is_right)) }
    }
    let mut told = File::from(told);
    let [child, parent, subject] = [(); 3].map(|()| {
        let mut pid = [0; 4];
        told.read_exact(&mut pid).unwrap();
        raw(u32::from_ne_bytes(pid))
    });
    ptrace::attach(subject).unwrap();
    waitpid(subject, None).unwrap();
    drop(go);
    let (dies, lives) = if upper {
        (child, parent)
    } else {
        (parent, child)
    };
    let mut status = WaitStatus::StillAlive;
    let mut is_killed = false;
    for at in 0.. {
        if at == stop {
            kill(dies, Signal::SIGKILL).unwrap();
            eventually("it is reaped", || {
                // It is a child of this program, or its parent reaps it.
                let _ = waitpid(dies, None);
                kill(dies, None) == Err(Errno::ESRCH)
            });
            is_killed = true;
        }
        ptrace::syscall(subject, None).unwrap();
        status = waitpid(subject, None).unwrap();
        if matches!(status, WaitStatus::Exited(..)) {
            break;
        }
    }
    if !is_killed {
        kill(dies, Signal::SIGKILL).unwrap();
    }
    kill(lives, Signal::SIGKILL).unwrap();
    while waitpid(None, None).is_ok() {}
    is_killed.then(|| status == WaitStatus::Exited(subject, 0))
}

#[test]
fn an_ancestor_is_spared_while_another_one_ends() {
    if !is_root("an_ancestor_is_spared_while_another_one_ends")
        || !alone!(an_ancestor_is_spared_while_another_one_ends in OWN_PIDS)
    {
        return;
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    // Neither sends anything.
    let in_a_list = |above| {
        let error = Kill::now().at_most(0).pids(&[above]).unwrap_err();
        reasons(&error) == [(above, Reason::Ancestor)]
    };
    let as_a_root = |above| {
        let error = Kill::now().at_most(0).tree(above).unwrap_err();
        error.kind() == ErrorKind::Refused
    };
    let mut wrong = Vec::new();
    for (way, f) in [("pids", in_a_list as fn(u32) -> bool), ("tree", as_a_root)] {
        for upper in [false, true] {
            // Before a call is after the one before it.
            for stop in (0..).step_by(2) {
                match while_one_between_ends(f, upper, stop) {
                    Some(true) => {}
                    Some(false) => wrong.push((way, upper, stop)),
                    None if stop > 0 => break,
                    None => panic!("{way} makes no calls"),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

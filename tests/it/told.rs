//! What callers learn: whether a process is gone, and why a call failed.

use std::error::Error as _;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::wait::waitpid;
use process_kill::child::{CommandExt, Group};
use process_kill::{
    Error, ErrorKind, Kill, Outcome, Process, ProcessId, Reason, Survivor, is_gone,
    pids_in_directory, pids_listening_on, pids_matching, wait_until_gone,
};

use super::aim::{group, ways};
use super::child::raw;
use super::fixture::{
    OWN_PIDS, SLOWNESS, Victim, alone, as_nobody, eventually, is_root, patient, reasons, states,
};

/// Above the limit of all kernels.
const TOO_LARGE: u32 = i32::MAX.unsigned_abs() + 1;

#[test]
fn a_process_is_gone_once_all_its_threads_are() {
    let mut victim = Victim::start("threads=2");
    let pid = victim.pid();
    assert!(!is_gone(pid).unwrap());
    assert!(!is_gone(std::process::id()).unwrap());
    assert!(!is_gone(1).unwrap());
    victim.child().kill().unwrap();
    victim.until_zombie();
    // Its number still answers to kill(pid, 0).
    assert_eq!(nix::sys::signal::kill(raw(pid), None), Ok(()));
    assert!(is_gone(pid).unwrap());
    assert_eq!(states(pid), ['Z']);
    victim.child().wait().unwrap();
    // By now another process may have the number, and that process is not gone.
    let free = nix::sys::signal::kill(raw(pid), None).is_err();
    assert!(is_gone(pid).unwrap() || !free);
    // No kernel gives this number.
    assert!(is_gone(i32::MAX.unsigned_abs()).unwrap());
}

#[test]
fn a_zombie_with_a_thread_is_not_gone() {
    let mut victim = Victim::start("leader-exits");
    let pid = victim.pid();
    eventually("the leader exits", || states(pid).first() == Some(&'Z'));
    assert!(!is_gone(pid).unwrap());
    assert!(victim.answers());
    victim.let_go();
    victim.all_gone();
    // Its descriptors are closed before its last thread ends.
    victim.until_zombie();
    assert!(is_gone(pid).unwrap());
}

#[test]
fn what_is_no_process_is_neither_gone_nor_there() {
    let victim = Victim::start("threads=1");
    eventually("a thread", || states(victim.pid()).len() == 2);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let tid: u32 = tids.into_iter().find(|&tid| tid != victim.pid()).unwrap();
    for (number, why) in [
        (0, "is no process number (1 to 2147483647)"),
        (TOO_LARGE, "is no process number (1 to 2147483647)"),
        (u32::MAX, "is no process number (1 to 2147483647)"),
        (tid, "is a thread, not a process"),
    ] {
        let error = is_gone(number).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), format!("refused: {number} {why}"));
    }
}

#[test]
fn the_first_ten_survivors_are_named_and_the_others_counted() {
    let mut victim = Victim::start("name=crowd crowd=11");
    let line = victim.line();
    let crowd = line.split(' ').skip(1).map(|pid| pid.parse().unwrap());
    let all: Vec<u32> = [victim.pid()].into_iter().chain(crowd).collect();
    let text = |count: usize| {
        let error = wait_until_gone(&all[..count], Duration::ZERO).unwrap_err();
        assert_eq!(error.survivors().len(), count);
        error.to_string()
    };
    for count in [1, 2, 10, 11, 12] {
        let text = text(count);
        let (before, rest) = text.split_once(" not gone after ").unwrap();
        let (time, list) = rest.split_once(" s: ").unwrap();
        match count {
            1 => assert_eq!(before, "1 of 1 process"),
            _ => assert_eq!(before, format!("{count} of {count} processes")),
        }
        // Each survivor is looked at before the time is read.
        let times: Vec<String> = (0..SLOWNESS).map(|tenths| format!("0.{tenths}")).collect();
        assert!(times.iter().any(|t| t == time), "{text}");
        let shown: Vec<String> = (all[..count.min(10)].iter())
            .map(|pid| format!("{pid} (crowd) is still running"))
            .collect();
        let tail = match count {
            11 => "; and 1 more",
            12 => "; and 2 more",
            _ => "",
        };
        assert_eq!(list, format!("{}{tail}", shown.join("; ")));
    }
    let error = patient().at_most(2).pids(&all).unwrap_err().to_string();
    let head = "nothing was sent: found 12 processes, at most 2 expected: ";
    assert!(error.starts_with(head), "{error}");
    assert!(error.ends_with("(crowd); and 2 more"), "{error}");
}

#[test]
fn the_time_since_sigkill_is_told() {
    if !is_root("the_time_since_sigkill_is_told") {
        return;
    }
    let victim = Victim::start("");
    let tracer = Victim::start(&format!("trace={}", victim.pid()));
    let mut other = Victim::start("");
    let kill = Kill::now().verify_within(Duration::from_millis(200));
    let error = kill.pids(&[other.pid(), victim.pid()]).unwrap_err();
    let by = tracer.pid();
    assert_eq!(reasons(&error), [(victim.pid(), Reason::Traced { by })]);
    let text = error.to_string();
    let (head, tail) = text.split_once(" not gone ").unwrap();
    assert_eq!(head, "1 of 2 processes");
    let (time, who) = tail.split_once(" s after SIGKILL: ").unwrap();
    assert!(time.parse::<f64>().unwrap() >= 0.2, "{text}");
    let held = format!("{} (stubborn) is held by debugger {by}", victim.pid());
    assert_eq!(who, held);
    other.all_gone();
    // A spared process gets no signal.
    let me = std::process::id();
    let text = Kill::now().pids(&[me]).unwrap_err().to_string();
    assert!(text.starts_with("1 of 1 process not signalled: "), "{text}");
    assert!(text.ends_with(" is the calling process"), "{text}");
}

#[test]
fn a_refusal_quotes_what_it_refused() {
    let victim = group("");
    let pid = victim.pid();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let me = std::process::id();
    let own = nix::unistd::getpgrp().as_raw();
    // The group has no number if it is outside of the PID namespace.
    let own_group = match own {
        0 => "0 is no process number".to_owned(),
        _ => format!("group {own} holds "),
    };
    for kill in ways() {
        let refused = [
            (kill.tree(0), "0".to_owned()),
            (kill.tree(TOO_LARGE), TOO_LARGE.to_string()),
            (kill.tree(1), "1 is init".to_owned()),
            (kill.tree(me), format!("{me} is the calling process")),
            (kill.groups(&[pid, 0]), "0".to_owned()),
            (kill.groups(&[pid, u32::MAX]), u32::MAX.to_string()),
            (kill.groups(&[pid, 1]), "group 1 ".to_owned()),
            (kill.jobs(&[pid, 1]), "group 1 ".to_owned()),
            (kill.groups(&[pid, own.unsigned_abs()]), own_group.clone()),
            (kill.jobs(&[own.unsigned_abs()]), own_group.clone()),
            (kill.cgroup(dir.path()), format!("{:?}", dir.path())),
            (kill.cgroup(&file), format!("{file:?}")),
            (
                kill.clone().first_signal(65).pids(&[pid]),
                "65 is not a signal (1 to 64)".to_owned(),
            ),
            (
                kill.clone().first_signal(-1).tree(pid),
                "-1 is not a signal (1 to 64)".to_owned(),
            ),
        ];
        for (result, words) in refused {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            let text = error.to_string();
            assert!(
                text.starts_with("refused: ") && text.contains(&words),
                "{text}"
            );
            assert!(error.source().is_none());
        }
    }
    let error = "12:x".parse::<ProcessId>().unwrap_err();
    assert!(error.to_string().contains("\"12:x\""), "{error}");
}

/// Errors of the system, each with the call that it comes from.
fn of_the_system() -> Vec<(Error, io::ErrorKind)> {
    let dir = tempfile::tempdir().unwrap();
    let circle = dir.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let missing = dir.path().join("missing");
    let mut command = Command::new(&missing);
    let not_started = command.spawn_managed(Group::New).unwrap_err();
    let mut command = Command::new("true");
    let not_joined = command.spawn_managed(Group::Join(i32::MAX.unsigned_abs()));
    let mut reaped = Command::new("true").spawn_managed(Group::New).unwrap();
    waitpid(raw(reaped.id()), None).unwrap();
    let is_loop = io::Error::from_raw_os_error(libc::ELOOP).kind();
    let is_child = io::Error::from_raw_os_error(libc::ECHILD).kind();
    vec![
        (
            pids_in_directory(&missing).unwrap_err(),
            io::ErrorKind::NotFound,
        ),
        (pids_in_directory(&circle).unwrap_err(), is_loop),
        (not_started, io::ErrorKind::NotFound),
        (not_joined.unwrap_err(), io::ErrorKind::PermissionDenied),
        (reaped.wait().unwrap_err(), is_child),
        (reaped.try_wait().unwrap_err(), is_child),
    ]
}

#[test]
fn no_text_repeats_the_reason_of_the_system() {
    let mut errors = of_the_system();
    if is_root("part of no_text_repeats_the_reason_of_the_system") {
        let victim = Victim::start("listen");
        let process = Process::open(victim.pid()).unwrap().unwrap();
        let forbidden = as_nobody(|| process.signal(libc::SIGTERM).unwrap_err());
        errors.push((forbidden, io::ErrorKind::PermissionDenied));
        let port = victim.ready[0].1.unwrap();
        let unseen = as_nobody(|| pids_listening_on(port).unwrap_err());
        errors.push((unseen, io::ErrorKind::PermissionDenied));
    }
    for (error, kind) in errors {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let text = error.to_string();
        assert!(text.starts_with("cannot "), "{text}");
        let source = error.source().expect("a reason");
        let words = source.to_string();
        let words = words.split(" (os").next().unwrap();
        assert!(!text.contains(words), "{text}: {words}");
        let source: &io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.kind(), kind, "{text}: {words}");
        // Converted to an error of the system, it keeps its kind and all of its text.
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (kind, text));
    }
}

/// `unwrap` and a `main` that returns an error print `Debug`.
#[test]
fn debug_is_the_text_and_its_source() {
    for (error, _) in of_the_system() {
        let source = error.source().expect("a reason");
        assert_eq!(format!("{error:?}"), format!("{error}: {source}"));
    }
    let error = Kill::now().pids(&[std::process::id(), 0]).unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    let fields = format!("{error:#?}");
    assert!(fields.contains("reason: InvalidPid"), "{fields}");
}

#[test]
fn as_an_error_of_the_system_it_has_a_fitting_kind() {
    let victims = [""; 2].map(Victim::start);
    let pids = victims.each_ref().map(Victim::pid);
    let mut errors = vec![
        (
            Kill::now().tree(0).unwrap_err(),
            io::ErrorKind::InvalidInput,
        ),
        (
            Kill::now().port(0).unwrap_err(),
            io::ErrorKind::InvalidInput,
        ),
        (pids_matching("(").unwrap_err(), io::ErrorKind::InvalidInput),
        (pids_matching("").unwrap_err(), io::ErrorKind::InvalidInput),
        (
            wait_until_gone(&pids, Duration::ZERO).unwrap_err(),
            io::ErrorKind::TimedOut,
        ),
        (Kill::now().pids(&[1]).unwrap_err(), io::ErrorKind::TimedOut),
        (
            Kill::now().at_most(1).pids(&pids).unwrap_err(),
            io::ErrorKind::Other,
        ),
    ];
    if is_root("part of as_an_error_of_the_system_it_has_a_fitting_kind") {
        let forbidden = |pids: &[u32]| as_nobody(|| Kill::now().pids(pids).unwrap_err());
        errors.push((forbidden(&pids), io::ErrorKind::PermissionDenied));
        // The kind is different if only some targets have that reason.
        errors.push((forbidden(&[pids[0], 0]), io::ErrorKind::TimedOut));
    }
    for (error, kind) in errors {
        let (text, own) = (error.to_string(), error.kind());
        let error = io::Error::from(error);
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(error.to_string(), text);
        let inner = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        assert_eq!(inner.kind(), own);
    }
}

#[test]
fn without_proc_the_reason_is_told() {
    if !is_root("without_proc_the_reason_is_told")
        || !alone!(without_proc_the_reason_is_told in OWN_PIDS)
    {
        return;
    }
    let mut victim = Victim::start("");
    let group = victim.pid();
    while std::fs::exists("/proc/self").unwrap() {
        umount2("/proc", MntFlags::MNT_DETACH).unwrap();
    }
    for kill in ways() {
        for error in [
            kill.matching("no such process").unwrap_err(),
            kill.all_where(|_| true).unwrap_err(),
            kill.directory(Path::new("/usr")).unwrap_err(),
            kill.port(9).unwrap_err(),
            kill.children().unwrap_err(),
            kill.tree(group).unwrap_err(),
            kill.jobs(&[group]).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Proc, "{error}");
            let text = error.to_string();
            assert!(text.starts_with("cannot use /proc: "), "{text}");
            if let Some(source) = error.source() {
                assert!(!text.contains(&source.to_string()), "{text}");
            }
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        }
    }
    assert!(victim.answers());
}

/// An orphan is left that may be a member's child.
#[test]
fn what_is_not_proven_is_a_timeout() {
    if !alone!(what_is_not_proven_is_a_timeout in OWN_PIDS) {
        return;
    }
    let mut victim = Victim::start("setpgid heir=aside");
    let error = Kill::graceful().tree(victim.pid()).unwrap_err();
    assert_eq!(victim.line(), "heir");
    assert_eq!(error.kind(), ErrorKind::Unproven, "{error}");
    assert!(error.source().is_none() && error.survivors().is_empty());
    let report = error.report().unwrap();
    assert_eq!(report.pids(Outcome::Exited), [victim.pid()]);
    let left: Vec<u32> = error.left_alone().iter().map(Survivor::pid).collect();
    let text = error.to_string();
    let start = "not proven that all are gone: 1 process ended within ";
    assert!(text.starts_with(start), "{text}");
    let end = format!(" s, and new ones may be left: {} (stubborn)", left[0]);
    assert!(text.contains(&end), "{text}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    victim.let_go();
    victim.all_gone();
}

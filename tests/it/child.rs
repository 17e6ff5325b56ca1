//! Children that are spawned in a group and ended as a whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::pty::openpty;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use process_kill::child::{CommandExt, Group, Limits, Managed};
use process_kill::{ErrorKind, Outcome, ProcessId, pids_in_group, pids_in_session};

use super::fixture::{
    PATIENCE, Victim, alone, eventually, filtered, is_root, open_descriptors, patient, readable,
    release, states, stubborn,
};

const GROUPS: [Group; 3] = [Group::Inherit, Group::New, Group::NewSession];

/// A managed tree of stubborn processes. The processes that are left end with it.
pub(crate) struct Crew {
    pub(crate) managed: Managed,
    leash: ChildStdin,
    out: BufReader<ChildStdout>,
    /// Ascending.
    pub(crate) pids: Vec<u32>,
}

impl Crew {
    /// Returns when all processes are ready.
    pub(crate) fn start(spec: &str, group: Group) -> Crew {
        let mut command = stubborn(spec);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut managed = command.spawn_managed(group).unwrap();
        let child = managed.child();
        let mut crew = Crew {
            leash: child.stdin.take().unwrap(),
            out: BufReader::new(child.stdout.take().unwrap()),
            managed,
            pids: Vec::new(),
        };
        for _ in 0..=spec.matches('{').count() {
            let line = crew.line();
            let pid = line.strip_prefix("ready ").expect("ready");
            crew.pids.push(pid.parse().unwrap());
        }
        crew.pids.sort_unstable();
        crew
    }

    fn line(&mut self) -> String {
        if self.out.buffer().is_empty() {
            readable(self.out.get_ref(), PATIENCE);
        }
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn answers(&mut self) -> bool {
        self.leash.write_all(b"ping\n").is_ok() && self.line().starts_with("pong")
    }

    /// All processes hold this pipe, so this uses none of the crate's code.
    pub(crate) fn all_gone(&mut self) {
        readable(self.out.get_ref(), PATIENCE);
        assert_eq!(self.out.read(&mut [0]).unwrap(), 0);
    }
}

/// Whether no process has the number, not even a zombie.
pub(crate) fn is_reaped(pid: u32) -> bool {
    kill(raw(pid), None) == Err(Errno::ESRCH)
}

pub(crate) fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap())
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

fn parent_exits(crew: &Crew) {
    eventually("the one in the middle exits", || {
        crew.pids.iter().any(|&pid| states(pid) == ['Z'])
    });
}

#[test]
fn a_child_is_in_the_group_that_was_asked_for() {
    let own = nix::unistd::getpgrp().as_raw().unsigned_abs();
    let leader = Crew::start("", Group::New);
    for (group, expected) in [
        (Group::Inherit, Some(own)),
        (Group::New, None),
        (Group::NewSession, None),
        (Group::Join(leader.managed.id()), Some(leader.managed.id())),
    ] {
        let crew = Crew::start("", group);
        let (managed, pid) = (&crew.managed, crew.pids[0]);
        assert_eq!(managed.id(), pid);
        assert_eq!(Some(managed.process_id()), ProcessId::of(pid).unwrap());
        assert_eq!(managed.group(), expected.unwrap_or(pid));
        // The caller's own group has no number if it is outside of the PID namespace.
        if managed.group() != 0 {
            assert!(pids_in_group(managed.group()).unwrap().contains(&pid));
        }
        let leads_session = pids_in_session(pid).unwrap() == [pid];
        assert_eq!(leads_session, group == Group::NewSession);
    }
}

#[test]
fn nothing_sticks_to_a_command() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let leader = command.spawn_managed(Group::New).unwrap();
    let heir = command.spawn_managed(Group::Inherit).unwrap();
    let session = command.spawn_managed(Group::NewSession).unwrap();
    let member = command.spawn_managed(Group::Join(leader.id())).unwrap();
    let mut plain = command.spawn().unwrap();
    // The caller's own group has no number if it is outside of the PID namespace.
    if heir.group() != 0 {
        let own = pids_in_group(heir.group()).unwrap();
        assert!(own.contains(&heir.id()) && own.contains(&plain.id()));
    }
    assert_eq!(pids_in_session(session.id()).unwrap(), [session.id()]);
    assert_eq!(
        pids_in_group(leader.id()).unwrap(),
        [leader.id(), member.id()]
    );
    plain.kill().unwrap();
    plain.wait().unwrap();
}

#[test]
fn a_failed_spawn_does_not_stick_either() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let error = command.spawn_managed(Group::Join(gone)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    command.spawn_managed(Group::New).unwrap();
}

#[test]
fn a_group_that_cannot_be_joined_is_an_error() {
    let mut command = Command::new("true");
    for pgid in [0, 1, 1 << 31, u32::MAX] {
        let error = command.spawn_managed(Group::Join(pgid)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{pgid}");
    }
    let elsewhere = Crew::start("", Group::NewSession);
    let error = command.spawn_managed(Group::Join(elsewhere.managed.id()));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn stop_ends_the_tree_and_the_true_status_is_kept() {
    for group in GROUPS {
        let mut crew = Crew::start("ignore=TERM { { ignore=TERM } } { setsid { } }", group);
        let how = patient().grace(Duration::from_millis(50));
        let report = crew.managed.stop(&how).unwrap();
        assert_eq!(
            sorted(report.iter().map(|(pid, _)| pid).collect()),
            crew.pids
        );
        crew.all_gone();
        assert!(is_reaped(crew.managed.id()));
        for _ in 0..2 {
            assert_eq!(crew.managed.wait().unwrap().signal(), Some(9));
        }
        let again = crew.managed.stop(&how).unwrap();
        assert_eq!(again.pids(Outcome::AlreadyGone), [crew.managed.id()]);
    }
}

#[test]
fn stop_leaves_the_reaping_of_others_to_their_parents() {
    let mut crew = Crew::start("", Group::New);
    let mut other = Command::new("true").spawn().unwrap();
    let other_pid = other.id();
    eventually("a zombie", || states(other_pid) == ['Z']);
    crew.managed.stop(&patient()).unwrap();
    assert_eq!(states(other_pid), ['Z']);
    assert!(other.wait().unwrap().success());
}

#[test]
fn orphans_in_the_own_group_or_session_end_with_it() {
    for (group, spec) in [
        (Group::New, "{ { ignore=TERM } exit }"),
        (Group::NewSession, "{ { setpgid ignore=TERM } exit }"),
    ] {
        for by_stop in [true, false] {
            let mut crew = Crew::start(spec, group);
            parent_exits(&crew);
            if by_stop {
                crew.managed.stop(&patient()).unwrap();
            } else {
                let own = crew.managed.process_id();
                drop(std::mem::replace(
                    &mut crew.managed,
                    Command::new("true").spawn_managed(Group::New).unwrap(),
                ));
                assert!(own.is_gone().unwrap());
            }
            crew.all_gone();
        }
    }
}

/// As before Linux 5.12: only its leader, a zombie too, shows that the group is its own. The answer of
/// `F_GETOWN_EX` counts only if uname(2) tells that the kernel is new enough.
#[test]
fn a_dropped_leader_is_reaped_after_its_group_was_ended() {
    let of_groups = [libc::SYS_pidfd_send_signal, libc::SYS_uname];
    for group in [Group::New, Group::NewSession] {
        filtered(&of_groups, libc::EPERM, || {
            let Crew {
                managed,
                leash,
                mut out,
                ..
            } = Crew::start("{ ignore=TERM } exit", group);
            let pid = managed.id();
            eventually("the leader exits", || states(pid) == ['Z']);
            drop(managed);
            assert!(is_reaped(pid));
            readable(out.get_ref(), PATIENCE);
            assert_eq!(out.read(&mut [0]).unwrap(), 0);
            drop(leash);
        });
    }
}

#[test]
fn members_that_outlive_a_leader_long_waited_for_are_ended() {
    if release() < [5, 12] {
        let test = "members_that_outlive_a_leader_long_waited_for_are_ended";
        println!("skipped: {test} needs Linux 5.12");
        return;
    }
    for (group, spec) in [
        (Group::New, "{ ignore=TERM } exit=3"),
        (Group::NewSession, "{ ignore=TERM } exit=3"),
        (Group::NewSession, "{ setpgid ignore=TERM } exit=3"),
    ] {
        for by_stop in [true, false] {
            let mut crew = Crew::start(spec, group);
            let pid = crew.managed.id();
            for _ in 0..2 {
                assert_eq!(crew.managed.wait().unwrap().code(), Some(3));
            }
            assert!(crew.pids.len() == 2 && is_alive(crew.pids.iter().find(|&&p| p != pid)));
            if by_stop {
                let report = crew.managed.stop(&patient()).unwrap();
                assert_eq!(report.pids(Outcome::Killed).len(), 1);
                assert!(is_reaped(pid));
                assert_eq!(crew.managed.wait().unwrap().code(), Some(3));
            } else {
                let Crew {
                    managed,
                    leash,
                    mut out,
                    ..
                } = crew;
                drop(managed);
                readable(out.get_ref(), PATIENCE);
                assert_eq!(out.read(&mut [0]).unwrap(), 0);
                drop(leash);
                continue;
            }
            crew.all_gone();
        }
    }
}

fn is_alive(pid: Option<&u32>) -> bool {
    pid.is_some_and(|&pid| !states(pid).is_empty() && states(pid) != ['Z'])
}

#[test]
fn a_dropped_child_is_killed_and_reaped_also_while_unwinding() {
    for group in GROUPS {
        for unwinds in [false, true] {
            let Crew {
                managed,
                leash,
                mut out,
                pids,
            } = Crew::start("ignore=TERM { } { setsid }", group);
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                let _managed = managed;
                if unwinds {
                    // Unlike panic!, this writes nothing to standard error.
                    std::panic::resume_unwind(Box::new(()));
                }
            }));
            assert_eq!(dropped.is_err(), unwinds);
            readable(out.get_ref(), PATIENCE);
            assert_eq!(out.read(&mut [0]).unwrap(), 0);
            assert!(is_reaped(pids[0]));
            drop(leash);
        }
    }
}

#[test]
fn dropping_one_that_cannot_end_takes_no_longer_than_the_verification() {
    let crew = Crew::start("", Group::New);
    let pid = crew.managed.id();
    let mut tracer = Victim::start(&format!("trace={pid}"));
    let begun = Instant::now();
    let Crew { managed, leash, .. } = crew;
    drop(managed);
    // The verification of this drop takes two seconds.
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(tracer.line(), "held");
    drop(leash);
    tracer.let_go();
    waitpid(raw(pid), None).unwrap();
}

#[test]
fn a_group_that_is_not_its_own_is_not_signalled() {
    let mut leader = Crew::start("", Group::New);
    let pgid = leader.managed.id();
    let mut sibling = Victim::start("");
    for group in [Group::Join(pgid), Group::Inherit] {
        for by_stop in [true, false] {
            let mut crew = Crew::start("ignore=TERM { }", group);
            if by_stop {
                let how = patient().grace(Duration::from_millis(50));
                let report = crew.managed.stop(&how).unwrap();
                assert_eq!(
                    sorted(report.iter().map(|(pid, _)| pid).collect()),
                    crew.pids
                );
                crew.all_gone();
            }
            drop(crew);
            assert!(leader.answers() && sibling.answers());
        }
    }
}

#[test]
fn a_detached_child_is_left_alone() {
    for group in GROUPS {
        let Crew {
            managed,
            mut leash,
            mut out,
            pids,
        } = Crew::start("", group);
        let mut child = managed.detach();
        assert_eq!(child.id(), pids[0]);
        leash.write_all(b"ping\n").unwrap();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("pong"));
        drop(leash);
        assert!(child.wait().unwrap().success());
    }
}

/// What the standard input of a child is, if the child was given `stdin`.
fn input(stdin: impl Into<Stdio>, group: Group) -> PathBuf {
    let mut command = Command::new("sleep");
    let managed = command.arg("60").stdin(stdin).spawn_managed(group).unwrap();
    std::fs::read_link(format!("/proc/{}/fd/0", managed.id())).unwrap()
}

#[test]
fn a_terminal_is_kept_from_all_but_the_callers_group() {
    let leader = Crew::start("", Group::New);
    let pty = openpty(None, None).unwrap();
    let terminal = |group| {
        let end: OwnedFd = pty.slave.try_clone().unwrap();
        input(end, group)
    };
    let null = Path::new("/dev/null");
    assert!(terminal(Group::Inherit).starts_with("/dev/pts"));
    for group in [
        Group::New,
        Group::NewSession,
        Group::Join(leader.managed.id()),
    ] {
        assert_eq!(terminal(group), null);
        let file = std::fs::File::open("/proc/version").unwrap();
        assert_eq!(input(file, group), Path::new("/proc/version"));
        let pipe = input(Stdio::piped(), group);
        assert!(pipe.to_str().unwrap().starts_with("pipe:"), "{pipe:?}");
    }
}

/// Leaves so many descriptors free while `f` runs.
fn with_free<T>(free: u64, f: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The lowest free number comes first, so there are no large gaps between the open descriptors.
    let next = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open("/dev/null").unwrap());
    let limit = u64::from(next.unsigned_abs()) + free;
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    let result = f();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    result
}

#[test]
fn no_child_is_left_behind_when_spawning_fails() {
    if !alone!(no_child_is_left_behind_when_spawning_fails) {
        return;
    }
    let before = open_descriptors();
    let (mut failed, mut spawned) = (0, 0);
    for free in 0..12 {
        for group in GROUPS {
            let mut command = Command::new("sh");
            // The children of the leader hold the pipe open, so it does not end.
            let (reader, writer) = std::io::pipe().unwrap();
            // In the inherited group they live on.
            let script = match group {
                Group::Inherit => "sleep 1 & sleep 1",
                _ => "sleep 60 & sleep 60",
            };
            command.args(["-c", script]);
            command.stdin(Stdio::null()).stdout(writer);
            match with_free(free, || command.spawn_managed(group)) {
                Ok(managed) => {
                    spawned += 1;
                    drop(managed);
                }
                Err(error) => {
                    failed += 1;
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                }
            }
            drop(command);
            assert_eq!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Err(Errno::ECHILD)
            );
            if group != Group::Inherit {
                let mut reader = reader;
                readable(&reader, PATIENCE);
                assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            }
        }
    }
    assert!(failed > 3 && spawned > 3, "{failed} {spawned}");
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_child_is_killed_when_dropped_without_a_free_descriptor() {
    if !alone!(a_child_is_killed_when_dropped_without_a_free_descriptor) {
        return;
    }
    for group in GROUPS {
        for free in 0..4 {
            let Crew {
                managed,
                leash,
                mut out,
                pids,
            } = Crew::start("ignore=TERM { }", group);
            let pid = managed.id();
            with_free(free, || drop(managed));
            assert!(is_reaped(pid), "{group:?} {free}");
            if group == Group::Inherit {
                // The descendants cannot be found, and the group is not the child's own.
                drop(leash);
            }
            readable(out.get_ref(), PATIENCE);
            assert_eq!(out.read(&mut [0]).unwrap(), 0, "{pids:?}");
        }
    }
}

#[test]
fn children_are_ended_where_sigchld_is_ignored() {
    if !alone!(children_are_ended_where_sigchld_is_ignored) {
        return;
    }
    // SAFETY: SIG_IGN runs no code.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    for group in GROUPS {
        let mut crew = Crew::start("ignore=TERM { }", group);
        crew.managed.stop(&patient()).unwrap();
        crew.all_gone();
        assert_eq!(crew.managed.wait().unwrap_err().kind(), ErrorKind::Io);

        let Crew {
            managed, mut out, ..
        } = Crew::start("ignore=TERM { }", group);
        drop(managed);
        assert_eq!(out.read(&mut [0]).unwrap(), 0);

        let mut sleep = Command::new("sleep");
        let sleep = sleep.arg("60").spawn_managed(group).unwrap();
        let limits = Limits::new().overall(Duration::from_millis(10));
        assert_eq!(sleep.output(&limits).unwrap().status, None);
    }
}

#[test]
fn no_descriptor_is_leaked() {
    if !alone!(no_descriptor_is_leaked) {
        return;
    }
    let before = open_descriptors();
    for group in GROUPS {
        for _ in 0..3 {
            let mut crew = Crew::start("{ }", group);
            crew.managed.stop(&patient()).unwrap();
            drop(crew);
            drop(Crew::start("{ }", group));
            let mut command = Command::new("sh");
            command.args(["-c", "echo; echo >&2"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let managed = command.spawn_managed(group).unwrap();
            managed.output(&Limits::new()).unwrap();
            command
                .spawn_managed(group)
                .unwrap()
                .detach()
                .wait()
                .unwrap();
        }
    }
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_child_of_another_user_is_a_survivor_that_can_be_stopped_later() {
    if !is_root("a_child_of_another_user_is_a_survivor_that_can_be_stopped_later") {
        return;
    }
    let mut crew = Crew::start("", Group::New);
    let managed = &mut crew.managed;
    let error = super::fixture::as_nobody(|| managed.stop(&patient()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Survivors);
    assert_eq!(
        super::fixture::reasons(&error),
        [(crew.pids[0], process_kill::Reason::NotPermitted)]
    );
    assert!(crew.answers());
    crew.managed.stop(&patient()).unwrap();
    crew.all_gone();
}

#[test]
fn a_session_is_found_again_after_a_stop_that_failed() {
    if !is_root("a_session_is_found_again_after_a_stop_that_failed") {
        return;
    }
    let mut crew = Crew::start("{ setpgid } exit", Group::NewSession);
    let managed = &mut crew.managed;
    managed.wait().unwrap();
    let error = super::fixture::as_nobody(|| managed.stop(&patient()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Survivors);
    let report = managed.stop(&patient()).unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 1);
    assert!(is_reaped(managed.id()));
    crew.all_gone();
}

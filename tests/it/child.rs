//! Supervision of children.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use process_kill::child::{CommandExt, Ended, Group, Limits, Registry};
use process_kill::{ErrorKind, Kill};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::piped());
    command
}

#[test]
fn both_pipes_are_read_at_any_volume() {
    let managed = sh("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 3")
        .spawn_managed(Group::New)
        .unwrap();
    let output = managed.output(&Limits::new()).unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (3_000_000, 3_000_000)
    );
    assert_eq!(output.status.unwrap().code(), Some(3));
    assert_eq!((output.ended, output.complete), (Ended::Exited, true));
}

#[test]
fn a_timeout_ends_the_tree_and_keeps_what_was_written() {
    let managed = sh("trap 'echo bye; exit 4' TERM; echo hello; sleep 60 & wait")
        .spawn_managed(Group::New)
        .unwrap();
    let limits = Limits::new().overall(Duration::from_millis(300));
    let output = managed.output(&limits).unwrap();
    assert_eq!(output.ended, Ended::OverallTimeout);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nbye\n");
    assert_eq!(output.status.unwrap().code(), Some(4));
    assert!(output.complete);
}

#[test]
fn a_held_pipe_ends_after_the_drain_time() {
    let managed = sh("sleep 60 & echo done")
        .spawn_managed(Group::New)
        .unwrap();
    let output = managed
        .output(&Limits::new().drain(Duration::from_millis(200)))
        .unwrap();
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(output.report.len(), 2);
}

#[test]
fn nothing_sticks_to_a_command() {
    let mut command = Command::new("sleep");
    command.arg("60");
    let leader = command.spawn_managed(Group::New).unwrap();
    assert_eq!(leader.group(), leader.id());
    let heir = command.spawn_managed(Group::Inherit).unwrap();
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert!(own.split(' ').nth(4).unwrap() == heir.group().to_string());
    assert!(
        process_kill::pids_in_group(heir.group())
            .unwrap()
            .contains(&heir.id())
    );
    let session = command.spawn_managed(Group::NewSession).unwrap();
    assert_eq!(
        process_kill::pids_in_session(session.id()).unwrap(),
        [session.id()]
    );
    let member = command.spawn_managed(Group::Join(leader.id())).unwrap();
    assert_eq!(
        process_kill::pids_in_group(leader.id()).unwrap(),
        [leader.id(), member.id()]
    );
    let pids = [leader.id(), heir.id(), session.id(), member.id()];
    drop((leader, heir, session, member));
    for pid in pids {
        assert_eq!(process_kill::ProcessId::of(pid).unwrap(), None);
    }
}

#[test]
fn a_registry_kills_all_and_closes() {
    static REGISTRY: Registry = Registry::new();
    let mut a = sh("sleep 60 & exec sleep 60")
        .spawn_managed(Group::New)
        .unwrap();
    let ticket = REGISTRY.add(&a).unwrap();
    let report = REGISTRY.kill_all(&Kill::now()).unwrap();
    assert!(!report.is_empty());
    assert_eq!(a.wait().unwrap().signal(), Some(9));
    assert_eq!(REGISTRY.add(&a).unwrap_err().kind(), ErrorKind::Refused);
    assert!(REGISTRY.kill_all(&Kill::now()).unwrap().is_empty());
    drop(ticket);
}

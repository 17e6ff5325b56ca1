//! What a child writes, within limits.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use process_kill::child::{CommandExt, Ended, Group, Limits, Managed, Stream};
use process_kill::{Coverage, ErrorKind, Kill, Outcome, ProcessId};

use super::child::{is_reaped, raw};
use super::fixture::{PATIENCE, alone, readable, without_pidfds};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str, group: Group) -> Managed {
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn_managed(group)
        .unwrap()
}

#[test]
fn both_pipes_are_read_at_any_volume() {
    let script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 3";
    let read = || {
        let output = sh(script, Group::New).output(&Limits::new()).unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (3_000_000, 3_000_000)
        );
        assert_eq!(output.status.unwrap().code(), Some(3));
        assert_eq!((output.ended, output.complete), (Ended::Exited, true));
        assert_eq!(output.report.pids(Outcome::AlreadyGone).len(), 1);
        assert_eq!(output.report.coverage(), Coverage::BestEffort);
    };
    read();
    without_pidfds(read);
}

#[test]
fn the_overall_time_ends_the_tree_and_keeps_what_was_written() {
    let script = "trap 'echo bye; exit 4' TERM; echo hello; sleep 60 & wait";
    for group in [Group::Inherit, Group::New, Group::NewSession] {
        let limits = Limits::new().overall(Duration::from_millis(300)).idle(LONG);
        let output = sh(script, group).output(&limits).unwrap();
        assert_eq!(output.ended, Ended::OverallTimeout);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nbye\n");
        assert_eq!(output.status.unwrap().code(), Some(4));
        assert!(output.complete);
        assert_eq!(output.report.pids(Outcome::Exited).len(), 2);
    }
}

#[test]
fn the_overall_time_ends_one_that_writes_without_end() {
    let limits = Limits::new()
        .overall(Duration::from_millis(200))
        .max_bytes(10)
        .kill(Kill::now());
    let output = sh("exec yes", Group::New).output(&limits).unwrap();
    assert_eq!(output.ended, Ended::OverallTimeout);
    assert_eq!((output.stdout.len(), output.complete), (10, false));
    assert!(output.truncated);
}

#[test]
fn the_idle_time_ends_one_that_is_silent() {
    let limits = Limits::new().idle(Duration::from_millis(300)).overall(LONG);
    let output = sh("echo a; exec sleep 60", Group::New).output(&limits);
    let output = output.unwrap();
    assert_eq!(output.ended, Ended::IdleTimeout);
    assert_eq!(output.stdout, b"a\n");
    assert!(output.complete);
}

#[test]
fn every_byte_on_either_pipe_starts_the_idle_time_anew() {
    let script = "for i in 1 2 3; do sleep 0.5; echo; sleep 0.5; echo >&2; done";
    let limits = Limits::new().idle(Duration::from_secs(2)).max_bytes(0);
    let output = sh(script, Group::New).output(&limits).unwrap();
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
}

#[test]
fn the_pipes_are_read_while_the_child_is_ended() {
    let script = "trap 'head -c 1000000 /dev/zero; exit 7' TERM; sleep 60 & wait";
    let end = || {
        let limits = Limits::new()
            .idle(Duration::from_millis(300))
            .kill(Kill::graceful().grace(LONG));
        let output = sh(script, Group::New).output(&limits).unwrap();
        assert_eq!(output.stdout.len(), 1_000_000);
        assert_eq!(output.status.unwrap().code(), Some(7));
        assert_eq!((output.ended, output.complete), (Ended::IdleTimeout, true));
    };
    end();
    without_pidfds(end);
}

#[test]
fn a_held_pipe_is_let_go_after_the_drain_time() {
    let begun = Instant::now();
    let limits = Limits::new().drain(Duration::from_millis(300));
    let output = sh("sleep 60 & echo done", Group::New).output(&limits);
    let output = output.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
    assert!(!output.truncated);
    assert_eq!(output.stdout, b"done\n");
    assert_eq!(output.report.len(), 2);
    assert!(output.status.unwrap().success());
}

#[test]
fn what_an_orphan_writes_within_the_drain_time_is_kept() {
    let script = "{ sleep 0.3; echo late; } & exit 0";
    let limits = Limits::new().drain(LONG);
    let output = sh(script, Group::Inherit).output(&limits).unwrap();
    assert_eq!((output.ended, output.complete), (Ended::Exited, true));
    assert_eq!(output.stdout, b"late\n");
}

#[test]
fn one_that_left_holds_nobody_up_and_is_left_alone() {
    // The command substitution ends when the process in it closes its pipe. That process then has a
    // session of its own.
    let script = "exec 3>&1; pid=$(setsid sh -c 'echo $$; exec sleep 60 >&3' &); echo $pid";
    let limits = Limits::new().drain(Duration::from_millis(200));
    let output = sh(script, Group::New).output(&limits).unwrap();
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
    let pid: u32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let left = ProcessId::of(pid).unwrap().expect("it lives on");
    assert!(!left.is_gone().unwrap());
    kill(raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn only_the_first_bytes_are_kept_and_the_child_is_not_held_up() {
    let script = "printf 0123456789; head -c 1000000 /dev/zero; printf abc >&2; exit 5";
    let limits = Limits::new().max_bytes(10);
    let output = sh(script, Group::New).output(&limits).unwrap();
    assert_eq!(output.stdout, b"0123456789");
    assert_eq!(output.stderr, b"abc");
    assert_eq!(output.status.unwrap().code(), Some(5));
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
}

#[test]
fn as_many_bytes_as_may_be_kept_are_complete() {
    let limits = Limits::new().max_bytes(3);
    let output = sh("printf abc; printf abc >&2", Group::New).output(&limits);
    assert!(output.unwrap().complete);
}

#[test]
fn standard_input_is_closed() {
    let output = sh("cat; echo end", Group::New).output(&Limits::new());
    assert_eq!(output.unwrap().stdout, b"end\n");
}

#[test]
fn pipes_are_not_needed() {
    let mut command = Command::new("sh");
    command.args(["-c", "exit 2"]).stdin(Stdio::null());
    let managed = command.spawn_managed(Group::New).unwrap();
    let output = managed.output(&Limits::new()).unwrap();
    assert_eq!(output.status.unwrap().code(), Some(2));
    assert!(output.stdout.is_empty() && output.stderr.is_empty() && output.complete);
}

#[test]
fn a_child_that_was_waited_for_has_its_status_and_output() {
    let mut managed = sh("echo hi; exit 6", Group::New);
    assert_eq!(managed.wait().unwrap().code(), Some(6));
    let output = managed.output(&Limits::new()).unwrap();
    assert_eq!(output.status.unwrap().code(), Some(6));
    assert_eq!(
        (output.stdout.as_slice(), output.complete),
        (&b"hi\n"[..], true)
    );
}

#[test]
fn a_status_that_somebody_else_took_is_none() {
    let managed = sh("echo hi; exit 1", Group::New);
    nix::sys::wait::waitpid(raw(managed.id()), None).unwrap();
    let output = managed.output(&Limits::new().drain(LONG)).unwrap();
    assert_eq!((output.status, output.stdout), (None, b"hi\n".to_vec()));
    assert_eq!((output.ended, output.complete), (Ended::Exited, true));
}

#[test]
fn no_child_is_left_where_the_way_to_end_it_is_refused() {
    let mut managed = sh("exec sleep 60", Group::New);
    let mut pipe = managed.child().stdout.take().unwrap();
    let pid = managed.id();
    let limits = Limits::new()
        .overall(Duration::from_millis(10))
        .kill(Kill::graceful().first_signal(65));
    let error = managed.output(&limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(is_reaped(pid));
    readable(&pipe, PATIENCE);
    assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
}

#[test]
fn memory_does_not_grow_with_what_is_thrown_away() {
    if !alone!(memory_does_not_grow_with_what_is_thrown_away) {
        return;
    }
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib
    };
    let before = peak();
    let limits = Limits::new()
        .overall(Duration::from_secs(1))
        .max_bytes(1 << 20);
    let output = sh("yes & exec yes >&2", Group::New).output(&limits);
    let output = output.unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (1 << 20, 1 << 20)
    );
    assert_eq!(
        (output.ended, output.complete),
        (Ended::OverallTimeout, false)
    );
    let grown = peak() - before;
    println!("the peak was {} KiB, {grown} KiB more than before", peak());
    // Two times two megabytes, because a vector grows, and some more for code and buffers.
    assert!(grown < 8 << 10, "{grown} KiB");
}

/// Another reader of the same pipe.
fn reader(pipe: impl AsFd) -> File {
    let reader = File::from(pipe.as_fd().try_clone_to_owned().unwrap());
    readable(&reader, PATIENCE);
    reader
}

/// Both pipes are readable. While the bytes of the first one are shown, those of the second one are
/// taken.
#[test]
fn bytes_that_another_reader_takes_hold_up_no_limit() {
    for is_nonblocking in [false, true] {
        let mut managed = sh("echo out; echo err >&2; exec sleep 60", Group::New);
        let child = managed.child();
        reader(child.stdout.as_ref().unwrap());
        let mut other = reader(child.stderr.as_ref().unwrap());
        if is_nonblocking {
            fcntl(&other, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        let mut taken = [0; 8];
        let limits = Limits::new()
            .overall(Duration::from_millis(200))
            .kill(Kill::now());
        let begun = Instant::now();
        let output = managed.output_with(&limits, |stream, _| {
            if stream == Stream::Stdout {
                assert_eq!(other.read(&mut taken).unwrap(), 4);
            }
        });
        let output = output.unwrap();
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(output.ended, Ended::OverallTimeout);
        assert_eq!(
            (output.stdout, output.stderr),
            (b"out\n".into(), b"".into())
        );
        assert_eq!(&taken, b"err\n\0\0\0\0");
    }
}

/// The child has exited, and a process of its group holds the pipe. The pipe has more bytes than one
/// read takes. While the drain shows the first ones, the rest is taken.
#[test]
fn bytes_that_another_reader_takes_hold_up_no_drain() {
    const BYTES: usize = 200_000;
    let mut managed = sh("head -c 200000 /dev/zero; sleep 60 & exit 0", Group::New);
    let mut other = reader(managed.child().stdout.as_ref().unwrap());
    fcntl(&other, FcntlArg::F_SETPIPE_SZ(1 << 18)).unwrap();
    let child = Id::Pid(raw(managed.id()));
    waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    let mut rest = vec![0; BYTES];
    let (mut pieces, mut taken) = (0, 0);
    let begun = Instant::now();
    let limits = Limits::new().drain(Duration::ZERO).kill(Kill::now());
    let output = managed.output_with(&limits, |_, _| {
        pieces += 1;
        if pieces == 2 {
            taken = other.read(&mut rest).unwrap();
        }
    });
    let output = output.unwrap();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!((output.ended, output.complete), (Ended::Exited, false));
    assert!(taken > 0);
    assert_eq!(output.stdout.len() + taken, BYTES);
}

//! A child's status while it runs, its output as it is read, and what is left if reading fails.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use process_kill::child::{CommandExt, Ended, Group, Limits, Managed, Stream};
use process_kill::{ErrorKind, Kill, Reason};

use super::child::{is_reaped, raw};
use super::fixture::{PATIENCE, Victim, eventually, is_root, readable, reasons, without_pidfds};

const GROUPS: [Group; 3] = [Group::Inherit, Group::New, Group::NewSession];

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn sh(script: &str, group: Group) -> Managed {
    shell(script).spawn_managed(group).unwrap()
}

#[test]
fn the_status_is_told_once_there_is_one() {
    for group in GROUPS {
        // The child waits for the end of its input. Asking for its status does not close that
        // input.
        let mut managed = sh("cat; exit 3", group);
        for _ in 0..3 {
            assert_eq!(managed.try_wait().unwrap(), None);
        }
        assert!(managed.child().stdin.is_some());
        drop(managed.child().stdin.take());
        let mut status = None;
        eventually("it exits", || {
            status = managed.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(3));
        // The zombie keeps the number of its session.
        assert_eq!(is_reaped(managed.id()), group != Group::NewSession);
        for _ in 0..3 {
            assert_eq!(managed.try_wait().unwrap(), status);
            assert_eq!(managed.wait().unwrap(), status.unwrap());
        }
        managed.stop(&Kill::graceful()).unwrap();
        assert!(is_reaped(managed.id()));
        assert_eq!(managed.try_wait().unwrap(), status);
    }
}

#[test]
fn the_status_of_a_stopped_child_is_told() {
    use std::os::unix::process::ExitStatusExt;
    for group in GROUPS {
        let mut managed = sh("exec sleep 60", group);
        managed.stop(&Kill::now()).unwrap();
        let status = managed.try_wait().unwrap().expect("it was ended");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}

/// All bytes of both pipes, as the closure gets them.
#[derive(Default)]
struct Shown {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    pieces: usize,
}

impl Shown {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        self.pieces += 1;
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
    }
}

#[test]
fn every_byte_is_shown_in_order_however_few_are_kept() {
    const SCRIPT: &str = "seq 1 30000; seq 30001 60000 >&2; seq 60001 90000; printf end >&2";
    let lines = |range: std::ops::RangeInclusive<u32>| -> Vec<u8> {
        range.flat_map(|i| format!("{i}\n").into_bytes()).collect()
    };
    let stdout = [lines(1..=30_000), lines(60_001..=90_000)].concat();
    let stderr = [lines(30_001..=60_000), b"end".to_vec()].concat();
    let show = || {
        for most in [0, 1, 1000, stderr.len(), stdout.len(), usize::MAX] {
            let mut shown = Shown::default();
            let limits = Limits::new().max_bytes(most);
            let output = sh(SCRIPT, Group::New)
                .output_with(&limits, |stream, bytes| shown.take(stream, bytes))
                .unwrap();
            assert!(shown.stdout == stdout && shown.stderr == stderr, "{most}");
            assert!(output.stdout == stdout[..most.min(stdout.len())], "{most}");
            assert!(output.stderr == stderr[..most.min(stderr.len())], "{most}");
            assert_eq!(output.complete, most >= stdout.len(), "{most}");
            assert!(shown.pieces > 2);
        }
    };
    show();
    without_pidfds(show);
}

#[test]
fn what_is_written_on_the_first_signal_is_shown_too() {
    let script = "trap 'echo bye; echo oops >&2; exit 4' TERM; echo hello; sleep 60 & wait";
    for most in [0, usize::MAX] {
        let mut managed = sh(script, Group::New);
        readable(managed.child().stdout.as_ref().unwrap(), PATIENCE);
        let mut shown = Shown::default();
        let limits = Limits::new()
            .overall(Duration::from_millis(50))
            .max_bytes(most);
        let output = managed
            .output_with(&limits, |stream, bytes| shown.take(stream, bytes))
            .unwrap();
        assert_eq!(output.ended, Ended::OverallTimeout);
        assert_eq!(output.status.unwrap().code(), Some(4));
        assert_eq!(shown.stdout, b"hello\nbye\n");
        assert_eq!(shown.stderr, b"oops\n");
        assert_eq!(output.complete, most > 0);
    }
}

/// Panics when the closure gets `word` from a child, which writes something as soon as it is ready.
/// Checks that nothing of the child is left.
fn panic_at(word: &str, script: &str, group: Group, limits: &Limits) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut command = shell(script);
    // All processes that it starts inherit this pipe, so end-of-file says that they are gone.
    command.stderr(Stdio::from(write));
    let mut managed = command.spawn_managed(group).unwrap();
    drop(command);
    let pid = managed.id();
    // The limits count from the call, and a child may take long to start.
    readable(managed.child().stdout.as_ref().unwrap(), PATIENCE);
    let mut seen = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        managed.output_with(limits, |_, bytes| {
            seen.extend_from_slice(bytes);
            if String::from_utf8_lossy(&seen).contains(word) {
                std::panic::resume_unwind(Box::new("not today"));
            }
        })
    }));
    let panic = result.expect_err(script);
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"not today"));
    assert!(is_reaped(pid), "{script}");
    readable(&read, PATIENCE);
    let mut file = std::fs::File::from(read);
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_panic_in_the_closure_leaves_nobody_alive() {
    for group in GROUPS {
        // The panic comes while the child runs.
        let script = "sleep 60 & (sleep 60; true) & echo hello; wait";
        panic_at("hello", script, group, &Limits::new());
        // The panic comes while the child is being ended.
        let script = "trap 'echo bye; sleep 60' TERM; echo hello; sleep 60 & wait; sleep 60";
        let limits = Limits::new().overall(Duration::from_millis(50));
        panic_at("bye", script, group, &limits);
    }
    // The panic comes while the output of an orphan in the child's group is read.
    let script = "echo early; { sleep 0.1; echo late; sleep 60; } & exit 0";
    for group in [Group::New, Group::NewSession] {
        panic_at("late", script, group, &Limits::new().drain(PATIENCE));
    }
}

#[test]
fn the_output_of_a_child_that_could_not_be_ended_is_not_lost() {
    if !is_root("the_output_of_a_child_that_could_not_be_ended_is_not_lost") {
        return;
    }
    for group in [Group::New, Group::Inherit] {
        let mut managed = sh("echo oops >&2; echo hello; exec sleep 60", group);
        let pid = managed.id();
        readable(managed.child().stdout.as_ref().unwrap(), PATIENCE);
        eventually("it executes", || {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n"
        });
        let tracer = Victim::start(&format!("trace={pid}"));
        let verify = Duration::from_millis(200);
        let limits = Limits::new()
            .overall(Duration::from_millis(50))
            .drain(Duration::ZERO)
            .kill(Kill::now().verify_within(verify));
        let mut shown = Shown::default();
        let error = managed
            .output_with(&limits, |stream, bytes| shown.take(stream, bytes))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Survivors);
        let by = tracer.pid();
        assert_eq!(reasons(&error), [(pid, Reason::Traced { by })]);
        let output = error.output().expect("what was written");
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"hello\n"[..], &b"oops\n"[..])
        );
        assert_eq!(
            (shown.stdout, shown.stderr),
            (b"hello\n".to_vec(), b"oops\n".to_vec())
        );
        assert_eq!((output.status, output.ended), (None, Ended::OverallTimeout));
        assert!(!output.complete);
        // Other errors have no output.
        assert!(Kill::now().tree(0).unwrap_err().output().is_none());
        drop(tracer);
        waitpid(raw(pid), None).unwrap();
    }
}

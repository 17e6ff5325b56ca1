//! The subject: a fork of the stage that calls the function.
//!
//! It stops itself before the call, marks the end of the call, says the result on a pipe, and stops
//! itself again. It never returns.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use process_kill::ProcessId;
use process_kill::child::{CommandExt, Group};

use super::super::fixture::open_descriptors;
use super::functions::{By, Function, Scene};
use super::trace;

/// A stopped subject, and what it will say.
pub struct Subject {
    pub pid: Pid,
    said: File,
}

/// What the subject says of its call.
#[derive(Debug)]
pub struct Said {
    pub result: Result<Vec<u32>, Failed>,
    pub descriptors: [usize; 2],
}

/// How the function failed: the kind, or `panic`, and the text.
#[derive(Debug)]
pub struct Failed {
    pub kind: String,
    pub text: String,
}

impl Subject {
    /// Forks it. It has not stopped itself yet.
    pub fn start(function: &Function, scene: Scene) -> Subject {
        let (said, says) = pipe2(OFlag::O_CLOEXEC).unwrap();
        // SAFETY: the stage has no other thread that holds a lock which the child needs.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Subject {
                pid: child,
                said: File::from(said),
            },
            ForkResult::Child => {
                drop(said);
                // What unwinds must not reach the test runner of the stage.
                let _ = catch_unwind(AssertUnwindSafe(|| act(function, scene, says)));
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(1) }
            }
        }
    }

    /// After it stopped for the second time.
    pub fn said(&mut self) -> Said {
        let mut text = vec![0; 1 << 16];
        let got = self.said.read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..got]).into_owned();
        let mut lines = text.splitn(4, '\n');
        let mut line = || lines.next().unwrap().to_owned();
        let (descriptors, verdict, kind, text) = (line(), line(), line(), line());
        let numbers = |text: &str| -> Vec<u32> {
            let words = text.split_whitespace();
            words.map(|word| word.parse().unwrap()).collect()
        };
        let descriptors = numbers(&descriptors);
        Said {
            result: match verdict.as_str() {
                "ok" => Ok(numbers(&text)),
                _ => Err(Failed { kind, text }),
            },
            descriptors: [descriptors[0] as usize, descriptors[1] as usize],
        }
    }
}

fn act(function: &Function, mut scene: Scene, says: OwnedFd) {
    scene.ids = scene
        .pids
        .iter()
        .filter_map(|&pid| ProcessId::of(pid).unwrap())
        .collect();
    // Two of these belong to the command.
    let without_child = open_descriptors() - 2;
    if function.started == By::Subject {
        let command = scene.command.take();
        let mut command = command.unwrap();
        // A pipe for `output`.
        command.stderr(Stdio::piped());
        let child = command.spawn_managed(Group::New).unwrap();
        scene.child.replace(Some(child));
    }
    let before = open_descriptors();
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| (function.call)(&scene)));
    trace::end();
    if function.started == By::Call {
        scene.child.take();
    }
    let after = open_descriptors();
    // `output` consumes the child.
    let is_consumed = function.started == By::Subject && scene.child.borrow().is_none();
    let before = if is_consumed { without_child } else { before };
    scene.command.take();
    let (verdict, kind, text) = match result {
        Ok(Ok(pids)) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            ("ok", String::new(), pids.join(" "))
        }
        Ok(Err(error)) => {
            let source = std::error::Error::source(&error);
            let source = source.map_or(String::new(), |source| format!(": {source}"));
            (
                "err",
                format!("{:?}", error.kind()),
                format!("{error}{source}"),
            )
        }
        Err(_) => ("err", "panic".to_owned(), String::new()),
    };
    let text = format!("{before} {after}\n{verdict}\n{kind}\n{text}");
    File::from(says).write_all(text.as_bytes()).unwrap();
    raise(Signal::SIGSTOP).unwrap();
}

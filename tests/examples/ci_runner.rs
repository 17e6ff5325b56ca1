//! Runs the jobs of a CI pipeline with time limits and a live log: `cargo run --example ci_runner`.
//!
//! Each job starts a daemon, as build servers do. When a job is over, its daemon is gone as well.

use std::io::{Write, stdout};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use process_kill::child::{CommandExt, Ended, Group, Limits, Output};
use process_kill::{Kill, is_gone};

mod own_pids;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LIMITS: Limits = Limits::new()
    .overall(Duration::from_secs(2))
    .idle(Duration::from_secs(1))
    // A daemon holds the pipes of its job. After the job has exited, reading goes on for this long.
    .drain(Duration::from_millis(100))
    .kill(Kill::graceful().grace(Duration::from_millis(500)));

/// Runs one command. The command leads a session of its own, so a daemon whose parent has exited is
/// still known by its session. Ctrl-C does not reach that session: `process_kill::guide::groups` says
/// how to stop the job then.
fn run(script: &str) -> process_kill::Result<Output> {
    Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn_managed(Group::NewSession)?
        // A log that cannot be written is not a reason to stop the job.
        .output_with(&LIMITS, |_, bytes| stdout().write_all(bytes).unwrap_or(()))
}

const JOBS: [(&str, Ended, &str); 3] = [
    // The daemon is an orphan in the session of the job.
    (
        "a job that passes",
        Ended::Exited,
        "(sleep 60 & echo daemon $!)
         echo passed",
    ),
    // The daemon has left the session, and is still a descendant of the job.
    (
        "a job that hangs",
        Ended::IdleTimeout,
        "setsid sh -c 'echo daemon $$; exec sleep 60' &
         wait",
    ),
    // The daemon and the job ignore SIGTERM.
    (
        "a job that does not end",
        Ended::OverallTimeout,
        "trap '' TERM
         sleep 60 & echo daemon $!
         while sleep 0.3; do echo still at work; done",
    ),
];

fn main() -> ExitCode {
    own_pids::run(pipeline)
}

fn pipeline() -> Result<()> {
    for (name, expected, script) in JOBS {
        println!("== {name}");
        let output = run(script)?;
        let status = output
            .status
            .ok_or("another part of the program reaped it")?;
        println!("== {:?}, {status}", output.ended);

        let log = String::from_utf8_lossy(&output.stdout);
        let daemon = log.lines().find_map(|line| line.strip_prefix("daemon "));
        let daemon = daemon.ok_or("there was no daemon")?.parse()?;
        if output.ended != expected || !is_gone(daemon)? {
            return Err(format!("{name}: {:?}", output.ended).into());
        }
        println!("== daemon {daemon} is gone\n");
    }
    println!("{} jobs, nothing left", JOBS.len());
    Ok(())
}

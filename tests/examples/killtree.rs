//! Kills processes with all their descendants, and names the survivors and their reasons.
//! `cargo run --example killtree -- --help`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use process_kill::{Error, ErrorKind, Kill, Outcome, Report, Result, pids_matching};

const HELP: &str = "\
Kills processes with all their descendants and verifies that they are gone.

Usage: killtree PID
       killtree [--] PATTERN

PATTERN is a POSIX extended regular expression, matched against whole command
lines as by pgrep -f. killtree itself and its ancestors are never meant, such as
a shell that has the pattern in its own command line.

Each tree is stopped before it is killed, so that nothing is forked past the
kill, and the pattern is searched again until nothing matches any more.

Exit status: 0 all verified gone, or there was nothing to kill
             1 somebody survived, or it could not be told; standard error says who and why
             2 bad usage; nothing was killed
";

/// The time limit, if new processes match again and again.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Option<Vec<String>> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.into_string().ok())
        .collect();
    let args: Vec<&str> = match &args {
        Some(args) => args.iter().map(String::as_str).collect(),
        None => return usage("arguments must be UTF-8"),
    };
    let killed = match args[..] {
        ["-h" | "--help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["--", pattern] => kill_matching(pattern),
        [option] if option.starts_with('-') => return usage(&format!("no such option: {option}")),
        [pid] if pid.bytes().all(|b| b.is_ascii_digit()) && !pid.is_empty() => match pid.parse() {
            Ok(pid) => kill_pid(pid),
            Err(_) => return usage(&format!("{pid} is not a process number")),
        },
        [pattern] => kill_matching(pattern),
        _ => return usage("one pid or one pattern is wanted"),
    };
    match killed {
        Ok(code) => code,
        Err(e) => failed(&e),
    }
}

fn kill_pid(pid: u32) -> Result<ExitCode> {
    if say_gone(&Kill::now().tree(pid)?) == 0 {
        println!("no process {pid}: nothing to kill");
    }
    Ok(ExitCode::SUCCESS)
}

/// Kills again and again, until nothing is left to kill.
fn kill_matching(pattern: &str) -> Result<ExitCode> {
    let until = Instant::now() + PATIENCE;
    let (mut first, mut error) = (true, None);
    loop {
        let mut count = 0;
        for pid in pids_matching(pattern)? {
            match Kill::now().tree(pid) {
                Ok(report) => count += say_gone(&report),
                // The process is an ancestor of this program.
                Err(e) if e.kind() == ErrorKind::Refused => {}
                // The others are killed in spite of this error.
                Err(e) => error = error.or(Some(e)),
            }
        }
        match error {
            Some(e) => return Err(e),
            None if count == 0 && first => println!("nothing matches {pattern:?}: nothing to kill"),
            None => {}
        }
        if count == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() > until {
            eprintln!("killtree: new ones keep coming from outside of what is to be killed");
            return Ok(ExitCode::FAILURE);
        }
        (first, error) = (false, None);
    }
}

/// The number of processes that were killed.
fn say_gone(report: &Report) -> usize {
    let killed = report.pids(Outcome::Killed);
    for pid in &killed {
        println!("{pid} is gone");
    }
    killed.len()
}

fn failed(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::Pattern | ErrorKind::Refused => return usage(&error.to_string()),
        ErrorKind::Survivors => {
            if let Some(report) = error.report() {
                say_gone(report);
            }
            for survivor in error.survivors() {
                eprintln!("killtree: survived: {survivor}");
            }
        }
        _ => eprintln!("killtree: {error}"),
    }
    ExitCode::FAILURE
}

fn usage(why: &str) -> ExitCode {
    eprintln!("killtree: {why}\nTry killtree --help.");
    ExitCode::from(2)
}

//! Kills processes with all their descendants, and says who survived and why.
//! `cargo run --example killtree -- --help`

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use process_kill::{
    Error, ErrorKind, Kill, Outcome, ProcessId, Report, Result, descendants, pids_matching,
    processes_where,
};

const HELP: &str = "\
Kills processes with all their descendants and verifies that they are gone.

Usage: killtree PID
       killtree [--] PATTERN

PATTERN is a POSIX extended regular expression, matched against whole command
lines as by pgrep -f. killtree itself and its ancestors are never meant, such as
a shell that has the pattern in its own command line.

What is killed is what a search finds; it is searched again until nothing is
left. A process that forks between search and kill can leave behind a child that
neither descends from a target nor matches.

Exit status: 0 all verified gone, or there was nothing to kill
             1 somebody survived, or it could not be told; standard error says who and why
             2 bad usage; nothing was killed
";

/// How long to go on when new processes match again and again.
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
    let Some(root) = ProcessId::of(pid)? else {
        println!("no process {pid}: nothing to kill");
        return Ok(ExitCode::SUCCESS);
    };
    if own_line()?.contains(&pid) {
        return Ok(usage(&format!("{pid} is killtree or an ancestor of it")));
    }
    kill_all(|| Ok(if root.is_gone()? { vec![] } else { vec![root] }))
}

fn kill_matching(pattern: &str) -> Result<ExitCode> {
    let own = own_line()?;
    let find = || {
        let mut found = Vec::new();
        for pid in pids_matching(pattern)? {
            if !own.contains(&pid) {
                found.extend(ProcessId::of(pid)?);
            }
        }
        Ok(found)
    };
    if find()?.is_empty() {
        println!("nothing matches {pattern:?}: nothing to kill");
        return Ok(ExitCode::SUCCESS);
    }
    kill_all(find)
}

/// Finds roots and kills them with their descendants, again and again, until nobody is left to kill.
fn kill_all(find: impl Fn() -> Result<Vec<ProcessId>>) -> Result<ExitCode> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut targets = find()?;
        for root in targets.clone() {
            targets.extend(descendants(root.pid())?);
        }
        let report = Kill::now().processes(&targets)?;
        if report.pids(Outcome::AlreadyGone).len() == report.len() {
            return Ok(ExitCode::SUCCESS);
        }
        say_gone(&report);
        if Instant::now() > until {
            eprintln!("killtree: new ones keep coming from outside of what is to be killed");
            return Ok(ExitCode::FAILURE);
        }
    }
}

fn say_gone(report: &Report) {
    for pid in report.pids(Outcome::Killed) {
        println!("{pid} is gone");
    }
}

/// This process and all its ancestors.
fn own_line() -> Result<HashSet<u32>> {
    let mut parents = HashMap::new();
    processes_where(|process| {
        parents.insert(process.pid(), process.parent());
        false
    })?;
    let mut line = HashSet::new();
    let mut next = Some(std::process::id());
    while let Some(pid) = next {
        // A parent that ended during the scan can lead in a circle.
        next = match line.insert(pid) {
            true => parents.get(&pid).copied(),
            false => None,
        };
    }
    Ok(line)
}

fn failed(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::Pattern | ErrorKind::Refused => return usage(&error.to_string()),
        ErrorKind::Survivors => {
            error.report().map(say_gone);
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

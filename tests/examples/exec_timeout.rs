//! Runs a command with limits and says what came of it.
//! `cargo run --example exec_timeout -- --overall 2000 --idle 500 -- sh -c 'sleep 100 & echo hi'`

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use process_kill::Kill;
use process_kill::child::{CommandExt, Ended, Group, Limits};

const HELP: &str = "\
Runs a command in a group of its own, with limits, and ends all that is left of it.

Usage: exec_timeout [OPTION MILLISECONDS].. [--max-bytes NUMBER] [--] COMMAND [ARGUMENT]..

  --overall    how long it may run
  --idle       how long it may run without writing anything
  --grace      how long it may take after SIGTERM before it gets SIGKILL; 5000 unless given
  --drain      how long to read on when it has ended and others hold its pipes; 2000 unless given
  --max-bytes  how much to keep of each pipe

Exit status: that of the command if it ended by itself in time, 124 if its time was up, 125 if it could
not be run or not be ended, or its output not be written, 128 if it was killed by somebody else

Ctrl-C ends only exec_timeout. The command lives on: process_kill::guide::groups says how to stop it.
";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (limits, command) = match parse(&args) {
        Ok(parsed) => parsed,
        Err(e) => {
            eprint!("exec_timeout: {e}\n\n{HELP}");
            return ExitCode::from(125);
        }
    };
    run(&limits, command).unwrap_or_else(|e| {
        let why = e
            .source()
            .map_or_else(String::new, |why| format!(": {why}"));
        eprintln!("exec_timeout: {e}{why}");
        ExitCode::from(125)
    })
}

fn parse(mut args: &[OsString]) -> Result<(Limits, &[OsString]), String> {
    let mut limits = Limits::new();
    while let [option, rest @ ..] = args {
        let Some(option) = option.to_str().filter(|option| option.starts_with("--")) else {
            break;
        };
        if option == "--" {
            args = rest;
            break;
        }
        let [number, rest @ ..] = rest else {
            return Err(format!("{option}: a number is wanted after it"));
        };
        let count = number.to_str().and_then(|number| number.parse().ok());
        let count = count.ok_or(format!("{option} {number:?}: a whole number is wanted"))?;
        let time = Duration::from_millis(count);
        limits = match option {
            "--overall" => limits.overall(time),
            "--idle" => limits.idle(time),
            "--grace" => limits.kill(Kill::graceful().grace(time)),
            "--drain" => limits.drain(time),
            "--max-bytes" => limits.max_bytes(usize::try_from(count).unwrap_or(usize::MAX)),
            _ => return Err(format!("{option} is no option")),
        };
        args = rest;
    }
    match args {
        [] => Err("a command is wanted".into()),
        command => Ok((limits, command)),
    }
}

fn run(limits: &Limits, command: &[OsString]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn_managed(Group::New)?
        .output(limits)?;
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stderr().write_all(&output.stderr)?;
    let status = match output.status {
        Some(status) => status.to_string(),
        None => "status unknown".to_owned(),
    };
    eprintln!(
        "exec_timeout: {:?}, {status}; {} bytes and {} of errors, {}; {} processes gone",
        output.ended,
        output.stdout.len(),
        output.stderr.len(),
        match output.truncated {
            true => "cut",
            false if output.complete => "complete",
            false => "and a process held a pipe",
        },
        output.report.len()
    );
    Ok(match output.ended {
        Ended::Exited => {
            let code = output.status.and_then(|status| status.code());
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(128))
        }
        _ => ExitCode::from(124),
    })
}

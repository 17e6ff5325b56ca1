//! Waits until a process that is not a child of the caller is gone:
//! `cargo run --example wait_for_stranger -- PID`.
//!
//! wait(2) knows only children. A loop of `kill(pid, 0)` takes a zombie for alive. It also takes a
//! successor with the same pid for the process. Without a PID, this program starts a process that
//! is not its child and waits for that one. It sends no signal.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use process_kill::Process;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says every half second that it still waits.
fn wait_for(pid: u32) -> Result<()> {
    let Some(process) = Process::open(pid)? else {
        println!("there is no process {pid}");
        return Ok(());
    };
    // From here on another process may get the pid. `process` stays the same process.
    println!("waiting for {}", process.id());
    let start = Instant::now();
    while !process.wait_until_gone(Duration::from_millis(500))? {
        println!("{pid} is still there after {:.1?}", start.elapsed());
    }
    println!("the process is gone");
    Ok(())
}

/// The shell exits, so the `sleep` is an orphan. It must not hold the pipes that `output` reads.
fn stranger() -> Result<u32> {
    let script = "sleep 1.2 >/dev/null 2>&1 & echo $!";
    let shell = Command::new("sh").args(["-c", script]).output()?;
    Ok(String::from_utf8(shell.stdout)?.trim().parse()?)
}

fn main() -> ExitCode {
    let pid = match std::env::args().nth(1) {
        Some(pid) => pid
            .parse()
            .map_err(|_| format!("{pid:?} is no pid (1 to 2147483647)").into()),
        None => stranger(),
    };
    match pid.and_then(wait_for) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("wait_for_stranger: {e}");
            ExitCode::FAILURE
        }
    }
}

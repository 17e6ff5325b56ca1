//! A supervisor that ends what its earlier run left behind: `cargo run --example supervisor`.
//!
//! The pid file holds identities, not only pids. A process that has since got one of the pids is
//! another process, and is not touched. Here the earlier run is a child process, which gets
//! SIGKILL. Only one supervisor may use a pid file at a time: a second one would end the workers of
//! the first.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write, stdin};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use process_kill::{Kill, ProcessId};

mod own_pids;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A worker waits for a line and then becomes a tree: a shell and a `sleep`.
const WORKER: &str = "read -r line || exit; sleep 60 & echo a worker runs; wait";
const WORKERS: usize = 2;

/// A worker gets its line after the pid file names it. If the supervisor crashes before that, the
/// worker reads end-of-file and exits. So the pid file names every worker that runs.
fn start_workers(pid_file: &Path) -> Result<Vec<Child>> {
    // An old file names processes that may still run, so it is never overwritten.
    let mut pid_file = File::create_new(pid_file)?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let mut command = Command::new("sh");
        command.args(["-c", WORKER]).stdin(Stdio::piped());
        let mut worker = command.spawn()?;
        let id = ProcessId::of(worker.id())?.ok_or("the worker was reaped")?;
        // A crash can leave half of a line. Then the worker has not begun.
        pid_file.write_all(format!("{id}\n").as_bytes())?;
        let mut start = worker.stdin.take().ok_or("no pipe")?;
        start.write_all(b"start\n")?;
        workers.push(worker);
    }
    Ok(workers)
}

/// `Ok` means that nothing of an earlier run is left, or that there was none.
fn end_former_life(pid_file: &Path) -> Result<()> {
    let ids = match std::fs::read_to_string(pid_file) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        ids => ids?,
    };
    let whole = ids.rfind('\n').map_or("", |end| &ids[..end]);
    let ids: process_kill::Result<Vec<ProcessId>> = whole.lines().map(str::parse).collect();
    let report = Kill::graceful().trees(&ids?)?;
    for (pid, outcome) in report.iter() {
        println!("former life: {pid} {outcome:?}");
    }
    println!("former life: {} gone, the pid file can go", report.len());
    Ok(std::fs::remove_file(pid_file)?)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [role, pid_file] if role == "first-life" => match first_life(pid_file.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("first life: {e}");
                ExitCode::FAILURE
            }
        },
        _ => own_pids::run(two_lives),
    }
}

/// Lasts until SIGKILL, or until the program that started it has ended.
fn first_life(pid_file: &Path) -> Result<()> {
    end_former_life(pid_file)?;
    let _workers = start_workers(pid_file)?;
    stdin().read_line(&mut String::new())?;
    Ok(())
}

fn two_lives() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pid_file = dir.path().join("workers");
    let mut first = Command::new(std::env::current_exe()?)
        .arg("first-life")
        .arg(&pid_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = BufReader::new(first.stdout.take().ok_or("no pipe")?);
    for line in stdout.lines().take(WORKERS) {
        println!("first life: {}", line?);
    }
    first.kill()?;
    println!("first life: {}", first.wait()?);
    // As if it had died while it wrote the line of one more worker.
    let mut torn = File::options().append(true).open(&pid_file)?;
    torn.write_all(b"4711:12")?;
    // The second life begins as the first did.
    end_former_life(&pid_file)
}

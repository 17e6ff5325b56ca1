//! A watchdog that stops an agent for good: `cargo run --example watchdog`.
//!
//! It starts an agent that ignores SIGHUP and SIGTERM in a worktree of its own, finds all of it (by
//! command line, by descent, by working directory), kills it, and says `stopped` in the status file
//! only when every process was verified gone. It needs no root and leaves nothing behind.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use process_kill::{
    Process, descendant_pids, pids_matching, pids_with_cwd_under, processes_where,
    sigkill_pids_and_verify,
};

/// Four processes that ignore SIGHUP and SIGTERM. Each says its name and pid when it has become
/// what it stays; the agent is the last. `stray` is no descendant of the agent when that is said, and
/// nothing but its working directory ties it to the worktree. Nobody writes to `leash`: all but the
/// agent read it to wait, and the watchdog's end, however it comes, ends them too.
const AGENT: &str = r#"
trap '' HUP TERM
exec 3<"$1/leash"
sh -c '
    sh -c "echo grandchild \$\$; read -r _ <&3" &
    echo child $$; read -r _ <&3
' &
(cd "$1"; sh -c 'echo stray $$; read -r _ <leash' &)
echo agent $$
while read -r ping; do echo pong $$; done
"#;
const PROCESSES: usize = 4;

const SIGHUP: i32 = 1;

/// How long anything may take that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("watchdog: {e}");
            ExitCode::FAILURE
        }
    }
}

fn watch() -> Result<()> {
    let worktree = tempfile::Builder::new().prefix("worktree-").tempdir()?;
    let outside = tempfile::tempdir()?;
    let status = outside.path().join("status");
    let mut agent = Agent::start(worktree.path(), outside.path())?;
    fs::write(&status, "running\n")?;

    // The signal is there before the ping is, so who answers has outlived it.
    let first = Process::open(agent.child.id())?.ok_or("the agent has ended")?;
    first.signal(SIGHUP)?;
    agent.answers()?;
    println!("SIGHUP sent to {}: it still answers\n", first.id().pid());

    stop(worktree.path())?;
    fs::write(&status, "stopped\n")?;

    // By none of the crate's own means: all of them held this pipe.
    agent.all_gone()?;
    println!("\nstatus: {}", fs::read_to_string(&status)?.trim());
    Ok(())
}

/// `Ok`: no process of this worktree is left.
fn stop(worktree: &Path) -> Result<()> {
    println!("    pid  name  found by           outcome       ms");
    let until = Instant::now() + PATIENCE;
    loop {
        let found = find(worktree)?;
        if found.is_empty() {
            return Ok(());
        }
        // Whoever starts processes anew stands outside of what is searched here.
        if Instant::now() > until {
            return Err("processes of the worktree keep coming".into());
        }
        let pids: Vec<u32> = found.keys().copied().collect();
        let names = names(&pids)?;
        let report = sigkill_pids_and_verify(&pids)?;
        let ms = report.elapsed().as_secs_f64() * 1e3;
        for (pid, outcome) in report.iter() {
            let name = names.get(&pid).map_or("-", String::as_str);
            println!(
                "{pid:>7}  {name:<4}  {:<17}  {:<11}  {ms:>3.1}",
                found[&pid],
                format!("{outcome:?}")
            );
        }
    }
}

/// Each process of the worktree, and what gave it away.
fn find(worktree: &Path) -> Result<BTreeMap<u32, &'static str>> {
    // The last part alone is unique, and free of what a regular expression might take amiss.
    let name = worktree.file_name().and_then(|name| name.to_str());
    let mut found = BTreeMap::new();
    for pid in pids_matching(name.ok_or("a worktree without a name")?)? {
        found.insert(pid, "command line");
    }
    for pid in pids_with_cwd_under(worktree)? {
        found.entry(pid).or_insert("working directory");
    }
    for root in Vec::from_iter(found.keys().copied()) {
        for pid in descendant_pids(root)? {
            found.entry(pid).or_insert("descent");
        }
    }
    Ok(found)
}

fn names(pids: &[u32]) -> Result<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    processes_where(|process| {
        if pids.contains(&process.pid()) {
            let name = process.name().to_string_lossy().into_owned();
            names.insert(process.pid(), name);
        }
        false
    })?;
    Ok(names)
}

/// The agent as its owner has it. Dropped, it lets go of whatever of it is left.
struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    leash: Option<File>,
}

impl Agent {
    /// Returns when all of its processes are what they stay.
    fn start(worktree: &Path, outside: &Path) -> Result<Agent> {
        let script = outside.join("agent.sh");
        fs::write(&script, AGENT)?;
        let leash = worktree.join("leash");
        nix::unistd::mkfifo(&leash, nix::sys::stat::Mode::S_IRWXU)?;
        // Opened for both, it waits for nobody.
        let leash = File::options().read(true).write(true).open(leash)?;
        let mut child = Command::new("sh")
            .arg(script)
            .arg(worktree)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut agent = Agent {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().ok_or("no pipe")?),
            child,
            leash: Some(leash),
        };
        for _ in 0..PROCESSES {
            let line = agent.line()?;
            println!("started: {line}");
        }
        Ok(agent)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        // A line is one write, so what is readable is at least a line.
        if self.stdout.buffer().is_empty() {
            readable(self.stdout.get_ref(), PATIENCE)?;
        }
        self.stdout.read_line(&mut line)?;
        match line.trim_end() {
            "" => Err("the agent has ended".into()),
            line => Ok(line.to_owned()),
        }
    }

    fn answers(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("no pipe")?;
        stdin.write_all(b"ping\n")?;
        match self.line()? {
            line if line == format!("pong {}", self.child.id()) => Ok(()),
            line => Err(format!("no answer: {line}").into()),
        }
    }

    fn all_gone(&mut self) -> Result<()> {
        readable(self.stdout.get_ref(), PATIENCE)?;
        match self.stdout.read(&mut [0])? {
            0 => Ok(()),
            _ => Err("somebody still speaks".into()),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stdin = None;
        self.leash = None;
        // An error leaves a zombie, for as long as this program still takes to end.
        let _ = self.child.wait();
    }
}

/// Waits until there is something to read, or end-of-file.
fn readable(fd: impl AsFd, within: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(within)?;
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout)? {
        0 => Err(format!("nothing was said within {within:?}").into()),
        _ => Ok(()),
    }
}

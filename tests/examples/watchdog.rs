//! A watchdog that stops an agent for good: `cargo run --example watchdog`.
//!
//! The agent works in a worktree of its own. It ignores SIGHUP and SIGTERM, and has started other
//! processes. The watchdog writes `stopped` to the status file only after all of them are gone.
//! Copy `stop`. The rest of this program makes an agent and shows that nothing of it is left.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use process_kill::{Kill, Process};

mod own_pids;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `Ok` means that no process of this worktree is left, and the status file says so.
fn stop(worktree: &Path, status: &Path) -> Result<()> {
    let kill = Kill::graceful().grace(Duration::from_millis(200));
    let report = kill.directory(worktree)?;
    for (pid, outcome) in report.iter() {
        println!("{pid:>7}  {outcome:?}");
    }
    println!("{} gone in {:?}", report.len(), report.elapsed());
    Ok(fs::write(status, "stopped\n")?)
}

/// Four processes that ignore SIGHUP and SIGTERM. Each says its name and pid. Only the agent's
/// command line names the worktree. The child and the grandchild are found by descent. `stray` is
/// an orphan by the time that the agent says its pid. Only its working directory ties it to the
/// worktree.
const AGENT: &str = r#"
trap '' HUP TERM
sh -c '
    sh -c "echo grandchild \$\$; exec sleep 60" &
    echo child $$; wait
' &
(cd "$1"; sh -c 'echo stray $$; exec sleep 60' &)
echo agent $$
while read -r ping; do echo pong $$; done
"#;
const PROCESSES: usize = 4;

fn main() -> ExitCode {
    own_pids::run(watch)
}

fn watch() -> Result<()> {
    let worktree = tempfile::Builder::new().prefix("worktree-").tempdir()?;
    let outside = tempfile::tempdir()?;
    let status = outside.path().join("status");
    fs::write(&status, "running\n")?;

    let mut agent = Agent::start(worktree.path())?;
    let outlived = agent.outlives_sighup();
    // The agent is also stopped if the trial has failed.
    let stopped = stop(worktree.path(), &status);
    outlived.and(stopped)?;
    agent.is_at_end_of_file()?;
    println!("status: {}", fs::read_to_string(&status)?.trim());
    agent.child.wait()?;
    Ok(())
}

struct Agent {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Agent {
    /// Returns when all of its processes run.
    fn start(worktree: &Path) -> Result<Agent> {
        let mut child = Command::new("sh")
            .args(["-c", AGENT, "agent"])
            .arg(worktree)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut agent = Agent {
            stdin: child.stdin.take().ok_or("no pipe")?,
            stdout: BufReader::new(child.stdout.take().ok_or("no pipe")?),
            child,
        };
        for _ in 0..PROCESSES {
            println!("started: {}", agent.line()?);
        }
        Ok(agent)
    }

    /// The signal comes before the ping, so an agent that answers the ping has outlived the signal.
    fn outlives_sighup(&mut self) -> Result<()> {
        let process = Process::open(self.child.id())?.ok_or("the agent has ended")?;
        process.signal(nix::libc::SIGHUP)?;
        self.stdin.write_all(b"ping\n")?;
        println!("SIGHUP was sent; it still answers: {}\n", self.line()?);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line)? {
            0 => Err("the agent has ended".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// This proof uses none of the crate's code: all four processes inherited the standard output.
    /// Its end can be read at once only if none of them holds it any more.
    fn is_at_end_of_file(&mut self) -> Result<()> {
        let stdout = PollFd::new(self.stdout.get_ref().as_fd(), PollFlags::POLLIN);
        if poll(&mut [stdout], PollTimeout::ZERO)? == 0 || self.stdout.read(&mut [0])? > 0 {
            return Err("a process of the agent is left".into());
        }
        println!("end of file: no process holds the agent's output");
        Ok(())
    }
}

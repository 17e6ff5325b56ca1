//! Runs agents as children of tokio until SIGINT (Ctrl-C) or SIGTERM, and then ends each of them with
//! its whole tree: `cargo run --features tokio --example orchestrator`.
//!
//! One obeys SIGTERM, one ignores it, and one has left a grandchild in a session of its own. The
//! program says `stopped` only if all of them were verified gone. Otherwise it exits with 1.

use std::error::Error;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use process_kill::{Kill, Outcome, ProcessId, tokio as gone};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Name and script. Each script says the pids of its other processes, one on each line, and then
/// `ready`.
const AGENTS: [(&str, &str); 3] = [
    ("obedient", "echo ready; exec sleep 300"),
    ("stubborn", "trap '' TERM; echo ready; exec sleep 300"),
    (
        "forking",
        "setsid sh -c 'echo $$; echo ready; exec sleep 300' & wait",
    ),
];

struct Agent {
    name: &'static str,
    child: Child,
    /// The child comes first.
    processes: Vec<ProcessId>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => {
            println!("stopped: all verified gone");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("orchestrator: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    // From here on no signal ends this program and leaves an agent behind.
    let signal = first_signal()?;
    let mut agents = Vec::new();
    let started = tokio::select! {
        started = start_all(&mut agents) => started,
        signal = signal => {
            println!("signal {}; shutting down", signal?);
            Ok(())
        }
    };
    // This also runs if an agent could not be started.
    let stopped = stop(agents).await;
    started.and(stopped)
}

fn first_signal() -> Result<oneshot::Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            // No receiver: an error has begun the shutdown already.
            let _ = tell.send(signal);
        }
        // The shutdown has an end, so another signal changes nothing.
        signals.for_each(drop);
    });
    Ok(told)
}

/// Lasts until an agent cannot be started. Each one is in `agents` before anything is awaited, so
/// it is stopped if this is cut short.
async fn start_all(agents: &mut Vec<Agent>) -> Result<()> {
    for (name, script) in AGENTS {
        agents.push(Agent::start(name, script)?);
        if let Some(agent) = agents.last_mut() {
            agent.be_ready().await?;
        }
    }
    println!("all ready");
    std::future::pending().await
}

impl Agent {
    fn start(name: &'static str, script: &str) -> Result<Agent> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // The terminal sends SIGINT to this program alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("it was waited for")?;
        let id = ProcessId::of(pid)?.ok_or("it was reaped")?;
        Ok(Agent {
            name,
            child,
            processes: vec![id],
        })
    }

    async fn be_ready(&mut self) -> Result<()> {
        let out = self.child.stdout.take().ok_or("no pipe")?;
        let mut lines = BufReader::new(out).lines();
        loop {
            let line = lines.next_line().await?.ok_or("the agent has ended")?;
            if line == "ready" {
                break;
            }
            let id = ProcessId::of(line.parse()?)?;
            let id = id.ok_or("a process of the agent has ended")?;
            self.processes.push(id);
        }
        println!("{}: {} processes", self.name, self.processes.len());
        Ok(())
    }
}

/// `Ok` means that no process of any agent is left.
async fn stop(agents: Vec<Agent>) -> Result<()> {
    let kill = Kill::graceful().grace(Duration::from_millis(300));
    // The kills start at the call, so all graces run at the same time.
    let kills: Vec<_> = agents
        .into_iter()
        .map(|agent| {
            let killed = gone::trees(kill.clone(), vec![agent.processes[0]]);
            (agent, killed)
        })
        .collect();
    let mut failed = None;
    for (mut agent, killed) in kills {
        match killed.await {
            Ok(report) => {
                // tokio reaps the child. The kill has not taken the status away.
                let status = agent.child.wait().await?;
                println!(
                    "{}: {} exited, {} killed in {:?}; {status}",
                    agent.name,
                    report.pids(Outcome::Exited).len(),
                    report.pids(Outcome::Killed).len(),
                    report.elapsed()
                );
            }
            Err(e) => failed = failed.or(Some(format!("{}: {e}", agent.name))),
        }
        for id in &agent.processes {
            if !id.is_gone()? {
                failed = failed.or(Some(format!("{}: {} is left", agent.name, id.pid())));
            }
        }
    }
    failed.map_or(Ok(()), |e| Err(e.into()))
}

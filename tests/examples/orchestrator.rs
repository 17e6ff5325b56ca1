//! Runs agents as children of tokio, and ends each of them with its whole tree on shutdown:
//! `cargo run --features tokio --example orchestrator`.
//!
//! One obeys SIGTERM, one ignores it, and one has left a grandchild in a session of its own. The
//! program says `stopped` only if all of them were verified gone. Otherwise it exits with 1.

use std::error::Error;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use process_kill::{Kill, Outcome, ProcessId, tokio as gone};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Name and script. Each script says the pids of its processes, one on each line, and then `ready`.
const AGENTS: [(&str, &str); 3] = [
    ("obedient", "echo $$; echo ready; exec sleep 300"),
    (
        "stubborn",
        "trap '' TERM; echo $$; echo ready; exec sleep 300",
    ),
    (
        "forking",
        "echo $$
         setsid sh -c 'echo $$; echo ready; exec sleep 300' &
         wait",
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
    let mut agents = Vec::new();
    let run = async {
        for (name, script) in AGENTS {
            agents.push(start(name, script).await?);
        }
        println!("all ready; shutting down");
        Ok::<(), Box<dyn Error>>(())
    };
    let started = run.await;
    // This also runs if one of the agents could not be started.
    let stopped = stop(agents).await;
    match started.and(stopped) {
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

async fn start(name: &'static str, script: &str) -> Result<Agent> {
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let out = child.stdout.take().ok_or("no pipe")?;
    let mut lines = BufReader::new(out).lines();
    let mut processes = Vec::new();
    loop {
        let line = lines.next_line().await?.ok_or("the agent has ended")?;
        if line == "ready" {
            break;
        }
        let id = ProcessId::of(line.parse()?)?;
        processes.push(id.ok_or("a process of the agent has ended")?);
    }
    println!("{name}: {} processes", processes.len());
    Ok(Agent {
        name,
        child,
        processes,
    })
}

/// `Ok` means that no process of any agent is left.
async fn stop(agents: Vec<Agent>) -> Result<()> {
    let kill = Kill::graceful().grace(Duration::from_millis(300));
    // The kills start at the call, so all graces run at the same time.
    let kills: Vec<_> = agents
        .into_iter()
        .map(|agent| {
            // The child is not reaped yet, so the number is its own.
            let root = agent.processes[0].pid();
            (agent, gone::tree(kill.clone(), root))
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

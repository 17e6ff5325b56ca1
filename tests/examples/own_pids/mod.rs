//! Runs an example in a PID namespace of its own, so that it can find and kill only what it
//! started.

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

/// Set for the program that runs inside of the namespace.
const INSIDE: &str = "PROCESS_KILL_EXAMPLE_HAS_OWN_PIDS";

/// `--kill-child`: if `unshare` is killed, the kernel kills all processes of the namespace.
const UNSHARE: [&str; 4] = ["--pid", "--fork", "--mount-proc", "--kill-child"];

/// A user namespace gives these rights to a user that is not root.
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];

/// The first process of a namespace adopts orphans and must reap them. A shell does that.
const INIT: [&str; 4] = ["sh", "-c", r#""$@"; exit $?"#, "init"];

/// Starts this program again in a PID namespace of its own, and runs `example` there. If no
/// namespace can be made, `example` runs in this process.
pub(crate) fn run(example: impl FnOnce() -> Result<(), Box<dyn Error>>) -> ExitCode {
    let ended = match std::env::var_os(INSIDE) {
        Some(_) => example(),
        None => start_again().and_then(|()| {
            println!("No PID namespace is to be had: this runs in place.\n");
            example()
        }),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("failed: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returns only if this program cannot have a namespace, or cannot be started.
fn start_again() -> Result<(), Box<dyn Error>> {
    for options in [&UNSHARE[..], &[UNSHARE.as_slice(), &AS_USER].concat()] {
        let mut trial = Command::new("unshare");
        trial.args(options).arg("true").stderr(Stdio::null());
        if trial.status().is_ok_and(|status| status.success()) {
            let mut again = Command::new("unshare");
            again.args(options).args(INIT).env(INSIDE, "yes");
            again.arg(std::env::current_exe()?);
            return Err(again.args(std::env::args_os().skip(1)).exec().into());
        }
    }
    Ok(())
}

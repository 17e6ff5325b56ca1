//! A test harness that stops its server when it is dropped, also when a test panics:
//! `cargo run --example harness`.
//!
//! A shell starts the server, as `npm start` or `cargo run` do. If only the shell were killed, the
//! server would live on and keep its port. The next test needs the port at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};

use process_kill::Kill;
use process_kill::child::{CommandExt, Group, Managed};

mod own_pids;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Server {
    process: Managed,
    port: u16,
}

impl Server {
    /// Returns when the server listens. At that moment the server writes its port to its standard
    /// output.
    fn start(port: u16) -> Result<Server> {
        let mut process = Command::new("sh")
            .args(["-c", r#""$0" serve "$1" & wait"#])
            .arg(std::env::current_exe()?)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C does not reach it: `process_kill::guide::groups` says how to stop it then.
            .spawn_managed(Group::New)?;
        let stdout = process.child().stdout.take().ok_or("no pipe")?;
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        stdout.read_line(&mut line)?;
        let port = line.trim().parse()?;
        // If nothing read the pipe any more, a server that writes a log would block or end.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::stderr()));
        Ok(Server { process, port })
    }

    fn greeting(&self) -> Result<String> {
        let mut greeting = String::new();
        TcpStream::connect(("127.0.0.1", self.port))?.read_to_string(&mut greeting)?;
        Ok(greeting)
    }
}

impl Drop for Server {
    /// `Managed` kills its processes when it is dropped. This code also says which processes were
    /// killed, and which are left. A second panic during a panic would abort the program, so an
    /// error is only printed.
    fn drop(&mut self) {
        match self.process.stop(&Kill::now()) {
            Ok(report) => println!("dropped: {} processes gone", report.len()),
            Err(e) => eprintln!("dropped, but: {e}"),
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [role, port] if role == "serve" => match serve(port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("serve: {e}");
                ExitCode::FAILURE
            }
        },
        _ => own_pids::run(test),
    }
}

fn test() -> Result<()> {
    // Any free port.
    let server = Server::start(0)?;
    let port = server.port;
    println!("a test that passes: {:?}", server.greeting()?);
    drop(server);
    TcpListener::bind(("127.0.0.1", port))?;
    println!("the port is free at once\n");

    // The same port.
    let server = Server::start(port)?;
    println!("a test that panics:");
    let test = AssertUnwindSafe(move || {
        assert_eq!(server.greeting().unwrap(), "nothing like that");
    });
    if catch_unwind(test).is_ok() {
        return Err("it did not panic".into());
    }
    TcpListener::bind(("127.0.0.1", port))?;
    println!("the port is free at once, after a panic too");
    Ok(())
}

/// The server: it greets each client.
fn serve(port: &str) -> Result<()> {
    // SIGALRM ends the server if the harness itself is killed.
    nix::unistd::alarm::set(60);
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    println!("{}", listener.local_addr()?.port());
    for client in listener.incoming() {
        client?.write_all(b"hello")?;
    }
    Ok(())
}

//! `pids_listening_on` finds the owners of a port. It never says "free" of a port that is taken.

use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use nix::sched::{CloneFlags, unshare};
use process_kill::{Error, ErrorKind, Kill, pids_listening_on};

use super::fixture::{
    Victim, alone, as_nobody, eventually, is_root, open_descriptors, runs, states, stubborn,
};

/// A network namespace in which nothing else listens.
const OWN_NET: &[&str] = &["unshare", "--net"];

fn port_of(victim: &Victim) -> u16 {
    let mut ports = victim.ready.iter().filter_map(|&(_, port)| port);
    ports.next().expect("one of them listens")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn sorted(mut pids: Vec<u32>) -> Vec<u32> {
    pids.sort_unstable();
    pids
}

/// The reason that the error gives, if the reason is that a socket's owner cannot be seen.
fn unseen(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Io);
    let source = std::error::Error::source(error).expect("a reason");
    let source = source.downcast_ref::<io::Error>().expect("of the system");
    assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    source.to_string()
}

fn has_ipv6(test: &str) -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        println!("skipped: {test} needs IPv6");
    }
    has
}

#[test]
fn a_listener_on_ipv4_is_found() {
    for address in ["127.0.0.1", "0.0.0.0"] {
        let mut victim = Victim::start(&format!("listen={address} {{ }}"));
        let pid = victim.pid();
        let port = port_of(&victim);
        assert_eq!(pids_listening_on(port).unwrap(), [pid], "{address}");
        Kill::now().pids(&victim.pids()).unwrap();
        victim.all_gone();
        assert_eq!(pids_listening_on(port).unwrap(), []);
    }
}

#[test]
fn a_listener_on_ipv6_is_found() {
    if !has_ipv6("a_listener_on_ipv6_is_found") {
        return;
    }
    let victim = Victim::start("listen=::1");
    let found = pids_listening_on(port_of(&victim)).unwrap();
    assert_eq!(found, [victim.pid()]);
}

#[test]
fn a_listener_on_both_is_found_once() {
    if !has_ipv6("a_listener_on_both_is_found_once") {
        return;
    }
    let victim = Victim::start("listen=::");
    let port = port_of(&victim);
    let by_ipv4 = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(pids_listening_on(port).unwrap(), [victim.pid()]);
    drop(by_ipv4);
}

#[test]
fn all_addresses_of_a_port_count() {
    if !has_ipv6("all_addresses_of_a_port_count") {
        return;
    }
    if !alone!(all_addresses_of_a_port_count) {
        return;
    }
    let victim = Victim::start("listen=::1");
    let port = port_of(&victim);
    let both = sorted(vec![victim.pid(), std::process::id()]);
    // Another process has another address with the same port.
    for address in ["127.0.0.1", "127.0.0.2"] {
        let mine = TcpListener::bind((address, port)).unwrap();
        assert_eq!(pids_listening_on(port).unwrap(), both, "{address}");
        drop(mine);
        assert_eq!(pids_listening_on(port).unwrap(), [victim.pid()]);
    }
}

#[test]
fn the_caller_is_a_listener_like_any_other() {
    // Alone, so that no child of another test holds copies of these sockets until its execve(2).
    if !alone!(the_caller_is_a_listener_like_any_other) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    let before = open_descriptors();
    assert_eq!(pids_listening_on(port).unwrap(), [std::process::id()]);
    assert_eq!(open_descriptors(), before);
    drop(listener);
    assert_eq!(pids_listening_on(port).unwrap(), []);
}

#[test]
fn a_connection_is_no_listener() {
    if !alone!(a_connection_is_no_listener) {
        return;
    }
    let victim = Victim::start("listen");
    let port_of_victim = port_of(&victim);
    let client = TcpStream::connect(("127.0.0.1", port_of_victim)).unwrap();
    let found = pids_listening_on(port_of_victim).unwrap();
    assert_eq!(found, [victim.pid()]);
    drop(client);
    // A server that has closed its listener and keeps its connections.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    drop(listener);
    assert_eq!(server.local_addr().unwrap().port(), port);
    assert_eq!(pids_listening_on(port).unwrap(), []);
    drop(client);
}

#[test]
fn a_shared_socket_is_of_all_who_share_it() {
    let mut victim = Victim::start("listen crowd=3");
    let line = victim.line();
    let workers = line.strip_prefix("crowd ").expect("a crowd").split(' ');
    let mut all: Vec<u32> = workers.map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(all.len(), 3);
    all.push(victim.pid());
    let port = port_of(&victim);
    assert_eq!(pids_listening_on(port).unwrap(), sorted(all.clone()));
    // One process fewer.
    let dead = all.remove(0);
    Kill::now().pids(&[dead]).unwrap();
    assert_eq!(pids_listening_on(port).unwrap(), sorted(all));
}

/// Starts a server as inetd(8) and systemd do.
#[test]
fn a_socket_may_be_descriptor_0() {
    struct Sleep(Child);
    impl Drop for Sleep {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo; exec sleep 300 >&0"])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped());
    let mut child = Sleep(command.spawn().unwrap());
    drop(command);
    let mut line = String::new();
    let mut said = BufReader::new(child.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    // Other tests may have forked children while this program had the socket. Each of them has a
    // copy until its execve(2).
    let pid = child.0.id();
    eventually("only the child has it", || {
        pids_listening_on(port).unwrap() == [pid]
    });
    drop(child);
    eventually("it is free", || pids_listening_on(port).unwrap().is_empty());
}

#[test]
fn what_does_not_listen_for_tcp_is_not_found() {
    if !is_root("what_does_not_listen_for_tcp_is_not_found") {
        return;
    }
    if !alone!(what_does_not_listen_for_tcp_is_not_found in OWN_NET) {
        return;
    }
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    assert_eq!(pids_listening_on(port).unwrap(), []);
    let tcp = TcpListener::bind(("0.0.0.0", port)).unwrap();
    assert_eq!(pids_listening_on(port).unwrap(), [std::process::id()]);
    // The socket stays bound, but does not listen any more.
    // SAFETY: two integers.
    let rc = unsafe { libc::shutdown(tcp.as_raw_fd(), libc::SHUT_RD) };
    assert_eq!(rc, 0);
    assert_eq!(pids_listening_on(port).unwrap(), []);
}

#[test]
fn another_network_namespace_does_not_count() {
    if !is_root("another_network_namespace_does_not_count") {
        return;
    }
    if !alone!(another_network_namespace_does_not_count in OWN_NET) {
        return;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--net", env!("CARGO_BIN_EXE_stubborn")])
        .env("STUBBORN", "listen=0.0.0.0");
    let victim = Victim::spawn(command);
    assert_eq!(pids_listening_on(port_of(&victim)).unwrap(), []);
    // A thread can have a namespace of its own.
    let me = std::process::id();
    let (tell, told) = channel();
    let (leave, left) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = port(&listener);
            assert_eq!(pids_listening_on(port).unwrap(), [me]);
            tell.send(port).unwrap();
            left.recv().unwrap_err();
        });
        assert_eq!(pids_listening_on(told.recv().unwrap()).unwrap(), []);
        drop(leave);
    });
}

#[test]
fn an_owner_that_cannot_be_seen_is_an_error() {
    if !is_root("an_owner_that_cannot_be_seen_is_an_error") {
        return;
    }
    if !alone!(an_owner_that_cannot_be_seen_is_an_error) {
        return;
    }
    let why = |port, uid| {
        format!("port {port} is listened on by a socket of user {uid} whose owner cannot be seen")
    };
    // `nobody` may not look into a process that has changed its user, even if that user is
    // `nobody`.
    for (spec, uid) in [("listen", 0), ("nobody listen", 65534)] {
        let victim = Victim::start(spec);
        let port = port_of(&victim);
        assert_eq!(pids_listening_on(port).unwrap(), [victim.pid()], "{spec}");
        let error = as_nobody(|| pids_listening_on(port).unwrap_err());
        assert_eq!(unseen(&error), why(port, uid));
        assert_eq!(
            error.to_string(),
            format!("cannot tell which processes listen on port {port}")
        );
    }
    let mine = TcpListener::bind("127.0.0.1:0").unwrap();
    let found = as_nobody(|| pids_listening_on(port(&mine)));
    assert_eq!(found.unwrap(), [std::process::id()]);
}

#[test]
fn an_owner_outside_of_the_pid_namespace_is_an_error() {
    if !is_root("an_owner_outside_of_the_pid_namespace_is_an_error") {
        return;
    }
    const TEST: &str = "listeners::an_owner_outside_of_the_pid_namespace_is_an_error";
    const PORT: &str = "PROCESS_KILL_TEST_PORT";
    if let Ok(port) = std::env::var(PORT) {
        let error = pids_listening_on(port.parse().unwrap()).unwrap_err();
        assert!(unseen(&error).contains("of user 0 whose owner"));
        return;
    }
    let victim = Victim::start("listen");
    let inside = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(PORT, port_of(&victim).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{inside:?}"
    );
}

#[test]
fn a_process_without_its_leader_still_listens() {
    let mut victim = Victim::start("listen leader-exits");
    let pid = victim.pid();
    eventually("the leader has exited", || {
        states(pid).first() == Some(&'Z')
    });
    let port = port_of(&victim);
    assert_eq!(pids_listening_on(port).unwrap(), [pid]);
    Kill::now().pids(&[pid]).unwrap();
    victim.all_gone();
    assert_eq!(pids_listening_on(port).unwrap(), []);
}

#[test]
fn a_process_that_executes_anew_without_pause_still_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    // The listener is the standard error of the program. Every program that it executes inherits
    // it.
    let mut command = stubborn("execs");
    command.stderr(Stdio::from(OwnedFd::from(listener)));
    let victim = Victim::spawn(command);
    let pid = victim.pid();
    for round in 0..runs(20) {
        let found = pids_listening_on(port).unwrap();
        assert!(found.contains(&pid), "round {round}: {found:?}");
    }
}

#[test]
fn a_thread_may_have_descriptors_of_its_own() {
    if !alone!(a_thread_may_have_descriptors_of_its_own) {
        return;
    }
    let (tell, told) = channel();
    let (leave, left) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            tell.send(port(&listener)).unwrap();
            left.recv().unwrap_err();
        });
        let port = told.recv().unwrap();
        assert_eq!(pids_listening_on(port).unwrap(), [std::process::id()]);
        drop(leave);
    });
}

#[test]
fn a_thread_may_share_a_socket_with_another_process() {
    if !alone!(a_thread_may_share_a_socket_with_another_process) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    // The other process has it as its standard error.
    let mut command = stubborn("");
    command.stderr(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    let other = Victim::spawn(command);
    let both = sorted(vec![other.pid(), std::process::id()]);
    let (tell, told) = channel();
    let (leave, left) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            tell.send(()).unwrap();
            left.recv().unwrap_err();
        });
        told.recv().unwrap();
        // The thread has its own copy.
        drop(listener);
        assert_eq!(pids_listening_on(port).unwrap(), both);
        let error = Kill::now().at_most(0).port(port).unwrap_err();
        assert_eq!(error.survivors().len(), 1);
        drop(leave);
    });
}

/// Runs `f` again and again. At the same time, a thread does `what` again and again.
fn meanwhile(what: impl FnMut() + Send, mut f: impl FnMut()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    let (is_over, mut what) = (&is_over, what);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                what();
            }
        });
        let _stop = Stop(is_over);
        for _ in 0..runs(20) {
            f();
        }
    });
}

#[test]
fn a_socket_that_moves_does_not_make_its_port_free() {
    if !alone!(a_socket_that_moves_does_not_make_its_port_free) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port(&listener);
    let mut place = Some(listener);
    // The socket moves from one descriptor to another, sometimes to a lower and sometimes to a
    // higher one.
    let moves = || {
        let next = place.as_ref().map(|now| now.try_clone().unwrap());
        place = next;
    };
    meanwhile(moves, || match pids_listening_on(port) {
        Ok(found) => assert_eq!(found, [std::process::id()]),
        // Every look may miss the socket. The call must not say "free" then.
        Err(error) => assert!(unseen(&error).contains("cannot be seen")),
    });
}

#[test]
fn a_socket_that_is_closed_meanwhile_is_no_error() {
    if !alone!(a_socket_that_is_closed_meanwhile_is_no_error) {
        return;
    }
    let mut listener = Some(TcpListener::bind("127.0.0.1:0").unwrap());
    let port = port(listener.as_ref().unwrap());
    let reopens = || {
        listener = None;
        // A look that is under way can keep the old socket open for a moment.
        listener = match TcpListener::bind(("127.0.0.1", port)) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => None,
            bound => Some(bound.unwrap()),
        };
    };
    meanwhile(reopens, || {
        let found = pids_listening_on(port).unwrap();
        assert!(found.is_empty() || found == [std::process::id()]);
    });
}

#[test]
fn many_listeners_do_not_hide_one() {
    if !is_root("many_listeners_do_not_hide_one") {
        return;
    }
    if !alone!(many_listeners_do_not_hide_one in OWN_NET) {
        return;
    }
    // More sockets than the kernel shows in one piece.
    let listeners: Vec<TcpListener> = (0..200)
        .map(|_| TcpListener::bind("0.0.0.0:0").unwrap())
        .collect();
    // The kernel lists them in another order.
    for listener in listeners.iter().step_by(20) {
        let found = pids_listening_on(port(listener)).unwrap();
        assert_eq!(found, [std::process::id()]);
    }
}

#[test]
fn port_0_is_refused() {
    let error = pids_listening_on(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string(), "refused: 0 is not a port (1 to 65535)");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn async_code_finds_the_same() {
    let victim = Victim::start("listen");
    let found = process_kill::tokio::pids_listening_on(port_of(&victim)).await;
    assert_eq!(found.unwrap(), [victim.pid()]);
}

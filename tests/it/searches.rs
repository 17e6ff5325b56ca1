//! Killing by directory, by a closure and by port, each in a PID namespace of its own.

use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use process_kill::{Error, ErrorKind, Kill, Outcome, Reason, Report, pids_listening_on};
use tempfile::TempDir;

use super::aim::{at, naming, sorted, ways};
use super::fixture::{
    Victim, alone, copy_stubborn, eventually, is_root, outcomes, patient, reasons, stubborn,
};
use super::tree::unmoved;

/// A PID namespace in which the test has an ancestor in addition to init. Root only.
const WITH_PARENT: &[&str] = &[
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    "sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?",
    "sh",
];

/// A directory that contains these.
fn with(names: &[&str]) -> (TempDir, PathBuf) {
    let base = tempfile::tempdir().unwrap();
    let real = base.path().canonicalize().unwrap();
    for name in names {
        std::fs::create_dir_all(real.join(name)).unwrap();
    }
    (base, real)
}

fn gone(report: &Report) -> Vec<u32> {
    sorted(report.iter().map(|(pid, _)| pid).collect())
}

fn source_of(error: &Error) -> std::io::ErrorKind {
    let source = std::error::Error::source(error).expect("a source");
    source.downcast_ref::<std::io::Error>().unwrap().kind()
}

#[test]
fn all_in_a_directory_and_below_them_are_killed() {
    if !is_root("all_in_a_directory_and_below_them_are_killed")
        || !alone!(all_in_a_directory_and_below_them_are_killed in WITH_PARENT)
    {
        return;
    }
    let (_base, real) = with(&["tree/bin", "tree/src", "tree0", "other/tree", "tree-7"]);
    let tree = real.join("tree");
    let program = tree.join("bin/stubborn");
    copy_stubborn(&program);
    symlink(&tree, real.join("link")).unwrap();
    // The directory by its resolved path, by a link, and with parts that resolving removes.
    let names = [
        tree.clone(),
        real.join("link"),
        real.join("tree0/../tree/."),
    ];
    for (kill, name) in ways().into_iter().cycle().zip(names) {
        let mut works = at(
            &tree.join("src"),
            "ignore=HUP { chdir=/ { setsid } } { setpgid }",
        );
        let mut runs = std::process::Command::new(&program);
        runs.env("STUBBORN", "").current_dir("/");
        let mut runs = Victim::spawn(runs);
        let mut names_it = stubborn("{ chdir=/ }");
        names_it.arg(format!("--tree={}", tree.display()));
        let mut names_it = Victim::spawn(names_it);
        let mut below = naming(&format!("{}/src/a.c", tree.display()));
        let beside = ["tree0", "other/tree", "tree-7"].map(|name| real.join(name));
        let mut strangers: Vec<Victim> = beside.iter().map(|dir| at(dir, "{ }")).collect();
        strangers.extend(beside.iter().map(|dir| naming(dir.to_str().unwrap())));
        strangers.push(naming("tree"));
        strangers.push(at(&real, ""));
        let watched: Vec<u32> = strangers.iter().flat_map(Victim::pids).collect();
        let report = unmoved(&watched, || kill.directory(&name).unwrap());
        let mut family = [&works, &runs, &names_it, &below]
            .map(Victim::pids)
            .concat();
        family.sort_unstable();
        assert_eq!(gone(&report), family);
        for victim in [&mut works, &mut runs, &mut names_it, &mut below] {
            victim.all_gone();
        }
        assert!(kill.directory(&name).unwrap().is_empty());
        for stranger in &mut strangers {
            stranger.let_go();
            stranger.all_gone();
        }
    }
}

#[test]
fn a_respawner_in_a_directory_loses() {
    if !is_root("a_respawner_in_a_directory_loses")
        || !alone!(a_respawner_in_a_directory_loses in WITH_PARENT)
    {
        return;
    }
    let (_base, dir) = with(&[]);
    for spec in ["respawn{ { chdir=/ } }", "pair", "chdir=/ respawn{ }"] {
        for kill in [
            patient(),
            patient().grace(std::time::Duration::from_millis(20)),
        ] {
            // The last victim is in the directory because of its argument. The processes that it
            // starts have that argument too.
            let mut command = stubborn(spec);
            command.arg(&dir).current_dir(&dir);
            let mut victim = Victim::spawn(command);
            let report = kill.directory(&dir).unwrap();
            assert!(report.iter().any(|(pid, _)| pid == victim.pid()), "{spec}");
            victim.all_gone();
            assert_eq!(process_kill::pids_in_directory(&dir).unwrap(), []);
        }
    }
}

#[test]
fn the_caller_and_its_ancestors_in_a_directory_are_spared() {
    if !is_root("the_caller_and_its_ancestors_in_a_directory_are_spared")
        || !alone!(the_caller_and_its_ancestors_in_a_directory_are_spared in WITH_PARENT)
    {
        return;
    }
    // The caller's program is in this directory. The caller's ancestors name that program.
    let program = std::env::current_exe().unwrap().canonicalize().unwrap();
    let dir = program.parent().unwrap();
    std::env::set_current_dir(dir).unwrap();
    let spared = [1, parent_id()];
    let found = process_kill::pids_in_directory(dir).unwrap();
    for pid in [1, parent_id(), std::process::id()] {
        assert!(found.contains(&pid), "{found:?}");
    }
    for kill in ways() {
        let mut inside = at(dir, "{ chdir=/ }");
        let mut outside = at(Path::new("/"), "{ }");
        let report = unmoved(&spared, || kill.directory(dir).unwrap());
        assert_eq!(gone(&report), inside.pids());
        inside.all_gone();
        assert!(outside.answers() || outside.ready.len() == 2);
        let report = unmoved(&spared, || kill.directory(dir).unwrap());
        assert!(report.is_empty());
        outside.let_go();
        outside.all_gone();
    }
}

#[test]
fn a_directory_that_is_none_kills_nobody() {
    if !is_root("a_directory_that_is_none_kills_nobody")
        || !alone!(a_directory_that_is_none_kills_nobody in WITH_PARENT)
    {
        return;
    }
    let (_base, real) = with(&["tree"]);
    let root = real.join("root");
    symlink("/", &root).unwrap();
    let file = real.join("status");
    std::fs::write(&file, "").unwrap();
    let to_file = real.join("to-status");
    symlink(&file, &to_file).unwrap();
    std::env::set_current_dir(&real).unwrap();
    // All victims work in the directory above. Each names something that a call asks for.
    let victims = [
        naming("status"),
        naming(file.to_str().unwrap()),
        naming(to_file.to_str().unwrap()),
        naming("missing"),
    ];
    let watched = victims.each_ref().map(Victim::pid);
    let refused = [
        Path::new("/"),
        Path::new("//"),
        Path::new("/proc/.."),
        &root,
        &root.join("."),
        &file,
        &to_file,
        Path::new("status"),
        Path::new("./status"),
        Path::new(""),
        Path::new(OsStr::new("tree\0")),
    ];
    for kill in ways().into_iter().chain([patient().even_ancestors()]) {
        for dir in refused {
            let error = unmoved(&watched, || kill.directory(dir).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", dir.display());
            assert!(error.to_string().contains(&format!("{dir:?}")), "{error}");
        }
        // An argument that is not an absolute path names nothing.
        for dir in ["missing", "./missing", "tree/missing"].map(Path::new) {
            let error = unmoved(&watched, || kill.directory(dir).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Io, "{}", dir.display());
            assert_eq!(source_of(&error), std::io::ErrorKind::NotFound);
            let text = error.to_string();
            assert!(text.contains(&*dir.file_name().unwrap().to_string_lossy()));
            assert!(error.report().is_none() && error.survivors().is_empty());
        }
        assert!(kill.directory(&real.join("tree")).unwrap().is_empty());
    }
}

/// `status` is an argument of a program such as git(1). A careless script takes it for a directory.
#[test]
fn a_word_that_names_no_directory_kills_nobody() {
    if !is_root("a_word_that_names_no_directory_kills_nobody")
        || !alone!(a_word_that_names_no_directory_kills_nobody in WITH_PARENT)
    {
        return;
    }
    let (_base, real) = with(&[]);
    std::env::set_current_dir(&real).unwrap();
    let victim = naming("status");
    for kill in ways() {
        let error = unmoved(&[victim.pid()], || {
            kill.directory(Path::new("status")).unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(source_of(&error), std::io::ErrorKind::NotFound);
    }
}

#[test]
fn who_works_in_a_deleted_directory_is_killed() {
    if !is_root("who_works_in_a_deleted_directory_is_killed")
        || !alone!(who_works_in_a_deleted_directory_is_killed in WITH_PARENT)
    {
        return;
    }
    for kill in ways() {
        let (_base, real) = with(&["tree/src", "tree (deleted)"]);
        let tree = real.join("tree");
        let mut victim = at(&tree.join("src"), "{ chdir=/ }");
        // The name of this directory looks like that of a deleted one.
        let stranger = at(&real.join("tree (deleted)"), "");
        std::fs::remove_dir_all(&tree).unwrap();
        let report = unmoved(&[stranger.pid()], || kill.directory(&tree).unwrap());
        assert_eq!(gone(&report), victim.pids());
        victim.all_gone();
        // No process is in the directory now, so the path may be a mistake.
        let error = unmoved(&[stranger.pid()], || kill.directory(&tree).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(source_of(&error), std::io::ErrorKind::NotFound);
    }
}

/// The directory is not a mistake, because the caller or a shell that started it still works in it.
#[test]
fn a_deleted_directory_in_which_only_the_spared_work_is_no_error() {
    if !is_root("a_deleted_directory_in_which_only_the_spared_work_is_no_error")
        || !alone!(a_deleted_directory_in_which_only_the_spared_work_is_no_error in WITH_PARENT)
    {
        return;
    }
    let (_base, real) = with(&["tree"]);
    let tree = real.join("tree");
    std::env::set_current_dir(&tree).unwrap();
    std::fs::remove_dir(&tree).unwrap();
    let found = process_kill::pids_in_directory(&tree).unwrap();
    assert_eq!(found, [std::process::id()]);
    for kill in ways() {
        assert!(kill.directory(&tree).unwrap().is_empty());
    }
}

#[test]
fn a_closure_is_asked_until_it_says_no_of_all() {
    if !is_root("a_closure_is_asked_until_it_says_no_of_all")
        || !alone!(a_closure_is_asked_until_it_says_no_of_all in WITH_PARENT)
    {
        return;
    }
    const NAME: &str = "of-a-closure";
    for kill in ways() {
        let spec = format!("name={NAME} {{ }} {{ setsid name={NAME} }}");
        let mut victim = Victim::start(&spec);
        let named = |pid: u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            name.trim_end() == NAME
        };
        let (mut wanted, other): (Vec<u32>, Vec<u32>) =
            victim.pids().into_iter().partition(|&pid| named(pid));
        let mut asked = 0;
        let report = unmoved(&other, || {
            let keep = |p: &process_kill::Candidate<'_>| {
                asked += 1;
                p.name() == NAME
            };
            kill.all_where(keep).unwrap()
        });
        wanted.sort_unstable();
        assert_eq!(gone(&report), wanted);
        assert!(asked > 2);
        assert!(kill.all_where(|p| p.name() == NAME).unwrap().is_empty());
        victim.let_go();
        victim.all_gone();
    }
    let mut respawner = Victim::start(&format!("name={NAME} respawn{{ name={NAME} }}"));
    let report = patient().all_where(|p| p.name() == NAME).unwrap();
    assert!(report.len() >= 2);
    respawner.all_gone();
}

#[test]
fn a_closure_that_says_yes_to_all_leaves_the_spared_alive() {
    if !is_root("a_closure_that_says_yes_to_all_leaves_the_spared_alive")
        || !alone!(a_closure_that_says_yes_to_all_leaves_the_spared_alive in WITH_PARENT)
    {
        return;
    }
    assert_ne!(parent_id(), 1);
    for kill in ways() {
        let mut victims = ["{ { setsid } }", "respawn{ }", "pair"].map(Victim::start);
        let all = victims.each_ref().map(Victim::pids).concat();
        let report = unmoved(&[1, parent_id()], || kill.all_where(|_| true).unwrap());
        for victim in &mut victims {
            victim.all_gone();
        }
        let gone = gone(&report);
        assert!(all.iter().all(|pid| gone.contains(pid)), "{gone:?}");
        let spared = [1, parent_id(), std::process::id()];
        assert!(spared.iter().all(|pid| !gone.contains(pid)), "{gone:?}");
    }
}

#[test]
fn a_panic_in_the_closure_leaves_nobody_stopped() {
    if !is_root("a_panic_in_the_closure_leaves_nobody_stopped")
        || !alone!(a_panic_in_the_closure_leaves_nobody_stopped in WITH_PARENT)
    {
        return;
    }
    const NAME: &str = "of-a-panic";
    for kill in [patient(), patient().at_most(9), patient().even_ancestors()] {
        let mut victim = Victim::start(&format!("name={NAME}"));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill.all_where(|p| {
                if p.name() == NAME && p.state() == 'T' {
                    std::panic::resume_unwind(Box::new("not today"));
                }
                p.name() == NAME
            })
        }));
        assert!(result.is_err());
        assert!(victim.answers());
    }
}

fn port_of(victim: &Victim) -> u16 {
    let mut ports = victim.ready.iter().filter_map(|&(_, port)| port);
    ports.next().expect("one of them listens")
}

#[test]
fn a_port_is_free_after_its_listeners_are_killed() {
    if !is_root("a_port_is_free_after_its_listeners_are_killed")
        || !alone!(a_port_is_free_after_its_listeners_are_killed in WITH_PARENT)
    {
        return;
    }
    for spec in [
        "listen { }",
        "{ listen }",
        "listen crowd=4",
        "listen threads=3 leader-exits",
    ] {
        for address in ["127.0.0.1", "0.0.0.0"] {
            for kill in ways() {
                let mut server =
                    Victim::start(&spec.replace("listen", &format!("listen={address}")));
                let port = port_of(&server);
                let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let listeners = pids_listening_on(port).unwrap();
                let mut others = server.pids();
                others.retain(|pid| !listeners.contains(pid));
                let report = unmoved(&others, || kill.port(port).unwrap());
                assert_eq!(gone(&report), listeners);
                let again = TcpListener::bind((address, port)).unwrap();
                drop(again);
                assert!(kill.port(port).unwrap().is_empty());
                server.let_go();
                server.all_gone();
            }
        }
    }
}

#[test]
fn a_client_of_a_port_lives_on() {
    if !is_root("a_client_of_a_port_lives_on")
        || !alone!(a_client_of_a_port_lives_on in WITH_PARENT)
    {
        return;
    }
    for kill in ways() {
        let mut server = Victim::start("listen");
        let port = port_of(&server);
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut command = stubborn("");
        command.stderr(Stdio::from(OwnedFd::from(connection)));
        let mut client = Victim::spawn(command);
        let report = unmoved(&[client.pid()], || kill.port(port).unwrap());
        assert_eq!(gone(&report), [server.pid()]);
        server.all_gone();
        let again = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(client.answers());
        drop(again);
    }
}

#[test]
fn a_port_of_the_caller_is_a_survivor() {
    if !is_root("a_port_of_the_caller_is_a_survivor")
        || !alone!(a_port_of_the_caller_is_a_survivor in WITH_PARENT)
    {
        return;
    }
    let me = std::process::id();
    for kill in ways() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Another process has the same socket.
        let mut command = stubborn("");
        command.stderr(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
        let mut shares = Victim::spawn(command);
        let error = unmoved(&[parent_id()], || kill.port(port).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Survivors, "{error}");
        assert_eq!(reasons(&error), [(me, Reason::Caller)]);
        let report = error.report().unwrap();
        assert_eq!(gone(report), [shares.pid()]);
        shares.all_gone();
        // The caller still listens.
        drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
        let error = kill.clone().even_ancestors().port(port).unwrap_err();
        assert_eq!(reasons(&error), [(me, Reason::Caller)]);
        drop(listener);
        assert!(kill.port(port).unwrap().is_empty());
    }
}

#[test]
fn a_server_that_is_started_again_loses() {
    if !is_root("a_server_that_is_started_again_loses")
        || !alone!(a_server_that_is_started_again_loses in WITH_PARENT)
    {
        return;
    }
    for spec in ["respawn{ }", "pair", "respawn{ respawn{ } }"] {
        for kill in [
            patient(),
            patient().grace(std::time::Duration::from_millis(20)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            // All processes that this one starts have the socket.
            let mut command = stubborn(spec);
            command.stderr(Stdio::from(OwnedFd::from(listener)));
            let mut server = Victim::spawn(command);
            // The first of a pair is ready before it starts the second.
            eventually("there are two", || {
                !process_kill::descendant_pids(server.pid())
                    .unwrap()
                    .is_empty()
            });
            let report = kill.port(port).unwrap();
            assert!(report.len() >= 2, "{spec}");
            drop(TcpListener::bind(("127.0.0.1", port)).unwrap());
            server.all_gone();
        }
    }
}

#[test]
fn a_port_that_nobody_listens_on_is_no_error() {
    if !is_root("a_port_that_nobody_listens_on_is_no_error")
        || !alone!(a_port_that_nobody_listens_on_is_no_error in WITH_PARENT)
    {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for kill in ways() {
        let report = kill.port(port).unwrap();
        assert_eq!(outcomes(&report), []);
        let error = kill.port(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), "refused: 0 is not a port (1 to 65535)");
    }
    let server = Victim::start("listen");
    let report = Kill::graceful().port(port_of(&server)).unwrap();
    assert_eq!(outcomes(&report), [(server.pid(), Outcome::Exited)]);
}

//! `processes_where` and the finders by group, session, directory and environment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::{Gid, Pid, Uid, getpgid, getsid};
use process_kill::{
    Candidate, ErrorKind, Kill, Outcome, ProcessId, descendant_pids, descendants, pids_in_group,
    pids_in_session, pids_matching, pids_with_cwd_under, pids_with_env, processes_where,
};

use super::fixture::{
    Victim, alone, as_nobody, copy_stubborn, eventually, is_root, states, stubborn,
};

/// What the candidate with this pid says. The candidate must be shown exactly once.
fn ask<T>(pid: u32, mut question: impl FnMut(&Candidate<'_>) -> T) -> T {
    let mut answers = Vec::new();
    let found = processes_where(|candidate| {
        let is_it = candidate.pid() == pid;
        if is_it {
            answers.push(question(candidate));
        }
        is_it
    });
    assert_eq!(found.unwrap(), [ProcessId::of(pid).unwrap().unwrap()]);
    assert_eq!(answers.len(), 1);
    answers.pop().unwrap()
}

/// The pids of `victim` for which the system says `number`.
fn of_which(
    victim: &Victim,
    system: impl Fn(Option<Pid>) -> nix::Result<Pid>,
    number: u32,
) -> Vec<u32> {
    let raw = |pid: u32| Pid::from_raw(pid.try_into().unwrap());
    let mut pids = victim.pids();
    pids.retain(|&pid| system(Some(raw(pid))) == Ok(raw(number)));
    pids
}

fn sorted<const N: usize>(victims: [&Victim; N]) -> Vec<u32> {
    let mut pids = victims.map(Victim::pid).to_vec();
    pids.sort_unstable();
    pids
}

/// A value that is in the environment of no other process on the machine.
fn token() -> String {
    format!("{}-{:x}", std::process::id(), fastrand::u64(..))
}

fn hex(name: &[u8]) -> String {
    let digits: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("name-hex={digits}")
}

fn at(dir: &Path, spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.current_dir(dir);
    Victim::spawn(command)
}

#[test]
fn every_accessor_tells_what_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        &b"arg0 of its own"[..],
        b"",
        b"a\xff\xfe\n",
        b"-x y",
        b"",
        b"",
    ];
    let mut command = stubborn("setsid threads=2 name=its:name");
    command.arg0(OsStr::from_bytes(args[0]));
    command.args(args[1..].iter().map(|arg| OsStr::from_bytes(arg)));
    command.current_dir(dir.path()).env("FINDERS", "some value");
    let victim = Victim::spawn(command);
    let pid = victim.pid();
    eventually("all threads sleep", || states(pid) == ['S'; 3]);
    ask(pid, |seen| {
        assert_eq!(seen.parent(), std::process::id());
        assert_eq!((seen.group(), seen.session()), (pid, pid));
        assert_eq!((seen.state(), seen.threads()), ('S', 3));
        assert_eq!(seen.name(), "its:name");
        assert_eq!(
            seen.args().unwrap(),
            args.map(|arg| OsString::from_vec(arg.to_vec()))
        );
        assert_eq!(
            seen.command_line().unwrap(),
            b"arg0 of its own  a\xff\xfe\n -x y"
        );
        let exe = Path::new(env!("CARGO_BIN_EXE_stubborn"));
        assert_eq!(seen.exe().unwrap(), exe.canonicalize().unwrap());
        assert_eq!(seen.cwd().unwrap(), dir.path().canonicalize().unwrap());
        assert_eq!(seen.env("FINDERS").unwrap().unwrap(), "some value");
        assert_eq!(seen.uid().unwrap(), nix::unistd::geteuid().as_raw());
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start_time = stat.split(' ').nth(21).unwrap().parse();
        assert_eq!(seen.start_time(), start_time.unwrap());
    });
}

#[test]
fn a_name_may_hold_any_bytes() {
    let names = [
        &b""[..],
        b" ",
        b")",
        b"))) S 1 (1",
        b"a) R 2 3 4 5 6",
        b"x\ny\n",
        b"\xff\xfe\x80",
        b"123456789abcdef",
        b"caf\xc3\xa9 \xc3",
        b"\\n\t\x1b",
    ];
    for name in names {
        let victim = Victim::start(&hex(name));
        ask(victim.pid(), |seen| {
            assert_eq!(seen.name().as_bytes(), name);
            assert_eq!(seen.parent(), std::process::id());
            assert_eq!(seen.threads(), 1);
        });
        let found =
            processes_where(|p| p.parent() == std::process::id() && p.name().as_bytes() == name);
        assert!(found.unwrap().iter().any(|id| id.pid() == victim.pid()));
        let zombie = Victim::start(&format!("{} exit", hex(name)));
        zombie.until_zombie();
        ask(zombie.pid(), |seen| {
            assert_eq!((seen.state(), seen.threads()), ('Z', 1));
            let line = [b"[", name, b"]"].concat();
            assert_eq!(seen.command_line().unwrap(), line);
        });
    }
}

#[test]
fn a_zombie_has_no_arguments_and_no_directory() {
    let mut command = stubborn("setpgid exit");
    command.arg("x").env("FINDERS", "x");
    let victim = Victim::spawn(command);
    victim.until_zombie();
    ask(victim.pid(), |seen| {
        assert_eq!(seen.args().unwrap(), Vec::<OsString>::new());
        assert_eq!(seen.command_line().unwrap(), b"[stubborn]");
        assert_eq!(
            seen.exe().map_err(|e| e.kind()),
            Err(io::ErrorKind::NotFound)
        );
        assert_eq!(
            seen.cwd().map_err(|e| e.kind()),
            Err(io::ErrorKind::NotFound)
        );
        assert_eq!(seen.env("FINDERS").unwrap(), None);
        assert_eq!(seen.uid().unwrap(), nix::unistd::geteuid().as_raw());
        assert_eq!(seen.group(), victim.pid());
        assert_eq!(seen.parent(), std::process::id());
    });
}

#[test]
fn a_process_without_its_leader_is_read_by_a_live_thread() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let token = token();
    let mut command = stubborn("leader-exits");
    command
        .args(["", "x"])
        .env("FINDERS", &token)
        .current_dir(&real);
    let victim = Victim::spawn(command);
    let pid = victim.pid();
    eventually("the leader exits", || states(pid)[0] == 'Z');
    let exe = Path::new(env!("CARGO_BIN_EXE_stubborn"));
    ask(pid, |seen| {
        assert_eq!((seen.state(), seen.threads()), ('Z', 2));
        assert_eq!(seen.args().unwrap()[1..], ["", "x"]);
        assert_eq!(seen.exe().unwrap(), exe.canonicalize().unwrap());
        assert_eq!(seen.cwd().unwrap(), real);
        assert_eq!(seen.env("FINDERS").unwrap().unwrap(), &*token);
    });
    assert_eq!(pids_with_env("FINDERS", &token).unwrap(), [pid]);
    assert_eq!(pids_with_cwd_under(&real).unwrap(), [pid]);
    std::fs::remove_dir(&real).unwrap();
    assert_eq!(pids_with_cwd_under(&real).unwrap(), [pid]);
}

#[test]
fn a_kernel_thread_has_a_name_alone() {
    if !std::fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        println!("skipped: a_kernel_thread_has_a_name_alone needs to see kthreadd");
        return;
    }
    ask(2, |seen| {
        assert_eq!(seen.name(), "kthreadd");
        assert_eq!(seen.args().unwrap(), Vec::<OsString>::new());
        assert_eq!(seen.command_line().unwrap(), b"[kthreadd]");
        assert!(seen.exe().is_err());
    });
}

#[test]
fn a_variable_is_found_by_its_whole_name() {
    let mut command = stubborn("");
    command.env("FINDERS_SET", "a=b").env("FINDERS_EMPTY", "");
    command.env("FINDERS_BYTES", OsStr::from_bytes(b"\xff\n"));
    let victim = Victim::spawn(command);
    ask(victim.pid(), |seen| {
        let env = |key| seen.env(key).unwrap();
        assert_eq!(env("FINDERS_SET").unwrap(), "a=b");
        assert_eq!(env("FINDERS_EMPTY").unwrap(), "");
        assert_eq!(env("FINDERS_BYTES").unwrap().as_bytes(), b"\xff\n");
        for missing in [
            "FINDERS",
            "FINDERS_SE",
            "FINDERS_SETS",
            "INDERS_SET",
            "finders_set",
        ] {
            assert_eq!(env(missing), None, "{missing}");
        }
    });
}

/// A child that is not a victim, because another user may not run victims.
struct Sleep(Child);

impl Drop for Sleep {
    fn drop(&mut self) {
        // The child is not reaped yet, so the number is still its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_user_is_the_effective_one() {
    if !is_root("the_user_is_the_effective_one") {
        return;
    }
    let mut command = Command::new("sleep");
    command
        .arg("300")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let plain = Sleep(command.uid(65534).spawn().unwrap());
    let mut command = Command::new("sleep");
    command
        .arg("300")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // SAFETY: two system calls. They need no lock and no memory.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setresgid(Gid::from_raw(1), Gid::from_raw(2), Gid::from_raw(2))?;
            Ok(nix::unistd::setresuid(
                Uid::from_raw(65531),
                Uid::from_raw(65532),
                Uid::from_raw(65533),
            )?)
        });
    }
    let mixed = Sleep(command.spawn().unwrap());
    ask(plain.0.id(), |seen| assert_eq!(seen.uid().unwrap(), 65534));
    ask(mixed.0.id(), |seen| assert_eq!(seen.uid().unwrap(), 65532));
    let found = processes_where(|p| p.uid().is_ok_and(|uid| uid == 65532)).unwrap();
    assert_eq!(found, [ProcessId::of(mixed.0.id()).unwrap().unwrap()]);
}

#[test]
fn what_was_found_can_be_killed() {
    let token = token();
    let mut command = stubborn("ignore=TERM { } { exit }");
    command.env("FINDERS", &token);
    let mut victim = Victim::spawn(command);
    let others = victim.others();
    eventually("one child is a zombie", || {
        others.iter().any(|&pid| states(pid) == ['Z'])
    });
    let found = processes_where(|p| victim.pids().contains(&p.pid())).unwrap();
    let expected: Vec<ProcessId> = victim
        .pids()
        .into_iter()
        .map(|pid| ProcessId::of(pid).unwrap().unwrap())
        .collect();
    assert_eq!(found, expected);
    assert!(found.is_sorted_by_key(ProcessId::pid));
    let alive = processes_where(|p| {
        p.env("FINDERS")
            .is_ok_and(|set| set == Some(token.clone().into()))
    })
    .unwrap();
    assert_eq!(alive.len(), 2);
    let report = Kill::now().processes(&found).unwrap();
    victim.all_gone();
    let pids = |ids: &[ProcessId]| ids.iter().map(ProcessId::pid).collect::<Vec<u32>>();
    assert_eq!(report.pids(Outcome::Killed), pids(&alive));
    assert_eq!(report.len(), 3);
}

#[test]
fn what_ends_meanwhile_is_neither_read_nor_returned() {
    if !is_root("what_ends_meanwhile_is_neither_read_nor_returned") {
        return;
    }
    // Alone, so that no other process takes the number.
    if !alone!(
        what_ends_meanwhile_is_neither_read_nor_returned,
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc"
    ) {
        return;
    }
    for again in [false, true] {
        let mut victim = Some(Victim::start(""));
        let pid = victim.as_ref().unwrap().pid();
        let mut successor = None;
        let found = processes_where(|seen| {
            if seen.pid() != pid {
                return false;
            }
            // This waits for the end of the victim.
            victim = None;
            if again {
                successor = Some(Victim::start(&format!("reuse={pid}")));
            }
            let gone = |e: io::Error| {
                e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
            };
            assert!(gone(seen.args().unwrap_err()));
            assert!(gone(seen.command_line().unwrap_err()));
            assert!(gone(seen.env("PATH").unwrap_err()));
            assert!(gone(seen.uid().unwrap_err()));
            assert!(gone(seen.exe().unwrap_err()));
            assert!(gone(seen.cwd().unwrap_err()));
            assert_eq!(seen.name(), "stubborn");
            true
        });
        assert_eq!(found.unwrap(), []);
        assert_eq!(successor.is_some(), again);
        assert_eq!(ProcessId::of(pid).unwrap().is_some(), again);
    }
}

#[test]
fn a_group_is_its_members_and_zombies() {
    let mut victim = Victim::start("setpgid { } { exit } { { setsid } } { setpgid { } } thread{ }");
    let group = victim.pid();
    let expected = of_which(&victim, getpgid, group);
    assert_eq!(expected.len(), 5);
    assert_eq!(pids_in_group(group).unwrap(), expected);
    let others = victim.others();
    eventually("one child is a zombie", || {
        others.iter().any(|&pid| states(pid) == ['Z'])
    });
    assert_eq!(pids_in_group(group).unwrap(), expected);
    // The leader may be gone, and even reaped.
    victim.child().kill().unwrap();
    victim.until_zombie();
    assert!(pids_in_group(group).unwrap().contains(&group));
    victim.child().wait().unwrap();
    let members = pids_in_group(group).unwrap();
    let live: Vec<u32> = of_which(&victim, getpgid, group);
    assert_eq!(live.len(), members.len());
    assert_eq!(members, live);
}

#[test]
fn a_session_is_its_members_and_zombies() {
    let victim = Victim::start("setsid { setpgid { } } { exit } { { setsid { } } } thread{ }");
    let session = victim.pid();
    let expected = of_which(&victim, getsid, session);
    assert_eq!(expected.len(), 6);
    assert_eq!(pids_in_session(session).unwrap(), expected);
    let others = victim.others();
    eventually("one child is a zombie", || {
        others.iter().any(|&pid| states(pid) == ['Z'])
    });
    assert_eq!(pids_in_session(session).unwrap(), expected);
}

#[test]
fn numbers_that_name_nobody_are_refused() {
    for number in [0, 1 << 31, u32::MAX] {
        let refused = Some(ErrorKind::Refused);
        assert_eq!(pids_in_group(number).err().map(|e| e.kind()), refused);
        assert_eq!(pids_in_session(number).err().map(|e| e.kind()), refused);
    }
    // Far above the largest pid there can be.
    let nobody = i32::MAX.unsigned_abs();
    assert_eq!(pids_in_group(nobody).unwrap(), []);
    assert_eq!(pids_in_session(nobody).unwrap(), []);
}

#[test]
fn the_caller_is_found_like_anyone() {
    let me = std::process::id();
    let raw = |pid: Pid| pid.as_raw().unsigned_abs();
    let (group, session) = (raw(getpgid(None).unwrap()), raw(getsid(None).unwrap()));
    // 0 means that it was started from outside of this PID namespace.
    if group != 0 {
        assert!(pids_in_group(group).unwrap().contains(&me));
    }
    if session != 0 {
        assert!(pids_in_session(session).unwrap().contains(&me));
    }
    let here = std::env::current_dir().unwrap();
    assert!(pids_with_cwd_under(&here).unwrap().contains(&me));
    assert!(pids_with_cwd_under(Path::new(".")).unwrap().contains(&me));
    assert!(pids_with_cwd_under(Path::new("/")).unwrap().contains(&me));
    let environ = std::fs::read("/proc/self/environ").unwrap();
    let (key, value) = environ
        .split(|&b| b == 0)
        .find_map(|set| std::str::from_utf8(set).ok()?.split_once('='))
        .expect("a variable");
    assert!(pids_with_env(key, value).unwrap().contains(&me));
    ask(me, |seen| assert_eq!(seen.pid(), me));
}

#[test]
fn below_a_directory_is_not_beside_it() {
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name);
    for dir in ["work", "work/sub", "workshop", "work (deleted)", "other"] {
        std::fs::create_dir(path(dir)).unwrap();
    }
    std::os::unix::fs::symlink("work", path("link")).unwrap();
    let work = at(&path("work"), "");
    let sub = at(&path("work/sub"), "");
    let by_link = at(&path("link"), "");
    let _alike = at(&path("workshop"), "");
    let deleted = at(&path("work (deleted)"), "");
    let zombie = at(&path("work"), "exit");
    zombie.until_zombie();
    let inside = sorted([&work, &sub, &by_link]);
    // The path goes up to the root and down again.
    let here = std::env::current_dir().unwrap();
    let mut relative: PathBuf = here.components().skip(1).map(|_| "..").collect();
    relative.extend(path("work").canonicalize().unwrap().components().skip(1));
    assert!(relative.is_relative());
    for dir in [
        path("work"),
        path("work/"),
        path("./work/."),
        path("link"),
        path("other/../work"),
        path("link/sub/.."),
        relative,
    ] {
        assert_eq!(pids_with_cwd_under(&dir).unwrap(), inside, "{dir:?}");
    }
    assert_eq!(pids_with_cwd_under(&path("link/sub")).unwrap(), [sub.pid()]);
    let found = pids_with_cwd_under(&path("work (deleted)")).unwrap();
    assert_eq!(found, [deleted.pid()]);
    assert_eq!(pids_with_cwd_under(&path("other")).unwrap(), []);
    assert_eq!(pids_with_cwd_under(&path("wor")).unwrap(), []);
    assert_eq!(pids_with_cwd_under(&path("none/at/all")).unwrap(), []);
}

#[test]
fn a_deleted_directory_still_counts() {
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name);
    for dir in ["work", "work/sub", "work (deleted)"] {
        std::fs::create_dir(path(dir)).unwrap();
    }
    let work = at(&path("work"), "");
    let sub = at(&path("work/sub"), "");
    let deleted = at(&path("work (deleted)"), "");
    std::fs::remove_dir(path("work/sub")).unwrap();
    let both = sorted([&work, &sub]);
    assert_eq!(pids_with_cwd_under(&path("work/sub")).unwrap(), [sub.pid()]);
    assert_eq!(pids_with_cwd_under(&path("work")).unwrap(), both);
    // Now the kernel shows a path for this directory that is the path of another directory.
    std::fs::remove_dir(path("work")).unwrap();
    let found = |name| pids_with_cwd_under(&path(name)).unwrap();
    assert_eq!(found("work"), both);
    assert_eq!(found("work (deleted)"), [deleted.pid()]);
    ask(work.pid(), |seen| {
        let shown = base.path().canonicalize().unwrap().join("work (deleted)");
        assert_eq!(seen.cwd().unwrap(), shown);
    });
    std::fs::remove_dir(path("work (deleted)")).unwrap();
    assert_eq!(found("work"), both);
    assert_eq!(found("work (deleted)"), [deleted.pid()]);
    // A new directory with the same path takes its place.
    std::fs::create_dir(path("work")).unwrap();
    assert_eq!(found("work"), both);
}

#[test]
fn a_deleted_program_hides_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().canonicalize().unwrap().join("program");
    copy_stubborn(&copy);
    let token = token();
    let mut command = Command::new(&copy);
    command.env("STUBBORN", "").env("FINDERS", &token);
    let mut victim = Victim::spawn(command);
    std::fs::remove_file(&copy).unwrap();
    let mut shown = copy.clone().into_os_string();
    shown.push(" (deleted)");
    ask(victim.pid(), |seen| assert_eq!(seen.exe().unwrap(), shown));
    let found = [victim.pid()];
    assert_eq!(pids_with_env("FINDERS", &token).unwrap(), found);
    assert_eq!(pids_matching(copy.to_str().unwrap()).unwrap(), found);
    Kill::now().pids(&found).unwrap();
    victim.all_gone();
}

#[test]
fn a_directory_may_have_any_name() {
    let base = tempfile::tempdir().unwrap();
    for name in [&b"\xff\xfe"[..], b"a\nb", b" (deleted)", b"\\040"] {
        let dir = base.path().join(OsStr::from_bytes(name));
        std::fs::create_dir(&dir).unwrap();
        let victim = at(&dir, "");
        assert_eq!(pids_with_cwd_under(&dir).unwrap(), [victim.pid()]);
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(pids_with_cwd_under(&dir).unwrap(), [victim.pid()]);
    }
}

#[test]
fn a_directory_that_cannot_be_resolved_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for dir in [file.path().join("below"), PathBuf::new(), "\0".into()] {
        let error = pids_with_cwd_under(&dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{dir:?}");
    }
}

#[test]
fn a_daemon_is_found_by_its_environment() {
    let token = token();
    // The last process is forked twice. It has a session and a group of its own, and its parent is
    // gone. The first process leads a session because the session of the test may be outside of
    // this PID namespace, and then has no number.
    let mut command = stubborn("setsid { { setsid { setsid } } exit }");
    command.env("FINDERS", &token);
    let mut victim = Victim::spawn(command);
    let root = victim.pid();
    eventually("the one in between has exited", || {
        let children = descendant_pids(root).unwrap();
        children.len() == 1 && states(children[0]) == ['Z']
    });
    let between = descendant_pids(root).unwrap()[0];
    let mut live = victim.pids();
    live.retain(|&pid| pid != between);
    assert_eq!(live.len(), 3);
    let mut left = vec![root, between];
    left.sort_unstable();
    assert_eq!(pids_in_group(root).unwrap(), left);
    assert_eq!(pids_in_session(root).unwrap(), left);
    assert_eq!(pids_with_env("FINDERS", &token).unwrap(), live);
    Kill::now().pids(&live).unwrap();
    victim.all_gone();
    assert_eq!(pids_with_env("FINDERS", &token).unwrap(), []);
}

#[test]
fn a_value_is_the_whole_value() {
    let token = token();
    let mut command = stubborn("");
    command
        .env("FINDERS", format!("{token}=b"))
        .env("FINDERS_2", "");
    let victim = Victim::spawn(command);
    let found = |key, value: &str| {
        let found = pids_with_env(key, value).unwrap();
        found.contains(&victim.pid())
    };
    assert!(found("FINDERS", &format!("{token}=b")));
    assert!(found("FINDERS_2", ""));
    assert!(!found("FINDERS", &token));
    assert!(!found("FINDERS", &format!("{token}=")));
    assert!(!found("FINDERS", &format!("{token}=bc")));
    assert!(!found("FINDERS", ""));
    assert!(!found("FINDER", &format!("S={token}=b")));
    assert!(!found("FINDERS_", ""));
    assert!(!found("FINDERS_3", ""));
}

#[test]
fn a_variable_that_cannot_be_is_refused() {
    for (key, value) in [
        ("", "a"),
        ("", ""),
        ("=", ""),
        ("A=", "b"),
        ("A=B", ""),
        ("A\0", "b"),
        ("A", "b\0"),
        ("A", "\0"),
    ] {
        let error = pids_with_env(key, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{key:?} {value:?}");
    }
}

#[test]
fn a_child_just_spawned_is_found_by_its_environment() {
    // Alone, so that no other thread of this process delays its children.
    if !alone!(a_child_just_spawned_is_found_by_its_environment) {
        return;
    }
    for round in 0..50 {
        let token = token();
        let mut command = stubborn("");
        command
            .env("FINDERS", &token)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let child = Sleep(command.spawn().unwrap());
        let found = pids_with_env("FINDERS", &token).unwrap();
        assert_eq!(found, [child.0.id()], "round {round}");
    }
}

#[test]
fn what_may_not_be_read_is_left_out() {
    if !is_root("what_may_not_be_read_is_left_out") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let token = token();
    let mut command = stubborn("");
    command
        .arg(&token)
        .env("FINDERS", &token)
        .current_dir(dir.path());
    let victim = Victim::spawn(command);
    let pid = victim.pid();
    let found = [pid];
    assert_eq!(pids_with_env("FINDERS", &token).unwrap(), found);
    assert!(pids_with_cwd_under(Path::new("/")).unwrap().contains(&pid));
    as_nobody(|| {
        assert_eq!(pids_with_env("FINDERS", &token).unwrap(), []);
        assert!(!pids_with_cwd_under(Path::new("/")).unwrap().contains(&pid));
        // Every user may read these.
        assert_eq!(pids_matching(&token).unwrap(), found);
        ask(pid, |seen| {
            let refused = Err(io::ErrorKind::PermissionDenied);
            assert_eq!(seen.env("FINDERS").map_err(|e| e.kind()), refused);
            assert_eq!(
                seen.exe().map_err(|e| e.kind()),
                refused.clone().map(|_: Option<OsString>| PathBuf::new())
            );
            assert_eq!(
                seen.cwd().map_err(|e| e.kind()),
                refused.map(|_: Option<OsString>| PathBuf::new())
            );
            assert_eq!(seen.uid().unwrap(), 0);
            assert_eq!(seen.args().unwrap()[1..], [&*token]);
        });
    });
}

#[test]
fn no_finder_leaks_a_descriptor() {
    if !alone!(no_finder_leaks_a_descriptor) {
        return;
    }
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let dir = tempfile::tempdir().unwrap();
    let gone = at(dir.path(), "{ exit } leader-exits");
    std::fs::remove_dir(dir.path()).unwrap();
    let victim = Victim::start("{ threads=2 { } } thread{ { } }");
    let me = std::process::id();
    let before = count();
    for _ in 0..10 {
        assert_eq!(pids_with_cwd_under(dir.path()).unwrap(), [gone.pid()]);
        processes_where(|p| {
            // This asks for all of them, whether or not they can be read.
            let _ = (p.args(), p.command_line(), p.env("PATH"));
            let _ = (p.exe(), p.cwd(), p.uid());
            true
        })
        .unwrap();
        pids_matching(".").unwrap();
        pids_matching("stubborn").unwrap();
        pids_matching("(").unwrap_err();
        pids_with_env("FINDERS", "x").unwrap();
        pids_with_env("", "").unwrap_err();
        pids_in_group(victim.pid()).unwrap();
        pids_in_group(0).unwrap_err();
        pids_in_session(victim.pid()).unwrap();
        assert_eq!(descendant_pids(victim.pid()).unwrap().len(), 4);
        assert_eq!(descendants(me).unwrap().len(), 7);
        assert_eq!(descendants(i32::MAX.unsigned_abs()).unwrap(), []);
    }
    assert_eq!(count(), before);
}

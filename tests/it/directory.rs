//! `pids_in_directory` and `Candidate::is_in_directory`: by working directory, program and arguments.
//! The tests of these functions kill none of the processes that they find.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use process_kill::{Error, ErrorKind, pids_in_directory, processes_where};
use tempfile::TempDir;

use super::fixture::{OWN_PIDS, Victim, alone, as_nobody, copy_stubborn, is_root, stubborn};

/// A directory that contains these.
fn with(names: &[&str]) -> (TempDir, PathBuf) {
    let base = tempfile::tempdir().unwrap();
    let real = base.path().canonicalize().unwrap();
    for name in names {
        std::fs::create_dir_all(real.join(name)).unwrap();
    }
    (base, real)
}

fn at(dir: &Path, spec: &str) -> Victim {
    let mut command = stubborn(spec);
    command.current_dir(dir);
    Victim::spawn(command)
}

fn naming(argument: impl AsRef<OsStr>) -> Victim {
    let mut command = stubborn("");
    command.arg(argument);
    Victim::spawn(command)
}

fn sorted<const N: usize>(victims: [&Victim; N]) -> Vec<u32> {
    let mut pids = victims.map(Victim::pid).to_vec();
    pids.sort_unstable();
    pids
}

fn inside(dir: impl AsRef<Path>) -> Vec<u32> {
    pids_in_directory(dir.as_ref()).unwrap()
}

/// The same result, with a question to each process.
fn candidates(dir: impl AsRef<Path>) -> Vec<u32> {
    let found = processes_where(|p| p.is_in_directory(dir.as_ref())).unwrap();
    found.iter().map(|id| id.pid()).collect()
}

fn source_of(error: &Error) -> io::ErrorKind {
    let source = std::error::Error::source(error).expect("a source");
    source.downcast_ref::<io::Error>().unwrap().kind()
}

fn is_missing(dir: impl AsRef<Path>) {
    let error = pids_in_directory(dir.as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(source_of(&error), io::ErrorKind::NotFound);
    assert!(
        error.to_string().contains("cannot find a process in \"/"),
        "{error}"
    );
}

#[test]
fn who_works_in_it_or_below_is_in_it() {
    let (_base, real) = with(&["work/sub/deep", "workshop", "wor", "other/work"]);
    let work = at(&real.join("work"), "");
    let deep = at(&real.join("work/sub/deep"), "leader-exits");
    let _alike = at(&real.join("workshop"), "");
    let _shorter = at(&real.join("wor"), "");
    let _elsewhere = at(&real.join("other/work"), "");
    let zombie = at(&real.join("work"), "exit");
    zombie.until_zombie();
    let both = sorted([&work, &deep]);
    assert_eq!(inside(real.join("work")), both);
    assert_eq!(inside(real.join("work/")), both);
    assert_eq!(inside(real.join("other/../work/.")), both);
    assert_eq!(inside(real.join("work/sub")), [deep.pid()]);
    assert_eq!(candidates(real.join("work")), both);
    assert_eq!(candidates(real.join("work//")), both);
    // Such a path is not resolved.
    assert_eq!(candidates(real.join("other/../work")), []);
}

#[test]
fn nobody_in_a_directory_that_exists_is_no_error() {
    let (_base, real) = with(&["work"]);
    assert_eq!(inside(real.join("work")), []);
}

#[test]
fn who_works_in_a_deleted_directory_is_in_it_still() {
    let (_base, real) = with(&["work/sub", "work (deleted)", "x (deleted)"]);
    let path = |name: &str| real.join(name);
    let work = at(&path("work"), "");
    let sub = at(&path("work/sub"), "leader-exits");
    let named = at(&path("work (deleted)"), "");
    let other = at(&path("x (deleted)"), "");
    assert_eq!(inside(path("work")), sorted([&work, &sub]));
    assert_eq!(inside(path("work (deleted)")), [named.pid()]);
    is_missing(path("x"));
    std::fs::remove_dir_all(path("work")).unwrap();
    for _ in 0..2 {
        assert_eq!(inside(path("work")), sorted([&work, &sub]));
        assert_eq!(candidates(path("work")), sorted([&work, &sub]));
        assert_eq!(inside(path("work (deleted)")), [named.pid()]);
        // Another directory with the same path takes its place.
        std::fs::create_dir_all(path("work/sub")).unwrap();
    }
    std::fs::remove_dir(path("work (deleted)")).unwrap();
    std::fs::remove_dir(path("x (deleted)")).unwrap();
    assert_eq!(inside(path("work")), sorted([&work, &sub]));
    assert_eq!(inside(path("work (deleted)")), [named.pid()]);
    assert_eq!(inside(path("x (deleted)")), [other.pid()]);
    is_missing(path("x"));
}

#[test]
fn a_link_finds_what_is_in_the_deleted_directory_below_its_target() {
    let (_base, real) = with(&["work/sub"]);
    symlink("work", real.join("link")).unwrap();
    let sub = at(&real.join("work/sub"), "");
    std::fs::remove_dir(real.join("work/sub")).unwrap();
    assert_eq!(inside(real.join("link/sub")), [sub.pid()]);
    assert_eq!(inside(real.join("link/sub/")), [sub.pid()]);
}

#[test]
fn who_runs_a_program_below_it_is_in_it() {
    let (_base, real) = with(&["work/bin", "work (deleted)", "other"]);
    let program = real.join("work/bin/program");
    copy_stubborn(&program);
    let start = |program: &Path| {
        let mut command = Command::new(program);
        // The `argv[0]` does not show the path.
        std::os::unix::process::CommandExt::arg0(&mut command, "program");
        command.env("STUBBORN", "");
        Victim::spawn(command)
    };
    let victim = start(&program);
    let found = [victim.pid()];
    assert_eq!(inside(real.join("work")), found);
    assert_eq!(inside(real.join("work/bin")), found);
    assert_eq!(inside(real.join("other")), []);
    assert_eq!(inside(real.join("work (deleted)")), []);
    // The program is replaced, as a build does it.
    std::fs::copy(&program, real.join("work/bin/new")).unwrap();
    std::fs::rename(real.join("work/bin/new"), &program).unwrap();
    assert_eq!(inside(real.join("work")), found);
    std::fs::remove_dir_all(real.join("work")).unwrap();
    assert_eq!(inside(real.join("work")), found);
    assert_eq!(candidates(real.join("work")), found);
    // The kernel shows a name for a deleted program. A directory with that name is not the program.
    copy_stubborn(&real.join("file"));
    let beside = start(&real.join("file"));
    std::fs::remove_file(real.join("file")).unwrap();
    std::fs::create_dir(real.join("file (deleted)")).unwrap();
    std::fs::create_dir(real.join("file")).unwrap();
    assert_eq!(inside(real.join("file (deleted)")), []);
    assert_eq!(inside(real.join("file")), []);
    assert_eq!(inside(&real), sorted([&victim, &beside]));
}

#[test]
fn who_names_it_in_an_argument_is_in_it() {
    let (_base, real) = with(&["tree-7/src"]);
    let tree = real.join("tree-7");
    let (path, base) = (tree.to_str().unwrap(), real.to_str().unwrap());
    for (argument, expected) in [
        (path.to_owned(), true),
        (format!("{path}/"), true),
        (format!("{path}/none at all"), true),
        (format!("--tree={path}"), true),
        (format!("PATH={path}/bin:/bin"), true),
        (format!("cd {path} && make"), true),
        (format!("{path}0 {path}"), true),
        (format!("{path}0"), false),
        (format!("{path}.git"), false),
        (format!("/mnt{path}"), false),
        (format!("/{path}"), false),
        (format!("file://{path}"), false),
        (format!("-I{path}"), false),
        (format!("{base}/tree"), false),
        (format!("{base}/./tree-7"), false),
        ("tree-7".to_owned(), false),
        (String::new(), false),
    ] {
        let victim = naming(&argument);
        let found: &[u32] = if expected { &[victim.pid()] } else { &[] };
        assert_eq!(inside(&tree), found, "{argument}");
        assert_eq!(candidates(&tree), found, "{argument}");
    }
    // A process that has many arguments. The path is not the first one.
    let mut command = stubborn("leader-exits");
    command.args(["", "", "x", path, ""]);
    let victim = Victim::spawn(command);
    assert_eq!(inside(&tree), [victim.pid()]);
    // A path does not continue in the next argument.
    let mut command = stubborn("");
    command.args([base, "/tree-7"]);
    let _split = Victim::spawn(command);
    assert_eq!(inside(&tree), [victim.pid()]);
}

#[test]
fn an_argument_names_it_as_given_or_as_resolved() {
    let (_base, real) = with(&["work/sub"]);
    symlink("work", real.join("link")).unwrap();
    symlink("work", real.join("other")).unwrap();
    let resolved = naming(real.join("work/sub"));
    let given = naming(real.join("link/sub/file"));
    let _other = naming(real.join("other/sub"));
    assert_eq!(inside(real.join("link")), sorted([&resolved, &given]));
    assert_eq!(inside(real.join("link//./")), sorted([&resolved, &given]));
    assert_eq!(inside(real.join("work")), [resolved.pid()]);
    assert_eq!(candidates(real.join("work")), [resolved.pid()]);
    // This path is a link, so no process works there.
    assert_eq!(candidates(real.join("link")), [given.pid()]);
}

#[test]
fn a_path_is_no_pattern_and_any_bytes() {
    let (_base, real) = with(&["aXb", "a.*b", "a b"]);
    for name in [&b"\xff\xfe"[..], b"a\nb", b"[", b"a.*b", b" (deleted)"] {
        let dir = real.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(&dir).unwrap();
        let _alike = naming(real.join("aXb"));
        let (cwd, argument) = (at(&dir, ""), naming(dir.join("file")));
        assert_eq!(inside(&dir), sorted([&cwd, &argument]), "{dir:?}");
        std::fs::remove_dir(&dir).unwrap();
        assert_eq!(inside(&dir), sorted([&cwd, &argument]), "{dir:?}");
    }
}

#[test]
fn what_is_no_directory_is_refused() {
    let (_base, real) = with(&[]);
    let file = real.join("file");
    std::fs::write(&file, "").unwrap();
    symlink("file", real.join("link")).unwrap();
    symlink("/", real.join("root")).unwrap();
    for dir in [
        PathBuf::from("/"),
        "//".into(),
        "/..".into(),
        "/proc/../.".into(),
        real.join("root"),
        real.join("root/"),
        PathBuf::new(),
        "\0".into(),
        "/tmp\0".into(),
        file.clone(),
        OsString::from(format!("{}/", file.display())).into(),
        real.join("link"),
    ] {
        let error = pids_in_directory(&dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{dir:?}");
        if dir != real.join("link") && dir != file {
            assert_eq!(candidates(&dir), [], "{dir:?}");
        }
    }
    let error = pids_in_directory(&file.join("below")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(source_of(&error), io::ErrorKind::NotADirectory);
}

#[test]
fn a_missing_directory_is_an_error_unless_someone_is_in_it() {
    let (_base, real) = with(&["work"]);
    is_missing(real.join("wrok"));
    is_missing(real.join("none/at/all"));
    let victim = naming(real.join("wrok/file"));
    assert_eq!(inside(real.join("wrok")), [victim.pid()]);
    is_missing(real.join("none"));
}

#[test]
fn the_caller_is_found_and_its_arguments_are_no_proof_of_a_directory() {
    const MISSING: &str = "/no such directory/at all";
    if std::env::var_os("PROCESS_KILL_NAMED").is_none() {
        // Runs this test again, in a process that names the directory as its own filter of tests.
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1", MISSING])
            .arg("directory::the_caller_is_found_and_its_arguments_are_no_proof_of_a_directory")
            .env("PROCESS_KILL_NAMED", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let me = std::process::id();
    is_missing(MISSING);
    assert_eq!(candidates(MISSING), [me]);
    let (_base, real) = with(&["work"]);
    std::env::set_current_dir(real.join("work")).unwrap();
    assert_eq!(inside(real.join("work")), [me]);
    assert_eq!(inside("."), [me]);
    std::fs::remove_dir(real.join("work")).unwrap();
    assert_eq!(inside(real.join("work")), [me]);
}

#[test]
fn an_unreadable_working_directory_hides_no_argument() {
    if !is_root("an_unreadable_working_directory_hides_no_argument") {
        return;
    }
    let (base, real) = with(&["work"]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(base.path(), open).unwrap();
    let dir = real.join("work");
    let works = at(&dir, "");
    let names = naming(&dir);
    let mut command = stubborn("");
    command.arg(&dir).current_dir(&dir);
    let both = Victim::spawn(command);
    assert_eq!(inside(&dir), sorted([&works, &names, &both]));
    as_nobody(|| {
        assert_eq!(inside(&dir), sorted([&names, &both]));
        assert_eq!(candidates(&dir), sorted([&names, &both]));
    });
}

#[test]
fn the_same_path_in_another_mount_namespace_is_another_directory() {
    let test = "the_same_path_in_another_mount_namespace_is_another_directory";
    if !is_root(test)
        || !alone!(the_same_path_in_another_mount_namespace_is_another_directory in OWN_PIDS)
    {
        return;
    }
    let (_base, real) = with(&["work/sub", "shared", "gone"]);
    let ours = at(&real.join("work/sub"), "");
    // One thread alone mounts. Its children see what is mounted there, and the others do not.
    let theirs = std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let nothing = None::<&str>;
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                nothing,
            )
            .unwrap();
            let (tmpfs, none) = (Some("tmpfs"), MsFlags::empty());
            mount(tmpfs, &real.join("work"), tmpfs, none, nothing).unwrap();
            std::fs::create_dir(real.join("work/sub")).unwrap();
            std::fs::create_dir(real.join("work/gone")).unwrap();
            let program = real.join("work/program");
            copy_stubborn(&program);
            let victims = [
                at(&real.join("work"), ""),
                at(&real.join("work/sub"), ""),
                at(&real.join("work/gone"), ""),
                at(&real.join("shared"), ""),
            ];
            std::fs::remove_dir(real.join("work/gone")).unwrap();
            let mut command = Command::new(&program);
            std::os::unix::process::CommandExt::arg0(&mut command, "program");
            command.env("STUBBORN", "");
            (victims, Victim::spawn(command))
        });
        started.join().unwrap()
    });
    let ([_work, _sub, _gone, shared], _program) = theirs;
    // Such a program exists here, too.
    copy_stubborn(&real.join("work/program"));
    assert_eq!(inside(real.join("work")), [ours.pid()]);
    assert_eq!(inside(real.join("work/sub")), [ours.pid()]);
    // The same directory, as the other mount namespace sees it.
    assert_eq!(inside(real.join("shared")), [shared.pid()]);
    assert_eq!(candidates(&real), sorted([&ours, &shared]));
}

#[test]
fn a_candidate_tells_its_age_its_variables_and_whether_it_is_the_caller() {
    let token = format!("{}-{:x}", std::process::id(), fastrand::u64(..));
    let mut command = stubborn("");
    command.env("DIRECTORY", &token).env("DIRECTORY_EMPTY", "");
    let begun = std::time::Instant::now();
    let victim = Victim::spawn(command);
    let found = processes_where(|p| p.has_env("DIRECTORY", &token)).unwrap();
    assert_eq!(
        found.iter().map(|id| id.pid()).collect::<Vec<_>>(),
        [victim.pid()]
    );
    let mut seen = 0;
    let caller = processes_where(|p| {
        if p.pid() == victim.pid() {
            seen += 1;
            // The start time is rounded down to a tick of at most 10 ms.
            let most = begun.elapsed() + Duration::from_millis(20);
            assert!(p.age().unwrap() <= most);
            assert!(p.has_env("DIRECTORY_EMPTY", ""));
            for (key, value) in [
                ("DIRECTORY", ""),
                ("DIRECTORY", &token[1..]),
                ("DIRECTOR", &token),
                ("", &token),
                ("DIRECTORY=", ""),
                ("DIRECTORY_NONE", ""),
                ("DIRECTORY\0", &token),
            ] {
                assert!(!p.has_env(key, value), "{key:?} {value:?}");
            }
            assert!(!p.is_caller());
        }
        p.is_caller()
    });
    assert_eq!(seen, 1);
    let caller: Vec<u32> = caller.unwrap().iter().map(|id| id.pid()).collect();
    assert_eq!(caller, [std::process::id()]);
}

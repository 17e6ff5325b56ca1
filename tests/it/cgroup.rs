//! Control groups of version 2.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use process_kill::{Coverage, ErrorKind, Kill, Outcome, Reason};

use super::aim::{grandchild, patricide, refusal, sorted, ways};
use super::descriptors::fill_the_table;
use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, as_nobody, eventually, is_root, outcomes, patient, reasons,
    states,
};

/// A new cgroup. It is removed at the end, together with those below it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// `None` if no cgroup can be made. The reason is printed.
    pub fn new(test: &str) -> Option<Cgroup> {
        let Some(root) = root() else {
            println!("skipped: {test} finds no cgroup2 file system");
            return None;
        };
        let dir = root.join(format!("process-kill-{}-{test}", std::process::id()));
        // An earlier run that was killed may have left it.
        let _ = fs::remove_dir(&dir);
        if let Err(e) = fs::create_dir(&dir) {
            println!("skipped: {test} cannot make {}: {e}", dir.display());
            return None;
        }
        Some(Cgroup(dir))
    }

    pub fn below(&self, name: &str) -> Cgroup {
        let dir = self.0.join(name);
        fs::create_dir(&dir).unwrap();
        Cgroup(dir)
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    pub fn take(&self, pids: &[u32]) {
        for pid in pids {
            self.write("cgroup.procs", &pid.to_string());
        }
    }

    pub fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap();
        events.lines().any(|line| line == "populated 1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // If a test failed, its victims may still be in the cgroup. They end soon.
        let _ = fs::remove_dir(&self.0);
    }
}

fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    mount.split(' ').nth(1).map(PathBuf::from)
}

#[test]
fn obedient_members_exit_and_stubborn_ones_are_killed() {
    let Some(cgroup) = Cgroup::new("graceful") else {
        return;
    };
    let mut victim = Victim::start("{ } { ignore=TERM }");
    cgroup.take(&victim.pids());
    assert!(cgroup.is_populated());
    let kill = Kill::graceful().grace(Duration::from_millis(200));
    let report = kill.cgroup(&cgroup.0).unwrap();
    assert!(!cgroup.is_populated());
    assert_eq!(report.pids(Outcome::Exited).len(), 2);
    assert_eq!(report.pids(Outcome::Killed).len(), 1);
    assert_eq!(report.coverage(), Coverage::Exact);
    assert!(report.elapsed() >= Duration::from_millis(200));
    victim.all_gone();
    // An empty cgroup has no targets, and the call takes no time.
    assert!(kill.grace(PATIENCE).cgroup(&cgroup.0).unwrap().is_empty());
}

#[test]
fn nested_cgroups_are_killed_and_others_are_not() {
    let Some(outer) = Cgroup::new("nested") else {
        return;
    };
    let (inner, deepest);
    inner = outer.below("inner");
    deepest = inner.below("deepest");
    let sibling = outer.below("sibling");
    for kill in [
        Kill::now().verify_within(PATIENCE),
        Kill::graceful().grace(PATIENCE),
    ] {
        let mut victims = ["", "{ setsid }", ""].map(Victim::start);
        let mut stranger = Victim::start("");
        inner.take(&victims[0].pids());
        deepest.take(&victims[1].pids());
        deepest.take(&victims[2].pids());
        sibling.take(&stranger.pids());
        assert_eq!(kill.cgroup(&inner.0).unwrap().len(), 4);
        assert!(!inner.is_populated() && !deepest.is_populated());
        victims.iter_mut().for_each(Victim::all_gone);
        assert!(stranger.answers() && outer.is_populated());
        assert_eq!(kill.cgroup(&outer.0).unwrap().len(), 1);
        stranger.all_gone();
    }
    drop((deepest, inner, sibling));
}

#[test]
fn who_forks_all_the_time_is_killed_with_its_cgroup() {
    let Some(cgroup) = Cgroup::new("forks") else {
        return;
    };
    let procs = cgroup.0.join("cgroup.procs");
    for _ in 0..20 {
        let mut command = Command::new("sh");
        let stubborn = env!("CARGO_BIN_EXE_stubborn");
        command.args(["-c", "echo $$ > \"$1\" && exec \"$2\"", "sh"]);
        command.arg(&procs).arg(stubborn);
        // They leave group, session and tree, but stay in the cgroup.
        command.env("STUBBORN", "{ leapfrog } { leapfrog }");
        let mut victim = Victim::spawn(command);
        Kill::now()
            .verify_within(PATIENCE)
            .cgroup(&cgroup.0)
            .unwrap();
        assert!(!cgroup.is_populated());
        victim.all_gone();
    }
}

#[test]
fn a_frozen_cgroup_is_killed_and_stays_frozen() {
    let Some(cgroup) = Cgroup::new("frozen") else {
        return;
    };
    let mut victim = Victim::start("{ }");
    cgroup.take(&victim.pids());
    cgroup.write("cgroup.freeze", "1");
    let report = Kill::now()
        .verify_within(PATIENCE)
        .cgroup(&cgroup.0)
        .unwrap();
    assert_eq!(report.pids(Outcome::Killed).len(), 2);
    victim.all_gone();
    let frozen = fs::read_to_string(cgroup.0.join("cgroup.freeze")).unwrap();
    assert_eq!(frozen.trim(), "1");
}

#[test]
fn a_threaded_cgroup_is_killed_by_freezing_it() {
    let Some(domain) = Cgroup::new("threaded") else {
        return;
    };
    let threaded = domain.below("threads");
    threaded.write("cgroup.type", "threaded");
    for kill in [
        Kill::now().verify_within(PATIENCE),
        Kill::graceful().grace(PATIENCE),
    ] {
        let mut victim = Victim::start("threads=3");
        let mut rest = Victim::start("");
        domain.take(&victim.pids());
        domain.take(&rest.pids());
        // One thread of it is enough.
        let tasks = fs::read_dir(format!("/proc/{}/task", victim.pid())).unwrap();
        let last = tasks.last().unwrap().unwrap().file_name();
        threaded.write("cgroup.threads", last.to_str().unwrap());
        let report = kill.cgroup(&threaded.0).unwrap();
        assert_eq!(
            report.iter().map(|(pid, _)| pid).collect::<Vec<_>>(),
            [victim.pid()]
        );
        victim.all_gone();
        let frozen = fs::read_to_string(threaded.0.join("cgroup.freeze")).unwrap();
        assert_eq!(frozen.trim(), "0");
        assert!(rest.answers());
        // For a cgroup above them, cgroup.kill kills the processes of threaded cgroups too.
        kill.cgroup(&domain.0).unwrap();
        rest.all_gone();
    }
    drop(threaded);
}

#[test]
fn what_is_no_cgroup_or_not_to_be_killed_is_refused() {
    let Some(cgroup) = Cgroup::new("refused") else {
        return;
    };
    let missing = cgroup.0.join("missing");
    let file = cgroup.0.join("cgroup.procs");
    let root = root().unwrap();
    for dir in [
        &root,
        &missing,
        &file,
        Path::new("/tmp"),
        Path::new(""),
        Path::new("/proc"),
    ] {
        for kill in [Kill::now().verify_within(PATIENCE), Kill::graceful()] {
            let error = kill.cgroup(dir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{}", dir.display());
        }
    }
}

#[test]
fn a_cgroup_that_holds_the_caller_is_refused() {
    if !alone!(a_cgroup_that_holds_the_caller_is_refused) {
        return;
    }
    let Some(outer) = Cgroup::new("caller") else {
        return;
    };
    let inner = outer.below("inner");
    let victim = Victim::start("");
    outer.take(&victim.pids());
    inner.take(&[std::process::id()]);
    let refused = [&outer, &inner].map(|cgroup| {
        let error = Kill::now()
            .verify_within(PATIENCE)
            .cgroup(&cgroup.0)
            .unwrap_err();
        error.kind()
    });
    // This moves the test back, so that the cgroup can be removed.
    fs::write(
        root().unwrap().join("cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    assert_eq!(refused, [ErrorKind::Refused; 2]);
    assert!(matches!(states(victim.pid())[..], ['S' | 'R']));
    drop(inner);
    drop(victim);
}

#[test]
fn a_threaded_cgroup_that_holds_a_thread_of_the_caller_is_refused() {
    if !alone!(a_threaded_cgroup_that_holds_a_thread_of_the_caller_is_refused) {
        return;
    }
    let Some(domain) = Cgroup::new("thread") else {
        return;
    };
    let threaded = domain.below("threads");
    threaded.write("cgroup.type", "threaded");
    domain.take(&[std::process::id()]);
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().to_string()).unwrap();
        ended.recv().unwrap();
    });
    threaded.write("cgroup.threads", &told.recv().unwrap());
    let error = Kill::now()
        .verify_within(PATIENCE)
        .cgroup(&threaded.0)
        .unwrap_err();
    end.send(()).unwrap();
    thread.join().unwrap();
    fs::write(
        root().unwrap().join("cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused);
    drop(threaded);
}

#[test]
fn one_that_is_removed_meanwhile_is_empty() {
    for round in 0..20 {
        let Some(cgroup) = Cgroup::new(&format!("removed-{round}")) else {
            return;
        };
        let mut victim = Victim::start("");
        cgroup.take(&victim.pids());
        let dir = cgroup.0.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                victim.child().wait().unwrap();
                eventually("the removal", || fs::remove_dir(&dir).is_ok());
            });
            Kill::graceful().cgroup(&dir).unwrap();
        });
    }
}

#[test]
fn one_that_holds_init_is_refused() {
    if !is_root("one_that_holds_init_is_refused")
        || !alone!(one_that_holds_init_is_refused in OWN_PIDS)
    {
        return;
    }
    let Some(cgroup) = Cgroup::new("init") else {
        return;
    };
    let mut victim = Victim::start("");
    cgroup.take(&[1, victim.pid()]);
    for kill in [Kill::now(), Kill::graceful()] {
        let error = kill.cgroup(&cgroup.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    assert!(victim.answers());
    // This moves init back, so that init does not keep the cgroup from being removed.
    fs::write(root().unwrap().join("cgroup.procs"), "1").unwrap();
    drop(victim);
}

#[test]
fn a_cgroup_that_holds_an_ancestor_is_refused() {
    if !is_root("a_cgroup_that_holds_an_ancestor_is_refused")
        || !alone!(a_cgroup_that_holds_an_ancestor_is_refused in OWN_PIDS)
    {
        return;
    }
    let Some(outer) = Cgroup::new("ancestor") else {
        return;
    };
    let inner = outer.below("inner");
    let mut victim = Victim::start("");
    let pid = victim.pid();
    grandchild(
        || {},
        |parent| {
            inner.take(&[parent, pid]);
            let refused = ways().map(|kill| {
                [&outer, &inner].map(|cgroup| {
                    let error = refusal(&[parent, pid], || kill.cgroup(cgroup.dir()));
                    error.to_string()
                })
            });
            for text in refused.as_flattened() {
                assert!(text.contains(&parent.to_string()), "{text}");
                assert!(text.contains("is an ancestor"), "{text}");
            }
        },
    );
    assert!(victim.answers());
    // The cgroup can be removed after the victim is gone.
    drop(victim);
    eventually("the cgroup is empty", || !inner.is_populated());
}

/// The kernel lists it as 0. It may be an ancestor of the caller.
#[test]
fn a_cgroup_that_holds_a_process_of_an_outer_namespace_is_refused() {
    let name = "a_cgroup_that_holds_a_process_of_an_outer_namespace_is_refused";
    if !is_root(name) {
        return;
    }
    // Outside of the namespace the cgroup is made. Inside it is found by its name.
    let below = |root: PathBuf| fs::read_dir(root).unwrap();
    let found = root().and_then(|root| {
        let mut dirs = below(root).map(|dir| dir.unwrap().path());
        dirs.find(|dir| dir.to_str().is_some_and(|dir| dir.ends_with(name)))
    });
    if let Some(dir) = found.filter(|_| std::env::var_os("PROCESS_KILL_TEST_ALONE").is_some()) {
        for kill in [Kill::now(), Kill::graceful().even_ancestors()] {
            let error = kill.cgroup(&dir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
        return;
    }
    let Some(cgroup) = Cgroup::new(name) else {
        return;
    };
    let mut victim = Victim::start("");
    cgroup.take(&[victim.pid()]);
    let is_inside =
        alone!(a_cgroup_that_holds_a_process_of_an_outer_namespace_is_refused in OWN_PIDS);
    assert!(!is_inside);
    assert!(victim.answers());
    victim.let_go();
    victim.all_gone();
}

#[test]
fn a_cgroup_that_holds_the_caller_is_refused_whatever_is_allowed() {
    if !is_root("a_cgroup_that_holds_the_caller_is_refused_whatever_is_allowed")
        || !alone!(a_cgroup_that_holds_the_caller_is_refused_whatever_is_allowed in OWN_PIDS)
    {
        return;
    }
    let Some(cgroup) = Cgroup::new("caller-and-parent") else {
        return;
    };
    let root = cgroup.dir().parent().unwrap().join("cgroup.procs");
    patricide(|parent, kill| {
        let me = std::process::id();
        cgroup.take(&[parent, me]);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            refusal(&[parent], || kill.cgroup(cgroup.dir()));
        }));
        std::fs::write(root, me.to_string()).unwrap();
        result.unwrap();
        let report = kill.cgroup(cgroup.dir()).unwrap();
        assert_eq!(outcomes(&report), [(parent, Outcome::Killed)]);
    });
}

/// The cgroup is removed and made again during the grace, as a service manager does.
#[test]
fn another_cgroup_at_the_same_path_is_not_hit() {
    let Some(cgroup) = Cgroup::new("made-again") else {
        return;
    };
    let root = root().unwrap();
    let obedient = Victim::start("");
    let mut stubborn = Victim::start("ignore=TERM");
    cgroup.take(&[obedient.pid(), stubborn.pid()]);
    let mut stranger = Victim::start("");
    let report = std::thread::scope(|scope| {
        let how = Kill::graceful().grace(PATIENCE);
        let call = scope.spawn(move || how.cgroup(cgroup.dir()).map(|report| (report, cgroup)));
        obedient.until_zombie();
        let dir = root.join(format!("process-kill-{}-made-again", std::process::id()));
        fs::write(root.join("cgroup.procs"), stubborn.pid().to_string()).unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cgroup.procs"), stranger.pid().to_string()).unwrap();
        stubborn.let_go();
        let ended = call.join().unwrap();
        assert!(stranger.answers());
        stranger.let_go();
        stranger.all_gone();
        ended
    });
    let (report, _cgroup) = report.unwrap();
    assert_eq!(
        outcomes(&report),
        [obedient.pid(), stubborn.pid()].map(|pid| (pid, Outcome::Exited))
    );
}

/// Without time to verify, all are killed all the same.
#[test]
fn a_cgroup_is_killed_without_time_to_verify() {
    let Some(cgroup) = Cgroup::new("no-time") else {
        return;
    };
    let mut victim = Victim::start("{ ignore=TERM }");
    cgroup.take(&victim.pids());
    // Whether they are gone by then is chance. So is whether they end between the last look at the
    // cgroup and the verdict.
    let killed = Kill::now()
        .verify_within(Duration::ZERO)
        .cgroup(cgroup.dir());
    victim.all_gone();
    if let Err(error) = killed {
        let kinds = [ErrorKind::Survivors, ErrorKind::Unproven];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
    // A process closes its files before it leaves the cgroup.
    eventually("an empty cgroup", || !cgroup.is_populated());
}

/// The path stops leading to the cgroup during the grace. That does not empty the cgroup.
#[test]
fn a_cgroup_whose_path_is_lost_is_killed() {
    if !is_root("a_cgroup_whose_path_is_lost_is_killed")
        || !alone!(a_cgroup_whose_path_is_lost_is_killed, "unshare", "--mount")
    {
        return;
    }
    let Some(cgroup) = Cgroup::new("lost") else {
        return;
    };
    let (root, name) = (root().unwrap(), cgroup.dir().file_name().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let (link, mounted) = (temporary.path().join("link"), temporary.path().join("root"));
    symlink(cgroup.dir(), &link).unwrap();
    fs::create_dir(&mounted).unwrap();
    mount(
        Some(&root),
        &mounted,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .unwrap();
    std::env::set_current_dir(&root).unwrap();
    let lost: [(PathBuf, &dyn Fn()); 3] = [
        (link.clone(), &|| fs::remove_file(&link).unwrap()),
        (name.into(), &|| std::env::set_current_dir("/").unwrap()),
        (mounted.join(name), &|| {
            umount2(&mounted, MntFlags::MNT_DETACH).unwrap()
        }),
    ];
    for (path, lose) in lost {
        let [obedient, late] = [(); 2].map(|()| Victim::start(""));
        let mut stubborn = Victim::start("ignore=TERM");
        let pids = [&obedient, &stubborn, &late].map(Victim::pid);
        cgroup.take(&pids[..2]);
        let report = std::thread::scope(|scope| {
            let how = Kill::graceful().grace(PATIENCE);
            let call = scope.spawn(move || how.cgroup(&path));
            obedient.until_zombie();
            lose();
            cgroup.take(&pids[2..]);
            stubborn.let_go();
            call.join().unwrap()
        });
        let report = report.unwrap();
        assert!(!cgroup.is_populated());
        assert_eq!(outcomes(&report), pids.map(|pid| (pid, Outcome::Exited)));
    }
}

/// With two free descriptors the directory is not held.
#[test]
fn a_lost_path_proves_nothing_if_descriptors_are_scarce() {
    if !alone!(a_lost_path_proves_nothing_if_descriptors_are_scarce) {
        return;
    }
    let Some(cgroup) = Cgroup::new("scarce-and-lost") else {
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let link = temporary.path().join("link");
    symlink(cgroup.dir(), &link).unwrap();
    let obedient = Victim::start("");
    let mut late = Victim::start("");
    let mut stubborn = Victim::start("ignore=TERM");
    cgroup.take(&[obedient.pid(), stubborn.pid()]);
    let mut procs = fs::File::create(cgroup.dir().join("cgroup.procs")).unwrap();
    let mut full = fill_the_table();
    full.truncate(full.len() - 2);
    let ended = std::thread::scope(|scope| {
        let how = Kill::graceful().grace(PATIENCE);
        let how = how.verify_within(Duration::from_millis(100));
        let path = link.clone();
        let call = scope.spawn(move || how.cgroup(&path));
        obedient.until_zombie();
        fs::remove_file(&link).unwrap();
        procs.write_all(late.pid().to_string().as_bytes()).unwrap();
        stubborn.let_go();
        call.join().unwrap()
    });
    drop(full);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unproven);
    assert!(late.answers());
    patient().cgroup(cgroup.dir()).unwrap();
    late.all_gone();
}

/// A process that may not be signalled keeps the call from ending, and the cgroup frozen.
#[test]
fn a_frozen_cgroup_whose_path_is_lost_is_thawed() {
    if !is_root("a_frozen_cgroup_whose_path_is_lost_is_thawed") {
        return;
    }
    let Some(domain) = Cgroup::new("thawed") else {
        return;
    };
    let threaded = domain.below("threads");
    threaded.write("cgroup.type", "threaded");
    let all_may = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    all_may(&threaded.0.join("cgroup.freeze"), 0o666).unwrap();
    // Linux before 5.14 has none.
    all_may(&threaded.0.join("cgroup.kill"), 0o666).unwrap_or(());
    let temporary = tempfile::tempdir().unwrap();
    all_may(temporary.path(), 0o755).unwrap();
    let link = temporary.path().join("link");
    symlink(threaded.dir(), &link).unwrap();
    let mut victim = Victim::start("");
    domain.take(&victim.pids());
    threaded.write("cgroup.threads", &victim.pid().to_string());
    let is_frozen = || fs::read_to_string(threaded.0.join("cgroup.freeze")).unwrap() == "1\n";
    let report = std::thread::scope(|scope| {
        let call = scope.spawn(|| as_nobody(|| patient().cgroup(&link)));
        eventually("a frozen cgroup", is_frozen);
        fs::remove_file(&link).unwrap();
        victim.child().kill().unwrap();
        call.join().unwrap()
    });
    assert!(!is_frozen());
    assert_eq!(
        outcomes(&report.unwrap()),
        [(victim.pid(), Outcome::Exited)]
    );
    victim.all_gone();
    drop(threaded);
}

#[test]
fn one_that_is_spared_and_enters_the_cgroup_during_the_grace_lives() {
    if !is_root("one_that_is_spared_and_enters_the_cgroup_during_the_grace_lives")
        || !alone!(one_that_is_spared_and_enters_the_cgroup_during_the_grace_lives in OWN_PIDS)
    {
        return;
    }
    let Some(cgroup) = Cgroup::new("entered") else {
        return;
    };
    let root = root().unwrap().join("cgroup.procs");
    grandchild(
        || {},
        |parent| {
            let me = std::process::id();
            for (spared, reason) in [(me, Reason::Caller), (parent, Reason::Ancestor)] {
                let obedient = Victim::start("");
                let mut stubborn = Victim::start("ignore=TERM");
                let pids = sorted(vec![obedient.pid(), stubborn.pid()]);
                cgroup.take(&pids);
                let how = Kill::graceful().grace(PATIENCE);
                let ended = std::thread::scope(|scope| {
                    let call = scope.spawn(|| how.cgroup(cgroup.dir()));
                    obedient.until_zombie();
                    cgroup.take(&[spared]);
                    stubborn.let_go();
                    call.join().unwrap()
                });
                fs::write(&root, spared.to_string()).unwrap();
                let error = ended.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Survivors, "{error}");
                assert_eq!(reasons(&error), [(spared, reason)]);
                let exited = error.report().unwrap().pids(Outcome::Exited);
                assert_eq!(sorted(exited), pids);
            }
        },
    );
}

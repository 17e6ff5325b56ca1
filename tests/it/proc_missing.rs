//! Cases in which /proc is missing, is not what it seems, or hides what it knows.

use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use process_kill::{
    Coverage, ErrorKind, Kill, Outcome, Process, ProcessId, Reason, descendant_pids, descendants,
    pids_matching, sigkill_pids_and_verify, wait_until_gone,
};

use super::fixture::{
    OWN_PIDS, PATIENCE, Victim, alone, as_nobody, eventually, filtered, findable, finders, is_root,
    outcomes, reasons, states, stubborn,
};

const MOMENT: Duration = Duration::from_millis(100);

/// Everything that can be started only while /proc is there.
struct Cast {
    tree: Victim,
    headless: Victim,
    zombie: Victim,
    reaped: Victim,
    obedient: Victim,
    family: Victim,
}

impl Cast {
    fn start() -> Cast {
        let headless = Victim::start("leader-exits");
        let zombie = Victim::start("exit");
        let mut reaped = Victim::start("exit");
        reaped.child().wait().unwrap();
        eventually("the leader's exit", || {
            matches!(states(headless.pid())[..], ['Z', _])
        });
        eventually("a zombie", || states(zombie.pid()) == ['Z']);
        Cast {
            tree: findable("ignore=TERM setsid { ignore=TERM threads=2 } { setsid }"),
            headless,
            zombie,
            reaped,
            obedient: Victim::start(""),
            family: Victim::start("{ }"),
        }
    }

    /// What holds if there is no /proc that can be believed.
    fn without_proc(mut self, ids: &[ProcessId]) {
        for answer in finders(self.tree.pid()) {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Proc);
        }

        // The calls with pidfds.
        self.refuse();
        let headless = self.headless.pid();
        let error = wait_until_gone(&[headless], MOMENT).unwrap_err();
        assert_eq!(reasons(&error), [(headless, Reason::StillRunning)]);
        assert_eq!(error.survivors()[0].state(), None);
        assert_eq!(error.survivors()[0].name(), None);
        let report = sigkill_pids_and_verify(&[headless]).unwrap();
        assert_eq!(outcomes(&report), [(headless, Outcome::Killed)]);
        self.headless.all_gone();

        let obedient = self.obedient.pid();
        let report = Kill::graceful().grace(PATIENCE).pids(&[obedient]).unwrap();
        assert_eq!(outcomes(&report), [(obedient, Outcome::Exited)]);
        assert_eq!(self.obedient.child().wait().unwrap().signal(), Some(15));

        // The first process becomes a zombie. The others are not children of this program.
        let (first, all) = (self.tree.pid(), self.tree.pids());
        let report = Kill::graceful().grace(MOMENT).pids(&[first]).unwrap();
        assert_eq!(outcomes(&report), [(first, Outcome::Killed)]);
        let report = match ids {
            [] => sigkill_pids_and_verify(&all).unwrap(),
            ids => {
                let gone = ids.iter().map(|id| id.is_gone().unwrap());
                assert!(gone.eq(ids.iter().map(|id| id.pid() == first)));
                Kill::now().processes(ids).unwrap()
            }
        };
        assert_eq!(report.pids(Outcome::AlreadyGone), [first]);
        assert_eq!(report.pids(Outcome::Killed), self.tree.others());
        self.tree.all_gone();
        assert_eq!(self.tree.child().wait().unwrap().signal(), Some(9));

        // With neither pidfds nor /proc, only the program's own children can be killed.
        filtered(
            &[libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal],
            libc::ENOSYS,
            || {
                let (child, stranger) = (self.family.pid(), self.family.others()[0]);
                let (zombie, reaped) = (self.zombie.pid(), self.reaped.pid());
                let error =
                    sigkill_pids_and_verify(&[stranger, child, zombie, reaped]).unwrap_err();
                assert_eq!(reasons(&error), [(stranger, Reason::Unverifiable)]);
                let ended = [
                    (child, Outcome::Killed),
                    (zombie, Outcome::AlreadyGone),
                    (reaped, Outcome::AlreadyGone),
                ];
                assert_eq!(outcomes(error.report().unwrap()), ended);
            },
        );
        assert!(self.family.answers());
        assert_eq!(self.family.child().wait().unwrap().signal(), Some(9));
        assert!(self.zombie.child().wait().unwrap().success());
    }

    fn refuse(&self) {
        let (tell, told) = channel();
        let (go, gone) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                tell.send(nix::unistd::gettid()).unwrap();
                gone.recv()
            });
            let thread = told.recv().unwrap().as_raw().unsigned_abs();
            let me = std::process::id();
            let (zombie, reaped) = (self.zombie.pid(), self.reaped.pid());
            let all = [0, 1, me, thread, u32::MAX, zombie, reaped];
            let error = sigkill_pids_and_verify(&all).unwrap_err();
            let refused = [
                (0, Reason::InvalidPid),
                (1, Reason::Init),
                (me, Reason::Caller),
                (thread, Reason::Thread),
                (u32::MAX, Reason::InvalidPid),
            ];
            assert_eq!(reasons(&error), refused);
            let gone = [zombie, reaped].map(|pid| (pid, Outcome::AlreadyGone));
            assert_eq!(outcomes(error.report().unwrap()), gone);
            drop(go);
        });
    }

    /// The identities, if the kernel has inode numbers. These need no /proc.
    fn identities(&self) -> Vec<ProcessId> {
        let ids = self.tree.pids().into_iter().map(|pid| {
            let id = ProcessId::of(pid).unwrap().unwrap();
            (!id.to_string().contains(":-:")).then_some(id)
        });
        ids.collect::<Option<_>>().unwrap_or_default()
    }
}

/// Unmounts the topmost /proc.
fn unmount_proc() {
    umount2("/proc", MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn without_proc_only_given_pids_are_killed() {
    if !is_root("without_proc_only_given_pids_are_killed")
        || !alone!(without_proc_only_given_pids_are_killed in OWN_PIDS)
    {
        return;
    }
    let cast = Cast::start();
    let ids = cast.identities();
    while std::fs::exists("/proc/self").unwrap() {
        unmount_proc();
    }
    cast.without_proc(&ids);
}

#[test]
fn in_a_chroot_without_proc_only_given_pids_are_killed() {
    if !is_root("in_a_chroot_without_proc_only_given_pids_are_killed")
        || !alone!(in_a_chroot_without_proc_only_given_pids_are_killed)
    {
        return;
    }
    let cast = Cast::start();
    let empty = tempfile::tempdir().unwrap();
    let outside = std::fs::File::open("/").unwrap();
    nix::unistd::chroot(empty.path()).unwrap();
    cast.without_proc(&[]);
    // The test goes back, so that the directory can be removed.
    nix::unistd::fchdir(outside).unwrap();
    nix::unistd::chroot(".").unwrap();
}

#[test]
fn what_only_looks_like_proc_is_not_believed() {
    if !is_root("what_only_looks_like_proc_is_not_believed")
        || !alone!(what_only_looks_like_proc_is_not_believed in OWN_PIDS)
    {
        return;
    }
    let cast = Cast::start();
    let (me, decoy) = (std::process::id(), cast.tree.pid());
    let files = ["stat", "status", "cmdline", "environ"].map(|file| {
        let read = |pid: u32| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        (file, read(me), read(decoy))
    });
    let nothing: Option<&str> = None;
    mount(
        Some("tmpfs"),
        "/proc",
        Some("tmpfs"),
        MsFlags::empty(),
        nothing,
    )
    .unwrap();
    for pid in [me, decoy] {
        std::fs::create_dir(format!("/proc/{pid}")).unwrap();
    }
    for (file, mine, decoys) in files {
        std::fs::write(format!("/proc/{me}/{file}"), mine).unwrap();
        std::fs::write(format!("/proc/{decoy}/{file}"), decoys).unwrap();
    }
    symlink(me.to_string(), "/proc/self").unwrap();
    cast.without_proc(&[]);
}

#[test]
fn the_proc_of_another_namespace_is_not_believed() {
    if !is_root("the_proc_of_another_namespace_is_not_believed")
        || !alone!(the_proc_of_another_namespace_is_not_believed in OWN_PIDS)
    {
        return;
    }
    let cast = Cast::start();
    // The earlier /proc lies below this one.
    unmount_proc();
    let me = std::process::id().to_string();
    assert_ne!(
        std::fs::read_link("/proc/self").unwrap().to_str(),
        Some(&*me)
    );
    cast.without_proc(&[]);
}

#[test]
fn the_proc_of_another_namespace_is_not_believed_where_numbers_agree() {
    const OUTER: &str = "echo 998 > /proc/sys/kernel/ns_last_pid; \
         unshare --pid --fork --kill-child --mount-proc sh -c \"$INNER\" sh \"$@\"; exit $?";
    const INNER: &str =
        "INNER=echo 1000 > /proc/sys/kernel/ns_last_pid; unset INNER; \"$@\"; exit $?";
    const NESTED: &[&str] = &[
        "env",
        INNER,
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        OUTER,
        "sh",
    ];
    if !is_root("the_proc_of_another_namespace_is_not_believed_where_numbers_agree")
        || !alone!(the_proc_of_another_namespace_is_not_believed_where_numbers_agree in NESTED)
    {
        return;
    }
    let cast = Cast::start();
    unmount_proc();
    let me = std::process::id();
    let link = std::fs::read_link("/proc/self").unwrap();
    assert_eq!(link.to_str(), Some(&*me.to_string()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(
        status.contains(&format!("NSpid:\t{me}\t{me}\n")),
        "{status}"
    );
    cast.without_proc(&[]);
}

/// `gid` names the group that still sees everything. The default is the root group, which
/// [`as_nobody`] keeps.
pub fn remount_proc(hidepid: u32) {
    let nothing: Option<&str> = None;
    let options = format!("hidepid={hidepid},gid=65534");
    mount(
        nothing,
        "/proc",
        nothing,
        MsFlags::MS_REMOUNT,
        Some(&*options),
    )
    .unwrap();
}

#[test]
fn what_is_hidden_is_not_taken_for_gone() {
    if !is_root("what_is_hidden_is_not_taken_for_gone")
        || !alone!(what_is_hidden_is_not_taken_for_gone in OWN_PIDS)
    {
        return;
    }
    let is_io = |error: process_kill::Error| assert_eq!(error.kind(), ErrorKind::Io);
    for hidepid in [1, 2] {
        let mut foreign = Victim::start("threads=1 { }");
        let mut command = stubborn("ignore=TERM { ignore=TERM }");
        command.uid(65534);
        let mut own = Victim::spawn(command);
        let mut reaped = Victim::start("exit");
        reaped.child().wait().unwrap();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", foreign.pid())).unwrap();
        let thread = tasks
            .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .find(|&tid: &u32| tid != foreign.pid())
            .unwrap();
        let id = ProcessId::of(foreign.pid()).unwrap().unwrap();
        // Before Linux 6.9 only /proc could tell the process from a successor.
        let has_inode = !id.to_string().contains(":-:");
        remount_proc(hidepid);
        let pid = foreign.pid();
        as_nobody(|| {
            is_io(ProcessId::of(pid).unwrap_err());
            is_io(Process::open(pid).unwrap_err());
            is_io(descendant_pids(pid).unwrap_err());
            is_io(descendants(pid).unwrap_err());
            // The program sees itself, but not its children.
            is_io(descendant_pids(std::process::id()).unwrap_err());
            is_io(descendants(std::process::id()).unwrap_err());
            assert_eq!(ProcessId::of(reaped.pid()).unwrap(), None);
            assert_eq!(descendant_pids(reaped.pid()).unwrap(), []);

            match id.is_gone() {
                Ok(gone) => assert!(has_inode && !gone),
                Err(e) => {
                    assert!(!has_inode, "{e}");
                    is_io(e);
                }
            }
            let error = wait_until_gone(&[pid, thread], MOMENT).unwrap_err();
            let still = [(pid, Reason::StillRunning), (thread, Reason::Thread)];
            assert_eq!(reasons(&error), still);
            let error = sigkill_pids_and_verify(&[pid, thread, reaped.pid()]).unwrap_err();
            let refused = [(pid, Reason::NotPermitted), (thread, Reason::Thread)];
            assert_eq!(reasons(&error), refused);
            let gone = [(reaped.pid(), Outcome::AlreadyGone)];
            assert_eq!(outcomes(error.report().unwrap()), gone);
            let error = Kill::now().processes(&[id]).unwrap_err();
            let reason = match has_inode {
                true => Reason::NotPermitted,
                false => Reason::Unverifiable,
            };
            assert_eq!(reasons(&error), [(pid, reason)]);

            assert_eq!(descendant_pids(own.pid()).unwrap(), own.others());
            assert_eq!(pids_matching("stubborn$").unwrap(), own.pids());
            let report = sigkill_pids_and_verify(&own.pids()).unwrap();
            assert_eq!(report.pids(Outcome::Killed), own.pids());
        });
        own.all_gone();
        assert!(foreign.answers());
        // Root sees everything.
        let report = sigkill_pids_and_verify(&foreign.pids()).unwrap();
        assert_eq!(report.pids(Outcome::Killed), foreign.pids());
        remount_proc(0);
    }
}

#[test]
fn many_threads_do_not_make_a_hidden_child_vanish() {
    if !is_root("many_threads_do_not_make_a_hidden_child_vanish")
        || !alone!(many_threads_do_not_make_a_hidden_child_vanish in OWN_PIDS)
    {
        return;
    }
    let _hidden = Victim::start("");
    remount_proc(2);
    let (stay, go) = channel::<()>();
    let go = std::sync::Mutex::new(go);
    std::thread::scope(|scope| {
        // There are so many lists of children that one scan of all processes is cheaper.
        for _ in 0..200 {
            scope.spawn(|| go.lock().unwrap().recv());
        }
        let answer = as_nobody(|| descendant_pids(std::process::id()));
        drop(stay);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Io);
    });
}

#[test]
fn identities_hold_where_proc_shows_processes_only() {
    if !is_root("identities_hold_where_proc_shows_processes_only")
        || !alone!(identities_hold_where_proc_shows_processes_only in OWN_PIDS)
    {
        return;
    }
    let (processes_only, flags) = (Some("subset=pid"), MsFlags::empty());
    if let Err(e) = mount(Some("proc"), "/proc", Some("proc"), flags, processes_only) {
        println!("skipped: subset=pid needs Linux 5.8: {e}");
        return;
    }
    assert!(!std::fs::exists("/proc/sys").unwrap());
    let mut victim = findable("setsid { }");
    for answer in finders(victim.pid()) {
        assert!(!answer.unwrap().is_empty());
    }
    let id = ProcessId::of(victim.pid()).unwrap().unwrap();
    let text = id.to_string();
    // This process cannot see the boot. Before Linux 6.9 the inode before it is `-` too.
    let (before, namespace) = text.rsplit_once(":-:").unwrap();
    let again: ProcessId = text.parse().unwrap();
    assert_eq!(again, id);
    assert!(!again.is_gone().unwrap());

    // An identity that names its boot may be of this boot or of another one.
    let elsewhere: ProcessId = format!("{before}:{:032x}:{namespace}", 7).parse().unwrap();
    assert_eq!(elsewhere.is_gone().unwrap_err().kind(), ErrorKind::Io);
    let error = Kill::now().processes(&[elsewhere]).unwrap_err();
    assert_eq!(reasons(&error), [(victim.pid(), Reason::Unverifiable)]);
    assert!(victim.answers());

    let all = victim.pids();
    let ids: Vec<_> = all
        .iter()
        .map(|&pid| ProcessId::of(pid).unwrap().unwrap())
        .collect();
    let report = Kill::now().processes(&ids).unwrap();
    assert_eq!(report.pids(Outcome::Killed), all);
    assert!(again.is_gone().unwrap());
    victim.all_gone();
    victim.child().wait().unwrap();
    assert!(again.is_gone().unwrap());
    assert_eq!(ProcessId::of(victim.pid()).unwrap(), None);
}

/// Container managers mount a file with a random number over that of the boot.
#[test]
fn a_masked_boot_is_not_taken_for_another_one() {
    const OWN_MOUNTS: &[&str] = &["unshare", "--mount"];
    if !is_root("a_masked_boot_is_not_taken_for_another_one")
        || !alone!(a_masked_boot_is_not_taken_for_another_one in OWN_MOUNTS)
    {
        return;
    }
    let mut victim = Victim::start("");
    let id = ProcessId::of(victim.pid()).unwrap().unwrap();
    let mask = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(mask.path(), "01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
    let (none, boot) = (None::<&str>, "/proc/sys/kernel/random/boot_id");
    mount(Some(mask.path()), boot, none, MsFlags::MS_BIND, none).unwrap();
    assert_eq!(id.is_gone().unwrap_err().kind(), ErrorKind::Io);
    for error in [
        Kill::now().processes(&[id]).unwrap_err(),
        Kill::now().trees(&[id]).unwrap_err(),
    ] {
        assert_eq!(reasons(&error), [(victim.pid(), Reason::Unverifiable)]);
    }
    assert!(victim.answers());
    // Identities that are read from now on agree.
    let id = ProcessId::of(victim.pid()).unwrap().unwrap();
    assert!(id.to_string().contains(":-:"));
    Kill::now().processes(&[id]).unwrap();
    victim.all_gone();
}

#[test]
fn in_a_user_namespace_of_its_own_everything_works() {
    const OWN_USERS: &[&str] = &[
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let mut trial = std::process::Command::new(OWN_USERS[0]);
    if !trial
        .args(&OWN_USERS[1..])
        .arg("true")
        .status()
        .unwrap()
        .success()
    {
        println!("skipped: in_a_user_namespace_of_its_own_everything_works may not have one");
        return;
    }
    if !alone!(in_a_user_namespace_of_its_own_everything_works in OWN_USERS) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let mut victim = findable("setsid ignore=TERM { ignore=TERM { } } { leader-exits }");
    let root = victim.pid();
    for answer in finders(root) {
        assert!(!answer.unwrap().is_empty());
    }
    assert_eq!(pids_matching("stubborn findable$").unwrap(), [root]);
    let mut all = descendant_pids(1).unwrap();
    all.sort_unstable();
    assert_eq!(all, victim.pids());
    let id = ProcessId::of(root).unwrap().unwrap();
    let process = Process::open(root).unwrap().unwrap();
    assert_eq!(process.id(), id);
    assert!(!process.wait_until_gone(Duration::ZERO).unwrap());

    let report = Kill::graceful().grace(MOMENT).pids(&[root]).unwrap();
    assert_eq!(outcomes(&report), [(root, Outcome::Killed)]);
    assert!(process.wait_until_gone(PATIENCE).unwrap());
    assert!(id.is_gone().unwrap());
    assert_eq!(victim.child().wait().unwrap().signal(), Some(9));
    // The orphans are this program's own children now, because it is init.
    let mut orphans = descendant_pids(1).unwrap();
    orphans.sort_unstable();
    assert_eq!(orphans, victim.others());
    let report = sigkill_pids_and_verify(&orphans).unwrap();
    assert_eq!(report.pids(Outcome::Killed), orphans);
    victim.all_gone();
}

/// The call cannot see the hidden member, so the report does not claim that there is one. It says
/// `BestEffort`.
#[test]
fn a_hidden_member_of_a_group_beside_a_zombie_is_not_ruled_out() {
    let name = "a_hidden_member_of_a_group_beside_a_zombie_is_not_ruled_out";
    if !is_root(name)
        || !alone!(a_hidden_member_of_a_group_beside_a_zombie_is_not_ruled_out in OWN_PIDS)
    {
        return;
    }
    let mut command = stubborn("exit");
    command.uid(65534).process_group(0);
    let leader = Victim::spawn(command);
    leader.until_zombie();
    let kill = |pgid: u32| as_nobody(|| Kill::now().groups(&[pgid]).unwrap().coverage());
    assert_eq!(kill(leader.pid()), Coverage::Exact);
    let mut command = stubborn("");
    command.process_group(leader.pid().try_into().unwrap());
    let mut hidden = Victim::spawn(command);
    remount_proc(2);
    assert_eq!(kill(leader.pid()), Coverage::BestEffort);
    assert!(hidden.answers());
}

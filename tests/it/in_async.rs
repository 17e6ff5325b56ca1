//! The functions for async code.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use process_kill::{ErrorKind, Outcome, Process, ProcessId, tokio as asynchronous};
use tokio::runtime::{Builder, Runtime};

use super::fixture::{PATIENCE, Victim, filtered, patient, stubborn};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn is_killed(victim: &Victim) {
    let process = Process::open(victim.pid()).unwrap();
    assert!(process.is_none_or(|process| process.wait_until_gone(PATIENCE).unwrap()));
}

#[tokio::test]
async fn every_function_has_its_like() {
    let mut victim = Victim::start("setsid { }");
    let (pid, child) = (victim.pid(), victim.others()[0]);
    let both = victim.pids();
    let ids = asynchronous::descendants(pid).await.unwrap();
    assert_eq!(ids.iter().map(ProcessId::pid).collect::<Vec<_>>(), [child]);
    assert_eq!(asynchronous::descendant_pids(pid).await.unwrap(), [child]);
    assert_eq!(asynchronous::pids_in_group(pid).await.unwrap(), both);
    assert_eq!(asynchronous::pids_in_session(pid).await.unwrap(), both);
    let found = asynchronous::processes_where(move |p| p.parent() == pid).await;
    assert_eq!(found.unwrap(), ids);
    let nowhere = "no command line has (this) in it, nor is there such a variable";
    let pattern = nowhere.replace("(this)", "th[i]s");
    assert!(
        asynchronous::pids_matching(pattern.clone())
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        asynchronous::matching(patient(), pattern)
            .await
            .unwrap()
            .is_empty()
    );
    let env = asynchronous::pids_with_env("STUBBORN".into(), nowhere.into()).await;
    assert!(env.unwrap().is_empty());
    let dir = tempfile::tempdir().unwrap();
    let cwd = asynchronous::pids_with_cwd_under(dir.path().into()).await;
    assert!(cwd.unwrap().is_empty());
    let inside = asynchronous::pids_in_directory(dir.path().into()).await;
    assert!(inside.unwrap().is_empty());
    let refused = asynchronous::cgroup(patient(), dir.path().into()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    let waited = asynchronous::wait_until_gone(vec![child], Duration::ZERO).await;
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Survivors);
    let refused = asynchronous::kill_tree_and_verify(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let refused = asynchronous::kill_process_group(1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let refused = asynchronous::tree(patient(), 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);

    asynchronous::processes(patient(), ids).await.unwrap();
    let report = asynchronous::groups(patient(), vec![pid]).await.unwrap();
    assert_eq!(report.pids(Outcome::Killed), [pid]);
    let report = asynchronous::sigkill_pids_and_verify(vec![pid])
        .await
        .unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), [pid]);
    let report = asynchronous::pids(patient(), vec![pid]).await.unwrap();
    assert_eq!(report.pids(Outcome::AlreadyGone), [pid]);
    victim.all_gone();
}

#[test]
fn all_children_are_killed() {
    if !super::fixture::alone!(all_children_are_killed) {
        return;
    }
    for graceful in [false, true] {
        let mut victim = Victim::start("{ }");
        let report = match graceful {
            false => current_thread().block_on(asynchronous::children(patient())),
            true => current_thread().block_on(asynchronous::kill_all_children()),
        };
        assert!(report.unwrap().len() >= 2);
        victim.all_gone();
    }
}

#[test]
fn every_way_to_select_has_its_like() {
    use super::fixture::{OWN_PIDS, alone, is_root};
    if !is_root("every_way_to_select_has_its_like")
        || !alone!(every_way_to_select_has_its_like in OWN_PIDS)
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    current_thread().block_on(async {
        let group = || {
            let mut command = stubborn("{ setsid }");
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.current_dir(&dir);
            Victim::spawn(command)
        };
        let families: [Victim; 4] = std::array::from_fn(|_| group());
        let [a, b, c, d] = families.each_ref().map(Victim::pids);
        let first = ProcessId::of(families[0].pid()).unwrap().unwrap();
        let report = asynchronous::trees(patient(), vec![first]).await;
        assert_eq!(report.unwrap().pids(Outcome::Killed).len(), a.len());
        let report = asynchronous::jobs(patient(), vec![families[1].pid()]).await;
        assert_eq!(report.unwrap().pids(Outcome::Killed).len(), b.len());
        let wanted = c.clone();
        let report = asynchronous::all_where(patient(), move |p| wanted.contains(&p.pid())).await;
        assert_eq!(report.unwrap().pids(Outcome::Killed).len(), c.len());
        let mut inside = asynchronous::pids_in_directory(dir.clone()).await.unwrap();
        inside.sort_unstable();
        assert_eq!(inside, d);
        let report = asynchronous::directory(patient(), dir.clone()).await;
        assert_eq!(report.unwrap().pids(Outcome::Killed).len(), d.len());
        assert!(asynchronous::is_gone(d[0]).await.unwrap());
        assert!(!asynchronous::is_gone(std::process::id()).await.unwrap());
        let server = Victim::start("listen");
        let port = server.ready[0].1.unwrap();
        let found = asynchronous::pids_listening_on(port).await.unwrap();
        assert_eq!(found, [server.pid()]);
        let report = asynchronous::port(patient(), port).await.unwrap();
        assert_eq!(report.pids(Outcome::Killed), found);
    });
}

#[test]
fn a_panic_is_an_error_wherever_it_happens() {
    let quiet = |_: &process_kill::Candidate<'_>| -> bool {
        std::panic::resume_unwind(Box::new("not today"))
    };
    let runtime = current_thread();
    let inside = runtime.block_on(async { asynchronous::processes_where(quiet).await });
    let outside = asynchronous::processes_where(quiet);
    for result in [inside, runtime.block_on(outside)] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Task);
        assert!(error.to_string().contains("not today"), "{error}");
    }
}

/// Polls the future once, with a waker that wakes nothing.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn without_a_runtime_it_is_done_in_place() {
    let mut victim = Victim::start("ignore=TERM");
    let killed = poll(asynchronous::pids(patient(), vec![victim.pid()]));
    assert!(matches!(killed, Poll::Ready(Ok(_))));
    victim.all_gone();
}

#[test]
fn without_a_runtime_a_dropped_future_is_done_all_the_same() {
    let mut victim = Victim::start("ignore=TERM");
    drop(asynchronous::pids(patient(), vec![victim.pid()]));
    victim.all_gone();
}

#[test]
fn dropping_the_future_does_not_call_it_off() {
    let runtime = current_thread();
    for is_polled in [false, true] {
        let victim = Victim::start("ignore=TERM");
        runtime.block_on(async {
            let kill = asynchronous::pids(patient(), vec![victim.pid()]);
            if is_polled {
                // The call may be done already.
                drop(poll(kill));
            } else {
                drop(kill);
            }
        });
        is_killed(&victim);
    }
}

#[test]
fn a_kill_is_done_though_the_runtime_ends_first() {
    for (awaits, is_polled) in [(true, false), (false, true), (false, false)] {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (tell, busy) = mpsc::channel();
        runtime.spawn_blocking(move || {
            tell.send(()).unwrap();
            // This waits until the other end is dropped.
            wait.recv().unwrap_err();
        });
        busy.recv().unwrap();
        let mut victim = Victim::start("ignore=TERM");
        let kill = {
            let _inside = runtime.enter();
            asynchronous::pids(patient(), vec![victim.pid()])
        };
        let mut kill = Box::pin(kill);
        if is_polled {
            assert!(poll(kill.as_mut()).is_pending());
        }
        runtime.shutdown_background();
        assert!(victim.answers());
        drop(go);
        let ended = awaits.then(|| current_thread().block_on(kill.as_mut()));
        if let Some(report) = ended {
            assert_eq!(report.unwrap().pids(Outcome::Killed), [victim.pid()]);
        }
        drop(kill);
        victim.all_gone();
    }
}

#[test]
fn after_the_runtime_has_ended_it_is_done_in_place() {
    let runtime = current_thread();
    let handle = runtime.handle().clone();
    drop(runtime);
    let mut victim = Victim::start("ignore=TERM");
    let _inside = handle.enter();
    let killed = asynchronous::pids(patient(), vec![victim.pid()]);
    let report = current_thread().block_on(killed).unwrap();
    assert_eq!(report.pids(Outcome::Killed), [victim.pid()]);
    victim.all_gone();
}

#[test]
fn where_no_thread_can_be_started_it_is_done_in_place() {
    let mut victim = Victim::start("ignore=TERM");
    let pid = victim.pid();
    let killed = filtered(&[libc::SYS_clone, libc::SYS_clone3], libc::EAGAIN, || {
        current_thread().block_on(async { asynchronous::pids(patient(), vec![pid]).await })
    });
    assert_eq!(killed.unwrap().pids(Outcome::Killed), [pid]);
    victim.all_gone();
}

#[test]
fn the_runtime_goes_on_during_a_kill() {
    let victim = Victim::start("setpgid ignore=TERM");
    let kill = patient().grace(Duration::from_secs(2));
    let longest = current_thread().block_on(async {
        let killed = asynchronous::groups(kill, vec![victim.pid()]);
        let mut killed = pin!(killed);
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        let mut count = 0;
        loop {
            tokio::select! {
                report = &mut killed => {
                    assert_eq!(report.unwrap().pids(Outcome::Killed), [victim.pid()]);
                    assert!(count > 20, "{count} ticks");
                    break longest;
                }
                _ = ticks.tick() => {
                    count += 1;
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
            }
        }
    });
    println!("longest gap between two ticks: {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_child_of_tokio_that_takes_too_long_is_killed_and_waited_for() {
    let mut command: tokio::process::Command = stubborn("").into();
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let _leash = child.stdin.take();
    let mut said = [0; 6];
    let out = child.stdout.as_mut().unwrap();
    tokio::io::AsyncReadExt::read_exact(out, &mut said)
        .await
        .unwrap();
    assert_eq!(&said, b"ready ");
    let timeout = tokio::time::timeout(Duration::from_millis(50), child.wait()).await;
    assert!(timeout.is_err());
    let begun = Instant::now();
    let pid = child.id().unwrap();
    let report = asynchronous::kill_process_group(pid).await.unwrap();
    let took = begun.elapsed();
    println!("an obedient child: {took:?}");
    assert_eq!(report.pids(Outcome::Exited), [pid]);
    // The grace is five seconds.
    assert!(took < Duration::from_secs(3), "{took:?}");
    let status = child.wait().await.unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(15)
    );
}

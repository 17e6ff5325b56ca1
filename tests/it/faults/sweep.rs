//! The test, and the runs of one stage.

use std::cell::RefCell;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::cgroup::Cgroup;
use super::super::fixture::{
    OWN_PIDS, PATIENCE, copy_stubborn, eventually, is_root, run_alone_within,
};
use super::calls::{Call, Case, Mode, cases};
use super::check::{Seen, what_is_wrong};
use super::family::{Bystander, Family, command, program};
use super::functions::{By, FUNCTIONS, Function, Promise, Scene};
use super::subject::{Said, Subject};
use super::trace::{self, Lost, Traced};

/// What is run: see the head of the parent module.
const ASKED: &str = "PROCESS_KILL_FAULTS";
/// The function of a stage.
const FUNCTION: &str = "PROCESS_KILL_FAULTS_FUNCTION";
/// How many cases of each function a plain run takes.
const FEW: usize = 14;

#[test]
fn each_call_may_fail() {
    const TEST: &str = "faults::sweep::each_call_may_fail";
    if !is_root(TEST) {
        return;
    }
    if let Ok(name) = std::env::var(FUNCTION) {
        let function = FUNCTIONS.iter().find(|function| function.name == name);
        return Stage::new(function.unwrap()).sweep();
    }
    let asked = asked();
    let (name, _) = asked.split_once(':').unwrap_or((&asked, ""));
    let is_for_all = ["", "all"].contains(&name) || Mode::parse(name).is_some();
    let functions: Vec<&Function> = FUNCTIONS
        .iter()
        .filter(|function| is_for_all || function.name == name)
        .collect();
    assert!(!functions.is_empty(), "no such function: {name}");
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let limit = if asked.is_empty() { 120 } else { 7200 };
    let work = || {
        while let Some(function) = functions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let variable = format!("{FUNCTION}={}", function.name);
            let wrapper = [OWN_PIDS, &["env", &variable]].concat();
            // The others are run all the same.
            if catch_unwind(|| run_alone_within(TEST, &wrapper, limit)).is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    assert_eq!(failed.into_inner(), 0, "functions failed; see above");
}

fn asked() -> String {
    std::env::var(ASKED).unwrap_or_default()
}

/// The cases that are asked for.
fn chosen(function: &Function, calls: &[(Call, String)]) -> Vec<Case> {
    let name = function.name;
    let mut all = cases(calls);
    // The end of the only victim is not what is tested.
    all.retain(|case| case.mode != Mode::Death || function.victims.contains('{'));
    let asked = asked();
    if let Some(case) = asked
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(':'))
    {
        return vec![Case::parse(case).expect("POSITION:ERRNO:MODE")];
    }
    if let Some(mode) = Mode::parse(&asked) {
        all.retain(|case| case.mode == mode);
    }
    if asked.is_empty() {
        // The same ones each time.
        fastrand::Rng::with_seed(1).shuffle(&mut all);
        all.truncate(FEW);
    }
    all
}

/// Runs one function in its own PID namespace.
struct Stage {
    function: &'static Function,
    dir: tempfile::TempDir,
    cgroup: Option<Cgroup>,
    bystander: Bystander,
    /// The victims of a function that sends nothing live on.
    kept: Option<Family>,
}

impl Stage {
    fn new(function: &'static Function) -> Stage {
        trace::watch_the_clock();
        let dir = tempfile::tempdir().unwrap();
        copy_stubborn(&program(dir.path()));
        // Pids are the same in each namespace.
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let cgroup = match function.name.starts_with("cgroup") {
            true => Cgroup::new(&format!("faults{name}")),
            false => None,
        };
        Stage {
            function,
            dir,
            cgroup,
            bystander: Bystander::start(),
            kept: None,
        }
    }

    fn sweep(mut self) {
        let name = self.function.name;
        if name.starts_with("cgroup") && self.cgroup.is_none() {
            return;
        }
        let (plain, wrong) = self.run(None).unwrap();
        assert!(wrong.is_empty(), "{name} without a fault: {wrong:?}");
        let (mut runs, mut hits, mut failures) = (0, 0, Vec::new());
        for case in chosen(self.function, &plain.calls) {
            runs += 1;
            let wrong = match self.run(Some(case)) {
                Ok((traced, wrong)) => {
                    hits += usize::from(traced.failed > 0);
                    (!wrong.is_empty()).then(|| {
                        let (wrong, hits) = (wrong.join("; "), traced.hits.join("\n    "));
                        format!("{wrong}\n  {} calls failed:\n    {hits}", traced.failed)
                    })
                }
                Err(lost) => Some(lost.to_string()),
            };
            if let Some(wrong) = wrong {
                failures.push(format!("{ASKED}={name}:{case}\n  {wrong}"));
            }
        }
        println!(
            "swept: {name}, {} calls, {runs} runs, {hits} faults, {} wrong",
            plain.calls.len(),
            failures.len()
        );
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    }

    /// One run. Returns its calls, and what was wrong.
    fn run(&mut self, case: Option<Case>) -> Result<(Traced, Vec<String>), Lost> {
        let function = self.function;
        let is_death = case.is_some_and(|case| case.mode == Mode::Death);
        let spec = match is_death {
            true => format!("ignore=CHLD {}", function.victims),
            false => function.victims.to_owned(),
        };
        let (command, mut family) = self.victims(&spec);
        let scene = Scene {
            pids: family.pids.clone(),
            ids: Vec::new(),
            port: family.port.unwrap_or_default(),
            dir: self.dir.path().to_owned(),
            cgroup: self
                .cgroup
                .as_ref()
                .map_or(PathBuf::new(), |c| c.dir().to_owned()),
            verify: verify(case),
            command: RefCell::new(None),
            child: RefCell::new(None),
        };
        let expected = match function.promise {
            Promise::Exactly(of) => Some(of(&scene)),
            _ => None,
        };
        scene.command.replace(command);
        let mut subject = Subject::start(function, scene);
        let outcome = self.follow(&mut subject, &spec, case, &mut family);
        let outcome = outcome.map(|(traced, were_gone, said)| {
            let seen = Seen {
                were_gone,
                expected,
                ended: family.newest().filter(|_| is_death),
            };
            let mut wrong = what_is_wrong(&said, &seen, function.promise, case, &mut family);
            if let Some(hit) = self.bystander.hit() {
                wrong.push(format!("the bystander was hit: {hit}"));
                self.bystander = Bystander::start();
            }
            (traced, wrong)
        });
        trace::put_away(subject.pid);
        let is_whole = outcome.as_ref().is_ok_and(|(_, wrong)| wrong.is_empty());
        let is_kept = is_whole && !is_death;
        if is_kept && matches!(function.promise, Promise::Exactly(_) | Promise::Never) {
            self.kept = Some(family);
        }
        outcome
    }

    /// The victims, and the command for those that the stage does not start.
    fn victims(&mut self, spec: &str) -> (Option<Command>, Family) {
        let dir: &Path = self.dir.path();
        if self.function.started != By::Stage {
            let (command, family) = command(spec, dir);
            return (Some(command), family);
        }
        let is_same = spec == self.function.victims;
        let family = self.kept.take().filter(|_| is_same);
        let family = family.unwrap_or_else(|| Family::start(spec, dir));
        if let Some(cgroup) = &self.cgroup {
            cgroup.take(&family.pids);
        }
        (None, family)
    }

    /// Follows the subject through its call. Returns whether all victims were gone when the call
    /// returned.
    fn follow(
        &self,
        subject: &mut Subject,
        spec: &str,
        case: Option<Case>,
        family: &mut Family,
    ) -> Result<(Traced, bool, Said), Lost> {
        trace::until_it_stops(subject.pid)?;
        if self.function.started == By::Subject {
            family.until_ready(spec);
        }
        let traced = trace::trace(subject.pid, case, family.newest())?;
        let were_gone = family.are_gone(Duration::ZERO);
        trace::go_on(subject.pid)?;
        Ok((traced, were_gone, subject.said()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kept = None;
        // A process closes its files before it leaves its cgroup, and only an empty one can be
        // removed.
        if let Some(cgroup) = &self.cgroup {
            eventually("an empty cgroup", || !cgroup.is_populated());
        }
    }
}

/// What must succeed may take its time. A failure that lasts need not be waited for.
fn verify(case: Option<Case>) -> Duration {
    match case {
        Some(case) if case.is_harmless() => PATIENCE,
        Some(case) if case.passes() => Duration::from_secs(5),
        Some(_) => Duration::from_millis(100),
        None => PATIENCE,
    }
}

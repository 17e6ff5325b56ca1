//! The tables of the kills. Spawning and reaping are outside of the timed part.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_kill::{kill_tree_and_verify, sigkill_pids_and_verify};

use super::Peers;
use super::floor::Floor;
use super::idle::{Crowd, Idle, Tree};
use super::table::{Row, growth, head, timed};

/// A root and 99 descendants.
const TREE: &[usize] = &[9, 10];

pub(crate) fn tables(peers: &Peers) {
    by_pid();
    by_tree(peers);
}

fn by_pid() {
    head("sigkill_pids_and_verify");
    let mut each = Vec::new();
    for count in [1, 100, 1000, 5000] {
        let mut floor = Floor::new();
        let row = Row::new(format!("{count} of the caller's children"), 1.1)
            .with(|| killed(count, |pids| floor.kill(pids)))
            .with(|| killed(count, verified));
        each.push((count, row.measure()));
    }
    for count in [1, 100] {
        let mut floor = Floor::new();
        let [mut first, mut second, mut third] = [(); 3].map(|()| Crowd::start());
        Row::new(format!("{count} of another's children"), 1.1)
            .with(|| {
                let pids = first.add(count);
                timed(|| floor.kill(&pids))
            })
            .with(|| {
                let pids = second.add(count);
                timed(|| verified(&pids))
            })
            .peer("kill(2), then kill(pid, 0) each 50 ms", None, || {
                let pids = third.add(count);
                timed(|| polled(&pids))
            })
            .measure();
    }
    growth("sigkill_pids_and_verify, for each process of", &each);
}

fn killed(count: u32, job: impl FnOnce(&[u32])) -> Duration {
    let idle = Vec::from_iter((0..count).map(|_| Idle::start()));
    let pids = Vec::from_iter(idle.iter().map(Idle::pid));
    timed(|| job(&pids))
}

fn verified(pids: &[u32]) {
    sigkill_pids_and_verify(pids).unwrap();
}

/// What programs do that do not know of pidfds.
fn polled(pids: &[u32]) {
    let pid = |&pid: &u32| Pid::from_raw(pid.try_into().unwrap());
    let mut left = Vec::from_iter(pids.iter().map(pid));
    for &pid in &left {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    loop {
        left.retain(|&pid| kill(pid, None).is_ok());
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn by_tree(peers: &Peers) {
    head("kill_tree_and_verify of 100, among 3000");
    let mut crowd = Crowd::start();
    crowd.add(3000);
    let raw = |start: fn(&[usize]) -> Tree, scans: bool| {
        let mut floor = Floor::new();
        move || {
            let tree = start(TREE);
            let pids = tree.pids();
            timed(|| {
                if scans {
                    floor.read_of_each("stat");
                }
                floor.kill(&pids);
            })
        }
    };
    let mut plain = Row::new("a tree, and the raw kill of the same set", 1.6)
        .with(raw(Tree::start, false))
        .with(|| tree_killed(&Tree::start(TREE)));
    for &(name, kill_tree) in &peers.tree {
        plain = plain.peer(name, None, move || {
            let tree = Tree::start(TREE);
            timed(|| kill_tree(tree.root()))
        });
    }
    plain.measure();
    Row::new("it leads its group, and the raw kill and a scan", 1.6)
        .with(raw(Tree::group, true))
        .with(|| tree_killed(&Tree::group(TREE)))
        .measure();
}

fn tree_killed(tree: &Tree) -> Duration {
    timed(|| assert_eq!(kill_tree_and_verify(tree.root()).unwrap().len(), 100))
}

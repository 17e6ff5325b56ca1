//! The tables of the finders.

use std::process::Command;
use std::time::Duration;

use process_kill::{descendant_pids, pids_matching};

use super::Peers;
use super::floor::Floor;
use super::idle::{Crowd, Tree};
use super::table::{Row, growth, head, timed};

/// The processes that the patterns match.
const SOUGHT: usize = 10;
const LITERAL: &str = "sleep 599";
const EXPRESSION: &str = "^[^ ]*sleep 5[0-9]{2}$";

pub(crate) fn tables(peers: &Peers) {
    let mut crowd = Crowd::start();
    let mut processes = 0;
    let mut scans = Vec::new();
    for others in [300, 3000, 20_000] {
        crowd.add(others - processes);
        processes = others;
        scans.push((others, patterns(others, peers)));
        descent(others, peers);
    }
    growth("pids_matching, for each process of", &scans);
}

fn patterns(others: u32, peers: &Peers) -> [Duration; 2] {
    let sleep = || Command::new("sleep").arg("599").spawn().unwrap();
    let mut sought = Vec::from_iter(std::iter::repeat_with(sleep).take(SOUGHT));
    while pids_matching(EXPRESSION).unwrap().len() < SOUGHT {
        std::thread::yield_now();
    }
    head(&format!("pids_matching, among {others}"));
    let floor = || {
        let mut floor = Floor::new();
        move || timed(|| floor.read_of_each("cmdline"))
    };
    let ours =
        |pattern| move || timed(|| assert_eq!(pids_matching(pattern).unwrap().len(), SOUGHT));
    let mut literal = Row::new("a literal", 1.08)
        .with(floor())
        .with(ours(LITERAL));
    let mut expression = Row::new("an expression", 1.15)
        .with(floor())
        .with(ours(EXPRESSION));
    if others == 3000 {
        for (name, matching) in &peers.matching {
            literal = literal.peer(*name, None, || {
                timed(|| assert_eq!(matching(LITERAL), SOUGHT))
            });
        }
        let pgrep = |pattern: &'static str| move || timed(|| pgrep(&["-f", "--", pattern]));
        literal = literal.peer("pgrep -f", Some(8.0), pgrep(LITERAL));
        expression = expression.peer("pgrep -f", Some(8.0), pgrep(EXPRESSION));
    }
    let time = literal.measure();
    expression.measure();
    for child in &mut sought {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    time
}

fn descent(others: u32, peers: &Peers) {
    let chain = [1; 200];
    let shapes: &[(&str, f64, &[usize])] = &[
        ("100", 1.5, &[10, 9]),
        ("100, and the floor is proven", 1.5, &[10, 9]),
        ("10", 1.6, &[10]),
        ("1000", 1.6, &[10, 99]),
        ("a chain of 200", 1.6, &chain),
    ];
    head(&format!("descendant_pids, among {others}"));
    for &(name, goal, generations) in shapes {
        if others != 3000 && name != "100" {
            continue;
        }
        let tree = Tree::start(generations);
        let floor_of = match name.ends_with("proven") {
            true => Floor::proven_descendants,
            false => Floor::descendants,
        };
        let (root, count) = (tree.root(), tree.descendants.len());
        let (mut floor, mut scan) = (Floor::new(), Floor::new());
        let mut row = Row::new(name, goal)
            .with(|| timed(|| assert_eq!(floor_of(&mut floor, root), count)))
            .with(|| timed(|| assert_eq!(descendant_pids(root).unwrap().len(), count)));
        if (others, name) == (3000, "100") {
            row = row
                .peer("a scan of every stat", Some(30.0), || {
                    timed(|| assert_eq!(scan.descendants_by_stat(root), count))
                })
                .peer("pgrep -P, for one generation after another", None, || {
                    timed(|| assert_eq!(by_pgrep(root).len(), count))
                });
            for (name, descendants) in &peers.descendants {
                row = row.peer(*name, None, || {
                    timed(|| assert_eq!(descendants(root), count))
                });
            }
        }
        row.measure();
    }
}

/// One run for each generation.
fn by_pgrep(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![root];
    while !parents.is_empty() {
        let list: Vec<String> = parents.iter().map(u32::to_string).collect();
        parents = pgrep(&["-P", &list.join(",")]);
        found.extend(&parents);
    }
    found
}

fn pgrep(args: &[&str]) -> Vec<u32> {
    let output = Command::new("pgrep").args(args).output();
    let output = output.expect("pgrep, of procps");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|pid| pid.parse().unwrap()).collect()
}

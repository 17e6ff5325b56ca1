//! Walks of any table of parents: each descendant comes once, after its parent, the nearest first.

#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "a target needs a part of the source"
)]

use std::collections::HashMap;
use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;

include!("source.rs");

const ROOT: u32 = 1;

// The input is pairs of a parent and a child.
fuzz_target!(|input: &[u8]| {
    let edges: Vec<(u32, u32)> = input
        .chunks_exact(2)
        .take(2000)
        .map(|pair| (u32::from(pair[0]) + 1, u32::from(pair[1]) + 1))
        .collect();
    let pid = |number| sys::Pid::new(number).expect("a number above 0");
    let mut asked = HashMap::new();
    let walked = find::descent::breadth_first(pid(ROOT), |parent| {
        *asked.entry(parent).or_insert(0) += 1;
        let children = edges.iter().filter(|(of, _)| *of == parent.get());
        Ok::<_, Infallible>(children.map(|&(_, child)| pid(child)).collect())
    });
    let Ok(found) = walked;

    let distance = distances(&edges);
    assert_eq!(found.len() + 1, distance.len());
    assert_eq!(asked.len(), distance.len());
    assert!(asked.values().all(|&times| times == 1));
    let mut placed = HashMap::from([(ROOT, 0)]);
    let mut farthest = 0;
    for kin in &found {
        let (parent, child) = (kin.parent.get(), kin.child.get());
        assert!(edges.contains(&(parent, child)));
        let depth = placed.get(&parent).expect("parents come first") + 1;
        assert_eq!(placed.insert(child, depth), None, "{child} twice");
        assert_eq!(depth, distance[&child]);
        assert!(depth >= farthest);
        farthest = depth;
    }
});

/// How far each process is from the root. All ways are shortened until none gets shorter.
fn distances(edges: &[(u32, u32)]) -> HashMap<u32, u32> {
    let mut distance = HashMap::from([(ROOT, 0)]);
    loop {
        let mut is_done = true;
        for (parent, child) in edges {
            let Some(through) = distance.get(parent).map(|depth| depth + 1) else {
                continue;
            };
            if distance.get(child).is_none_or(|&depth| depth > through) {
                distance.insert(*child, through);
                is_done = false;
            }
        }
        if is_done {
            return distance;
        }
    }
}

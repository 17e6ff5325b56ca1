// The library's source as modules of a target, which so reaches what is private: `super::` is here.

#[path = "../../src/cgroup.rs"]
mod cgroup;
#[path = "../../src/descent.rs"]
mod descent;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/find.rs"]
mod find;
#[path = "../../src/kill.rs"]
mod kill;
#[path = "../../src/pattern.rs"]
mod pattern;
#[path = "../../src/pipe.rs"]
mod pipe;
#[path = "../../src/proc.rs"]
mod proc;
#[path = "../../src/process.rs"]
mod process;
#[path = "../../src/report.rs"]
mod report;
#[path = "../../src/sys.rs"]
mod sys;
#[path = "../../src/tree.rs"]
mod tree;
#[path = "../../src/wait.rs"]
mod wait;

// The library's source as modules of a target. This gives the target access to what is private:
// `super::` is this file.

#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/find/mod.rs"]
mod find;
#[path = "../../src/kill/mod.rs"]
mod kill;
#[path = "../../src/proc/mod.rs"]
mod proc;
#[path = "../../src/process/mod.rs"]
mod process;
#[path = "../../src/report.rs"]
mod report;
#[path = "../../src/sys/mod.rs"]
mod sys;
#[path = "../../src/targets/mod.rs"]
mod targets;
#[path = "../../src/wait.rs"]
mod wait;

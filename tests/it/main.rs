//! The promises of the crate, kept against real processes, real signals and the real /proc.
#![expect(unsafe_code, reason = "system calls that no library wraps")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod aim;
mod anywhere;
mod as_module;
mod bounded;
mod cgroup;
mod child;
mod children;
mod descent;
mod descriptors;
mod directory;
mod faults;
mod finders;
mod fixture;
mod groups;
mod identity;
#[cfg(feature = "tokio")]
mod in_async;
mod jobs;
mod kill;
mod listeners;
mod matching;
mod no_pidfd;
mod output;
mod proc_missing;
mod proven;
mod radius;
mod recycled;
mod refusal;
mod registry;
mod respawn;
mod scarce;
mod searches;
mod shown;
mod strangers;
mod told;
mod torture;
mod tree;

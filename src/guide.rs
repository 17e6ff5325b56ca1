//! The guide: the facts that the functions stand on, and what to do if they are not enough.
//!
//! | chapter | answers |
//! |---|---|
//! | [`gone`] | Why does `kill(pid, 0)` say that a dead process lives? |
//! | [`survivors`] | What survives SIGKILL, and what then? |
//! | [`searches`] | How can a search know that it missed nothing? |
//! | [`identity`] | When does a pid name the wrong process? |
//! | [`groups`] | Why does Ctrl-C not reach my server? |
//! | [`crashes`] | What becomes of my processes when I am killed? |
//! | [`orphans`] | How do I adopt orphans beside `std` and tokio? |
//! | [`migration`] | I use `killpg`, `pkill`, `Child::kill` or another crate. What changes? |

pub mod crashes;
pub mod gone;
pub mod groups;
pub mod identity;
pub mod migration;
pub mod orphans;
pub mod searches;
pub mod survivors;

/// Compiles and runs the README's examples with the other doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

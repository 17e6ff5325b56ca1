//! Each system call of each function may fail, and both promises hold.
//!
//! A *stage* is this program, run for one function in a PID namespace of its own. For each case it
//! does one run:
//!
//! 1. Start the victims (`family.rs`), and fork the *subject*, which is traced by ptrace(2).
//! 2. The subject stops itself, calls the function, and says the result (`subject.rs`).
//! 3. The stage follows every system call of the subject (`trace.rs`). At the position of the case
//!    it puts a failure in the place of the call (`calls.rs`), delays it, or ends a victim.
//! 4. The stage checks what the subject said against what it sees itself (`check.rs`).
//!
//! The first run has no fault. It counts the calls, and from them follow the cases. A plain run
//! takes a few cases of each function. The variable `PROCESS_KILL_FAULTS` asks for more:
//!
//! | value | what is run |
//! |---|---|
//! | `all` | every case |
//! | `Death` | every case of one mode |
//! | `FUNCTION` | every case of one function |
//! | `FUNCTION:POSITION:ERRNO:MODE` | one case, as a failure names it |

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod check;
#[cfg(target_arch = "x86_64")]
mod family;
#[cfg(target_arch = "x86_64")]
mod functions;
#[cfg(target_arch = "x86_64")]
mod subject;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod trace;

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn each_call_may_fail() {
    println!("skipped: each_call_may_fail knows the registers of x86_64 alone");
}

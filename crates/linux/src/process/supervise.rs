//! A process that is there again at once when it crashes: forked from a parent that does nothing else.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};

use crate::error::{Doing, Result};
use crate::process::die_with_parent;

/// A process that lives shorter than this has not recovered.
const SETTLED: Duration = Duration::from_secs(2);
/// Crashes in a row after which whoever started us shall decide.
const MAX_CRASHES: u32 = 5;
/// What a program of Rust ends with after a panic.
const PANICKED: i32 = 101;

/// Runs `work` in a child; its exit code is the answer. After a crash (a signal, a panic) there is another child at once.
/// SIGTERM and SIGINT go to the child, whose end is then the last. Must be called before the first thread is started.
pub fn supervise(mut work: impl FnMut() -> i32) -> Result<i32> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).doing(|| "block signals")?;
    let mut crashes = 0;
    loop {
        let begun = Instant::now();
        let child = start(&signals, &mut work)?;
        let Ended { code, crashed, asked } = wait(child, &signals)?;
        crashes = if begun.elapsed() > SETTLED { 1 } else { crashes + 1 };
        if asked || !crashed || crashes > MAX_CRASHES {
            return Ok(code);
        }
        eprintln!("crashed with status {code}; starting again");
    }
}

#[expect(clippy::exit, reason = "the child must not go on as its parent")]
fn start(signals: &SigSet, work: &mut impl FnMut() -> i32) -> Result<Pid> {
    let parent = getpid();
    // SAFETY: there is one thread (documented), so the child finds every lock free.
    match unsafe { fork() }.doing(|| "start a child")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let ready = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(signals), None).doing(|| "unblock signals");
            match ready.and_then(|()| die_with_parent(parent.as_raw().cast_unsigned())) {
                Ok(()) => std::process::exit(work()),
                Err(error) => {
                    eprintln!("error: {error}");
                    std::process::exit(1)
                }
            }
        }
    }
}

/// How a child ended.
struct Ended {
    code: i32,
    crashed: bool,
    /// It was told to.
    asked: bool,
}

fn wait(child: Pid, signals: &SigSet) -> Result<Ended> {
    let mut asked = false;
    loop {
        match signals.wait().doing(|| "wait for a signal")? {
            Signal::SIGCHLD => {
                let status = waitpid(child, Some(WaitPidFlag::WNOHANG)).doing(|| "wait for a child")?;
                match status {
                    WaitStatus::Exited(_, code) => return Ok(Ended { code, crashed: code == PANICKED, asked }),
                    WaitStatus::Signaled(_, signal, _) => {
                        return Ok(Ended { code: 128 + signal as i32, crashed: true, asked });
                    }
                    _ => {}
                }
            }
            Signal::SIGHUP => {}
            signal => {
                asked = true;
                // A child that has ended meanwhile needs no signal.
                let _ = kill(child, signal);
            }
        }
    }
}

//! Stopping a container as it wants to be stopped: its hook, its signal, its grace period, and then the end.

use std::net::IpAddr;
use std::time::Duration;

use api::core::LifecycleHandler;
use api::{Container, Pod};
use nix::sys::signal::Signal;

use super::prober;
use super::start::Running;
use crate::node::container::Plan;
use crate::node::probe::Purpose;

const DEFAULT_GRACE: i64 = 30;

/// The least time between the signal and the kill when a hook has used the grace period up.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// The grace period of a container that fails a probe.
pub(super) fn grace(pod: &Pod, container: &Container, purpose: Purpose) -> i64 {
    let probe = match purpose {
        Purpose::Startup => &container.startup_probe,
        Purpose::Readiness => &container.readiness_probe,
        Purpose::Liveness => &container.liveness_probe,
    };
    let own = probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds);
    own.or(pod.spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE)
}

/// Stops a container beside everything else. Its end is reported by whoever waits for it.
pub(super) fn spawn(running: &Running, container: Container, address: Option<IpAddr>, grace: i64) {
    let (plan, pid, mut ended) = (running.plan.clone(), running.pid, running.ended.clone());
    runtime::task::spawn("container stop", async move {
        let begun = tokio::time::Instant::now();
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if !grace.is_zero() {
            let before = container.lifecycle.as_ref().and_then(|life| life.pre_stop.as_ref());
            if let Some(handler) = before {
                let hook = tokio::time::timeout(grace, hook(handler, &plan, pid, address, &container)).await;
                if let Ok(Err(problem)) = hook {
                    tracing::warn!(container = container.name, problem, "stop hook failed");
                }
            }
            if *ended.borrow() {
                return;
            }
            signal(pid, stop_signal(&container));
            let left = grace.saturating_sub(begun.elapsed()).max(LAST_CHANCE.min(grace));
            if tokio::time::timeout(left, ended.wait_for(|over| *over)).await.is_ok() {
                return;
            }
        }
        if !*ended.borrow() {
            signal(pid, Signal::SIGKILL);
        }
    });
}

/// Signals a container and what it started; one that has just ended is none.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Err(error) = linux::process::kill_group(pid, signal) {
        tracing::debug!(%error, pid, "no process to signal");
    }
}

fn stop_signal(container: &Container) -> Signal {
    let name = container.lifecycle.as_ref().map(|life| life.stop_signal.as_str()).unwrap_or_default();
    name.parse().unwrap_or(Signal::SIGTERM)
}

/// Runs a hook of the container.
pub(super) async fn hook(
    handler: &LifecycleHandler,
    plan: &Plan,
    pid: u32,
    address: Option<IpAddr>,
    container: &Container,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        return prober::exec(plan, pid, &exec.command).await;
    }
    if let Some(get) = &handler.http_get {
        return prober::http_get(get, address, &container.ports).await.map(drop);
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("the hook says neither exec, httpGet nor sleep".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(serde_json::json!({}), Signal::SIGTERM)]
    #[case(serde_json::json!({ "lifecycle": { "stopSignal": "SIGUSR1" } }), Signal::SIGUSR1)]
    #[case(serde_json::json!({ "lifecycle": { "stopSignal": "nonsense" } }), Signal::SIGTERM)]
    fn stop_signals(#[case] container: serde_json::Value, #[case] signal: Signal) {
        assert_eq!(stop_signal(&serde_json::from_value(container).unwrap()), signal);
    }
}

//! README's first command: every step of the scenario shows what it must, read from the wire, the logs and the API.

use crate::{AMBIT, need_root};
use std::process::Command;
use testkit::{Traces, unique_name};

#[test]
fn mesh_demo_shows_every_step_and_leaves_nothing() {
    need_root();
    let name = unique_name();
    let before = Traces::of(&name, AMBIT);
    let demo = Command::new(AMBIT).args(["demo", "--once", "--name", &name]).output().unwrap();
    let shown = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{shown}\n{}", String::from_utf8_lossy(&demo.stderr));
    for step in ["Plain", "Enrol", "Identity", "STRICT", "Deny", "Same node", "DNS", "Metrics", "Leave"] {
        assert!(shown.contains(step), "no step {step} in\n{shown}");
    }
    let left = Traces::of(&name, AMBIT).beyond(&before);
    assert!(left.is_empty(), "left behind: {left:#?}");
}

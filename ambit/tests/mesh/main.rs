//! The whole mesh, as the real binary in namespaces of its own: root only, one test at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod bad_days;
mod bad_input;
mod canary;
mod demo;
mod deployed;
mod traces;
mod waypoint;

/// The program under test.
const AMBIT: &str = env!("CARGO_BIN_EXE_ambit");

/// Two nodes' worth of pods that every test uses: `server` on n2, `client` on n1, and a client outside the mesh.
const SHOP: &str = include_str!("../../manifests/demo/shop.yaml");

/// Fails with a sentence instead of a hundred errors about permissions.
fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "mesh tests need root: run `sudo -E cargo xtask test`, or leave them out with --no-mesh"
    );
}

/// A runtime of its own for each test.
fn run<F: Future<Output = anyhow::Result<()>>>(test: F) {
    need_root();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Err(error) = runtime.block_on(test) {
        panic!("{error:#}");
    }
}

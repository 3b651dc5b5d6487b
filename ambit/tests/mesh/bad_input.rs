//! What a user does wrong gets a sentence, and stops nothing else.

use crate::{AMBIT, SHOP, need_root, run};
use anyhow::ensure;
use std::{net::TcpListener, os::unix::process::CommandExt, process::Command};
use testkit::{World, unique_name};

fn told(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn mesh_without_root_says_why_root_is_needed() {
    need_root();
    // Others may not be allowed into the folder that the binary was built in.
    let copy = std::env::temp_dir().join(unique_name());
    std::fs::copy(AMBIT, &copy).unwrap();
    let (success, told) = told(Command::new(&copy).args(["up", "--detach"]).uid(65534).gid(65534));
    std::fs::remove_file(copy).unwrap();
    assert!(!success && told.contains("root"), "{told}");
}

#[test]
fn mesh_on_a_port_in_use_names_the_port() {
    need_root();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (success, told) =
        told(Command::new(AMBIT).args(["up", "--detach", "--api-port", &port, "--name", &unique_name()]));
    assert!(!success && told.contains(&port), "{told}");
}

#[test]
fn mesh_goes_on_beside_a_bad_policy() {
    run(async {
        let world = World::up(AMBIT).await?;
        world.apply(SHOP).await?;
        world.ready("shop", 3).await?;
        world.ready("outside", 1).await?;
        world.enrol("shop", true).await?;
        world.redirected("shop", true).await?;
        let refused = world
            .apply("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: bad, namespace: shop}\nspec: {action: MAYBE}\n")
            .await;
        ensure!(refused.is_err(), "an action that does not exist was accepted");
        let unreadable = world.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: [\n").await;
        ensure!(unreadable.is_err(), "broken YAML was accepted");
        // A good one afterwards acts.
        world.apply(include_str!("../../manifests/demo/strict.yaml")).await?;
        world.answered("outside", "client", "http://server.shop:8080", false).await?;
        world.answered("shop", "client", "http://server.shop:8080", true).await?;
        Ok(())
    });
}

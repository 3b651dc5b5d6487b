//! What a user does wrong gets a sentence, and stops nothing else.

use crate::{AMBIT, SHOP, need_root, run};
use anyhow::ensure;
use linux::seccomp::{Call, Filter, SOCKET};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};
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

/// What a kernel without nftables answers to those who ask for it.
fn without_nftables() -> Filter {
    const AF_NETLINK: u32 = 16;
    const NETLINK_NETFILTER: u32 = 12;
    const EPROTONOSUPPORT: i32 = 93;
    Filter::refusing(&[Call::any(SOCKET).with(0, AF_NETLINK).with(2, NETLINK_NETFILTER)], EPROTONOSUPPORT).unwrap()
}

#[test]
fn mesh_on_a_kernel_without_nftables_says_so_and_leaves_nothing() {
    run(async {
        let name = unique_name();
        let told = std::env::temp_dir().join(&name);
        let mut up = linux::process::Command::new(AMBIT)
            .args(["up", "--name", &name])
            .stdio(Stdio::null(), Stdio::null(), std::fs::File::create(&told)?.into())
            .filter(without_nftables())
            .spawn()?;
        let exit = up.wait().await?;
        let said = std::fs::read_to_string(&told)?;
        std::fs::remove_file(told)?;
        ensure!(exit.code() != 0, "started all the same");
        ensure!(said.contains("this kernel or container") && said.contains("Protocol not supported"), "{said}");
        ensure!(!Path::new("/run/ambit").join(&name).exists(), "something of it was left");
        Ok(())
    });
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

/// The security kinds with definitions that let everything pass, as an older version's may.
fn lax_definitions() -> String {
    let mut definitions = api::crds();
    definitions.retain(|definition| definition["spec"]["group"] == "security.istio.io");
    for version in definitions.iter_mut().flat_map(|it| it["spec"]["versions"].as_array_mut().unwrap()) {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        version["schema"] = json!({ "openAPIV3Schema": anything });
    }
    definitions.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn mesh_keeps_out_by_a_policy_that_nobody_can_read() {
    run(async {
        let world = World::up(AMBIT).await?;
        world.apply(SHOP).await?;
        world.apply(&lax_definitions()).await?;
        world.ready("shop", 3).await?;
        world.enrol("shop", true).await?;
        world.redirected("shop", true).await?;
        let (server, neighbour) = ("http://server.shop:8080", "http://neighbour.shop:8080");
        world.answered("shop", "client", server, true).await?;

        // Never known before, and not readable: whom it selects is cut off, and nobody else.
        let policy = |action: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: broken, namespace: shop}}\n\
                 spec: {{selector: {{matchLabels: {{app: server}}}}, action: {action}, rules: [{{}}]}}\n"
            )
        };
        world.apply(&policy("ALOW")).await?;
        world.answered("shop", "client", server, false).await?;
        world.answered("shop", "client", neighbour, true).await?;
        // It does not last longer than the mistake.
        world.apply(&policy("ALLOW")).await?;
        world.answered("shop", "client", server, true).await?;
        Ok(())
    });
}

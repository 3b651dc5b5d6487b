//! A service behind a waypoint: what a user writes with kubectl acts on the next request.

use crate::{AMBIT, SHOP, run};
use anyhow::{Result, bail, ensure};
use testkit::{World, until};

/// The waypoint, and the service bound to it.
const WAYPOINT: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}, {name: tcp, port: 9000}]
"#;

/// One path is answered with a redirection, one with a header, one is denied; every other one has no route.
const RULES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: server, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: server, port: 8080}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /moved}}]
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /here}, statusCode: 301}}]
    - matches: [{path: {type: PathPrefix, value: /open}}, {path: {type: Exact, value: /secret}}]
      backendRefs: [{name: server, port: 8080}]
    - matches: [{path: {type: Exact, value: /broken}}]
      backendRefs: [{name: nobody, port: 8080}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: server}]
  action: DENY
  rules: [{to: [{operation: {paths: [/secret]}}]}]
"#;

async fn status(world: &World, path: &str, wanted: &str) -> Result<()> {
    let url = format!("http://server.shop:8080{path}");
    until(&format!("{path} to be answered with {wanted}"), async || {
        let output = world.request("shop", "client", &url).await?;
        let line = output.first_line().to_owned();
        if line.contains(&format!("status={wanted} ")) { Ok(()) } else { bail!("{line}") }
    })
    .await
}

#[test]
fn mesh_waypoint_routes_and_judges() {
    run(async {
        let world = World::up(AMBIT).await?;
        world.apply(SHOP).await?;
        world.enrol("shop", true).await?;
        world.redirected("shop", true).await?;
        world.apply(WAYPOINT).await?;
        // Bound, and nobody wrote a route: requests pass as they are.
        status(&world, "/open", "200").await?;
        until("the waypoint to have seen a request", async || {
            let logs = logs(&world).await?;
            if logs.contains("\"GET /open HTTP/1.1\" 200") { Ok(()) } else { bail!("no such line in {logs}") }
        })
        .await?;
        world.apply(RULES).await?;
        status(&world, "/moved/on", "301").await?;
        status(&world, "/open", "200").await?;
        status(&world, "/secret", "403").await?;
        status(&world, "/broken", "500").await?;
        status(&world, "/elsewhere", "404").await?;
        // The same path by another spelling is the same path.
        status(&world, "/open/../secret", "403").await?;
        let route: api::HTTPRoute = world.client.get("shop", "server").await?;
        let parent = route.status.parents.first();
        let said = |name: &str| parent.and_then(|parent| parent.conditions.iter().find(|one| one.type_ == name));
        ensure!(said("Accepted").is_some_and(|one| one.status == "True"), "{:?}", route.status);
        ensure!(said("ResolvedRefs").is_some_and(|one| one.reason == "BackendNotFound"), "{:?}", route.status);
        Ok(())
    });
}

async fn logs(world: &World) -> Result<String> {
    let mut text = String::new();
    for pod in world.pods("shop").await? {
        if api::Resource::name(&pod).starts_with("waypoint") {
            text.push_str(&world.client.log("shop", api::Resource::name(&pod)).await?);
        }
    }
    Ok(text)
}

//! Clients that keep their endpoint.

use super::*;
use model::SessionAffinity;

#[test]
fn a_client_keeps_its_endpoint_while_that_exists() {
    let affinity = Some(SessionAffinity { timeout: std::time::Duration::from_secs(1) });
    let chosen = |client: &str, count: u8, chance| {
        let mut world = World::default().and(Service { session_affinity: affinity, ..service("web", "10.1.0.1") });
        for index in 0..count {
            let address = format!("10.0.1.{index}");
            world = world.with(serves(workload(&format!("pod{index}"), &[&address]), "web", &[(80, 8080)]));
        }
        world.way_of(&workload("client", &[client]), "10.1.0.1:80", chance).unwrap().workload.unwrap().name.to_string()
    };
    let first = chosen("10.0.0.1", 8, 0);
    assert!((1..8).all(|chance| chosen("10.0.0.1", 8, chance) == first), "chance has no say");
    let clients = || (1..=32).map(|n| format!("10.0.0.{n}"));
    let moved = clients().filter(|client| chosen(client, 8, 0) != chosen(client, 9, 0)).count();
    assert!(moved < 16, "{moved} of 32 clients moved when one endpoint came");
    let used: std::collections::BTreeSet<_> = clients().map(|client| chosen(&client, 8, 0)).collect();
    assert!(used.len() > 3, "{used:?}");
}

#[test]
fn a_client_that_had_an_endpoint_gets_it_again_whatever_else_has_come() {
    let affinity = Some(SessionAffinity { timeout: std::time::Duration::from_secs(60) });
    let chosen = |had: Option<&'static str>, capacity: u32| {
        let mut world = World::default().and(Service { session_affinity: affinity, ..service("web", "10.1.0.1") });
        for index in 0..8 {
            let pod = workload(&format!("pod{index}"), &[&format!("10.0.1.{index}")]);
            let capacity = if index == 3 { capacity } else { 1 };
            world = world.with(serves(Workload { capacity, ..pod }, "web", &[(80, 8080)]));
        }
        let mesh = Mesh::new().apply(world.0);
        let (client, network) = (workload("client", &["10.0.0.1"]), Str::from(""));
        let standpoint = Source { workload: &client, network: &network, illegal_ports: &ILLEGAL };
        let mut below = |_: u64| 0;
        let kept = |asked: &NamespacedHostname, timeout: std::time::Duration| {
            assert_eq!((asked, timeout.as_secs()), (&key("web"), 60));
            had.map(Str::from)
        };
        let mut chooser = Chooser::new(&mut below, Some("10.0.0.1".parse().unwrap())).keeping(&kept);
        let route = decide(&mesh, standpoint, "10.1.0.1:80".parse().unwrap(), &mut chooser).unwrap();
        route.workload.unwrap().name.to_string()
    };
    for pod in ["//Pod/ns/pod1", "//Pod/ns/pod3", "//Pod/ns/pod7"] {
        assert_eq!(format!("//Pod/ns/{}", chosen(Some(pod), 1)), pod);
    }
    let fresh = chosen(None, 1);
    assert_eq!(chosen(Some("//Pod/ns/gone"), 1), fresh, "one that is gone is chosen anew");
    assert_ne!(chosen(Some("//Pod/ns/pod3"), 0), "pod3", "one that takes nothing any more is left");
}

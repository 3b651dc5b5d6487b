//! DNS in the pods: names of the mesh are answered here, everything else is asked of the proxy's own name servers from
//! within the pod (ztunnel.md §9). `names` and `answer` decide, `server` listens, `forward` asks, `lookup` asks for those who speak
//! no DNS themselves.

mod answer;
mod forward;
mod lookup;
mod names;
mod resolver;
pub(crate) mod server;

pub(crate) use lookup::lookup;
pub(crate) use resolver::Resolver;

/// Answers a query of nobody in particular.
pub(crate) fn try_query(mesh: &model::Mesh, bytes: &[u8]) {
    let asker = names::Asker {
        namespace: "default",
        network: "",
        domain: "cluster.local",
        preferred_namespace: None,
        search: None,
    };
    if let answer::Decision::Reply(reply) = answer::decide(mesh, asker, true, bytes, |_| {}) {
        answer::fit(reply.bytes, answer::MIN_PAYLOAD);
    }
}

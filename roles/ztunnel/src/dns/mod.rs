//! DNS in the pods: names of the mesh are answered here, everything else is asked of the proxy's own name servers from
//! within the pod (ztunnel.md §9). `names` and `answer` decide, `server` listens, `forward` asks.

mod answer;
mod forward;
mod names;
pub(crate) mod server;

pub(crate) use forward::name_servers;

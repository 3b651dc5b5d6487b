//! What a `resolv.conf` says: whom to ask, and which domains a name may be meant in.

use std::{net::SocketAddr, path::Path};

/// Settings of name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    /// Name servers, in order.
    pub servers: Vec<SocketAddr>,
    /// Search domains, in order.
    pub search: Vec<String>,
}

impl Resolver {
    /// Reads a file; one that cannot be read is named in the log and leaves only names of the mesh.
    pub(crate) fn read(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                tracing::warn!("reading {}: {error}; only names of the mesh will be answered", path.display());
                Self::default()
            }
        }
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|ip| ip.parse().ok());
                    resolver.servers.extend(server.map(|ip| SocketAddr::new(ip, 53)));
                }
                // The last line of its kind counts.
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_end_matches('.').to_ascii_lowercase());
                    resolver.search = domains.filter(|domain| !domain.is_empty()).collect();
                }
                _ => {}
            }
        }
        resolver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_and_domains_are_read_and_the_rest_ignored() {
        let text = "search old\nnameserver 10.96.0.10\n nameserver fd00::10\nnameserver nobody\noptions ndots:5\n\
                    #nameserver 1.1.1.1\nsearch Shop.svc.cluster.local. svc.cluster.local\n";
        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::10]:53".parse().unwrap()]);
        assert_eq!(resolver.search, ["shop.svc.cluster.local", "svc.cluster.local"]);
    }

    #[test]
    fn no_file_leaves_the_mesh_alone() {
        assert_eq!(Resolver::read(Path::new("/nowhere/resolv.conf")), Resolver::default());
    }
}

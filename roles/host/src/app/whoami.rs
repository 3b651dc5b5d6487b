//! Who this server is, from the downward environment, and how it says so.

use std::net::SocketAddr;

/// The pod that answers, as its environment tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) version: String,
}

impl Server {
    /// Reads POD_NAME (else HOSTNAME), POD_NAMESPACE, NODE_NAME and VERSION.
    pub(super) fn from_environment() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let or_dash = |value: Option<String>| value.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        let hostname = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            pod: or_dash(variable("POD_NAME").or_else(|| variable("HOSTNAME")).or_else(hostname)),
            namespace: or_dash(variable("POD_NAMESPACE")),
            node: or_dash(variable("NODE_NAME")),
            version: or_dash(variable("VERSION")),
        }
    }

    /// One line for logs and greetings.
    pub(super) fn summary(&self) -> String {
        format!("pod={} namespace={} node={} version={}", self.pod, self.namespace, self.node, self.version)
    }

    /// The body of an HTTP echo: one `name: value` per line.
    pub(super) fn describe(&self, peer: SocketAddr, local: SocketAddr, request: &http::request::Parts) -> String {
        let mut text = format!(
            "hello from {}\npod: {}\nnamespace: {}\nnode: {}\nversion: {}\npeer: {}\nlocal: {}\nrequest: {} {}\n",
            self.pod,
            self.pod,
            self.namespace,
            self.node,
            self.version,
            plain(peer),
            plain(local),
            request.method,
            request.uri,
        );
        for (name, value) in &request.headers {
            text.push_str(&format!("header: {name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        text
    }
}

/// The address without the IPv6 dress that a dual-stack socket puts on IPv4 peers.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The value of the first `name: value` line of an echo.
pub(super) fn field<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_reads_what_the_server_writes() {
        let server = Server::read(|name| (name != "VERSION").then(|| format!("the-{name}")));
        assert_eq!(server.version, "-");
        let (request, ()) = http::Request::get("/x?y").header("a", "b").body(()).unwrap().into_parts();
        let peer = "[::ffff:10.244.1.5]:4000".parse().unwrap();
        let body = server.describe(peer, "10.0.0.1:80".parse().unwrap(), &request);
        assert_eq!(field(&body, "pod"), Some("the-POD_NAME"));
        assert_eq!(field(&body, "peer"), Some("10.244.1.5:4000"));
        assert_eq!(field(&body, "header"), Some("a: b"));
        assert_eq!(field(&body, "absent"), None);
    }
}

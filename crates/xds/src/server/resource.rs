//! One resource as it is served: encoded once, for every proxy.

use model::Str;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One resource, encoded once for all proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: Str,
    /// Hash of its bytes: equal versions are equal resources.
    pub version: u64,
    /// The encoded message, without its type URL.
    pub body: Vec<u8>,
    /// Other names it may be asked for by, such as `<network>/<ip>`.
    pub aliases: Vec<Str>,
    /// Names of services that it is an endpoint of: who asks for one of those is given this too.
    pub backs: Vec<Str>,
    /// Node it runs on: that node's proxy is always given it.
    pub node: Option<Str>,
    /// `<namespace>/<name>` of the only gateway that may be given it; everybody may without one.
    pub gateway: Option<Str>,
}

impl Resource {
    /// A resource that nothing else leads to.
    pub fn new(name: impl Into<Str>, body: Vec<u8>) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        // Zero is what a session remembers of a version that it could not read.
        let version = hasher.finish().max(1);
        Self { name: name.into(), version, body, aliases: Vec::new(), backs: Vec::new(), node: None, gateway: None }
    }

    /// The same for one gateway alone, `<namespace>/<name>`: no other proxy learns of it.
    #[must_use]
    pub fn for_gateway(mut self, gateway: impl Into<Str>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }
}

//! What is measured: kinds of work, where they go, and by which path.

use std::fmt::Write as _;

/// How client and sink reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// Straight, in a namespace outside the mesh.
    Plain,
    /// Through the node proxies.
    Mesh,
}

/// Where the sink is, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cross,
    Same,
}

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes in one direction.
    Bulk,
    /// Requests on connections that stay open.
    Http,
    /// A connection for each request.
    Connect,
}

/// One line of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) connections: u16,
}

impl Path {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Mesh];

    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Plain => "bench-plain",
            Self::Mesh => "bench-mesh",
        }
    }
}

impl Place {
    /// The name of the sink's pod.
    pub(crate) fn sink(self) -> &'static str {
        match self {
            Self::Cross => "cross",
            Self::Same => "same",
        }
    }
}

impl Kind {
    /// The word of `app load`.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Http => "http",
            Self::Connect => "connect",
        }
    }
}

const SHAPES: [(Kind, u16); 6] =
    [(Kind::Bulk, 1), (Kind::Bulk, 8), (Kind::Http, 1), (Kind::Http, 32), (Kind::Connect, 1), (Kind::Connect, 32)];

/// All work whose name holds a text.
pub(crate) fn all(holding: &str) -> Vec<Work> {
    let places = [Place::Cross, Place::Same];
    let every =
        places.into_iter().flat_map(|place| SHAPES.map(|(kind, connections)| Work { place, kind, connections }));
    every.filter(|work| work.name().contains(holding)).collect()
}

/// The names of all work.
pub(crate) fn names() -> Vec<String> {
    all("").iter().map(Work::name).collect()
}

impl Work {
    /// As the report tells it.
    pub(crate) fn name(&self) -> String {
        let mut name = match self.place {
            Place::Cross => "cross-node ".to_owned(),
            Place::Same => "same-node ".to_owned(),
        };
        let count = self.connections;
        let plural = if count == 1 { "" } else { "s" };
        // Writing to a text cannot fail.
        let _written = match self.kind {
            Kind::Bulk => write!(name, "bulk, {count} stream{plural}"),
            Kind::Http => write!(name, "http keep-alive, {count} connection{plural}"),
            Kind::Connect => write!(name, "new connections, {count} at once"),
        };
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("", 12)]
    #[case("same-node", 6)]
    #[case("bulk, 1", 2)]
    #[case("cross-node new connections, 32 at once", 1)]
    #[case("udp", 0)]
    fn work_is_chosen_by_name(#[case] holding: &str, #[case] count: usize) {
        assert_eq!(all(holding).len(), count, "{:?}", names());
    }
}

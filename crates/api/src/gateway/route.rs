//! Routes: what they attach to is typed, what they do is kept as written.

use serde_json::Value;

use crate::macros::{object, opaque, resource};
use crate::meta::{Condition, ObjectMeta};

/// Declares kinds of route that share one shape.
macro_rules! routes {
    ($( $(#[$meta:meta])* $name:ident, $plural:literal; )*) => { $(
        object! {
            $(#[$meta])*
            pub struct $name {
                metadata: ObjectMeta,
                spec: RouteSpec,
                status: RouteStatus,
            }
        }
        resource!($name, "gateway.networking.k8s.io" / "v1", $plural, namespaced);
    )* };
}

routes! {
    /// Routes HTTP requests.
    HTTPRoute, "httproutes";
    /// Routes gRPC calls.
    GRPCRoute, "grpcroutes";
    /// Routes TLS connections by server name.
    TLSRoute, "tlsroutes";
    /// Routes TCP connections.
    TCPRoute, "tcproutes";
    /// Routes UDP flows.
    UDPRoute, "udproutes";
}

opaque! {
    /// How a gateway speaks TLS to a backend.
    BackendTLSPolicy as "BackendTLSPolicy", "gateway.networking.k8s.io" / "v1", "backendtlspolicies", namespaced;
    /// Listeners that join a gateway from elsewhere.
    ListenerSet as "ListenerSet", "gateway.networking.k8s.io" / "v1", "listenersets", namespaced;
}

object! {
    /// What a route attaches to, for which hosts, and its rules as written.
    pub struct RouteSpec {
        parent_refs: Vec<ParentReference>,
        hostnames: Vec<String>,
        rules: Value,
    }

    /// A gateway, waypoint or service that a route attaches to.
    pub struct ParentReference {
        group: String,
        kind: String,
        namespace: String,
        name: String,
        section_name: String,
        port: i32,
    }

    /// What each parent made of a route.
    pub struct RouteStatus {
        parents: Vec<RouteParentStatus>,
    }

    /// What one parent made of a route.
    pub struct RouteParentStatus {
        parent_ref: ParentReference,
        controller_name: String,
        conditions: Vec<Condition>,
    }

    /// Lets objects of other namespaces refer to objects of this one.
    pub struct ReferenceGrant {
        metadata: ObjectMeta,
        spec: ReferenceGrantSpec,
    }

    /// Who may refer to what.
    pub struct ReferenceGrantSpec {
        from: Vec<ReferenceGrantFrom>,
        to: Vec<ReferenceGrantTo>,
    }

    /// Who may refer.
    pub struct ReferenceGrantFrom {
        group: String,
        kind: String,
        namespace: String,
    }

    /// What may be referred to; an empty name means all of the kind.
    pub struct ReferenceGrantTo {
        group: String,
        kind: String,
        name: String,
    }
}

resource!(ReferenceGrant, "gateway.networking.k8s.io" / "v1beta1", "referencegrants", namespaced);

//! Addresses for service entries that have none: 240.240.0.0/16 and 2001:2::/48 (control-plane A23).

use crate::settings::Mesh;
use api::{ServiceEntry, istio::Resolution};

/// Whether a host of an entry is to have an allocated address.
pub fn wants(entry: &ServiceEntry, host: &str, mesh: &Mesh) -> bool {
    let opted_out = entry.metadata.label("networking.istio.io/enable-autoallocate-ip") == Some("false");
    mesh.allocate_addresses
        && !opted_out
        && entry.spec.addresses.is_empty()
        && entry.spec.resolution != Resolution::None
        && (!host.starts_with('*') || entry.spec.resolution == Resolution::DynamicDns)
}

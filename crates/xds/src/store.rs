//! Everything held, written down and read back, so that another process can go on where this one was: with all resources, and
//! with their versions, so that the control plane sends what differs and names what is gone.
//!
//! A file of ours for ourselves: a first line that says which, then resources as xDS has them, each after its length. What a
//! newer or older program wrote otherwise is not read at all.

use crate::{
    client::{Batch, Change, Held},
    wds::{Address, decode_address, decode_authorization, encode_authorization, encode_service, encode_workload},
};
use model::{Mesh, Str};
use prost::Message;
use proto::{discovery::Resource, type_url};
use std::io::{self, Read, Write};

const FIRST_LINE: &[u8] = b"ambit mesh 1\n";
/// Largest resource that is read.
const MAX_RESOURCE: u32 = 64 << 20;

/// Writes what of `mesh` came from the control plane, as `held` says. Versions are to be read before the mesh: one that is too
/// old is sent again, one that is too new would hide a change.
pub fn write(held: &Held, mesh: &Mesh, to: &mut impl Write) -> io::Result<()> {
    to.write_all(FIRST_LINE)?;
    // Node proxies alone are written down, and they hold no L7 resources.
    let [addresses, policies, _] = held;
    let mut put =
        |versions: &std::collections::HashMap<Str, String>, name: &str, type_url: &str, body: &dyn Fn() -> Vec<u8>| {
            let Some(version) = versions.get(name) else { return Ok(()) };
            let any = prost_types::Any { type_url: type_url.to_owned(), value: body() };
            let (name, version) = (name.to_owned(), version.clone());
            let bytes = Resource { name, version, resource: Some(any), ..Resource::default() }.encode_to_vec();
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            to.write_all(&length.to_le_bytes())?;
            to.write_all(&bytes)
        };
    for workload in mesh.workloads() {
        put(addresses, &workload.uid, type_url::ADDRESS, &|| encode_workload(workload).encode_to_vec())?;
    }
    for service in mesh.services() {
        let body = || encode_service(service).encode_to_vec();
        put(addresses, &service.key().to_string(), type_url::ADDRESS, &body)?;
    }
    for policy in mesh.policies() {
        let body = || encode_authorization(policy).encode_to_vec();
        put(policies, &policy.key(), type_url::AUTHORIZATION, &body)?;
    }
    to.flush()
}

/// Reads all of it, or nothing.
pub fn read(from: &mut impl Read) -> io::Result<(Held, [Batch; 2])> {
    let mut first = [0; FIRST_LINE.len()];
    from.read_exact(&mut first)?;
    if first != FIRST_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it was written by another version"));
    }
    let mut held = Held::default();
    let (mut addresses, mut policies): (Vec<Change<Address>>, Vec<_>) = (Vec::new(), Vec::new());
    while let Some(resource) = next(from)? {
        let Resource { name, version, resource: Some(any), .. } = resource else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {error}"));
        let index = if any.type_url == type_url::ADDRESS {
            addresses.push(Change::Upsert(decode_address(&any.value).map_err(wrong)?));
            0
        } else {
            policies.push(Change::Upsert(decode_authorization(&any.value).map_err(wrong)?));
            1
        };
        held[index].insert(name.as_str().into(), version);
    }
    Ok((held, [Batch::Addresses(addresses), Batch::Authorizations(policies)]))
}

fn next(from: &mut impl Read) -> io::Result<Option<Resource>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_RESOURCE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Resource::decode(&*bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Action, Authorization, Change as MeshChange, PolicyScope, Rule, Service, Workload};
    use std::{collections::HashMap, sync::Arc};

    fn mesh() -> Mesh {
        let workload = |uid: &str| Workload { uid: uid.into(), name: uid.into(), ..Workload::default() };
        let service = Service { namespace: "shop".into(), hostname: "web".into(), ..Service::default() };
        let policy = Authorization {
            name: "broken".into(),
            namespace: "shop".into(),
            scope: PolicyScope::Namespace,
            action: Action::Deny,
            rules: vec![Rule { clauses: Vec::new(), unusable: true }],
            dry_run: false,
        };
        Mesh::new().apply(vec![
            MeshChange::Workload(Arc::new(workload("a"))),
            MeshChange::Workload(Arc::new(workload("from a file"))),
            MeshChange::Service(Arc::new(service)),
            MeshChange::Policy(Arc::new(policy)),
        ])
    }

    fn held() -> Held {
        let map = |pairs: &[(&str, &str)]| -> HashMap<Str, String> {
            pairs.iter().map(|&(name, version)| (name.into(), version.to_owned())).collect()
        };
        [map(&[("a", "1"), ("shop/web", "2"), ("gone", "3")]), map(&[("shop/broken", "")]), HashMap::new()]
    }

    #[test]
    fn what_was_written_is_read_with_its_versions_and_nothing_else_is() {
        let mut bytes = Vec::new();
        write(&held(), &mesh(), &mut bytes).unwrap();
        let (read_held, [Batch::Addresses(addresses), Batch::Authorizations(policies)]) = read(&mut &*bytes).unwrap()
        else {
            panic!("the types are in order")
        };
        let mut expected = held();
        expected[0].remove("gone");
        assert_eq!(read_held, expected, "what nobody has is asked for anew");
        assert_eq!((addresses.len(), policies.len()), (2, 1));
        let Change::Upsert(policy) = &policies[0] else { panic!() };
        assert!(policy.rules[0].unusable || policy.rules[0].clauses.is_empty(), "a broken DENY still denies all");
    }

    #[test]
    fn what_is_cut_or_foreign_is_not_read() {
        let mut bytes = Vec::new();
        write(&held(), &mesh(), &mut bytes).unwrap();
        assert!(read(&mut &bytes[..bytes.len() - 1]).is_err());
        assert!(read(&mut &b"ambit mesh 2\n"[..]).is_err());
        assert!(read(&mut &b""[..]).is_err());
    }
}

//! The objects beside the pod that its containers need: configuration, secrets and tokens.

use std::collections::{BTreeMap, BTreeSet};

use api::{ConfigMap, Pod, Secret, ServiceAccountTokenProjection, Time, Volume, VolumeProjection};

/// Something that the pod refers to and that is not there; the pod waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missing(String);

impl Missing {
    pub(super) fn new(what: String) -> Self {
        Self(what)
    }
}

/// A token as the API gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// From when on a new one is to be had.
    pub(super) renew_at: Time,
}

/// What was found of the objects that a pod refers to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Objects {
    pub(super) config_maps: BTreeMap<String, ConfigMap>,
    pub(super) secrets: BTreeMap<String, Secret>,
    /// By audience (empty for the API's own) and wished lifetime.
    pub(super) tokens: BTreeMap<(String, i64), Token>,
}

impl Objects {
    pub(super) fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, Missing> {
        match self.config_maps.get(name) {
            None if !optional => Err(Missing(format!("configmap {name:?} not found"))),
            found => Ok(found),
        }
    }

    pub(super) fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, Missing> {
        match self.secrets.get(name) {
            None if !optional => Err(Missing(format!("secret {name:?} not found"))),
            found => Ok(found),
        }
    }

    pub(super) fn token(&self, projection: &ServiceAccountTokenProjection) -> Result<&Token, Missing> {
        let found = self.tokens.get(&token_key(projection));
        found.ok_or_else(|| Missing(format!("no token for audience {:?} yet", projection.audience)))
    }
}

/// Names of what a pod refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    pub(super) config_maps: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
    pub(super) tokens: BTreeSet<(String, i64)>,
}

/// Kubernetes' default lifetime of a projected token, and the shortest that an API grants.
const TOKEN_LIFETIME: i64 = 3_600;
const SHORTEST_TOKEN: i64 = 600;

pub(super) fn token_key(projection: &ServiceAccountTokenProjection) -> (String, i64) {
    let lifetime = projection.expiration_seconds.unwrap_or(TOKEN_LIFETIME).max(SHORTEST_TOKEN);
    (projection.audience.clone(), lifetime)
}

/// Everything that the pod's volumes and environments name.
pub(super) fn references(pod: &Pod) -> References {
    let mut found = References::default();
    pod.spec.volumes.iter().for_each(|volume| found.add_volume(volume));
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    for container in containers {
        for source in &container.env_from {
            found.config_maps.extend(source.config_map_ref.iter().map(|from| from.name.clone()));
            found.secrets.extend(source.secret_ref.iter().map(|from| from.name.clone()));
        }
        for source in container.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
            found.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
            found.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
        }
    }
    found
}

impl References {
    fn add_volume(&mut self, volume: &Volume) {
        self.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        self.secrets.extend(volume.secret.iter().map(|source| source.secret_name.clone()));
        volume.projected.iter().flat_map(|projected| &projected.sources).for_each(|source| self.add_source(source));
    }

    fn add_source(&mut self, source: &VolumeProjection) {
        self.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
        self.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        self.tokens.extend(source.service_account_token.iter().map(token_key));
    }
}

/// When to ask for a new token: at four fifths of its life.
pub(super) fn renew_at(now: Time, expires: Time) -> Time {
    let life = expires.as_second() - now.as_second();
    let wait = jiff::SignedDuration::from_secs(life.max(0) * 4 / 5);
    Time(now.0.checked_add(wait).unwrap_or(expires.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_names_what_it_needs() {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "spec": {
            "volumes": [
                { "name": "a", "configMap": { "name": "map" } },
                { "name": "b", "secret": { "secretName": "keys" } },
                { "name": "c", "projected": { "sources": [
                    { "serviceAccountToken": { "path": "t", "audience": "istio-ca", "expirationSeconds": 43200 } },
                    { "serviceAccountToken": { "path": "u", "expirationSeconds": 1 } },
                    { "configMap": { "name": "root" } },
                ] } },
            ],
            "containers": [{ "name": "x", "envFrom": [{ "configMapRef": { "name": "env" } }] }],
        } }))
        .unwrap();
        let found = references(&pod);
        assert_eq!(found.config_maps.into_iter().collect::<Vec<_>>(), ["env", "map", "root"]);
        assert_eq!(found.secrets.into_iter().collect::<Vec<_>>(), ["keys"]);
        let tokens: Vec<_> = found.tokens.into_iter().collect();
        assert_eq!(tokens, [(String::new(), 600), ("istio-ca".to_owned(), 43_200)]);
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life() {
        let time = |second| Time(jiff::Timestamp::from_second(second).unwrap());
        assert_eq!(renew_at(time(1_000), time(4_600)), time(3_880));
    }
}

//! The arithmetic that rolling updates share: how many pods may be missing or extra, and which pods count as what.

use api::{IntOrString, Pod, Resource, Time};

/// How many pods may be extra, and how many missing, during an update of `replicas` pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Bounds {
    /// Resolves percentages as Kubernetes does: surge rounds up, unavailable down, and both being zero would stop any
    /// update, so one may then be missing.
    pub(super) fn resolve(surge: &IntOrString, unavailable: &IntOrString, replicas: i32) -> Self {
        let surge = surge.scale(replicas, true).unwrap_or(0).max(0);
        let unavailable = unavailable.scale(replicas, false).unwrap_or(0).clamp(0, replicas.max(0));
        if surge == 0 && unavailable == 0 { Self { surge, unavailable: 1 } } else { Self { surge, unavailable } }
    }
}

/// Whether the pod still counts: it is neither over nor being deleted.
pub(super) fn is_active(pod: &Pod) -> bool {
    !pod.is_terminal() && pod.metadata().deletion_timestamp.is_none()
}

/// When the pod will have been ready for `min_ready_seconds`; `None` while it is not ready.
pub(super) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Time> {
    let ready = pod.status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    if !ready.is_true() || !is_active(pod) {
        return None;
    }
    let since = ready.last_transition_time.unwrap_or_default();
    let wait = jiff::SignedDuration::from_secs(i64::from(min_ready_seconds.max(0)));
    since.0.checked_add(wait).ok().map(Time)
}

/// Whether the pod has been ready for long enough.
pub(super) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Time) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| min_ready_seconds <= 0 || at <= now)
}

/// A short hash that names a pod template: the same template gives the same hash, and characters make no words.
pub(super) fn template_hash(template: &api::PodTemplateSpec, collisions: i32) -> String {
    use sha2::Digest;
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = serde_json::to_vec(template).unwrap_or_default();
    let digest = sha2::Sha256::new().chain_update(text).chain_update(collisions.to_be_bytes()).finalize();
    digest.iter().take(10).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// The name of a pod that a controller makes: the controller's name and five random letters.
pub(super) fn pod_name(owner: &str) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix = (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]));
    // A name is a host name: 63 characters with the suffix.
    let owner: String = owner.chars().take(57).collect();
    format!("{owner}-{}", suffix.collect::<String>())
}

/// A pod from a template, controlled by `owner`.
pub(super) fn pod_from<T: Resource>(owner: &T, template: &api::PodTemplateSpec) -> Pod {
    let mut metadata = api::ObjectMeta::named(owner.namespace(), pod_name(owner.name()));
    metadata.labels = template.metadata.labels.clone();
    metadata.annotations = template.metadata.annotations.clone();
    metadata.owner_references = vec![owner.controller_reference()];
    Pod { metadata, spec: template.spec.clone(), status: api::PodStatus::default() }
}

/// Whether `owner` controls an object with this metadata.
pub(super) fn controls(owner_uid: &str, metadata: &api::ObjectMeta) -> bool {
    metadata.controller().is_some_and(|controller| controller.uid == owner_uid)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::controllers) fn time(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    /// A pod that has been ready since `ready`, if at all.
    pub(in crate::controllers) fn pod(name: &str, ready: Option<i64>) -> Pod {
        let mut pod = Pod { metadata: api::ObjectMeta::named("ns", name), ..Pod::default() };
        pod.metadata.uid = name.to_owned();
        pod.status.phase = "Running".to_owned();
        if let Some(second) = ready {
            pod.status.conditions.push(api::Condition {
                type_: "Ready".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(time(second)),
                ..api::Condition::default()
            });
        }
        pod
    }

    #[rstest::rstest]
    #[case("25%", "25%", 10, 3, 2)]
    #[case("25%", "25%", 1, 1, 0)]
    #[case("0", "0", 3, 0, 1)]
    #[case("nonsense", "1", 3, 0, 1)]
    #[case("1", "9", 3, 1, 3)]
    fn bounds(#[case] surge: &str, #[case] missing: &str, #[case] replicas: i32, #[case] up: i32, #[case] down: i32) {
        let read = |text: &str| text.parse::<i32>().map_or_else(|_| IntOrString::from(text), IntOrString::from);
        let bounds = Bounds::resolve(&read(surge), &read(missing), replicas);
        assert_eq!(bounds, Bounds { surge: up, unavailable: down });
    }

    #[rstest::rstest]
    #[case::not_ready(None, 0, 100, false)]
    #[case::ready(Some(100), 0, 100, true)]
    #[case::not_for_long_enough(Some(100), 10, 109, false)]
    #[case::long_enough(Some(100), 10, 110, true)]
    fn availability(#[case] ready: Option<i64>, #[case] min: i32, #[case] now: i64, #[case] available: bool) {
        assert_eq!(is_available(&pod("a", ready), min, time(now)), available);
    }

    #[test]
    fn a_hash_follows_the_template_alone() {
        let mut template = api::PodTemplateSpec::default();
        let first = template_hash(&template, 0);
        assert_eq!(first, template_hash(&template, 0));
        assert_ne!(first, template_hash(&template, 1));
        template.spec.hostname = "other".to_owned();
        assert_ne!(first, template_hash(&template, 0));
        assert!(pod_name(&"x".repeat(90)).len() <= 63);
    }
}

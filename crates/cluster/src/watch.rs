//! Keeps a store up to date: list, watch, and again after every failure, for as long as somebody holds the store.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::{ParseError, Resource};
use futures_util::StreamExt;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use runtime::backoff::Backoff;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::client::Client;
use crate::path::Scope;
use crate::store::{ObjectKey, Rejected, Shared, Store, WeakStore};

/// How long to wait for a kind that the server does not have: nobody is told when it gets one.
const UNKNOWN_KIND: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(15);

impl Client {
    /// Follows the objects of a scope until the last clone of the store is dropped.
    ///
    /// A kind that the server does not have (yet) is waited for quietly; every other failure is logged, and tried again forever.
    /// Who follows the same scope through clones of the same client shares one watch and one copy of every object.
    pub fn watch<T: Resource>(&self, scope: Scope) -> Store<T> {
        let mut watches = self.watches.lock();
        let key = (TypeId::of::<T>(), scope.clone());
        let held = watches.get(&key).and_then(|held| (&**held as &dyn Any).downcast_ref::<WeakStore<T>>());
        if let Some(store) = held.and_then(WeakStore::upgrade) {
            return store;
        }
        let shared = Arc::new(Shared::new());
        let task = runtime::task::spawn("watch", follow(self.kube.clone(), self.trim::<T>(), scope, shared.clone()));
        let store = Store::new(shared, task.abort_handle());
        watches.retain(|_, held| held.is_held());
        watches.insert(key, Box::new(store.downgrade()));
        store
    }
}

async fn follow<T: Resource>(client: kube::Client, trim: fn(&mut T), scope: Scope, shared: Arc<Shared<T>>) {
    let api = match &scope.namespace {
        Some(namespace) if T::NAMESPACED => kube::Api::<Loose<T>>::namespaced_with(client, namespace, &()),
        _ => kube::Api::<Loose<T>>::all(client),
    };
    let config =
        watcher::Config { label_selector: scope.labels, field_selector: scope.fields, ..watcher::Config::default() };
    let mut events = pin!(watcher::watcher(api, config));
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY).with_jitter(0.2);
    let mut seen = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                backoff.reset();
                record(&shared, &mut seen, event, trim);
            }
            Err(error) if is_unknown_kind(&error) => {
                tracing::debug!(kind = T::KIND, group = T::GROUP, "kind is not known to the server, waiting for it");
                tokio::time::sleep(UNKNOWN_KIND).await;
            }
            Err(error) => {
                let delay = backoff.next_delay();
                tracing::warn!(kind = T::KIND, %error, ?delay, "watch broke, will try again");
                tokio::time::sleep(delay).await;
            }
        }
    }
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

fn record<T: Resource>(shared: &Shared<T>, seen: &mut HashSet<ObjectKey>, event: Event<Loose<T>>, trim: fn(&mut T)) {
    match event {
        Event::Init => seen.clear(),
        Event::InitApply(loose) => {
            seen.insert(loose.key());
            loose.into_store(shared, trim);
        }
        Event::InitDone => {
            shared.sync(seen);
            // The set is as large as the store; it is needed only during a listing.
            *seen = HashSet::new();
        }
        Event::Apply(loose) => loose.into_store(shared, trim),
        Event::Delete(loose) => shared.delete(&loose.key()),
    }
}

/// An object that may not have its kind's shape, with the metadata that the watch itself needs.
#[derive(Clone, Debug)]
struct Loose<T> {
    metadata: ObjectMeta,
    object: Result<Arc<T>, Box<(ParseError, Value)>>,
}

impl<T: Resource> Loose<T> {
    fn key(&self) -> ObjectKey {
        ObjectKey::new(
            self.metadata.namespace.clone().unwrap_or_default(),
            self.metadata.name.clone().unwrap_or_default(),
        )
    }

    fn into_store(self, shared: &Shared<T>, trim: fn(&mut T)) {
        let key = self.key();
        match self.object {
            Ok(mut object) => {
                // Nobody else has it yet.
                if let Some(object) = Arc::get_mut(&mut object) {
                    trim(object);
                }
                shared.apply(key, object);
            }
            Err(unreadable) => {
                let (error, value) = *unreadable;
                tracing::warn!(kind = T::KIND, object = %key, %error, "object cannot be read");
                shared.reject(Rejected { key, error, value });
            }
        }
    }
}

impl<'de, T: Resource> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if !value.is_object() {
            return Err(de::Error::custom("an object of the API is a JSON object"));
        }
        let text = |key: &str| value["metadata"][key].as_str().map(str::to_owned);
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            // Says where the initial list ends in a streaming one.
            annotations: serde_json::from_value(value["metadata"]["annotations"].clone()).ok(),
            ..ObjectMeta::default()
        };
        let object = T::read(&mut value).map(Arc::new).map_err(|error| Box::new((error, value)));
        Ok(Self { metadata, object })
    }
}

impl<T: Resource> kube::Resource for Loose<T> {
    type DynamicType = ();
    type Scope = kube::core::DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn api_version((): &()) -> Cow<'_, str> {
        T::api_version().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use api::Service;
    use serde_json::json;

    use super::*;

    fn loose(value: Value) -> Loose<Service> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_of_any_shape_is_known_by_its_name() {
        let bad = loose(
            json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "7"}, "spec": {"ports": "none"}}),
        );
        assert_eq!(bad.key(), ObjectKey::new("b", "a"));
        assert!(bad.object.is_err());
        let bad_metadata = loose(json!({"metadata": {"name": "a", "labels": 1}}));
        assert!(bad_metadata.object.is_err());
        assert_eq!(bad_metadata.key(), ObjectKey::new("", "a"));
    }

    #[test]
    fn a_listing_takes_away_what_it_does_not_mention() {
        let shared = Shared::<Service>::new();
        let mut seen = HashSet::new();
        let named = |name: &str| loose(json!({"metadata": {"name": name, "namespace": "b", "resourceVersion": name}}));
        for event in [
            Event::Init,
            Event::InitApply(named("x")),
            Event::InitApply(named("y")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(named("y")),
            Event::InitDone,
        ] {
            record(&shared, &mut seen, event, |service| service.metadata.labels.clear());
        }
        assert!(seen.is_empty());
        shared.delete(&ObjectKey::new("b", "x"));
    }
}

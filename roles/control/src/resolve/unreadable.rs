//! Objects that do not have their kind's shape: what is wrong with them, and what becomes of them.
//!
//! Of a policy, what can still be read goes on keeping out, and no more than that is let in (`api::salvage`). Of anything
//! else, what was known before it broke stands: traffic goes on as it did.

use super::{Kind, Statement, Subject, Verdict, verdict::READABLE};
use api::{Condition, ParseError, Resource};
use serde_json::Value;
use std::collections::HashMap;

/// The objects that cannot be read, by kind, namespace and name; and those whose status still says that they cannot.
#[derive(Debug, Clone, Default)]
pub struct UnreadableObjects(HashMap<(&'static str, String, String), Shape>);

#[derive(Debug, Clone)]
enum Shape {
    Unreadable(Unreadable),
    Corrected(Vec<Condition>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: ParseError,
    /// What it does meanwhile.
    pub effect: Effect,
    /// Its generation.
    pub generation: i64,
    /// What its status says, as far as that can be read.
    pub conditions: Vec<Condition>,
}

/// What an object does while it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What was known of it before stands.
    AsBefore,
    /// It is a policy, and is enforced as strictly as it may have been meant.
    Strict,
    /// So is this one, and nobody knows for whom it was meant: for everybody that it could concern.
    StrictForAll,
}

impl Unreadable {
    pub(super) fn new(error: ParseError, effect: Effect, value: &Value) -> Self {
        let held = value["status"]["conditions"].as_array().into_iter().flatten();
        let conditions = held.filter_map(|condition| api::read_part(condition).ok()).collect();
        let generation = value["metadata"]["generation"].as_i64().unwrap_or_default();
        Self { error, effect, generation, conditions }
    }

    /// What its status is to say.
    pub(super) fn verdict(&self, type_: &'static str) -> Verdict {
        let effect = match self.effect {
            Effect::AsBefore => "what was known of the object before stands, if anything was",
            Effect::Strict => {
                "an ALLOW rule that cannot be read allows nothing, a DENY rule denies everything, and a mode is STRICT"
            }
            Effect::StrictForAll => {
                "whom the policy is for cannot be read either, so it keeps everybody out of its whole namespace (of the mesh, in the root namespace)"
            }
        };
        let message = format!("{}: {}; until that is corrected {effect}", self.error.path, self.error.message);
        Verdict { type_, holds: false, reason: "Invalid", message }
    }
}

impl UnreadableObjects {
    pub(super) fn insert<T: Resource>(&mut self, namespace: &str, name: &str, unreadable: Unreadable) {
        self.0.insert((T::KIND, namespace.to_owned(), name.to_owned()), Shape::Unreadable(unreadable));
    }

    /// Takes note of an object that can be read; whether its status has to change for that.
    pub(super) fn correct<T: Kind>(&mut self, object: &T) -> bool {
        let conditions = object.conditions();
        if conditions.iter().any(|condition| condition.type_ == READABLE) {
            let key = (T::KIND, object.namespace().to_owned(), object.name().to_owned());
            self.0.insert(key, Shape::Corrected(conditions.to_vec()));
            return true;
        }
        self.remove::<T>(object.namespace(), object.name())
    }

    /// Takes an object off the list; whether it was there.
    pub(super) fn remove<T: Resource>(&mut self, namespace: &str, name: &str) -> bool {
        !self.0.is_empty() && self.0.remove(&(T::KIND, namespace.to_owned(), name.to_owned())).is_some()
    }

    /// What is to be said about the shape of an object.
    pub(super) fn statement(&self, kind: &'static str, namespace: &str, name: &str) -> Statement {
        let (verdict, conditions, generation) = match self.0.get(&(kind, namespace.to_owned(), name.to_owned())) {
            Some(Shape::Unreadable(object)) => {
                (Some(object.verdict(READABLE)), object.conditions.as_slice(), object.generation)
            }
            Some(Shape::Corrected(conditions)) => (None, conditions.as_slice(), 0),
            None => (None, [].as_slice(), 0),
        };
        Statement {
            subject: Subject::Shape(kind),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            verdicts: verdict.into_iter().collect(),
            held: conditions.iter().filter(|condition| condition.type_ == READABLE).cloned().collect(),
            generation,
        }
    }

    /// What is wrong with an object, if anything is.
    pub fn get(&self, kind: &'static str, namespace: &str, name: &str) -> Option<&Unreadable> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.get(&(kind, namespace.to_owned(), name.to_owned()))? {
            Shape::Unreadable(unreadable) => Some(unreadable),
            Shape::Corrected(_) => None,
        }
    }
}

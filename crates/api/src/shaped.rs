//! Reading a JSON value with its shape: an object of the API is a JSON object.
//!
//! Derived readers also take a list for a struct, field by field, and an empty list for a struct of defaults: a rule
//! written `[]` would be the rule that matches everything.

use serde::de::{
    Deserialize, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};
use serde_json::{Error, Value};

/// Reads a value; structs only from objects.
pub fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, Error> {
    T::deserialize(Shaped(value))
}

/// A value to be read so.
#[derive(Clone, Copy)]
pub(crate) struct Shaped<'de>(pub(crate) &'de Value);

impl<'de> IntoDeserializer<'de, Error> for Shaped<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Shaped<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Shaped))),
            Value::Object(members) => visitor
                .visit_map(MapDeserializer::new(members.iter().map(|(key, value)| (key.as_str(), Shaped(value))))),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &"an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Deserializer::deserialize_enum(self.0, name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{AuthorizationPolicy, Resource, Service};

    #[test]
    fn a_list_is_no_object() {
        for (spec, path) in [(json!({"rules": [[]]}), "spec.rules[0]"), (json!([]), "spec")] {
            let error = AuthorizationPolicy::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap_err();
            assert_eq!(
                (error.path.as_str(), error.message.as_str()),
                (path, "invalid type: sequence, expected an object")
            );
        }
        assert!(Service::from_value(json!([])).is_err());
    }
}

//! What reading and writing have in common: when a field is empty, and that `null` is an absent field.

use serde_json::Value;

/// Whether a field need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Removes every object member that is `null`: Go programs write `null` where they mean "nothing".
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_member_is_an_absent_member_at_any_depth() {
        let mut value = json!({"a": null, "b": {"c": null, "d": [{"e": null}, 1]}});
        prune_nulls(&mut value);
        assert_eq!(value, json!({"b": {"d": [{}, 1]}}));
    }
}

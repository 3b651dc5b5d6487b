//! Points in time as Kubernetes writes them: whole seconds in most places, microseconds in leases and events.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! time {
    ($(#[$meta:meta])* $name:ident, $format:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Timestamp);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.strftime($format).fmt(f)
            }
        }

        impl From<Timestamp> for $name {
            fn from(timestamp: Timestamp) -> Self {
                Self(timestamp)
            }
        }

        impl std::ops::Deref for $name {
            type Target = Timestamp;

            fn deref(&self) -> &Timestamp {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map(Self).map_err(|_| de::Error::custom(format_args!("{text:?} is not an RFC 3339 time")))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": "date-time"})
            }
        }
    };
}

time!(
    /// A time in whole seconds (`metav1.Time`).
    Time,
    "%Y-%m-%dT%H:%M:%SZ"
);
time!(
    /// A time in microseconds (`metav1.MicroTime`), whose six digits Kubernetes insists on.
    MicroTime,
    "%Y-%m-%dT%H:%M:%S.%6fZ"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_digits() {
        let at: Timestamp = "2026-11-21T10:00:00.123456789Z".parse().unwrap();
        assert_eq!(serde_json::to_string(&Time(at)).unwrap(), "\"2026-11-21T10:00:00Z\"");
        assert_eq!(serde_json::to_string(&MicroTime(at)).unwrap(), "\"2026-11-21T10:00:00.123456Z\"");
        assert_eq!(
            serde_json::from_str::<Time>("\"2026-11-21T10:00:00+01:00\"").unwrap().as_second(),
            at.as_second() - 3600
        );
        assert!(serde_json::from_str::<Time>("\"yesterday\"").is_err());
    }
}

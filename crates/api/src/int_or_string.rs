//! A number or a name: ports of probes and services, rolling-update limits.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A value that may be written as a number or as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// Written as a number.
    Int(i32),
    /// Written as text: a port's name, or a percentage.
    String(String),
}

impl IntOrString {
    /// Scales to `total`: a number is itself, `25%` a share of it, rounded up or down. `None` for other text.
    pub fn scale(&self, total: i32, round_up: bool) -> Option<i32> {
        let text = match self {
            Self::Int(number) => return Some(*number),
            Self::String(text) => text,
        };
        let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
        let hundredths = percent.checked_mul(i64::from(total))?;
        let scaled = if round_up { (hundredths + 99).div_euclid(100) } else { hundredths.div_euclid(100) };
        scaled.try_into().ok()
    }
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
        }
    }
}

impl schemars::JsonSchema for IntOrString {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrString".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true,
        })
    }
}

/// Reads a number that may be written as text.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(|_| de::Error::custom(format_args!("{text:?} is not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1.into(), 10, true, Some(1))]
    #[case("25%".into(), 10, true, Some(3))]
    #[case("25%".into(), 10, false, Some(2))]
    #[case("http".into(), 10, false, None)]
    fn a_percentage_is_a_share(
        #[case] value: IntOrString,
        #[case] total: i32,
        #[case] up: bool,
        #[case] scaled: Option<i32>,
    ) {
        assert_eq!(value.scale(total, up), scaled);
    }

    #[test]
    fn a_number_may_be_written_as_text() {
        let read = |json| number(&mut serde_json::Deserializer::from_str(json)).ok();
        assert_eq!([read("7"), read("\"7\""), read("\"seven\""), read("null")], [Some(7), Some(7), None, None]);
    }
}

//! The environment of the process as a value: read once, asked by name, remembered which names were asked.
//!
//! What each variable means is `super`'s business.

use std::{cell::RefCell, collections::BTreeMap, collections::BTreeSet, fmt, str::FromStr, time::Duration};

/// Environment variables, taken from the process or written down by a test.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One variable has a value that means nothing.
    #[error("{name}={value:?} cannot be used: {why}; correct or unset the variable")]
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two settings exclude each other, or one lacks another.
    #[error("{0}")]
    Conflict(String),
    /// A file or document of settings cannot be read.
    #[error("reading {what}: {why}")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars().collect()
    }

    /// The value of a variable, if set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.values.get(name).map(String::as_str)
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// A parsed value, or its default.
    pub(crate) fn parse<T>(&self, name: &str, default: T) -> Result<T, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.with(name, |text| text.parse::<T>().map_err(|error| error.to_string()))
            .map(|value| value.unwrap_or(default))
    }

    /// A duration such as `10s`, `5m` or `1h30m`.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        self.with(name, |text| {
            runtime::settings::parse_duration(text)
                .ok_or_else(|| "a duration is written like 10s, 5m or 1h30m".to_owned())
        })
    }

    /// What `read` makes of a variable, if that is set and not empty.
    pub(crate) fn with<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        read(value).map(Some).map_err(|why| ConfigError::Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            why,
        })
    }

    /// Every variable whose name begins with `prefix`, as (rest of the name, value).
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.asked.borrow_mut().insert(format!("{prefix}*"));
        self.values.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// Names asked for so far; a family of names ends in `*`.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, asked: RefCell::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_names_the_variable_and_what_to_do() {
        let environment = Environment::from_iter([("PACKET_MARK", "many")]);
        let error = environment.parse("PACKET_MARK", 1u32).unwrap_err().to_string();
        assert!(
            error.starts_with("PACKET_MARK=\"many\" cannot be used") && error.ends_with("unset the variable"),
            "{error}"
        );
    }
}

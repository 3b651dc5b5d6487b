//! Counters with labels that are known when the code is written: the names are part of the type's value, the values are texts.

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use std::fmt;

/// Label values under names that every series of a family shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    names: &'static [&'static str],
    values: Vec<String>,
}

impl Labels {
    pub(crate) fn new(names: &'static [&'static str], values: &[&str]) -> Self {
        Self { names, values: values.iter().map(|&value| value.to_owned()).collect() }
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for pair in self.names.iter().copied().zip(self.values.iter().map(String::as_str)) {
            prometheus_client::encoding::EncodeLabel::encode(&pair, encoder.encode_label())?;
        }
        Ok(())
    }
}

/// A counter family.
#[derive(Debug, Clone)]
pub struct Counts {
    names: &'static [&'static str],
    family: Family<Labels, Counter>,
}

/// A gauge family.
#[derive(Debug, Clone)]
pub struct Count {
    names: &'static [&'static str],
    family: Family<Labels, Gauge>,
}

impl Counts {
    /// Registers a counter family; `_total` is added to its name when it is written down.
    pub fn register(
        registry: &mut super::Registry,
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        let family = Family::default();
        registry.0.register(name, help, family.clone());
        Self { names, family }
    }

    /// Adds one.
    pub fn add(&self, values: &[&str]) {
        self.add_many(values, 1);
    }

    /// Adds several; zero makes the series appear.
    pub fn add_many(&self, values: &[&str], count: u64) {
        self.family.get_or_create(&Labels::new(self.names, values)).inc_by(count);
    }

    /// The present value.
    pub fn get(&self, values: &[&str]) -> u64 {
        self.family.get(&Labels::new(self.names, values)).map_or(0, |counter| counter.get())
    }
}

impl Count {
    /// Registers a gauge family.
    pub fn register(
        registry: &mut super::Registry,
        name: &'static str,
        help: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        let family = Family::default();
        registry.0.register(name, help, family.clone());
        Self { names, family }
    }

    /// Sets the value.
    pub fn set(&self, values: &[&str], count: i64) {
        self.family.get_or_create(&Labels::new(self.names, values)).set(count);
    }

    /// Changes the value.
    pub fn change(&self, values: &[&str], by: i64) {
        self.family.get_or_create(&Labels::new(self.names, values)).inc_by(by);
    }

    /// Takes a series away.
    pub fn forget(&self, values: &[&str]) {
        self.family.remove(&Labels::new(self.names, values));
    }

    /// The present value.
    pub fn get(&self, values: &[&str]) -> i64 {
        self.family.get(&Labels::new(self.names, values)).map_or(0, |gauge| gauge.get())
    }
}

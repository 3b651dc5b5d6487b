//! Reads `data/types.txt`: the fields of the built-in kinds, written one per line (its first lines tell the form).

use super::wire::Number;
use super::{Form, List, Merge, Schema};
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

const TYPES: &str = include_str!("../../data/types.txt");

/// A line of the table that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TableError {
    #[error("reading the table of types, line {0}: a field stands before the first type")]
    FieldWithoutType(usize),
    #[error("reading the table of types, line {line}: `{word}` is not understood")]
    Word { line: usize, word: String },
    #[error("reading the table of types: `{0}` is used and not described")]
    Unknown(String),
    #[error("reading the table of types: `{0}` contains itself")]
    Recursive(String),
}

/// The blocks of the table by name.
pub(crate) type Types = HashMap<Arc<str>, Arc<Schema>>;

/// The table that is built in.
pub(crate) fn types() -> &'static Types {
    static TABLE: OnceLock<Types> = OnceLock::new();
    TABLE.get_or_init(|| parse(TYPES).unwrap_or_else(|error| unreachable!("{error}")))
}

struct Block<'a> {
    atomic: bool,
    fields: Vec<(usize, &'a str)>,
}

/// Reads a whole table.
pub(crate) fn parse(text: &str) -> Result<Types, TableError> {
    let mut blocks: IndexMap<&str, Block<'_>> = IndexMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if let Some(field) = line.strip_prefix(' ') {
            let (_, block) = blocks.last_mut().ok_or(TableError::FieldWithoutType(number + 1))?;
            block.fields.push((number + 1, field));
        } else {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            blocks.insert(name, Block { atomic: words.next() == Some("atomic"), fields: Vec::new() });
        }
    }
    let mut reader = Reader { blocks: &blocks, done: Types::new(), open: Vec::new() };
    for name in blocks.keys() {
        reader.block(name)?;
    }
    Ok(reader.done)
}

struct Reader<'a> {
    blocks: &'a IndexMap<&'a str, Block<'a>>,
    done: Types,
    open: Vec<String>,
}

impl Reader<'_> {
    fn block(&mut self, name: &str) -> Result<Arc<Schema>, TableError> {
        if let Some(done) = self.done.get(name) {
            return Ok(Arc::clone(done));
        }
        if self.open.iter().any(|open| open == name) {
            return Err(TableError::Recursive(name.to_owned()));
        }
        let block = self.blocks.get(name).ok_or_else(|| TableError::Unknown(name.to_owned()))?;
        self.open.push(name.to_owned());
        let mut schema = Schema { name: Some(name.into()), atomic_map: block.atomic, ..Schema::of(Form::Object) };
        for (line, field) in &block.fields {
            self.field(&mut schema, *line, field)?;
        }
        self.open.pop();
        let schema = Arc::new(schema);
        self.done.insert(name.into(), Arc::clone(&schema));
        Ok(schema)
    }

    fn field(&mut self, owner: &mut Schema, line: usize, text: &str) -> Result<(), TableError> {
        let (text, default) = match text.split_once(" default=") {
            Some((text, json)) => {
                let value = serde_json::from_str::<Value>(json)
                    .map_err(|_| TableError::Word { line, word: json.to_owned() })?;
                (text, Some(value))
            }
            None => (text, None),
        };
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let schema = self.expression(words.next().unwrap_or_default())?;
        let mut words: Vec<&str> = words.collect();
        if let Some(number) = words.first().and_then(|word| word.strip_prefix('#')) {
            let number = Number::parse(name, number);
            owner.wire.push(number.ok_or_else(|| TableError::Word { line, word: words[0].to_owned() })?);
            words.remove(0);
        }
        let schema = if words.iter().all(|word| *word == "required") && default.is_none() {
            schema
        } else {
            let mut own = Schema::clone(&schema);
            own.default = default;
            for word in words.iter().filter(|word| **word != "required") {
                attribute(&mut own, word).ok_or_else(|| TableError::Word { line, word: (*word).to_owned() })?;
            }
            Arc::new(own)
        };
        if words.contains(&"required") {
            owner.required.push(name.to_owned());
        }
        owner.properties.insert(name.to_owned(), schema);
        Ok(())
    }

    fn expression(&mut self, text: &str) -> Result<Arc<Schema>, TableError> {
        if let Some(element) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            let items = Some(self.expression(element)?);
            return Ok(Arc::new(Schema { items, ..Schema::of(Form::Array) }));
        }
        if let Some(element) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let additional = Some(self.expression(element)?);
            return Ok(Arc::new(Schema { additional, ..Schema::of(Form::Object) }));
        }
        let schema = match text {
            "string" => Schema::of(Form::String),
            "int32" | "int64" => Schema { format: Some(text.to_owned()), ..Schema::of(Form::Integer) },
            "double" => Schema { format: Some(text.to_owned()), ..Schema::of(Form::Number) },
            "boolean" => Schema::of(Form::Boolean),
            "quantity" => Schema::of(Form::Quantity),
            "int-or-string" => Schema::of(Form::IntOrString),
            "object" => Schema::free_form(),
            "any" => Schema { preserve_unknown: true, ..Schema::of(Form::Any) },
            _ => match text.strip_prefix("string:") {
                Some(format) => Schema { format: Some(format.to_owned()), ..Schema::of(Form::String) },
                None => return self.block(text),
            },
        };
        Ok(Arc::new(schema))
    }
}

fn attribute(schema: &mut Schema, word: &str) -> Option<()> {
    match word.split_once('=') {
        Some(("map", keys)) => schema.list = List::Map(keys.split(',').map(str::to_owned).collect()),
        Some(("merge", key)) => schema.merge = Some(Merge { key: Some(key.to_owned()) }),
        None if word == "set" => schema.list = List::Set,
        None if word == "atomic" => schema.atomic_map = true,
        None if word == "merge" => schema.merge = Some(Merge { key: None }),
        None if word == "retain" => schema.retain_keys = true,
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn the_built_in_table_tells_how_lists_merge() {
        let pod = &types()["core.v1.Pod"];
        let containers = pod.at("spec.containers");
        assert_eq!(containers.list, List::Map(vec!["name".into()]));
        assert_eq!(containers.merge, Some(Merge { key: Some("name".into()) }));
        assert_eq!(pod.at("spec.containers.[].ports").element_default("protocol"), Some(&Value::from("TCP")));
        assert!(pod.at("spec.nodeSelector").atomic_map);
        assert_eq!(pod.at("metadata.finalizers").list, List::Set);
    }

    #[rstest]
    #[case(" a string", TableError::FieldWithoutType(1))]
    #[case("T\n a string shiny", TableError::Word { line: 2, word: "shiny".into() })]
    #[case("T\n a U", TableError::Unknown("U".into()))]
    #[case("T\n a T", TableError::Recursive("T".into()))]
    fn a_bad_table_is_refused(#[case] text: &str, #[case] expected: TableError) {
        assert_eq!(parse(text).unwrap_err(), expected);
    }
}

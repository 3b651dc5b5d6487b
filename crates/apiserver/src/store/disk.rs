//! Keeps objects in one redb file: one transaction per write.

use super::{Backend, Change, DurabilityError, Key};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Objects as JSON by `kind\0namespace\0name`.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";

/// A file of objects.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    database: Database,
}

type Boxed = Box<dyn Error + Send + Sync>;

impl Disk {
    /// Opens the file in a folder, making both when they are missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, DurabilityError> {
        let path = folder.join("objects.redb");
        let open = || -> Result<Database, Boxed> {
            std::fs::create_dir_all(folder)?;
            Ok(Database::create(&path)?)
        };
        match open() {
            Ok(database) => Ok(Self { path, database }),
            Err(source) => Err(Self::failed("opening the state in", &path, source)),
        }
    }

    fn failed(doing: &'static str, path: &Path, source: Boxed) -> DurabilityError {
        DurabilityError { doing, path: path.display().to_string(), source }
    }

    fn read(&self) -> Result<(u64, Vec<(Key, Value)>), Boxed> {
        let write = self.database.begin_write()?;
        write.open_table(OBJECTS)?;
        write.open_table(COUNTERS)?;
        write.commit()?;
        let read = self.database.begin_read()?;
        let revision = read.open_table(COUNTERS)?.get(REVISION)?.map_or(1, |guard| guard.value());
        let mut objects = Vec::new();
        for entry in read.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let mut parts = key.value().splitn(3, '\0');
            let (Some(kind), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(format!("the key {:?} is not one of this program", key.value()).into());
            };
            objects.push((Key::new(&Arc::from(kind), namespace, name), serde_json::from_slice(value.value())?));
        }
        Ok((revision, objects))
    }

    fn write(&self, revision: u64, changes: &[Change]) -> Result<(), Boxed> {
        let write = self.database.begin_write()?;
        {
            let mut objects = write.open_table(OBJECTS)?;
            for change in changes {
                let Key { kind, namespace, name } = &change.key;
                let place = format!("{kind}\0{namespace}\0{name}");
                match &change.after {
                    Some(value) => {
                        objects.insert(place.as_str(), serde_json::to_vec(value.as_ref())?.as_slice())?;
                    }
                    None => {
                        objects.remove(place.as_str())?;
                    }
                }
            }
            write.open_table(COUNTERS)?.insert(REVISION, revision)?;
        }
        Ok(write.commit()?)
    }
}

impl Backend for Disk {
    fn load(&mut self) -> Result<(u64, Vec<(Key, Value)>), DurabilityError> {
        self.read().map_err(|source| Self::failed("reading the state in", &self.path, source))
    }

    fn commit(&mut self, revision: u64, changes: &[Change]) -> Result<(), DurabilityError> {
        self.write(revision, changes).map_err(|source| Self::failed("keeping a change in", &self.path, source))
    }
}

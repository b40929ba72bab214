//! Stores the values of API clients in `clients.redb` in the data directory, so that they survive a restart.
//!
//! A value is written to the file before the client is notified that it was accepted, and before it is applied.
//!
//! | Table | Key | Value |
//! |---|---|---|
//! | `items` | source, key of the value | `ligato.generic.UpdateItem`: model, message and labels |
//!
//! Each value of the source `held` has a single label, which contains the time at which its removal was put on hold (see
//! `desired::removals`).

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use models::{
    Model,
    key::Key,
    proto::ligato::generic::{Data, Item, UpdateItem, data::Union, item::Id},
    registry::model_by_name,
};
use prost::Message;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, backends::FileBackend};

use data_dir::{DataDir, DataDirError, DatabaseFile};

/// Name of the file in the data directory.
const FILE_NAME: &str = "clients.redb";
const ITEMS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("items");
/// Size of redb's cache in bytes. Values are only read at startup, so a small cache is sufficient.
const CACHE_BYTES: usize = 1 << 20;

/// Labels that a client has given to a value.
pub type Labels = BTreeMap<String, String>;

/// A value that a client has put.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientItem {
    /// Value in decoded form.
    pub model: Model,
    /// Labels that the client has given to the value.
    pub labels: Labels,
}

/// All values of one source, by key.
pub type SourceItems = BTreeMap<Key, ClientItem>;

/// Error returned if the file that stores the values of API clients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientStoreError {
    /// The data directory or the file cannot be opened, or is not safe to use.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Another process has the file open.
    #[error("{} is in use; another agent is using this data directory", path.display())]
    InUse {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("API client values: cannot use {}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error from the database.
        source: Box<redb::Error>,
    },
    /// The contents of the file are invalid.
    #[error(
        "API client values: {} is damaged ({detail}); restore the file from a backup, or move it away and let the clients put their \
         values again",
        path.display()
    )]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// Description of what is invalid.
        detail: String,
    },
}

/// File that stores the values of API clients.
pub struct ClientStore {
    database: Database,
    path: PathBuf,
}

impl ClientStore {
    /// Opens or creates the file in a directory, locks it, and reads the values of each source.
    ///
    /// # Errors
    /// Fails if the directory or the file cannot be used. In this case, the agent must not start, because without the values it
    /// would delete everything that clients have configured.
    pub fn open(directory: &Path) -> Result<(Self, BTreeMap<String, SourceItems>), ClientStoreError> {
        let data = DataDir::open(directory)?;
        let path = data.path_of(FILE_NAME);
        let opened = data.open_database(FILE_NAME)?;
        let is_emptied = opened.is_emptied();
        let DatabaseFile { file, new } = opened;
        let failed = |error| match error {
            DatabaseError::DatabaseAlreadyOpen => ClientStoreError::InUse { path: path.clone() },
            error => file_error(&path, error.into()),
        };
        let backend = FileBackend::new(file).map_err(failed)?;
        if is_emptied {
            let detail = "it has 0 bytes".to_owned();
            return Err(ClientStoreError::Content { path, detail });
        }
        let mut builder = Database::builder();
        // Without this check, redb may panic on a damaged file.
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend).map_err(failed)?;
        let store = ClientStore { database, path };
        let sources = store.load()?;
        if let Some(new) = new {
            new.publish(&data)?;
        }
        Ok((store, sources))
    }

    fn load(&self) -> Result<BTreeMap<String, SourceItems>, ClientStoreError> {
        let failed = |error: redb::Error| file_error(&self.path, error);
        // Create the table if it does not exist yet.
        let writing = self.database.begin_write().map_err(|error| failed(error.into()))?;
        writing.open_table(ITEMS).map_err(|error| failed(error.into()))?;
        writing.commit().map_err(|error| failed(error.into()))?;
        let reading = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(ITEMS).map_err(|error| failed(error.into()))?;
        let mut sources: BTreeMap<String, SourceItems> = BTreeMap::new();
        for row in table.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            let (source, key) = key.value();
            let item = decode(value.value()).map_err(|detail| ClientStoreError::Content {
                path: self.path.clone(),
                detail: format!("{key} of source {source}: {detail}"),
            })?;
            sources.entry(source.to_owned()).or_default().insert(Key::from(key), item);
        }
        Ok(sources)
    }

    /// Stores changes of a source atomically. The value `None` deletes a key. If `replace` is `true`, also deletes all other
    /// values of the source.
    ///
    /// Returns when the changes are on disk, which may take milliseconds.
    ///
    /// # Errors
    /// Fails if the file cannot be written. In this case, none of the changes is stored.
    pub fn keep(&self, source: &str, replace: bool, changes: &[(Key, Option<ClientItem>)]) -> Result<(), ClientStoreError> {
        self.write(source, replace, changes).map_err(|error| file_error(&self.path, error))
    }

    fn write(&self, source: &str, replace: bool, changes: &[(Key, Option<ClientItem>)]) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut table = writing.open_table(ITEMS)?;
            if replace {
                table.retain(|(of, _), _| of != source)?;
            }
            for (key, item) in changes {
                match item {
                    Some(item) => table.insert((source, key.as_str()), encode(item).as_slice())?,
                    None => table.remove((source, key.as_str()))?,
                };
            }
        }
        writing.commit()?;
        Ok(())
    }
}

fn file_error(path: &Path, source: redb::Error) -> ClientStoreError {
    let path = path.to_path_buf();
    match source {
        // Among the I/O errors, only an unexpected end of the file and invalid data mean that the file is damaged.
        redb::Error::Io(ref error) if !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => {
            ClientStoreError::File {
                path,
                source: Box::new(source),
            }
        }
        redb::Error::Corrupted(detail) => ClientStoreError::Content { path, detail },
        redb::Error::Io(error) => ClientStoreError::Content {
            path,
            detail: error.to_string(),
        },
        source => ClientStoreError::File {
            path,
            source: Box::new(source),
        },
    }
}

fn encode(item: &ClientItem) -> Vec<u8> {
    let info = item.model.info();
    let message = UpdateItem {
        item: Some(Item {
            id: Some(Id {
                model: info.name.to_owned(),
                name: String::new(),
            }),
            data: Some(Data {
                union: Some(Union::Any(any_of(&item.model))),
            }),
        }),
        labels: item.labels.clone().into_iter().collect(),
    };
    message.encode_to_vec()
}

/// Wraps the message of a value in an `Any`, as in the generic gRPC API.
pub fn any_of(model: &Model) -> prost_types::Any {
    prost_types::Any {
        type_url: format!("models.ligato.io/{}", model.info().proto_name),
        value: model.to_protobuf(),
    }
}

fn decode(bytes: &[u8]) -> Result<ClientItem, String> {
    let message = UpdateItem::decode(bytes).map_err(|error| error.to_string())?;
    let item = message.item.ok_or("the entry has no item")?;
    let model = item.id.map(|id| id.model).unwrap_or_default();
    let info = model_by_name(&model).ok_or_else(|| format!("unknown model {model:?}"))?;
    let Some(Union::Any(any)) = item.data.and_then(|data| data.union) else {
        return Err("the item has no data".to_owned());
    };
    Ok(ClientItem {
        model: Model::from_protobuf(info.kind, &any.value).map_err(|error| error.to_string())?,
        labels: message.labels.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use models::proto::ligato::linux::interfaces::Interface;

    use super::*;

    fn item(name: &str, label: &str) -> (Key, ClientItem) {
        let model = Model::from(Interface {
            name: name.to_owned(),
            ..Interface::default()
        });
        let labels = Labels::from([(label.to_owned(), String::new())]);
        (model.key(), ClientItem { model, labels })
    }

    #[test]
    fn empty_file_is_damaged() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        std::fs::write(directory.path().join("clients.redb"), "").expect("write the file");
        let error = ClientStore::open(directory.path()).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("clients.redb is damaged (it has 0 bytes); restore the file from a backup")));
    }

    #[test]
    fn kill_during_creation_leaves_no_damaged_file() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let (file, new) = (directory.path().join("clients.redb"), directory.path().join("clients.redb.new"));
        drop(ClientStore::open(directory.path()).expect("create the file"));
        assert!(file.exists() && !new.exists(), "the file has its final name");
        // A killed process may leave the file empty, incomplete, or complete but without its final name.
        let content = std::fs::read(&file).expect("read the file");
        for length in [0, 1, 4096, content.len() / 2, content.len()] {
            std::fs::remove_file(&file).expect("remove the file");
            std::fs::write(&new, &content[..length]).expect("write the file");
            std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set permissions");
            let (_store, sources) = ClientStore::open(directory.path()).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
            assert!(sources.is_empty() && file.exists() && !new.exists());
        }
    }

    #[test]
    fn two_processes_cannot_create_the_file_at_once() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let data = DataDir::open(directory.path()).expect("opens");
        let first = data.open_database(FILE_NAME).expect("begins");
        let error = ClientStore::open(directory.path()).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("is being created by another process")));
        drop(first);
        ClientStore::open(directory.path()).expect("opens the file that the other process began");
    }

    #[test]
    fn values_of_each_source_survive_restart() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let (key, first) = item("a", "one");
        let (other_key, other) = item("b", "two");
        {
            let (store, before) = ClientStore::open(directory.path()).expect("opens");
            assert_eq!(before, BTreeMap::new());
            assert!(matches!(ClientStore::open(directory.path()), Err(ClientStoreError::InUse { .. })));
            let both = [(key.clone(), Some(first.clone())), (other_key.clone(), Some(other.clone()))];
            store.keep("grpc", false, &both).expect("kept");
            store.keep("other", false, &both[..1]).expect("kept");
            store.keep("grpc", true, &both[1..]).expect("replaced");
            store.keep("other", false, &[(other_key.clone(), None)]).expect("nothing to remove");
        }
        let (_store, sources) = ClientStore::open(directory.path()).expect("open the file again");
        let want = BTreeMap::from([
            ("grpc".to_owned(), SourceItems::from([(other_key, other)])),
            ("other".to_owned(), SourceItems::from([(key, first)])),
        ]);
        assert_eq!(sources, want);
    }

    #[test]
    fn error_about_damaged_file_says_what_to_do() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        std::fs::write(directory.path().join("clients.redb"), "this is no database\n".repeat(1_000)).expect("write the file");
        let Err(error) = ClientStore::open(directory.path()) else {
            panic!("opened a damaged file");
        };
        assert!(matches!(error, ClientStoreError::Content { .. }), "{error:?}");
        let reported = error.to_string();
        assert!(
            reported.contains("clients.redb is damaged") && reported.contains("restore the file from a backup, or move it away"),
            "{reported}"
        );
        assert!(std::error::Error::source(&error).is_none());
    }
}

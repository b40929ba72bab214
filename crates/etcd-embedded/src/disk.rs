//! The store file, which is a redb database with all retained versions, all leases and the metadata of the store.
//!
//! The store loads the whole file at startup. Afterwards, it only writes batches.
//!
//! | Table | Key | Value |
//! |---|---|---|
//! | `revisions` | main revision, position within it | the version, encoded as `mvccpb.KeyValue` (a tombstone has version 0) |
//! | `leases` | lease ID | granted TTL in seconds |
//! | `numbers` | name | `format`, `cluster`, `member`, `term`, `compacted`, `alarm_no_space` |

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use prost::Message;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::error::StartError;
use super::mvcc::Version;
use data_dir::{DataDir, DatabaseFile};

const REVISIONS: TableDefinition<'_, (i64, i64), &[u8]> = TableDefinition::new("revisions");
const LEASES: TableDefinition<'_, i64, i64> = TableDefinition::new("leases");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// File name within the data directory.
const FILE_NAME: &str = "store.redb";
/// Version of the file layout. Increase it when a change would prevent older releases from reading the file.
const FORMAT: u64 = 1;
/// Size of the redb cache in bytes. A small cache is sufficient, because the store reads the contents only once after opening the file.
const CACHE_BYTES: usize = 4 << 20;

/// Identity of the store in response headers. The cluster ID and the member ID are chosen at random when the store is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) member: u64,
    /// Term in response headers. The store increments it at each start, as raft increments its term at each election.
    pub(super) term: u64,
}

/// Contents of the store file.
pub(super) struct Content {
    pub(super) identity: Identity,
    /// Retained versions in the order they were written.
    pub(super) rows: Vec<Version>,
    /// Lease IDs with their granted TTLs in seconds.
    pub(super) leases: Vec<(i64, i64)>,
    pub(super) compacted: i64,
    /// True if the NOSPACE alarm is raised.
    pub(super) alarm: bool,
}

/// Changes to write in one atomic commit. Inserts are applied before removals.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Arc<Version>>,
    pub(super) obsolete: Vec<(i64, i64)>,
    pub(super) compacted: Option<i64>,
    /// Lease changes in chronological order. Each change contains the lease ID and the granted TTL in seconds. The TTL is `None` if the lease has
    /// ended.
    pub(super) leases: Vec<(i64, Option<i64>)>,
    /// New state of the NOSPACE alarm, if it has changed.
    pub(super) alarm: Option<bool>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.obsolete.is_empty() && self.compacted.is_none() && self.leases.is_empty() && self.alarm.is_none()
    }
}

pub(super) struct Disk {
    database: Database,
    path: PathBuf,
}

impl Disk {
    /// Opens or creates the store file, locks it and reads its contents.
    pub(super) fn open(directory: &Path) -> Result<(Disk, Content), StartError> {
        let data = DataDir::open(directory)?;
        let path = data.path_of(FILE_NAME);
        let opened = data.open_database(FILE_NAME)?;
        let is_emptied = opened.is_emptied();
        let DatabaseFile { file, new } = opened;
        let backend = FileBackend::new(file).map_err(|error| open_error(&path, error))?;
        if is_emptied {
            let detail = "it has 0 bytes".to_owned();
            return Err(StartError::Corrupt { path, detail });
        }
        // Check the integrity of the file, because redb can panic on a damaged file. The check is cheap, because the whole file is read here
        // anyway.
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend).map_err(|error| open_error(&path, error))?;
        let disk = Disk { database, path };
        let content = disk.load()?;
        if let Some(new) = new {
            new.publish(&data)?;
        }
        Ok((disk, content))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn load(&self) -> Result<Content, StartError> {
        let (identity, compacted, alarm) = self.start_term()?;
        let failed = |error: redb::Error| read_error(&self.path, error);
        let reading = self.database.begin_read().map_err(|error| failed(error.into()))?;
        let revisions = reading.open_table(REVISIONS).map_err(|error| failed(error.into()))?;
        let mut rows = Vec::new();
        for row in revisions.iter().map_err(|error| failed(error.into()))? {
            let (key, value) = row.map_err(|error| failed(error.into()))?;
            rows.push(self.decode(key.value(), value.value())?);
        }
        let table = reading.open_table(LEASES).map_err(|error| failed(error.into()))?;
        let mut leases = Vec::new();
        for lease in table.iter().map_err(|error| failed(error.into()))? {
            let (id, ttl) = lease.map_err(|error| failed(error.into()))?;
            leases.push((id.value(), ttl.value()));
        }
        Ok(Content {
            identity,
            rows,
            leases,
            compacted,
            alarm,
        })
    }

    fn decode(&self, (main, sub): (i64, i64), value: &[u8]) -> Result<Version, StartError> {
        let corrupt = |detail: String| StartError::Corrupt {
            path: self.path.clone(),
            detail,
        };
        let kv = PbKeyValue::decode(value).map_err(|error| corrupt(format!("revision {main}.{sub} cannot be decoded: {error}")))?;
        if kv.mod_revision != main || kv.key.is_empty() {
            return Err(corrupt(format!(
                "revision {main}.{sub} contains a value that belongs to revision {}",
                kv.mod_revision
            )));
        }
        Ok(Version { sub, kv })
    }

    /// Creates missing tables and increments the term. Returns the identity, the compaction revision and the state of the NOSPACE alarm.
    fn start_term(&self) -> Result<(Identity, i64, bool), StartError> {
        let failed = |error: redb::Error| read_error(&self.path, error);
        let writing = self.database.begin_write().map_err(|error| failed(error.into()))?;
        let (identity, compacted, alarm);
        {
            writing.open_table(REVISIONS).map_err(|error| failed(error.into()))?;
            writing.open_table(LEASES).map_err(|error| failed(error.into()))?;
            let mut numbers = writing.open_table(NUMBERS).map_err(|error| failed(error.into()))?;
            let number = |name: &str| {
                numbers
                    .get(name)
                    .map(|found| found.map(|value| value.value()))
                    .map_err(|error| failed(error.into()))
            };
            let found = number("format")?.unwrap_or(FORMAT);
            if found > FORMAT {
                return Err(StartError::NewerFormat {
                    path: self.path.clone(),
                    found,
                    supported: FORMAT,
                });
            }
            compacted = number("compacted")?.map_or(-1, u64::cast_signed);
            alarm = number("alarm_no_space")?.is_some_and(|raised| raised != 0);
            identity = Identity {
                cluster: number("cluster")?.unwrap_or_else(random_id),
                member: number("member")?.unwrap_or_else(random_id),
                term: number("term")?.unwrap_or(1).saturating_add(1),
            };
            for (name, value) in [
                ("format", FORMAT),
                ("cluster", identity.cluster),
                ("member", identity.member),
                ("term", identity.term),
            ] {
                numbers.insert(name, value).map_err(|error| failed(error.into()))?;
            }
        }
        writing.commit().map_err(|error| failed(error.into()))?;
        Ok((identity, compacted, alarm))
    }

    /// Writes a batch to disk in one durable commit.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut revisions = writing.open_table(REVISIONS)?;
            let mut encoded = Vec::new();
            for version in &batch.rows {
                encoded.clear();
                encoded.reserve(version.kv.encoded_len());
                version.kv.encode_raw(&mut encoded);
                revisions.insert(version.row(), encoded.as_slice())?;
            }
            for row in &batch.obsolete {
                revisions.remove(row)?;
            }
            if !batch.leases.is_empty() {
                let mut leases = writing.open_table(LEASES)?;
                for (id, ttl) in &batch.leases {
                    match ttl {
                        Some(ttl) => leases.insert(id, ttl)?,
                        None => leases.remove(id)?,
                    };
                }
            }
            if let Some(compacted) = batch.compacted {
                writing.open_table(NUMBERS)?.insert("compacted", compacted.cast_unsigned())?;
            }
            if let Some(alarm) = batch.alarm {
                writing.open_table(NUMBERS)?.insert("alarm_no_space", u64::from(alarm))?;
            }
        }
        writing.commit()?;
        Ok(())
    }

    /// Compacts the file, which releases unused space to the file system.
    pub(super) fn defragment(&mut self) -> Result<(), redb::Error> {
        self.database.compact()?;
        Ok(())
    }
}

/// Returns a random number other than 0. The number comes from the random seed of the standard library's hash maps, which is random enough to
/// distinguish stores.
pub(super) fn random_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish().max(1)
}

fn open_error(path: &Path, error: DatabaseError) -> StartError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StartError::Locked { path },
        DatabaseError::Storage(StorageError::Corrupted(detail)) => StartError::Corrupt { path, detail },
        DatabaseError::Storage(StorageError::Io(error)) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StartError::Corrupt {
                path,
                detail: error.to_string(),
            }
        }
        DatabaseError::Storage(StorageError::Io(source)) => StartError::Disk {
            path,
            detail: source.to_string(),
        },
        other => StartError::Disk {
            path,
            detail: other.to_string(),
        },
    }
}

fn read_error(path: &Path, error: redb::Error) -> StartError {
    let path = path.to_path_buf();
    match error {
        redb::Error::Corrupted(detail) => StartError::Corrupt { path, detail },
        redb::Error::TableTypeMismatch { .. } => StartError::Corrupt {
            path,
            detail: error.to_string(),
        },
        other => StartError::Disk {
            path,
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(directory: &Path) -> PathBuf {
        let (disk, _) = Disk::open(directory).expect("opening a store in an empty directory must succeed");
        let version = |main: i64| PbKeyValue {
            key: format!("key/{main}").into(),
            value: vec![b'v'; 100],
            mod_revision: main,
            ..PbKeyValue::default()
        };
        let rows = (2..200).map(|main| Arc::new(Version { sub: 0, kv: version(main) })).collect();
        disk.commit(&Batch {
            rows,
            leases: vec![(1, Some(5)), (2, Some(6))],
            ..Batch::default()
        })
        .expect("a commit");
        disk.path().to_path_buf()
    }

    #[test]
    fn damaged_file_is_reported_without_a_panic() {
        let directory = tempfile::tempdir().expect("creating a temporary directory failed");
        let path = filled(directory.path());
        let intact = std::fs::read(&path).expect("reading the store file failed");
        let mut refused = 0;
        for place in (0..intact.len()).step_by(1009) {
            let mut damaged = intact.clone();
            let end = (place + 16).min(damaged.len());
            damaged[place..end].fill(0xA5);
            std::fs::write(&path, &damaged).expect("writing the store file failed");
            match Disk::open(directory.path()) {
                Ok((_, content)) => assert_eq!(content.rows.len(), 198, "damage at {place} was not detected"),
                Err(StartError::Corrupt { .. }) => refused += 1,
                Err(other) => panic!("damage at {place}: {other:?}"),
            }
        }
        assert!(refused > 0);
    }
}

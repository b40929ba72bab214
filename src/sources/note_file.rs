//! Stores the [`Note`] about the store in the data directory, in the file `store.json`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::etcd::note::Note;

/// File that preserves the [`Note`] across restarts.
pub struct NoteFile {
    path: PathBuf,
    prefix: String,
    written: Option<Note>,
}

/// Contents of the file `store.json`.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Prefix of the keys that the note is about: `/vnf-agent/<label>/`.
    prefix: String,
    #[serde(flatten)]
    note: Note,
}

/// Result of reading the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Remembered {
    /// The file contains a usable note, which an earlier process has saved.
    Note(Note),
    /// There is no usable note. Contains the reason: the file is missing, damaged, or about another label.
    Nothing(String),
}

impl NoteFile {
    /// Creates a handle to the file in a data directory, for notes about the keys below `prefix`.
    pub fn new(directory: &Path, prefix: String) -> Self {
        NoteFile {
            path: directory.join("store.json"),
            prefix,
            written: None,
        }
    }

    /// Reads the file. Returns [`Remembered::Nothing`] if the file is missing or unusable.
    pub fn read(&mut self) -> Remembered {
        let path = self.path.display();
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::Nothing(format!("{path} does not exist")),
            Err(error) => return Remembered::Nothing(format!("cannot read {path}: {error}")),
        };
        match serde_json::from_slice::<Content>(&text) {
            Ok(content) if content.prefix == self.prefix => {
                self.written = Some(content.note.clone());
                Remembered::Note(content.note)
            }
            Ok(content) => Remembered::Nothing(format!(
                "{path} describes the keys below {}, which is not the prefix of this agent",
                content.prefix
            )),
            Err(error) => Remembered::Nothing(format!("{path} is damaged: {error}")),
        }
    }

    /// Replaces the contents of the file if the note has changed.
    ///
    /// The file is not synced to disk. The note is not needed after a crash of the machine, because no network object survives a
    /// reboot.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&mut self, note: &Note) -> io::Result<()> {
        if self.written.as_ref() == Some(note) {
            return Ok(());
        }
        let content = Content {
            prefix: self.prefix.clone(),
            note: note.clone(),
        };
        let temporary = self.path.with_extension("json.new");
        // Remove any existing file first, so that nothing is written through a symlink that somebody else created.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(&content)?)?;
        fs::rename(&temporary, &self.path)?;
        self.written = Some(note.clone());
        Ok(())
    }

    /// Returns `true` if there is no usable note, or if the note is about a store without keys.
    pub fn is_of_nothing(&self) -> bool {
        self.written.as_ref().is_none_or(|note| note.keys == 0)
    }

    /// Returns the path of the file `store.json`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_is_read_by_next_process_with_same_label() {
        let directory = tempfile::tempdir().expect("create a temporary directory");
        let file = || NoteFile::new(directory.path(), "/vnf-agent/a/config/".to_owned());
        assert!(matches!(file().read(), Remembered::Nothing(_)));
        let note = Note {
            cluster: "7".to_owned(),
            revision: 12,
            keys: 0,
            witnesses: Vec::new(),
            held: None,
            losses: 0,
        };
        file().write(&note).expect("write the file");
        assert_eq!(file().read(), Remembered::Note(note));
        let mut other = NoteFile::new(directory.path(), "/vnf-agent/b/config/".to_owned());
        assert!(matches!(other.read(), Remembered::Nothing(why) if why.contains("/vnf-agent/a/config/")));
        fs::write(file().path(), "").expect("emptied");
        assert!(matches!(file().read(), Remembered::Nothing(why) if why.contains("damaged")));
    }
}

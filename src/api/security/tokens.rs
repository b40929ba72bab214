//! Reads the tokens file, which lists the clients and their roles.
//!
//! Each line has the form `NAME ROLE TOKEN [EXPIRY]`, with whitespace between the fields. ROLE is `read` or `write`. TOKEN is the
//! token itself, or `sha256:` followed by the SHA-256 hash of the token in hexadecimal digits. EXPIRY is an RFC 3339 time. Empty
//! lines and lines that start with `#` are ignored.
//!
//! Only hashes of tokens are kept in memory. Tokens never appear in messages.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use tracing::{error, info};

use super::Role;

/// Minimum length of a token. Shorter tokens could be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;
/// Prefix of a hash in the tokens file. The file can contain the hash of a token instead of the token itself.
const HASHED: &str = "sha256:";

type Hash = [u8; SHA256_OUTPUT_LEN];

/// Client that a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Name of the client, for logs and messages.
    pub name: String,
    /// Role of the client.
    pub role: Role,
    /// Time at which the token expires. `None` if it does not expire.
    pub expires: Option<SystemTime>,
}

/// Error in the tokens file. The message never contains a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("tokens file {path}: {error}")]
    Unreadable {
        /// Path of the file.
        path: String,
        /// System error.
        error: io::Error,
    },
    /// Another user can write to the file, and could add a token.
    #[error("tokens file {path}: {problem} and could add a token; run `chown {uid} {path}` and `chmod 600 {path}`")]
    Unprotected {
        /// Path of the file.
        path: String,
        /// Reason why another user can write to the file, for example because that user owns it.
        problem: String,
        /// User ID of this process.
        uid: u32,
    },
    /// A line cannot be parsed.
    #[error("tokens file {path}, line {line}: {problem}; a line is `NAME read|write TOKEN [EXPIRY]`")]
    Line {
        /// Path of the file.
        path: String,
        /// Line number, starting at 1.
        line: usize,
        /// Description of the problem.
        problem: String,
    },
    /// The file contains no tokens, so nobody could use the API.
    #[error("tokens file {path} contains no tokens; write lines such as `NAME read|write TOKEN`")]
    Empty {
        /// Path of the file.
        path: String,
    },
}

/// Version of a file, used to detect whether the file has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    modified: Option<SystemTime>,
    length: u64,
    /// File mode, and user ID of the owner.
    access: (u32, u32),
}

struct Content {
    version: Option<Version>,
    holders: Arc<[(Hash, Holder)]>,
}

/// Tokens in a file. Each lookup reads the file again if it has changed. If the new content is invalid, the previous tokens stay
/// valid.
pub struct Tokens {
    path: PathBuf,
    // A std mutex is sufficient, because it is locked only to compare file versions, and to read a small file if the versions
    // differ.
    content: Mutex<Content>,
}

impl Tokens {
    /// Reads a tokens file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or a line cannot be parsed.
    pub fn read(path: PathBuf) -> Result<Self, TokenError> {
        let version = version(&path);
        let holders = parse_file(&path)?;
        let content = Mutex::new(Content { version, holders });
        Ok(Tokens { path, content })
    }

    /// Returns the holder of a token, or `None` if the token is unknown.
    pub fn holder(&self, token: &str) -> Option<Holder> {
        let holders = self.current();
        let shown = hash(token);
        // Compare the token with every known token in constant time, so that the duration reveals nothing about the known tokens.
        let mut found = None;
        for (known, holder) in holders.iter() {
            if is_equal(known, &shown) {
                found = Some(holder);
            }
        }
        found.cloned()
    }

    fn current(&self) -> Arc<[(Hash, Holder)]> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(&self.path);
        if version != content.version {
            match parse_file(&self.path) {
                Ok(holders) => {
                    info!(count = holders.len(), "tokens file reloaded");
                    content.holders = holders;
                }
                Err(error) => error!("{error}; the previous tokens stay valid"),
            }
            content.version = version;
        }
        content.holders.clone()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

fn version(path: &PathBuf) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        access: (metadata.mode(), metadata.uid()),
    })
}

fn parse_file(path: &PathBuf) -> Result<Arc<[(Hash, Holder)]>, TokenError> {
    let shown = path.display().to_string();
    let failed = |error| TokenError::Unreadable {
        path: path.display().to_string(),
        error,
    };
    let mut file = File::open(path).map_err(failed)?;
    if let Some(problem) = unprotected(&file.metadata().map_err(failed)?) {
        let uid = nix::unistd::geteuid().as_raw();
        return Err(TokenError::Unprotected { path: shown, problem, uid });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let holders = lines.map(|(at, line)| {
        parse_line(line).map_err(|problem| TokenError::Line {
            path: shown.clone(),
            line: at + 1,
            problem,
        })
    });
    let holders: Vec<_> = holders.collect::<Result<_, _>>()?;
    match holders.is_empty() {
        true => Err(TokenError::Empty { path: shown }),
        false => Ok(holders.into()),
    }
}

/// Returns the reason why another user or group can write to a file. Returns `None` if only root and the user of this process can
/// write to it.
fn unprotected(file: &Metadata) -> Option<String> {
    let own = nix::unistd::geteuid().as_raw();
    match (file.mode() & 0o022, file.uid()) {
        (0, 0) => None,
        (0, uid) if uid == own => None,
        (0, uid) => Some(format!("user {uid} owns the file")),
        (mode, _) if mode & 0o002 != 0 => Some("every user can write to the file".to_owned()),
        _ => Some(format!("group {} can write to the file", file.gid())),
    }
}

fn parse_line(line: &str) -> Result<(Hash, Holder), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, role, token, expiry) = match words.as_slice() {
        [name, role, token] => (name, role, token, None),
        [name, role, token, expiry] => (name, role, token, Some(expiry)),
        other => return Err(format!("it has {} words", other.len())),
    };
    let role = match *role {
        "read" => Role::Read,
        "write" => Role::Write,
        // Do not quote the word, because it may be a misplaced token.
        _ => return Err("the second word is neither read nor write".to_owned()),
    };
    let hash = match token.strip_prefix(HASHED) {
        Some(digits) => hash_of_digits(digits).ok_or("expected 64 hexadecimal digits after sha256:")?,
        None if token.chars().count() < TOKEN_CHARACTERS_MIN => {
            return Err(format!(
                "the token has fewer than {TOKEN_CHARACTERS_MIN} characters and could be guessed"
            ));
        }
        None => hash(token),
    };
    let expires = expiry.map(|expiry| parse_time(expiry)).transpose()?;
    let name = (*name).to_owned();
    Ok((hash, Holder { name, role, expires }))
}

fn parse_time(text: &str) -> Result<SystemTime, String> {
    let wrong = || "the fourth word is not a time such as 2030-01-31T00:00:00Z".to_owned();
    let time: prost_types::Timestamp = text.parse().map_err(|_| wrong())?;
    SystemTime::try_from(time).map_err(|_| wrong())
}

fn hash(token: &str) -> Hash {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn hash_of_digits(digits: &str) -> Option<Hash> {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

/// Compares two hashes in constant time.
fn is_equal(one: &Hash, other: &Hash) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::api::security::{Access, Denied};

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokens");
        fs::write(&path, content).expect("the file can be written");
        (folder, path)
    }

    fn refusal(content: &str) -> String {
        let (_folder, path) = file(content);
        Tokens::read(path).expect_err(content).to_string()
    }

    #[test]
    fn token_can_be_listed_as_plain_text_or_hash() {
        let digest: String = hash("sesame-open-sesame").iter().map(|byte| format!("{byte:02x}")).collect();
        let (_folder, path) = file(&format!(
            "# who may\n\nreader read plain-token-of-reader\nwriter write sha256:{digest}\n"
        ));
        let tokens = Tokens::read(path).expect("a good file");
        let reader = tokens.holder("plain-token-of-reader").expect("the token is known");
        assert_eq!((reader.name.as_str(), reader.role), ("reader", Role::Read));
        assert_eq!(tokens.holder("sesame-open-sesame").expect("the token is known").role, Role::Write);
        for unknown in ["", "sesame", &format!("sha256:{digest}"), &digest] {
            assert_eq!(tokens.holder(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn access_depends_on_token_expiry_and_role() {
        let (_folder, path) =
            file("r read token-of-the-reader\nw write token-of-the-writer\nold write token-of-old-times 2001-01-01T00:00:00Z\n");
        let access = Access::new(Some(path)).expect("a good file");
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let admit = |token, role| access.admit(token, role, now);
        assert_eq!(admit(None, Role::Read), Err(Denied::Missing));
        assert_eq!(admit(Some("nobody's"), Role::Read), Err(Denied::Unknown));
        assert_eq!(
            admit(Some("token-of-old-times"), Role::Read),
            Err(Denied::Expired { name: "old".into() })
        );
        assert_eq!(admit(Some("token-of-the-reader"), Role::Read), Ok(Some("r".into())));
        let denied = admit(Some("token-of-the-reader"), Role::Write).expect_err("role read may not write");
        assert_eq!(denied.to_string(), "r has role read, but the request requires role write");
        assert!(!denied.is_unauthenticated());
        assert_eq!(admit(Some("token-of-the-writer"), Role::Write), Ok(Some("w".into())));
    }

    #[test]
    fn changed_file_is_reloaded_and_invalid_one_is_ignored() {
        let (_folder, path) = file("a read first-token-of-all\n");
        let tokens = Tokens::read(path.clone()).expect("a good file");
        fs::write(&path, "a read second-token-of-them\nb write third-token-of-them\n").expect("writable");
        assert_eq!(tokens.holder("first-token-of-all"), None);
        assert!(tokens.holder("second-token-of-them").is_some());
        fs::write(&path, "nonsense").expect("writable");
        assert!(tokens.holder("third-token-of-them").is_some());
        fs::remove_file(&path).expect("removable");
        assert!(tokens.holder("third-token-of-them").is_some());
    }

    #[test]
    fn file_writable_by_others_is_refused_with_a_remedy() {
        let (_folder, path) = file("a read first-token-of-all\n");
        let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
        for (mode, part) in [(0o646, "every user"), (0o664, "group "), (0o666, "every user")] {
            allow(mode);
            let error = Tokens::read(path.clone()).expect_err("unprotected").to_string();
            assert!(
                error.contains(part) && error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        allow(0o644);
        let tokens = Tokens::read(path.clone()).expect("protected");
        // If the file later becomes writable by other users, its new content is ignored.
        allow(0o666);
        fs::write(&path, "b write second-token-of-them\n").expect("writable");
        assert_eq!(tokens.holder("second-token-of-them"), None);
        assert!(tokens.holder("first-token-of-all").is_some());
    }

    #[test]
    fn invalid_file_is_refused_without_quoting_tokens() {
        for (content, part) in [
            ("", "contains no tokens"),
            ("# only a comment\n", "contains no tokens"),
            ("a read\n", "line 1: it has 2 words"),
            ("\na secret-in-the-wrong-place read\n", "line 2: the second word"),
            ("a read short-secret\n", "fewer than 16"),
            ("a read sha256:beef\n", "64 hexadecimal digits"),
            ("a read long-enough-secret-here tomorrow\n", "2030-01-31"),
        ] {
            let text = refusal(content);
            assert!(text.contains(part), "{part:?} is missing in: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
        let error = Tokens::read("/not/there".into()).expect_err("the file does not exist").to_string();
        assert!(error.contains("/not/there") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn debug_output_contains_no_token() {
        let (_folder, path) = file("a read very-secret-token-here\n");
        let tokens = Tokens::read(path).expect("a good file");
        assert!(!format!("{tokens:?} {:?}", tokens.holder("very-secret-token-here")).contains("secret"));
    }
}

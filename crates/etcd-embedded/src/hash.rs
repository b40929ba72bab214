//! Computes hashes of the store contents. An etcd server with the same history returns the same hashes.

use etcd_client::proto::PbKeyValue;
use prost::Message;

use super::mvcc::{Mvcc, Version};

/// Name of the bucket in which etcd keeps all versions. It is the first input of the hash.
const BUCKET: &[u8] = b"key";

/// CRC-32C (Castagnoli), as in Go's `hash/crc32`.
struct Crc32c(u32);

/// CRC-32C (Castagnoli) polynomial, bit-reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

impl Crc32c {
    fn new() -> Self {
        Crc32c(!0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = TABLE[usize::from(self.0 as u8 ^ byte)] ^ (self.0 >> 8);
        }
    }

    fn sum(&self) -> u32 {
        !self.0
    }
}

/// Returns a version's key in etcd's database: main revision, `_`, position within the revision, and `t` for a tombstone.
pub(super) fn row_key(version: &Version) -> Vec<u8> {
    let (main, sub) = version.row();
    let mut key = revision_key(main, sub);
    if version.is_tombstone() {
        key.push(b't');
    }
    key
}

/// Returns a revision's key in etcd's database.
pub(super) fn revision_key(main: i64, sub: i64) -> Vec<u8> {
    let mut key = main.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend(sub.to_be_bytes());
    key
}

/// Returns a version's value in etcd's database. The value of a tombstone contains only the key.
pub(super) fn row_value(version: &Version) -> Vec<u8> {
    if version.is_tombstone() {
        let tombstone = PbKeyValue {
            key: version.kv.key.clone(),
            ..PbKeyValue::default()
        };
        return tombstone.encode_to_vec();
    }
    version.kv.encode_to_vec()
}

/// Returns the number of bytes that [`row_value`] returns for a version.
pub(super) fn row_value_bytes(version: &Version) -> usize {
    match version.is_tombstone() {
        true => row_value(version).len(),
        false => version.kv.encoded_len(),
    }
}

/// Returns the hash of all versions up to a revision, like etcd's HashKV.
///
/// Compacted versions are included only if they are live at `revision`.
pub(super) fn hash_kv(mvcc: &Mvcc, revision: i64) -> u32 {
    let mut hash = Crc32c::new();
    hash.write(BUCKET);
    for version in mvcc.versions_for_hash(revision) {
        hash.write(&row_key(&version));
        hash.write(&row_value(&version));
    }
    hash.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_matches_rfc_3720() {
        let mut checksum = Crc32c::new();
        checksum.write(b"1234");
        checksum.write(b"56789");
        assert_eq!(checksum.sum(), 0xE306_9283);
    }
}

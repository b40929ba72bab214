//! Creates backups of the store. A backup is an etcd database file, which `etcdctl snapshot restore` converts to an etcd data directory.
//!
//! The file has the format of bbolt, etcd's storage engine. It consists of 4096-byte pages: two meta pages, an empty free page list, and one tree
//! per bucket. The leaves of a tree contain sorted keys with their values. Numbers are little-endian.
//!
//! The layout is planned first, because the meta pages at the start of the file contain the page number of the root. The pages are then generated
//! one by one, so the whole file is never in memory.

use std::ops::Range;
use std::sync::Arc;

use super::apply::State;
use super::hash::{revision_key, row_key, row_value, row_value_bytes};
use super::mvcc::Version;

const PAGE_BYTES: usize = 4096;
/// Size in bytes of a page header, and of an element header within a page.
const HEADER_BYTES: usize = 16;
/// Page types of bbolt.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREELIST: u16 = 0x10;
/// Element flag that marks the value of an element as a bucket.
const IS_BUCKET: u32 = 0x01;
/// Magic number of the meta pages.
const MAGIC: u32 = 0xED0C_DAED;
/// Format version of the meta pages.
const FORMAT: u32 = 2;
/// Page number of the free page list. The trees start on the next page.
const FREELIST_PAGE: u64 = 2;
/// etcd's buckets, sorted by name. In a backup, only `key`, `lease` and `meta` contain entries.
const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// Key-value pair of a bucket.
enum Entry {
    Version(Arc<Version>),
    Small(Vec<u8>, Vec<u8>),
}

impl Entry {
    fn key(&self) -> Vec<u8> {
        match self {
            Entry::Version(version) => row_key(version),
            Entry::Small(key, _) => key.clone(),
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            Entry::Version(version) => row_value(version),
            Entry::Small(_, value) => value.clone(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Entry::Version(version) => row_key(version).len() + row_value_bytes(version),
            Entry::Small(key, value) => key.len() + value.len(),
        }
    }
}

/// Contents of a page and of the overflow pages that follow it.
enum Content {
    Meta {
        root: u64,
        end: u64,
        transaction: u64,
    },
    Freelist,
    /// Leaf page of a bucket: the index of the bucket, and the range of the bucket's entries on this page.
    Leaf(usize, Range<usize>),
    /// Branch page of a bucket: first key and page number of each child page.
    Branch(Vec<(Vec<u8>, u64)>),
    /// Root page: name and encoded value of each bucket.
    Root(Vec<(&'static str, Vec<u8>)>),
}

/// Planned database file. Its pages are generated later.
pub(super) struct Backup {
    buckets: Vec<Vec<Entry>>,
    /// Contents in page order, each with its number of pages.
    pages: Vec<(Content, usize)>,
    bytes: u64,
}

/// Page layout of the trees.
struct Plan {
    pages: Vec<(Content, usize)>,
    next: u64,
}

impl Plan {
    /// Allocates the next pages for contents of `bytes` bytes. Returns the number of the first page.
    fn add(&mut self, content: Content, bytes: usize) -> u64 {
        let (page, count) = (self.next, bytes.div_ceil(PAGE_BYTES).max(1));
        self.pages.push((content, count));
        self.next += count as u64;
        page
    }

    /// Plans a bucket's tree and returns the number of its root page, or 0 if the bucket is empty.
    fn tree(&mut self, bucket: usize, entries: &[Entry]) -> u64 {
        let sizes = entries.iter().map(Entry::bytes);
        let mut level: Vec<(Vec<u8>, u64)> = Vec::new();
        for (range, bytes) in pieces(sizes) {
            let first = entries[range.start].key();
            level.push((first, self.add(Content::Leaf(bucket, range), bytes)));
        }
        while level.len() > 1 {
            let sizes: Vec<usize> = level.iter().map(|(key, _)| key.len()).collect();
            let mut above = Vec::new();
            for (range, bytes) in pieces(sizes.into_iter()) {
                let children = level[range].to_vec();
                let first = children[0].0.clone();
                above.push((first, self.add(Content::Branch(children), bytes)));
            }
            level = above;
        }
        level.first().map_or(0, |(_, page)| *page)
    }
}

/// Divides elements into pages. Returns the range of elements and the size in bytes for each page.
///
/// An element that is larger than a page gets pages of its own.
fn pieces(sizes: impl Iterator<Item = usize>) -> Vec<(Range<usize>, usize)> {
    let mut pieces: Vec<(Range<usize>, usize)> = Vec::new();
    for (index, size) in sizes.enumerate() {
        let size = HEADER_BYTES + size;
        match pieces.last_mut() {
            Some((range, bytes)) if *bytes + size <= PAGE_BYTES => {
                range.end = index + 1;
                *bytes += size;
            }
            _ => pieces.push((index..index + 1, HEADER_BYTES + size)),
        }
    }
    pieces
}

impl Backup {
    /// Plans a backup of the store contents at a revision.
    pub(super) fn new(state: &State, revision: i64) -> Self {
        let versions = state.mvcc.versions_up_to(revision).into_iter().map(Entry::Version).collect();
        let mut ids = state.lessor.ids();
        ids.sort_unstable();
        let lease = |id: i64| Some(Entry::Small(id.to_be_bytes().to_vec(), lease_value(id, state.lessor.get(id)?.ttl)));
        let leases = ids.into_iter().filter_map(lease).collect();
        let compacted = state.mvcc.compacted();
        let meta = match compacted > 0 {
            true => vec![Entry::Small(b"finishedCompactRev".to_vec(), revision_key(compacted, 0))],
            false => Vec::new(),
        };
        Backup::of(versions, leases, meta)
    }

    fn of(versions: Vec<Entry>, leases: Vec<Entry>, meta: Vec<Entry>) -> Self {
        let buckets = vec![versions, leases, meta];
        let mut plan = Plan {
            pages: Vec::new(),
            next: FREELIST_PAGE + 1,
        };
        let roots: Vec<u64> = buckets
            .iter()
            .enumerate()
            .map(|(number, entries)| plan.tree(number, entries))
            .collect();
        let value = |name: &&'static str| {
            let root = match *name {
                "key" => roots[0],
                "lease" => roots[1],
                "meta" => roots[2],
                _ => 0,
            };
            (*name, bucket_value(root))
        };
        let named: Vec<(&'static str, Vec<u8>)> = BUCKETS.iter().map(value).collect();
        let root = plan.add(Content::Root(named), PAGE_BYTES);
        let end = plan.next;
        let meta = |transaction| (Content::Meta { root, end, transaction }, 1);
        let mut pages = vec![meta(0), meta(1), (Content::Freelist, 1)];
        pages.append(&mut plan.pages);
        Backup {
            buckets,
            pages,
            bytes: end * PAGE_BYTES as u64,
        }
    }

    /// Returns the file size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns an iterator over the pages of the file.
    pub(super) fn into_pages(self) -> impl Iterator<Item = Vec<u8>> + Send {
        let Backup { buckets, pages, .. } = self;
        let mut id = 0_u64;
        pages.into_iter().map(move |(content, count)| {
            let page = render(&buckets, id, &content, count);
            id += count as u64;
            page
        })
    }
}

fn render(buckets: &[Vec<Entry>], id: u64, content: &Content, pages: usize) -> Vec<u8> {
    let mut bytes = match content {
        Content::Meta { root, end, transaction } => meta_page(id, *root, *end, *transaction),
        Content::Freelist => page_header(id, FREELIST, 0, 1),
        Content::Leaf(bucket, range) => {
            let entries = &buckets[*bucket][range.clone()];
            let elements: Vec<_> = entries.iter().map(|entry| (0, entry.key(), entry.value())).collect();
            leaf_page(id, &elements, pages)
        }
        Content::Root(named) => {
            let element = |(name, value): &(&str, Vec<u8>)| (IS_BUCKET, name.as_bytes().to_vec(), value.clone());
            let elements: Vec<_> = named.iter().map(element).collect();
            leaf_page(id, &elements, pages)
        }
        Content::Branch(children) => branch_page(id, children, pages),
    };
    bytes.resize(pages * PAGE_BYTES, 0);
    bytes
}

fn page_header(id: u64, kind: u16, count: usize, pages: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pages * PAGE_BYTES);
    bytes.extend(id.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend((count as u16).to_le_bytes());
    bytes.extend((pages as u32 - 1).to_le_bytes());
    bytes
}

/// Returns a leaf page: the element headers, followed by the keys and values. Each header contains the offset of its key, relative to the header
/// itself.
fn leaf_page(id: u64, elements: &[(u32, Vec<u8>, Vec<u8>)], pages: usize) -> Vec<u8> {
    let mut bytes = page_header(id, LEAF, elements.len(), pages);
    let mut data = Vec::new();
    for (index, (flags, key, value)) in elements.iter().enumerate() {
        let distance = (elements.len() - index) * HEADER_BYTES + data.len();
        for number in [*flags, distance as u32, key.len() as u32, value.len() as u32] {
            bytes.extend(number.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    bytes.append(&mut data);
    bytes
}

fn branch_page(id: u64, children: &[(Vec<u8>, u64)], pages: usize) -> Vec<u8> {
    let mut bytes = page_header(id, BRANCH, children.len(), pages);
    let mut data = Vec::new();
    for (index, (key, page)) in children.iter().enumerate() {
        let distance = (children.len() - index) * HEADER_BYTES + data.len();
        bytes.extend((distance as u32).to_le_bytes());
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(page.to_le_bytes());
        data.extend_from_slice(key);
    }
    bytes.append(&mut data);
    bytes
}

fn meta_page(id: u64, root: u64, end: u64, transaction: u64) -> Vec<u8> {
    let mut bytes = page_header(id, META, 0, 1);
    for number in [MAGIC, FORMAT, PAGE_BYTES as u32, 0] {
        bytes.extend(number.to_le_bytes());
    }
    // The fields are the root page, the sequence number of the root, the free page list, the number of pages in the file, and the transaction ID.
    for number in [root, 0, FREELIST_PAGE, end, transaction] {
        bytes.extend(number.to_le_bytes());
    }
    let checksum = fnv1a(&bytes[HEADER_BYTES..]);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// Encodes a bucket's value, which contains the root page number and the sequence number. The value of an empty bucket also contains an empty page.
fn bucket_value(root: u64) -> Vec<u8> {
    let mut value = root.to_le_bytes().to_vec();
    value.extend(0_u64.to_le_bytes());
    if root == 0 {
        value.extend(&page_header(0, LEAF, 0, 1));
    }
    value
}

/// Encodes a `leasepb.Lease`. Field 1 is the ID, and field 2 is the granted TTL.
fn lease_value(id: i64, ttl: i64) -> Vec<u8> {
    let mut value = Vec::new();
    prost::encoding::int64::encode(1, &id, &mut value);
    prost::encoding::int64::encode(2, &ttl, &mut value);
    value
}

/// Returns the 64-bit FNV-1a hash of the bytes.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

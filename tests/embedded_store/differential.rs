//! Sends the same random requests to a real etcd and to the embedded store. All responses, errors and watch events must be equal.
//!
//! Only the cluster ID, the member ID and the Raft term differ, so the tests blank them. The tests choose the lease IDs, because
//! the stores would choose different ones.

use std::collections::BTreeMap;

use etcd_client::proto::{PbEvent, PbResponseHeader, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
};

use testbed::random::Random;

use super::real_etcd::RealEtcd;
use super::{fixture, next, within};

/// Keys that the requests use. There are only a few, so that requests often affect the same key. With at most a dozen keys,
/// etcd's unstable sort happens to be stable.
const KEYS: [&str; 9] = ["a", "a/1", "a/2", "b", "b/1", "b/10", "b/2", "c", "d\u{0}x"];
const LEASES: [i64; 4] = [101, 102, 103, 104];

#[derive(Debug, Clone)]
pub enum Step {
    Put(&'static str, String, PutOptions),
    Get(&'static str, GetOptions),
    Delete(&'static str, DeleteOptions),
    Txn(Txn),
    Compact(i64),
    Grant(i64, i64),
    Revoke(i64),
    TimeToLive(i64),
}

struct Generator {
    random: Random,
    /// Current revision of the store, taken from its responses.
    revision: i64,
}

impl Generator {
    fn signed_below(&mut self, end: i64) -> i64 {
        let end = usize::try_from(end.max(1)).expect("it is positive");
        i64::try_from(self.random.below(end)).expect("it fits")
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.random.below(KEYS.len())]
    }

    fn end(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => vec![0],
            1 => b"b0".to_vec(),
            _ => self.key().as_bytes().to_vec(),
        }
    }

    /// Returns a random revision: usually a past one, sometimes a future one.
    fn any_revision(&mut self) -> i64 {
        self.signed_below(self.revision + 2)
    }

    fn put(&mut self) -> (&'static str, String, PutOptions) {
        let mut options = PutOptions::new();
        let mut value = format!("v{}", self.random.below(6));
        if self.random.one_in(3) {
            options = options.with_prev_key();
        }
        if self.random.one_in(4) {
            options = options.with_lease(*self.random.choose(&LEASES));
        }
        if self.random.one_in(8) {
            options = options.with_ignore_value();
            if !self.random.one_in(8) {
                value.clear();
            }
        }
        if self.random.one_in(8) {
            options = options.with_ignore_lease();
        }
        let key = if self.random.one_in(60) { "" } else { self.key() };
        (key, value, options)
    }

    fn get(&mut self) -> (&'static str, GetOptions) {
        let mut options = GetOptions::new();
        match self.random.below(6) {
            0 => options = options.with_prefix(),
            1 => options = options.with_from_key(),
            2 => options = options.with_all_keys(),
            3 => options = options.with_range(self.end()),
            _ => {}
        }
        if self.random.one_in(4) {
            options = options.with_limit(self.signed_below(4));
        }
        if self.random.one_in(4) {
            options = options.with_revision(self.any_revision());
        }
        if self.random.one_in(3) {
            let target = match self.random.below(5) {
                0 => SortTarget::Key,
                1 => SortTarget::Version,
                2 => SortTarget::Create,
                3 => SortTarget::Mod,
                _ => SortTarget::Value,
            };
            let order = match self.random.below(3) {
                0 => SortOrder::None,
                1 => SortOrder::Ascend,
                _ => SortOrder::Descend,
            };
            options = options.with_sort(target, order);
        }
        match self.random.below(16) {
            0 => options = options.with_keys_only(),
            1 => options = options.with_count_only(),
            2 => options = options.with_serializable(),
            3 => options = options.with_min_mod_revision(self.any_revision()),
            4 => options = options.with_max_mod_revision(self.any_revision()),
            5 => options = options.with_min_create_revision(self.any_revision()),
            6 => options = options.with_max_create_revision(self.any_revision()),
            _ => {}
        }
        (self.key(), options)
    }

    /// Returns a random delete request.
    ///
    /// Inside a transaction, the request deletes only a key or a prefix, because a put with `ignore_value` after a "from key"
    /// delete makes etcd 3.4 panic.
    fn delete(&mut self, inside: bool) -> (&'static str, DeleteOptions) {
        let mut options = DeleteOptions::new();
        match self.random.below(12) {
            0 => options = options.with_prefix(),
            1 if !inside => options = options.with_range(self.end()),
            2 if !inside => options = options.with_from_key(),
            _ => {}
        }
        if self.random.one_in(2) {
            options = options.with_prev_key();
        }
        (self.key(), options)
    }

    fn compare(&mut self) -> Compare {
        let operator = match self.random.below(4) {
            0 => CompareOp::Equal,
            1 => CompareOp::Greater,
            2 => CompareOp::Less,
            _ => CompareOp::NotEqual,
        };
        let key = self.key();
        let compare = match self.random.below(5) {
            0 => Compare::version(key, operator, self.signed_below(3)),
            1 => Compare::create_revision(key, operator, self.any_revision()),
            2 => Compare::mod_revision(key, operator, self.any_revision()),
            3 => Compare::value(key, operator, format!("v{}", self.random.below(6))),
            _ => Compare::lease(key, operator, LEASES[0]),
        };
        match self.random.below(6) {
            0 => compare.with_prefix(),
            1 => compare.with_range(self.end()),
            _ => compare,
        }
    }

    fn operations(&mut self, depth: u32) -> Vec<TxnOp> {
        let count = self.random.below(4);
        let mut operations = Vec::new();
        for _ in 0..count {
            operations.push(match self.random.below(if depth > 0 { 8 } else { 7 }) {
                0..=2 => {
                    let (key, value, options) = self.put();
                    TxnOp::put(key, value, Some(options))
                }
                3 | 4 => {
                    let (key, options) = self.get();
                    TxnOp::get(key, Some(options))
                }
                5 | 6 => {
                    let (key, options) = self.delete(true);
                    TxnOp::delete(key, Some(options))
                }
                _ => TxnOp::txn(self.txn(depth - 1)),
            });
        }
        operations
    }

    fn txn(&mut self, depth: u32) -> Txn {
        let compares: Vec<Compare> = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let (success, failure) = (self.operations(depth), self.operations(depth));
        let mut txn = Txn::new();
        if !compares.is_empty() {
            txn = txn.when(compares);
        }
        if !success.is_empty() {
            txn = txn.and_then(success);
        }
        if !failure.is_empty() {
            txn = txn.or_else(failure);
        }
        txn
    }

    fn step(&mut self) -> Step {
        let lease = *self.random.choose(&LEASES);
        match self.random.below(40) {
            0..=12 => {
                let (key, value, options) = self.put();
                Step::Put(key, value, options)
            }
            13..=20 => {
                let (key, options) = self.get();
                Step::Get(key, options)
            }
            21..=24 => {
                let (key, options) = self.delete(false);
                Step::Delete(key, options)
            }
            25..=33 => Step::Txn(self.txn(2)),
            // Compact rarely, and usually well below the current revision, so that some history remains to be read.
            34 if self.random.one_in(3) => Step::Compact(self.any_revision() - 10),
            35 | 36 => Step::Grant(lease, 1000 + self.signed_below(9)),
            37 => Step::Revoke(lease),
            _ => Step::TimeToLive(lease),
        }
    }
}

fn blank(header: &mut Option<PbResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn blank_txn(response: &mut PbTxnResponse) {
    blank(&mut response.header);
    for operation in &mut response.responses {
        match &mut operation.response {
            Some(PbTxnOpResponse::ResponseRange(response)) => blank(&mut response.header),
            Some(PbTxnOpResponse::ResponsePut(response)) => blank(&mut response.header),
            Some(PbTxnOpResponse::ResponseDeleteRange(response)) => blank(&mut response.header),
            Some(PbTxnOpResponse::ResponseTxn(response)) => blank_txn(response),
            None => {}
        }
    }
}

fn refusal(error: Error) -> String {
    match error {
        Error::GRpcStatus(status) => format!("refused: {:?} {:?}", status.code(), status.message()),
        other => format!("failed: {other}"),
    }
}

/// Performs one step. Returns the response as text, without the fields that differ between the two stores.
pub async fn perform(client: &mut Client, step: Step) -> String {
    let answer = match step {
        Step::Put(key, value, options) => client.put(key, value, Some(options)).await.map(|mut response| {
            blank(&mut response.0.header);
            format!("{:?}", response.0)
        }),
        Step::Get(key, options) => client.get(key, Some(options)).await.map(|mut response| {
            blank(&mut response.0.header);
            format!("{:?}", response.0)
        }),
        Step::Delete(key, options) => client.delete(key, Some(options)).await.map(|mut response| {
            blank(&mut response.0.header);
            format!("{:?}", response.0)
        }),
        Step::Txn(txn) => client.txn(txn).await.map(|mut response| {
            blank_txn(&mut response.0);
            format!("{:?}", response.0)
        }),
        Step::Compact(revision) => client
            .compact(revision, Some(CompactionOptions::new().with_physical()))
            .await
            .map(|mut response| {
                blank(&mut response.0.header);
                format!("{:?}", response.0)
            }),
        Step::Grant(id, ttl) => client
            .lease_grant(ttl, Some(LeaseGrantOptions::new().with_id(id)))
            .await
            .map(|mut response| {
                blank(&mut response.0.header);
                format!("{:?}", response.0)
            }),
        Step::Revoke(id) => client.lease_revoke(id).await.map(|mut response| {
            blank(&mut response.0.header);
            format!("{:?}", response.0)
        }),
        Step::TimeToLive(id) => client
            .lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys()))
            .await
            .map(|mut response| {
                blank(&mut response.0.header);
                // The remaining TTL depends on time, and etcd returns the keys in no particular order.
                response.0.ttl = response.0.ttl.min(0);
                response.0.keys.sort();
                format!("{:?}", response.0)
            }),
    };
    answer.unwrap_or_else(refusal)
}

/// Opens watches of different kinds from the revision `start` (0 means now).
async fn watches(client: &mut Client, start: i64) -> Vec<WatchStream> {
    let plain = || WatchOptions::new().with_start_revision(start);
    let mut streams = Vec::new();
    for (key, options) in [
        ("a", plain().with_all_keys().with_prev_key()),
        ("b", plain().with_prefix().with_filters([WatchFilterType::NoPut])),
        ("b/1", plain().with_filters([WatchFilterType::NoDelete]).with_prev_key()),
        ("a/2", plain().with_from_key()),
    ] {
        streams.push(within(client.watch(key, Some(options))).await.expect("open a watch"));
    }
    streams
}

/// Reads a watch up to the event of revision `last`, or until the watch is cancelled. Returns the events by revision and, if the
/// watch was cancelled, its compact revision.
async fn read_until(stream: &mut WatchStream, last: i64) -> (BTreeMap<i64, Vec<PbEvent>>, Option<i64>) {
    let mut events: BTreeMap<i64, Vec<PbEvent>> = BTreeMap::new();
    loop {
        let response = next(stream).await;
        if response.canceled() {
            return (events, Some(response.compact_revision()));
        }
        let mut revisions = Vec::new();
        for event in response.0.events {
            let revision = event.kv.as_ref().expect("an event has a key").mod_revision;
            assert!(revisions.last().is_none_or(|before| *before <= revision), "events must be in order");
            assert!(
                revisions.contains(&revision) || !events.contains_key(&revision),
                "all events of one revision must come at once"
            );
            revisions.push(revision);
            events.entry(revision).or_default().push(event);
        }
        if events.contains_key(&last) {
            return (events, None);
        }
    }
}

/// Makes final changes that every watch reports: puts two keys, deletes both, and puts one again. Returns the last revision.
async fn finish(client: &mut Client) -> i64 {
    client
        .txn(Txn::new().and_then([TxnOp::put("b/1", "end", None), TxnOp::put("z", "end", None)]))
        .await
        .expect("the last put");
    client
        .txn(Txn::new().and_then([TxnOp::delete("b/1", None), TxnOp::delete("z", None)]))
        .await
        .expect("the last delete");
    let response = client.put("b/1", "end", None).await.expect("the last put");
    response.header().expect("a header").revision()
}

async fn compare_run(seed: u64, steps: usize) {
    let Some(etcd) = RealEtcd::start() else { return };
    let mut embedded = fixture().await;
    let mut real = Client::connect([etcd.endpoint.as_str()], None).await.expect("connect to etcd");
    let live = [watches(&mut real, 0).await, watches(&mut embedded.client, 0).await];
    let mut generator = Generator {
        random: Random::new(seed),
        revision: 1,
    };
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut compacted = 0;
    for number in 0..steps {
        let step = generator.step();
        let expected = within(perform(&mut real, step.clone())).await;
        let found = within(perform(&mut embedded.client, step.clone())).await;
        assert_eq!(found, expected, "seed {seed}, step {number}: {step:?}");
        let refused = expected.starts_with("refused");
        *kinds.entry(if refused { "refused" } else { "answered" }).or_default() += 1;
        if let (Step::Compact(revision), false) = (&step, refused) {
            compacted = *revision;
        }
        let status = real.get("none", None).await.expect("get the revision");
        generator.revision = status.header().expect("a header").revision();
    }
    let last = finish(&mut real).await;
    assert_eq!(finish(&mut embedded.client).await, last);
    let hash = async |client: &mut Client| {
        let response = client.hash_kv(0).await.expect("a hash");
        (response.hash(), response.compact_version())
    };
    assert_eq!(hash(&mut embedded.client).await, hash(&mut real).await, "seed {seed}: HashKV");
    println!("seed {seed}: {steps} steps, {kinds:?}, compacted at {compacted}, last revision {last}");
    // The last event of the watch with NOPUT is the deletion, one revision before the last put.
    let lasts = [last, last - 1, last, last];
    let [real_live, embedded_live] = live;
    for (kind, (mut expected, mut found)) in real_live.into_iter().zip(embedded_live).enumerate() {
        let expected = read_until(&mut expected, lasts[kind]).await;
        assert!(expected.1.is_none() && expected.0.len() > 1, "the watch must have events");
        assert_eq!(
            read_until(&mut found, lasts[kind]).await,
            expected,
            "seed {seed}, live watch {kind}"
        );
    }
    // Resume watches from before the compaction, from just after it, and from later revisions.
    for start in [1, compacted - 1, compacted + 1, compacted + 7, last - 2] {
        let expected = watches(&mut real, start.max(1)).await;
        let found = watches(&mut embedded.client, start.max(1)).await;
        for (kind, (mut expected, mut found)) in expected.into_iter().zip(found).enumerate() {
            let expected = read_until(&mut expected, lasts[kind]).await;
            assert_eq!(
                read_until(&mut found, lasts[kind]).await,
                expected,
                "seed {seed}, watch {kind} from {start} on"
            );
        }
    }
    embedded.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_get_the_answers_of_a_real_etcd() {
    for seed in 1..=4 {
        compare_run(seed, 400).await;
    }
}

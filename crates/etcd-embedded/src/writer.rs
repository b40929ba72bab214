//! The writer thread, which orders all writes, commits them in batches, expires leases and compacts automatically.
//!
//! A batch consists of the commands that were queued while the previous batch was written to disk. A batch is applied in memory, committed in one
//! redb transaction, and then made visible to readers and watches. The responses are sent last. All waiting clients share the disk latency, and
//! acknowledged writes survive if the process is killed. The state lock is not held during disk I/O.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest, PbLeaseGrantResponse,
    PbLeaseRevokeResponse, PbPutRequest, PbPutResponse, PbResponseHeader, PbTxnRequest, PbTxnResponse,
};
use tokio::sync::{mpsc, oneshot};

use super::Retention;
use super::apply::{Applied, State};
use super::disk::{Batch, Content, Disk, random_id};
use super::error::Refusal;
use super::lease::Lessor;
use super::mvcc::Mvcc;
use super::quota::{self, Quota, Space};
use super::shared::Shared;

/// Channel for the result of a command. The result is sent once it is durable.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Request to the writer. `Defragment` and `Stop` are executed between batches. All other requests are executed as part of a batch.
pub(super) enum Command {
    Put(PbPutRequest, Reply<PbPutResponse>),
    Delete(PbDeleteRequest, Reply<PbDeleteResponse>),
    Txn(PbTxnRequest, Reply<PbTxnResponse>),
    Compact(PbCompactionRequest, Reply<PbCompactionResponse>),
    Grant(PbLeaseGrantRequest, Reply<PbLeaseGrantResponse>),
    Revoke(i64, Reply<PbLeaseRevokeResponse>),
    /// Raises (true) or disarms (false) the NOSPACE alarm. The reply is true if the alarm has changed.
    Alarm(bool, Reply<bool>),
    Defragment(Reply<()>),
    /// Ends the writer thread. The reply is sent once the store file is closed and unlocked.
    Stop(oneshot::Sender<()>),
}

/// Capacity of the command queue. Senders wait when it is full.
pub(super) const QUEUE: usize = 1024;
/// Maximum number of commands in one batch. The limits on a batch keep the wait for a commit short.
const BATCH_COMMANDS_MAX: usize = 1024;
/// Maximum number of expired leases in one batch.
const BATCH_LEASES_MAX: usize = 256;
/// Maximum number of revisions that one batch compacts.
const BATCH_FORGOTTEN_MAX: usize = 2048;
/// Interval between attempts to reopen the store file after a failed commit. A command also triggers an attempt.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Function that replies to a command once its batch is durable or has failed.
type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

fn answer<T: Send + 'static>(reply: Reply<T>, result: Result<T, Refusal>) -> Answer {
    // An error means that the client has stopped waiting.
    Box::new(move |durable| drop(reply.send(durable.and(result))))
}

/// Batch in progress, with the replies to its commands.
pub(super) struct Round {
    now: Instant,
    pub(super) batch: Batch,
    answers: Vec<Answer>,
    /// Revision up to which the log can be freed once the batch is visible.
    forget: Option<i64>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// The open store file. It is `None` after a failed commit until the file has been reopened and read again.
    disk: Option<Disk>,
    directory: PathBuf,
    retention: Retention,
    /// Time of the next check for revisions older than the retention period.
    retention_due: Instant,
}

/// Builds the in-memory state from the contents of the file.
pub(super) fn restore(content: Content, quota: usize, now: Instant) -> State {
    let mut lessor = Lessor::default();
    for (id, ttl) in content.leases {
        lessor.insert(id, ttl, now);
    }
    let mvcc = Mvcc::restore(content.rows, content.compacted, now);
    for version in mvcc.live_all().filter(|version| version.kv.lease != 0) {
        lessor.attach(&version.kv.key, version.kv.lease);
    }
    let quota = Quota {
        limit: quota,
        alarm: content.alarm,
    };
    State { mvcc, lessor, quota }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        disk: Option<Disk>,
        directory: PathBuf,
        retention: Retention,
    ) -> Self {
        Writer {
            shared,
            commands,
            disk,
            directory,
            retention,
            retention_due: Instant::now(),
        }
    }

    /// Runs the writer until it receives [`Command::Stop`] or all command senders have been dropped.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            let first = tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => Some(command),
                    None => return,
                },
                () = sleep_until(wake) => None,
            };
            let mut commands = Vec::new();
            let mut next = first;
            let mut last = None;
            while let Some(command) = next.take() {
                if matches!(command, Command::Stop(_) | Command::Defragment(_)) {
                    last = Some(command);
                    break;
                }
                commands.push(command);
                if commands.len() < BATCH_COMMANDS_MAX {
                    next = self.commands.try_recv().ok();
                }
            }
            self.process(commands);
            match last {
                Some(Command::Stop(done)) => {
                    self.disk = None;
                    // An error means that the caller has stopped waiting.
                    let _ = done.send(());
                    return;
                }
                Some(Command::Defragment(reply)) => drop(reply.send(self.defragment())),
                _ => {}
            }
        }
    }

    /// Returns the time at which the writer must wake up even if no command arrives, for example because a lease expires.
    fn next_wake(&self) -> Option<Instant> {
        if self.disk.is_none() {
            return Some(Instant::now() + REOPEN_INTERVAL);
        }
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let aged = state
            .mvcc
            .oldest()
            .map(|oldest| (oldest + self.retention.age).max(self.retention_due));
        [state.lessor.next_expiry(), aged].into_iter().flatten().min()
    }

    fn process(&mut self, commands: Vec<Command>) {
        if let Err(refusal) = self.reopen() {
            commands.into_iter().for_each(|command| refuse(command, &refusal));
            return;
        }
        let round = self.apply(commands, Instant::now());
        let durable = self.commit(&round.batch);
        self.finish(round, &durable);
    }

    /// Applies commands, lease expiry and automatic compaction in memory. Readers do not see the changes yet.
    pub(super) fn apply(&mut self, commands: Vec<Command>, now: Instant) -> Round {
        let mut round = Round {
            now,
            batch: Batch::default(),
            answers: Vec::with_capacity(commands.len()),
            forget: None,
        };
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        for id in state.lessor.expired(now, BATCH_LEASES_MAX) {
            revoke(&mut state, id, &mut round);
        }
        for command in commands {
            apply(&mut state, command, &mut round);
        }
        round.forget = self.forget(&state.mvcc, &mut round);
        round
    }

    /// Makes a batch visible if it is durable, and sends the replies to its commands.
    pub(super) fn finish(&self, round: Round, durable: &Result<(), Refusal>) {
        if durable.is_ok() {
            self.publish(round.batch.compacted, round.forget);
        }
        for answer in round.answers {
            answer(durable.clone());
        }
    }

    /// Compacts history beyond the retention limits. Returns the revision up to which the log can be freed.
    fn forget(&mut self, mvcc: &Mvcc, round: &mut Round) -> Option<i64> {
        let aged = round.now >= self.retention_due;
        let oldest = if aged { round.now.checked_sub(self.retention.age) } else { None };
        let limits = (self.retention.revisions, self.retention.bytes);
        let (forget, complete) = mvcc.overdue(limits, oldest, BATCH_FORGOTTEN_MAX);
        if aged && complete {
            self.retention_due = round.now + self.retention.age / 8;
        }
        if let Some(revision) = forget.filter(|revision| *revision > round.batch.compacted.unwrap_or(mvcc.compacted())) {
            round.batch.obsolete.extend(mvcc.obsolete_rows(revision));
            round.batch.compacted = Some(revision);
        }
        forget
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Refusal> {
        if batch.is_empty() {
            return Ok(());
        }
        let Some(disk) = &self.disk else { return Err(Refusal::Stopped) };
        let Err(error) = disk.commit(batch) else { return Ok(()) };
        tracing::error!(file = %disk.path().display(), %error, "embedded store: commit failed; reopening the file on the next write");
        // Memory now contains changes that are not on disk. Close the file, so that the next batch reopens it and loads its contents.
        self.disk = None;
        Err(Refusal::Disk(error.to_string()))
    }

    /// Makes the batch visible to readers and watches, then frees the versions that it compacted.
    ///
    /// The versions are freed last, because readers can need them until the new revision is visible.
    fn publish(&self, compacted: Option<i64>, forget: Option<i64>) {
        let revision = self.shared.state.read().unwrap_or_else(PoisonError::into_inner).mvcc.revision();
        self.shared
            .committed
            .send_if_modified(|committed| std::mem::replace(committed, revision) != revision);
        if compacted.is_some() || forget.is_some() {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(compacted) = compacted {
                state.mvcc.compact(compacted);
            }
            if let Some(forget) = forget {
                state.mvcc.trim(forget);
            }
        }
    }

    /// Reopens and reads the file after a failed commit, so that memory contains only durable changes.
    fn reopen(&mut self) -> Result<(), Refusal> {
        if self.disk.is_some() {
            return Ok(());
        }
        let (disk, content) = Disk::open(&self.directory).map_err(|error| Refusal::Disk(error.to_string()))?;
        let quota = self.shared.read(|state, _| state.quota.limit);
        let restored = restore(content, quota, Instant::now());
        let revision = restored.mvcc.revision();
        *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = restored;
        self.shared.committed.send_replace(revision);
        self.disk = Some(disk);
        tracing::info!(revision, "embedded store: file reopened");
        Ok(())
    }

    fn defragment(&mut self) -> Result<(), Refusal> {
        let Some(disk) = &mut self.disk else { return Err(Refusal::Stopped) };
        disk.defragment().map_err(|error| Refusal::Disk(error.to_string()))
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        // Timers have millisecond resolution. Add one millisecond to ensure that the deadline has passed when the timer fires.
        Some(wake) => tokio::time::sleep_until((wake + Duration::from_millis(1)).into()).await,
        None => std::future::pending().await,
    }
}

fn refuse(command: Command, refusal: &Refusal) {
    let refusal = refusal.clone();
    match command {
        Command::Put(_, reply) => drop(reply.send(Err(refusal))),
        Command::Delete(_, reply) => drop(reply.send(Err(refusal))),
        Command::Txn(_, reply) => drop(reply.send(Err(refusal))),
        Command::Compact(_, reply) => drop(reply.send(Err(refusal))),
        Command::Grant(_, reply) => drop(reply.send(Err(refusal))),
        Command::Revoke(_, reply) => drop(reply.send(Err(refusal))),
        Command::Alarm(_, reply) => drop(reply.send(Err(refusal))),
        Command::Defragment(reply) => drop(reply.send(Err(refusal))),
        Command::Stop(done) => drop(done.send(())),
    }
}

fn apply(state: &mut State, command: Command, round: &mut Round) {
    let now = round.now;
    let answer = match command {
        Command::Put(request, reply) => {
            let applied = reserve(state, quota::put(&request), round).and_then(|()| state.put(request, now));
            answer(reply, keep(applied, &mut round.batch))
        }
        Command::Delete(request, reply) => answer(reply, keep(Ok(state.delete(&request, now)), &mut round.batch)),
        Command::Txn(request, reply) => {
            let applied = reserve(state, quota::txn(&request), round).and_then(|()| state.txn(request, now));
            answer(reply, keep(applied, &mut round.batch))
        }
        Command::Compact(request, reply) => answer(reply, compact(&state.mvcc, request.revision, &mut round.batch)),
        Command::Grant(request, reply) => {
            let granted = reserve(state, quota::LEASE_OVERHEAD, round).and_then(|()| grant(state, &request, round));
            answer(reply, granted)
        }
        Command::Alarm(raised, reply) => answer(reply, Ok(alarm(state, raised, round))),
        Command::Revoke(id, reply) => {
            let found = revoke(state, id, round);
            let response = PbLeaseRevokeResponse { header: header(state) };
            answer(reply, if found { Ok(response) } else { Err(Refusal::LeaseNotFound) })
        }
        // `Writer::run` executes `Defragment` and `Stop` between batches.
        command @ (Command::Defragment(_) | Command::Stop(_)) => return refuse(command, &Refusal::Stopped),
    };
    round.answers.push(answer);
}

/// Checks whether the quota leaves space for a write. Raises the NOSPACE alarm if the write would exceed the quota.
fn reserve(state: &mut State, cost: usize, round: &mut Round) -> Result<(), Refusal> {
    let space = state.space(cost);
    if space == Space::Exceeded && alarm(state, true, round) {
        tracing::error!(
            quota = state.quota.limit,
            size = state.bytes(),
            "embedded store: quota reached, puts are refused; delete keys, then run `etcdctl compaction` and `etcdctl alarm disarm`; or \
             raise --embedded-quota"
        );
    }
    space.granted()
}

/// Raises or disarms the NOSPACE alarm. Returns true if the alarm has changed.
fn alarm(state: &mut State, raised: bool, round: &mut Round) -> bool {
    let changed = state.quota.alarm != raised;
    if changed {
        state.quota.alarm = raised;
        round.batch.alarm = Some(raised);
    }
    changed
}

/// Adds the rows of a write to the batch. Returns the response.
fn keep<T>(applied: Result<Applied<T>, Refusal>, batch: &mut Batch) -> Result<T, Refusal> {
    let applied = applied?;
    batch.rows.extend(applied.rows);
    Ok(applied.response)
}

fn header(state: &State) -> Option<PbResponseHeader> {
    Some(PbResponseHeader {
        revision: state.mvcc.revision(),
        ..PbResponseHeader::default()
    })
}

fn compact(mvcc: &Mvcc, revision: i64, batch: &mut Batch) -> Result<PbCompactionResponse, Refusal> {
    if revision <= batch.compacted.unwrap_or(mvcc.compacted()) {
        return Err(Refusal::Compacted);
    }
    if revision > mvcc.revision() {
        return Err(Refusal::FutureRevision);
    }
    batch.obsolete.extend(mvcc.obsolete_rows(revision));
    batch.compacted = Some(revision);
    let header = PbResponseHeader {
        revision: mvcc.revision(),
        ..PbResponseHeader::default()
    };
    Ok(PbCompactionResponse { header: Some(header) })
}

fn grant(state: &mut State, request: &PbLeaseGrantRequest, round: &mut Round) -> Result<PbLeaseGrantResponse, Refusal> {
    let mut id = request.id;
    while id == 0 || (request.id == 0 && state.lessor.contains(id)) {
        id = random_id().cast_signed() & i64::MAX;
    }
    let ttl = state.lessor.check_grant(id, request.ttl)?;
    state.lessor.insert(id, ttl, round.now);
    round.batch.leases.push((id, Some(ttl)));
    Ok(PbLeaseGrantResponse {
        header: header(state),
        id,
        ttl,
        error: String::new(),
    })
}

fn revoke(state: &mut State, id: i64, round: &mut Round) -> bool {
    let Some(rows) = state.revoke(id, round.now) else { return false };
    round.batch.rows.extend(rows);
    round.batch.leases.push((id, None));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Identity;

    fn writer(directory: &std::path::Path) -> (Writer, Arc<Shared>) {
        let (disk, content) = Disk::open(directory).expect("opening a store in an empty directory must succeed");
        let (commands, queue) = mpsc::channel(1);
        let identity = Identity {
            cluster: 1,
            member: 2,
            term: content.identity.term,
        };
        let state = restore(content, usize::MAX, Instant::now());
        let path = disk.path().to_path_buf();
        let shared = Arc::new(Shared::new(state, identity, commands, ([127, 0, 0, 1], 0).into(), path));
        (
            Writer::new(
                Arc::clone(&shared),
                queue,
                Some(disk),
                directory.to_path_buf(),
                Retention::default(),
            ),
            shared,
        )
    }

    fn put(writer: &mut Writer, key: &str) -> Result<PbPutResponse, Refusal> {
        let (reply, mut answer) = oneshot::channel();
        let request = PbPutRequest {
            key: key.into(),
            value: b"v".to_vec(),
            ..PbPutRequest::default()
        };
        writer.process(vec![Command::Put(request, reply)]);
        answer.try_recv().expect("a batch must reply to its commands")
    }

    fn keys(shared: &Shared) -> Vec<String> {
        let key = |version: &Arc<crate::mvcc::Version>| String::from_utf8_lossy(&version.kv.key).into_owned();
        shared.read(|state, _| state.mvcc.live_all().map(key).collect())
    }

    #[test]
    fn failed_commit_restores_memory_from_disk() {
        let directory = tempfile::tempdir().expect("creating a temporary directory failed");
        let (mut writer, shared) = writer(directory.path());
        put(&mut writer, "durable").expect("the write must succeed");
        let lost = PbPutRequest {
            key: b"lost".to_vec(),
            ..PbPutRequest::default()
        };
        let applied = shared.state.write().expect("not poisoned").put(lost, Instant::now());
        assert!(applied.is_ok() && shared.current() == 2, "must be applied, but not visible");
        writer.disk = None;
        let response = put(&mut writer, "next").expect("reopening the file must succeed");
        assert_eq!(response.header.expect("a header").revision, 3);
        assert_eq!(keys(&shared), ["durable", "next"]);
    }

    #[test]
    fn writes_are_refused_and_reads_work_while_the_file_is_unavailable() {
        let directory = tempfile::tempdir().expect("creating a temporary directory failed");
        let (mut writer, shared) = writer(directory.path());
        put(&mut writer, "durable").expect("the write must succeed");
        writer.disk = None;
        let (other, _) = Disk::open(directory.path()).expect("opening the released file must succeed");
        assert!(matches!(put(&mut writer, "refused"), Err(Refusal::Disk(_))));
        assert_eq!(keys(&shared), ["durable"]);
        drop(other);
        put(&mut writer, "accepted").expect("the write must succeed after the file was unlocked");
    }

    #[test]
    fn batch_that_compacts_its_own_writes_keeps_the_latest_versions() {
        let directory = tempfile::tempdir().expect("creating a temporary directory failed");
        let (mut writer, shared) = writer(directory.path());
        let (mut commands, mut answers) = (Vec::new(), Vec::new());
        for value in 0..3_u8 {
            let (reply, answer) = oneshot::channel();
            let request = PbPutRequest {
                key: b"k".to_vec(),
                value: vec![value],
                ..PbPutRequest::default()
            };
            commands.push(Command::Put(request, reply));
            answers.push(answer);
        }
        let (reply, mut compacted) = oneshot::channel();
        commands.push(Command::Compact(
            PbCompactionRequest {
                revision: 4,
                physical: true,
            },
            reply,
        ));
        writer.process(commands);
        assert!(compacted.try_recv().expect("the compaction must have a reply").is_ok());
        assert!(
            answers
                .iter_mut()
                .all(|answer| answer.try_recv().is_ok_and(|result| result.is_ok()))
        );
        drop(writer.disk.take());
        let (_, content) = Disk::open(directory.path()).expect("opening the file must succeed");
        assert_eq!(content.rows.iter().map(|row| row.row()).collect::<Vec<_>>(), [(4, 0)]);
        assert_eq!(shared.read(|state, _| state.mvcc.compacted()), 4);
    }
}

//! Events on the connections between the agent and the store, including their faults.
//!
//! [`World::read`] executes the steps of the reader, and [`World::write`] executes the steps of the writer.

use std::time::Duration;

use super::{Occurrence, World};
use crate::{
    publish::lease_state::{Completion, Request},
    simulation::{
        choices::Site,
        connections::{ReaderStep, WriterAnswer, WriterStep},
        mutation::Mutation,
        store::TTL,
    },
    sources::etcd::{SnapshotReason, SourceEvent, note::Past, reading::Compared},
};

/// Interval at which the reader compares all revisions, the same as in the real agent.
const COMPARE_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before a comparison is repeated because its result was inconclusive. The same as in the real agent.
const SECOND_CHECK: Duration = Duration::from_secs(2);
/// Delay before the agent writes the note that identifies the store after a restart. The same as in the real agent.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the writer audits the status keys. It is much shorter than in the real agent, so that runs are short.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);
/// Timeout of a writer request.
const TIME_LIMIT: Duration = Duration::from_secs(3);

impl World {
    fn plan_read(&mut self, after: Duration, step: ReaderStep) {
        if let Some(agent) = &self.agent {
            let connection = agent.reader.connection;
            self.plan(after, Occurrence::Reader(self.life, connection, step));
        }
    }

    /// Executes a step on the reader's connection.
    pub(super) fn read(&mut self, connection: u64, step: ReaderStep) {
        let after = match step {
            ReaderStep::Connect => self.moment(Site::Listed),
            ReaderStep::Compare => self.moment(Site::Compared),
            _ => Duration::ZERO,
        };
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.reader;
        if connection != link.connection {
            return;
        }
        match step {
            ReaderStep::Connect if !self.store.reachable => self.cut_reader("the store is unreachable"),
            ReaderStep::Connect => {
                let listed = ReaderStep::Listed(self.store.revision, self.store.cluster_id, self.store.list());
                self.plan_read(after, listed);
            }
            ReaderStep::Listed(revision, cluster_id, items) => {
                link.established = Some(self.now);
                link.watched = Some(revision);
                let past = match link.reading.doubts(revision, cluster_id, &items) {
                    Some(earlier) => self.store.past(earlier),
                    None => Past::Unknown("the store's history was not needed".to_owned()),
                };
                link.reading.established(revision, cluster_id, items, &past);
                self.plan_delivery();
                self.plan_note();
                self.plan_read(COMPARE_INTERVAL, ReaderStep::Compare);
            }
            ReaderStep::Answer => self.answer_watch(),
            ReaderStep::Compare => {
                let keys = self.store.config.iter();
                let keys = keys.map(|(key, (revision, _))| (key.clone(), *revision)).collect();
                self.plan_read(after, ReaderStep::Compared(self.store.revision, keys));
            }
            ReaderStep::Compared(revision, keys) => match link.reading.compared(revision, keys) {
                Compared::Same => self.plan_read(COMPARE_INTERVAL, ReaderStep::Compare),
                Compared::InDoubt => self.plan_read(SECOND_CHECK, ReaderStep::Compare),
                Compared::Different => self.list_again(SnapshotReason::Difference),
            },
        }
    }

    /// Processes a watch response, which contains one or more revisions. Some responses repeat earlier revisions.
    fn answer_watch(&mut self) {
        let partly = self.choices.choose(Site::PartialAnswer, 30);
        let again = self.choices.choose(Site::RepeatedAnswer, 10);
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.reader;
        link.answering = false;
        let Some(watched) = link.watched else { return };
        let until = match self.store.next_revision(watched) {
            Some(next) if partly => next,
            _ => self.store.revision,
        };
        let from = if again && self.store.since(watched - 2, until).is_some() {
            watched - 2
        } else {
            watched
        };
        match self.store.since(from, until) {
            None => self.list_again(SnapshotReason::Compacted),
            Some(changes) => {
                link.watched = Some(until);
                if !std::mem::take(&mut self.losing_watch) {
                    link.reading.watched(changes);
                }
                self.plan_delivery();
                self.plan_note();
            }
        }
    }

    /// Plans a watch response if there are new revisions.
    pub(super) fn wake_reader(&mut self) {
        let revision = self.store.config_revision;
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.reader;
        if link.watched.is_some_and(|watched| watched < revision) && !std::mem::replace(&mut link.answering, true) {
            let after = self.moment(Site::WatchAnswer);
            self.plan_read(after, ReaderStep::Answer);
        }
    }

    fn plan_delivery(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if !std::mem::replace(&mut agent.reader.delivering, true) {
            let after = self.moment(Site::Deliver);
            self.plan(after, Occurrence::Deliver(self.life));
        }
    }

    /// Delivers the next desired values to the core.
    pub(super) fn deliver(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        agent.reader.delivering = false;
        let found = agent.reader.reading.take_events();
        agent.reader.buffer.post(found);
        if let Some(mut event) = agent.reader.buffer.take() {
            if let Some(mutation) = self.mutation {
                event = mutation.event(event, !agent.begun);
            }
            agent.begun |= matches!(event, SourceEvent::Snapshot { .. });
            let note = agent.reader.reading.note();
            let events = agent.following.take(event, note.as_ref(), &mut self.disk);
            events.into_iter().for_each(|event| self.event(event));
            self.plan_delivery();
        }
    }

    fn plan_note(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if !std::mem::replace(&mut agent.reader.noting, true) {
            self.plan(NOTE_INTERVAL, Occurrence::Note(self.life));
        }
    }

    /// Writes the note that identifies the store after a restart of the agent.
    pub(super) fn write_note(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        agent.reader.noting = false;
        agent.following.write_note(agent.reader.reading.note().as_ref(), &mut self.disk);
    }

    /// Lets the agent check whether it can stop holding removals.
    pub(super) fn judge_hold(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let note = agent.following.is_holding().then(|| agent.reader.reading.note()).flatten();
        let events = agent.following.judge(note.as_ref(), &mut self.disk);
        events.into_iter().for_each(|event| self.event(event));
    }

    fn list_again(&mut self, reason: SnapshotReason) {
        self.tell(|| format!("the reader lists again: {reason:?}"));
        if let Some(agent) = &mut self.agent {
            agent.reader.reading.list_again(reason);
        }
        self.reconnect_reader();
    }

    /// Cuts the reader's connection.
    pub(super) fn cut_reader(&mut self, why: &str) {
        if let Some(agent) = &mut self.agent {
            agent.reader.reading.lost(why.to_owned());
            self.plan_delivery();
            self.reconnect_reader();
        }
    }

    fn reconnect_reader(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.reader;
        link.connection += 1;
        (link.watched, link.answering) = (None, false);
        let worked = link.established.take().map_or(Duration::ZERO, |since| self.now - since);
        let after = link.backoff.after(worked);
        self.plan_read(after, ReaderStep::Connect);
    }

    fn plan_write(&mut self, after: Duration, step: WriterStep) {
        if let Some(agent) = &self.agent {
            let connection = agent.writer.connection;
            self.plan(after, Occurrence::Writer(self.life, connection, step));
        }
    }

    /// Executes a step on the writer's connection.
    ///
    /// A request arrives even if the writer lost its connection in the meantime. If the agent that sent the request has ended,
    /// however, the store cancels the request.
    pub(super) fn write(&mut self, life: u64, connection: u64, step: WriterStep) {
        if life != self.life {
            return;
        }
        if let WriterStep::Arrive(request, lease) = step {
            let answer = self.answer_request(request, lease);
            if let Some(answer) = answer {
                let after = self.moment(Site::WriterAnswer);
                self.plan(after, Occurrence::Writer(life, connection, WriterStep::Answer(answer)));
            }
            return;
        }
        let Some(agent) = self.agent.as_mut().filter(|_| life == self.life) else {
            return;
        };
        let link = &mut agent.writer;
        if connection != link.connection {
            return;
        }
        match step {
            WriterStep::Connect if !self.store.reachable => self.cut_writer(),
            WriterStep::Connect => {
                link.connected = true;
                link.lease_state.connected();
                self.send_requests();
                self.plan_write(TTL / 3, WriterStep::Renew);
                self.plan_write(AUDIT_INTERVAL, WriterStep::Audit);
            }
            WriterStep::Write => self.send_requests(),
            WriterStep::Deleted(_) | WriterStep::Audit if self.mutation == Some(Mutation::BelieveStatusStored) => {}
            WriterStep::Deleted(keys) => {
                keys.iter()
                    .for_each(|(key, revision)| agent.outbox.get().state.deleted(key, *revision));
                self.send_requests();
            }
            WriterStep::Audit => {
                link.lease_state.audit();
                self.send_requests();
                self.plan_write(AUDIT_INTERVAL, WriterStep::Audit);
            }
            WriterStep::Answer(answer) => self.take_answer(answer),
            WriterStep::Renew => {
                if std::mem::replace(&mut link.unanswered, true) {
                    return self.cut_writer();
                }
                let lease = link.lease_state.lease().unwrap_or_default();
                let after = self.moment(Site::Renewal);
                self.plan_write(after, WriterStep::RenewalArrives(lease));
                self.plan_write(TTL / 3, WriterStep::Renew);
            }
            WriterStep::RenewalArrives(lease) if self.store.reachable => {
                let answer = WriterAnswer::KeptAlive(self.store.renew(lease, self.now));
                self.plan_expiry();
                let after = self.moment(Site::RenewalAnswer);
                self.plan_write(after, WriterStep::Answer(answer));
            }
            WriterStep::Timeout => self.cut_writer(),
            WriterStep::Arrive(..) | WriterStep::RenewalArrives(_) => {}
        }
    }

    /// Plans a message that notifies the writer of newly deleted status keys.
    pub(super) fn wake_writer(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let Some(watched) = &mut agent.writer.watched else { return };
        let deleted = self.store.deleted_since(*watched);
        let Some((_, last)) = deleted.last() else { return };
        *watched = *last;
        let after = self.moment(Site::DeletionTold);
        self.plan_write(after, WriterStep::Deleted(deleted));
    }

    fn plan_expiry(&mut self) {
        self.plan(TTL + Duration::from_millis(1), Occurrence::Expire);
    }

    fn send_requests(&mut self) {
        loop {
            let Some(agent) = &mut self.agent else { return };
            let link = &mut agent.writer;
            if !link.connected {
                return;
            }
            let request = link.lease_state.next(&mut agent.outbox.get().state);
            let Some(request) = request else { return };
            let lease = link.lease_state.lease().unwrap_or_default();
            let mut after = self.choices.moment(Site::Request, self.calm_since.is_some());
            if self.calm_since.is_none() && self.scenario.slow_store && self.choices.choose(Site::HangingRequest, 3) {
                // The server hangs, and executes a received request only after the request has timed out.
                after = TIME_LIMIT + self.choices.millis(Site::LateRequest, 3000);
                self.plan_write(TIME_LIMIT, WriterStep::Timeout);
            }
            self.plan_write(after, WriterStep::Arrive(request, lease));
        }
    }

    /// Executes a request and returns the store's response, or `None` if the store is unreachable.
    fn answer_request(&mut self, request: Request, lease: i64) -> Option<WriterAnswer> {
        if !self.store.reachable {
            return None;
        }
        self.plan_expiry();
        Some(match request {
            Request::Renew(lease) => WriterAnswer::Renewed(self.store.renew(lease, self.now)),
            Request::Grant => WriterAnswer::Granted(self.store.grant(self.now)),
            Request::List => WriterAnswer::Listed(self.store.revision, self.store.list_status()),
            Request::Revoke(lease) => {
                self.store.revoke(lease);
                WriterAnswer::Revoked
            }
            Request::Write(batch) => {
                let completed = match self.store.write(lease, &batch) {
                    Some(true) => Completion::Written(self.store.revision),
                    Some(false) => Completion::NotAsLeft,
                    None => Completion::NotWritten,
                };
                WriterAnswer::Completion(batch, completed)
            }
        })
    }

    fn take_answer(&mut self, answer: WriterAnswer) {
        let now = self.now;
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.writer;
        let mut outbox = agent.outbox.get();
        let state = &mut outbox.state;
        let mut cut = false;
        match answer {
            WriterAnswer::Renewed(true) => link.lease_state.renewed(),
            WriterAnswer::Renewed(false) => link.lease_state.lease_gone(),
            WriterAnswer::Granted(lease) => link.lease_state.granted(lease),
            WriterAnswer::Listed(revision, found) => {
                link.lease_state.listed(state, found);
                link.watched.get_or_insert(revision);
                link.established.get_or_insert(now);
            }
            WriterAnswer::Revoked => link.lease_state.revoked(),
            WriterAnswer::Completion(batch, completed) => {
                link.lease_state.completed(state, batch, completed);
                cut = matches!(completed, Completion::NotWritten | Completion::Unknown);
            }
            WriterAnswer::KeptAlive(alive) => {
                link.unanswered = false;
                cut = !alive;
            }
        }
        drop(outbox);
        if cut {
            self.cut_writer();
        } else {
            self.send_requests();
        }
    }

    /// Cuts the writer's connection. Requests in flight may still arrive.
    pub(super) fn cut_writer(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let link = &mut agent.writer;
        if self.mutation != Some(Mutation::ForgetInterruption) {
            link.lease_state.interrupted(&mut agent.outbox.get().state);
        }
        link.connection += 1;
        (link.connected, link.unanswered, link.watched) = (false, false, None);
        let worked = link.established.take().map_or(Duration::ZERO, |since| self.now - since);
        let after = link.backoff.after(worked);
        self.plan_write(after, WriterStep::Connect);
    }
}

//! Keeps a lease alive over one session.

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};

use super::{Session, StoreError};

/// The renewal of a lease. Ask three times within the TTL, and await each answer.
pub struct Renewal {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    unanswered: bool,
}

impl Renewal {
    /// Renews the lease for the first time.
    ///
    /// # Errors
    /// [`LeaseNotFound`](super::StoreErrorKind::LeaseNotFound) if the lease is gone; others as [`Session::call`].
    pub async fn start(session: &Session, lease: i64) -> Result<Self, StoreError> {
        let mut client = session.lease();
        let (keeper, answers) = session.call("renewing the lease", client.keep_alive(lease)).await?;
        Ok(Renewal {
            keeper,
            answers,
            unanswered: false,
        })
    }

    /// Asks for another term.
    ///
    /// # Errors
    /// The previous request has no answer yet; others as [`Session::call`].
    pub async fn ask(&mut self, session: &Session) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.unanswered, true) {
            return Err(StoreError::protocol(session.endpoint(), "the renewal of the lease is not answered"));
        }
        session.call("renewing the lease", self.keeper.keep_alive()).await
    }

    /// Waits for the next answer. Cancel safe.
    ///
    /// # Errors
    /// The lease is gone, or the stream has ended.
    pub async fn answered(&mut self, session: &Session) -> Result<(), StoreError> {
        match self.answers.message().await {
            // The store answers the renewal of a lease that is gone with TTL 0, not with an error.
            Ok(Some(answer)) if answer.ttl() > 0 => self.unanswered = false,
            Ok(Some(_)) => return Err(StoreError::lease_lost(session.endpoint())),
            Ok(None) => return Err(StoreError::protocol(session.endpoint(), "it closed the renewal of the lease")),
            Err(error) => return Err(session.stream_error("renewing the lease", &error)),
        }
        Ok(())
    }
}

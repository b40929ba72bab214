//! Renews a lease over one session with the store.

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};

use super::{Session, StoreError};

/// Keep-alive stream of a lease. Callers should renew the lease three times within its TTL and await each response.
pub struct Renewal {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    unanswered: bool,
}

impl Renewal {
    /// Opens a keep-alive stream and renews the lease for the first time.
    ///
    /// # Errors
    /// Fails with [`LeaseNotFound`](super::StoreErrorKind::LeaseNotFound) if the lease no longer exists, or with an error of
    /// [`Session::call`].
    pub async fn start(session: &Session, lease: i64) -> Result<Self, StoreError> {
        let mut client = session.lease();
        let (keeper, answers) = session.call("renewing the lease", client.keep_alive(lease)).await?;
        Ok(Renewal {
            keeper,
            answers,
            unanswered: false,
        })
    }

    /// Sends a request to renew the lease.
    ///
    /// # Errors
    /// Fails if the response to the previous request has not arrived yet, or with an error of [`Session::call`].
    pub async fn ask(&mut self, session: &Session) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.unanswered, true) {
            return Err(StoreError::protocol(
                session.endpoint(),
                "the store has not responded to the previous renewal",
            ));
        }
        session.call("renewing the lease", self.keeper.keep_alive()).await
    }

    /// Waits for the response to a renewal. Cancel safe.
    ///
    /// # Errors
    /// Fails if the lease no longer exists or the stream has ended.
    pub async fn answered(&mut self, session: &Session) -> Result<(), StoreError> {
        match self.answers.message().await {
            // If the lease no longer exists, etcd responds with TTL 0 instead of an error.
            Ok(Some(answer)) if answer.ttl() > 0 => self.unanswered = false,
            Ok(Some(_)) => return Err(StoreError::lease_lost(session.endpoint())),
            Ok(None) => {
                return Err(StoreError::protocol(
                    session.endpoint(),
                    "the store closed the keep-alive stream of the lease",
                ));
            }
            Err(error) => return Err(session.stream_error("renewing the lease", &error)),
        }
        Ok(())
    }
}

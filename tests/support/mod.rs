<<<<<<< HEAD
//! What the tests share.
pub mod etcd;
=======
//! What several integration tests share.

pub mod docker;
>>>>>>> signals

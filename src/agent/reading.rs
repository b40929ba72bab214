//! Reads namespaces for the APIs through the netns executor. Never opens or closes a namespace.

use std::{future::Future, pin::Pin};

use crate::api::retrieval::{Contents, KernelReader, Readings};
use netns_kernel::{Executor, FailureKind, KernelOp, NetnsId, Reply, Task};

impl KernelReader for Executor {
    fn read(&self, namespaces: Vec<NetnsId>) -> Pin<Box<dyn Future<Output = Readings> + Send + '_>> {
        let task = |(id, op): (u64, KernelOp)| Task {
            id,
            key: "for an API response".to_owned(),
            ops: vec![op],
        };
        let ops = namespaces
            .iter()
            .flat_map(|&netns| [KernelOp::DumpNamespace { netns }, KernelOp::ReadLinks { netns }]);
        let tasks: Vec<Task> = (0..).zip(ops).map(task).collect();
        Box::pin(async move {
            let mut outcomes = self.perform(tasks).await.into_iter();
            let mut readings = Vec::new();
            for netns in namespaces {
                let (Some(contents), Some(links)) = (outcomes.next(), outcomes.next()) else {
                    break;
                };
                let read = match (contents.result, links.result) {
                    (Ok(Reply::Contents(snapshot)), Ok(Reply::Links(links))) => Ok(Contents {
                        snapshot: *snapshot,
                        links,
                    }),
                    // The namespace has been closed since the request, so it contains no managed objects.
                    (Err(failure), _) | (_, Err(failure)) if failure.kind == FailureKind::Unavailable => Ok(Contents::default()),
                    (Err(failure), _) | (_, Err(failure)) => Err(failure.message),
                    (Ok(other), _) => Err(format!("unexpected reply {other:?}")),
                };
                readings.push((netns, read));
            }
            readings
        })
    }
}

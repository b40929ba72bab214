//! Node storage of a graph.
//!
//! Slots are allocated in blocks of a fixed size. Growing therefore never copies all nodes or leaves half of the memory unused.
//! The most recently freed slot is reused first.

use std::{
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// Number of nodes per block.
const BLOCK: usize = 128;

/// Id of a node. Ids are ordered by slot. An id is never reused for another key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct NodeId {
    place: u32,
    /// Version of the slot, which is the number of nodes that it has contained so far, including this node.
    version: NonZeroU32,
}

impl Default for NodeId {
    /// Returns an id that does not refer to any node.
    fn default() -> Self {
        NodeId {
            place: u32::MAX,
            version: NonZeroU32::MIN,
        }
    }
}

/// Slot for a node. The version comes first so that it is close to the fields of the node that are read first.
#[derive(Clone)]
#[repr(C)]
struct Place<N> {
    /// Version of the current node or, if the slot is free, of the next one. Zero marks a slot that is never used again, because
    /// no id has this version.
    version: u32,
    node: Option<N>,
}

/// Nodes, indexed by id.
#[derive(Clone)]
pub(super) struct Nodes<N> {
    blocks: Vec<Vec<Place<N>>>,
    free: Vec<u32>,
}

impl<N> Nodes<N> {
    pub fn new() -> Self {
        Nodes {
            blocks: Vec::new(),
            free: Vec::new(),
        }
    }

    pub fn insert(&mut self, node: N) -> NodeId {
        while let Some(number) = self.free.pop() {
            let place = &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK];
            if let Some(version) = NonZeroU32::new(place.version) {
                place.node = Some(node);
                return NodeId { place: number, version };
            }
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut().expect("a block was added above");
        let version = NonZeroU32::MIN;
        // 2^32 nodes would take hundreds of gigabytes of memory.
        let place = u32::try_from(before + block.len()).expect("there are fewer than 2^32 nodes");
        block.push(Place {
            version: version.get(),
            node: Some(node),
        });
        NodeId { place, version }
    }

    pub fn remove(&mut self, id: NodeId) -> Option<N> {
        let place = self.blocks.get_mut(id.place as usize / BLOCK)?.get_mut(id.place as usize % BLOCK)?;
        if place.version != id.version.get() {
            return None;
        }
        // No id has the new version until the slot is reused, so the old id no longer finds a node.
        place.version = place.version.wrapping_add(1);
        self.free.push(id.place);
        place.node.take()
    }

    pub fn get(&self, id: NodeId) -> Option<&N> {
        let place = self.blocks.get(id.place as usize / BLOCK)?.get(id.place as usize % BLOCK)?;
        place.node.as_ref().filter(|_| place.version == id.version.get())
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut N> {
        let place = self.blocks.get_mut(id.place as usize / BLOCK)?.get_mut(id.place as usize % BLOCK)?;
        let is_here = place.version == id.version.get();
        place.node.as_mut().filter(|_| is_here)
    }
}

impl<N> Index<NodeId> for Nodes<N> {
    type Output = N;

    fn index(&self, id: NodeId) -> &N {
        self.get(id).expect("the node has been dropped")
    }
}

impl<N> IndexMut<NodeId> for Nodes<N> {
    fn index_mut(&mut self, id: NodeId) -> &mut N {
        self.get_mut(id).expect("the node has been dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reused_place_invalidates_the_former_id() {
        let mut nodes = Nodes::new();
        let ids: Vec<NodeId> = (0..3 * BLOCK).map(|number| nodes.insert(number)).collect();
        assert!(ids.is_sorted(), "ids must be in slot allocation order");
        assert_eq!(nodes.remove(ids[BLOCK]), Some(BLOCK));
        assert!(nodes.remove(ids[BLOCK]).is_none() && nodes.get(ids[BLOCK]).is_none());
        let again = nodes.insert(7);
        assert_eq!((nodes.get(again), nodes.get(ids[BLOCK])), (Some(&7), None));
        assert!(ids[BLOCK] < again && again < ids[BLOCK + 1], "the slot must be reused");
        assert_eq!(nodes.blocks.len(), 3);
        assert_eq!(nodes[ids[3 * BLOCK - 1]], 3 * BLOCK - 1);
    }
}

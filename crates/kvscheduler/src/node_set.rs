//! Set type for nodes. Most sets are tiny, but some are very large.

use std::{
    collections::{BTreeSet, btree_set},
    slice,
};

use super::nodes::NodeId;

/// Largest set size that fits into half a cache line, including the number of members. Most sets are not larger.
const FEW: usize = 3;
/// Largest set size at which shifting list entries is faster than searching a tree.
const SEVERAL: usize = 32;

/// Set of nodes, ordered by id.
///
/// Most nodes have few or no neighbours, but a hub may have very many. An empty set takes one word, and a small set takes half a
/// cache line more. Each operation takes at most logarithmic time.
#[derive(Clone, Default)]
pub(super) struct NodeSet(Option<Box<Members>>);

#[derive(Clone)]
enum Members {
    /// Number of members, followed by the members in sorted order.
    Few(u8, [NodeId; FEW]),
    /// Members in sorted order.
    Several(Vec<NodeId>),
    Many(BTreeSet<NodeId>),
}

impl NodeSet {
    /// Adds a node. Returns `true` if it was not in the set before.
    pub fn insert(&mut self, id: NodeId) -> bool {
        match self.0.get_or_insert_with(|| Box::new(Members::Few(0, Default::default()))).as_mut() {
            Members::Many(many) => many.insert(id),
            Members::Several(several) => {
                let Err(at) = several.binary_search(&id) else {
                    return false;
                };
                several.insert(at, id);
                if several.len() > SEVERAL {
                    let many = several.iter().copied().collect();
                    self.0 = Some(Box::new(Members::Many(many)));
                }
                true
            }
            Members::Few(count, few) => {
                let length = usize::from(*count);
                let Err(at) = few[..length].binary_search(&id) else {
                    return false;
                };
                if length < FEW {
                    few.copy_within(at..length, at + 1);
                    few[at] = id;
                    *count += 1;
                } else {
                    let mut several = Vec::with_capacity(2 * FEW);
                    several.extend_from_slice(few);
                    several.insert(at, id);
                    self.0 = Some(Box::new(Members::Several(several)));
                }
                true
            }
        }
    }

    /// Removes a node. Returns `true` if it was in the set.
    pub fn remove(&mut self, id: &NodeId) -> bool {
        let (removed, empty) = match self.0.as_deref_mut() {
            None => return false,
            Some(Members::Many(many)) => (many.remove(id), many.is_empty()),
            Some(Members::Several(several)) => {
                let Ok(at) = several.binary_search(id) else {
                    return false;
                };
                several.remove(at);
                (true, several.is_empty())
            }
            Some(Members::Few(count, few)) => {
                let length = usize::from(*count);
                let Ok(at) = few[..length].binary_search(id) else {
                    return false;
                };
                few.copy_within(at + 1..length, at);
                *count -= 1;
                (true, *count == 0)
            }
        };
        if empty {
            self.0 = None;
        }
        removed
    }

    pub fn contains(&self, id: &NodeId) -> bool {
        match self.0.as_deref() {
            None => false,
            Some(Members::Few(count, few)) => few[..usize::from(*count)].contains(id),
            Some(Members::Several(several)) => several.binary_search(id).is_ok(),
            Some(Members::Many(many)) => many.contains(id),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn iter(&self) -> Iter<'_> {
        match self.0.as_deref() {
            None => Iter::Few([].iter()),
            Some(Members::Few(count, few)) => Iter::Few(few[..usize::from(*count)].iter()),
            Some(Members::Several(several)) => Iter::Few(several.iter()),
            Some(Members::Many(many)) => Iter::Many(many.iter()),
        }
    }
}

/// Iterator over a [`NodeSet`], in id order.
pub(super) enum Iter<'a> {
    Few(slice::Iter<'a, NodeId>),
    Many(btree_set::Iter<'a, NodeId>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a NodeId;

    fn next(&mut self) -> Option<&'a NodeId> {
        match self {
            Iter::Few(few) => few.next(),
            Iter::Many(many) => many.next(),
        }
    }
}

impl<'a> IntoIterator for &'a NodeSet {
    type Item = &'a NodeId;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Extend<NodeId> for NodeSet {
    fn extend<I: IntoIterator<Item = NodeId>>(&mut self, nodes: I) {
        for id in nodes {
            self.insert(id);
        }
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut set = NodeSet::default();
        set.extend(nodes);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{super::nodes::Nodes, *};

    #[test]
    fn set_stays_sorted_without_duplicates_while_it_grows_and_shrinks() {
        let mut slots = Nodes::new();
        let ids: Vec<NodeId> = (0..2 * SEVERAL).map(|_| slots.insert(())).collect();
        let mut set = NodeSet::default();
        for id in ids.iter().rev().chain(&ids) {
            set.insert(*id);
        }
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), ids);
        let several: NodeSet = ids[..2 * FEW].iter().rev().copied().collect();
        assert_eq!(several.iter().copied().collect::<Vec<_>>(), ids[..2 * FEW]);
        let none = ids[..2 * FEW].iter().fold(several, |mut set, id| {
            assert!(set.contains(id) && set.remove(id) && !set.remove(id) && !set.contains(id));
            set
        });
        assert!(none.is_empty());
        for id in &ids[1..] {
            assert!(set.contains(id) && set.remove(id) && !set.remove(id));
        }
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), ids[..1]);
        assert!(set.remove(&ids[0]) && set.is_empty());
    }
}

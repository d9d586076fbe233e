//! A tree over tokens: which stored prompts does this one begin with?
//!
//! A radix tree: an edge carries a run of keys, and nodes stand where prompts part or where a
//! value is stored. Ids of nodes with values stay the same while others come and go.

use std::collections::BTreeMap;

use super::Key;

/// Names a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(usize);

const ROOT: NodeId = NodeId(0);

#[derive(Debug)]
struct Node<T> {
    parent: NodeId,
    /// From the parent to here.
    edge: Vec<Key>,
    /// By the first key of their edges.
    children: BTreeMap<Key, NodeId>,
    /// Keys from the root to here.
    depth: usize,
    value: Option<T>,
}

/// Values by prompt.
#[derive(Debug)]
pub(crate) struct Tree<T> {
    nodes: Vec<Option<Node<T>>>,
    free: Vec<NodeId>,
    /// Keys on all edges.
    keys: usize,
}

/// How far a prompt goes along with what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Nodes with values on the way, shallow ones first.
    pub(crate) values: Vec<NodeId>,
    /// Keys that are the same.
    pub(crate) matched: usize,
    /// What another prompt has at the place where this one parts from it, if it does.
    pub(crate) other: Option<Key>,
}

impl<T> Tree<T> {
    pub(crate) fn new() -> Self {
        let root = Node {
            parent: ROOT,
            edge: Vec::new(),
            children: BTreeMap::new(),
            depth: 0,
            value: None,
        };
        Self {
            nodes: vec![Some(root)],
            free: Vec::new(),
            keys: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The keys it stores, as a measure of its memory.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    pub(crate) fn depth(&self, id: NodeId) -> usize {
        self.node(id).depth
    }

    pub(crate) fn value(&self, id: NodeId) -> Option<&T> {
        self.nodes.get(id.0)?.as_ref()?.value.as_ref()
    }

    pub(crate) fn value_mut(&mut self, id: NodeId) -> Option<&mut T> {
        self.nodes.get_mut(id.0)?.as_mut()?.value.as_mut()
    }

    /// Whether prompts part behind this node.
    pub(crate) fn is_fork(&self, id: NodeId) -> bool {
        self.node(id).children.len() > 1
    }

    /// Nodes with values.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        let ids = self.nodes.iter().enumerate();
        ids.filter(|(_, node)| node.as_ref().is_some_and(|node| node.value.is_some()))
            .map(|(at, _)| NodeId(at))
    }

    /// Follows a prompt.
    pub(crate) fn walk(&self, keys: &[Key]) -> Walk {
        let mut walk = Walk {
            values: Vec::new(),
            matched: 0,
            other: None,
        };
        let mut at = ROOT;
        loop {
            let node = self.node(at);
            if node.value.is_some() {
                walk.values.push(at);
            }
            let rest = &keys[walk.matched..];
            let Some(first) = rest.first() else {
                return walk;
            };
            let Some(&child) = node.children.get(first) else {
                walk.other = node.children.keys().next().copied();
                return walk;
            };
            let edge = &self.node(child).edge;
            let common = common_prefix(edge, rest);
            walk.matched += common;
            if common < edge.len() {
                walk.other = (common < rest.len()).then(|| edge[common]);
                return walk;
            }
            at = child;
        }
    }

    /// The node of exactly this prompt, made if there is none.
    pub(crate) fn insert(&mut self, keys: &[Key]) -> NodeId {
        let mut at = ROOT;
        let mut done = 0;
        while done < keys.len() {
            let rest = &keys[done..];
            let Some(&child) = self.node(at).children.get(&rest[0]) else {
                self.keys += rest.len();
                return self.add(at, rest.to_vec());
            };
            let common = common_prefix(&self.node(child).edge, rest);
            at = if common < self.node(child).edge.len() {
                self.split(child, common)
            } else {
                child
            };
            done += common;
        }
        at
    }

    /// Sets a node's value; returns the old one.
    pub(crate) fn set(&mut self, id: NodeId, value: T) -> Option<T> {
        self.node_mut(id).value.replace(value)
    }

    /// Takes a node's value, and away what of the tree was only there for it.
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<T> {
        let value = self.node_mut(id).value.take();
        let mut at = id;
        while at != ROOT && self.node(at).value.is_none() && self.node(at).children.is_empty() {
            let parent = self.node(at).parent;
            let first = self.node(at).edge[0];
            self.node_mut(parent).children.remove(&first);
            self.keys -= self.node(at).edge.len();
            self.nodes[at.0] = None;
            self.free.push(at);
            at = parent;
        }
        self.join(at);
        value
    }

    /// The prompt of a node.
    pub(crate) fn keys_of(&self, id: NodeId) -> Vec<Key> {
        let mut edges = Vec::new();
        let mut at = id;
        while at != ROOT {
            edges.push(&self.node(at).edge);
            at = self.node(at).parent;
        }
        edges.into_iter().rev().flatten().copied().collect()
    }

    /// Checks that edges, depths and counts agree.
    ///
    /// # Panics
    /// If they do not.
    pub(crate) fn assert_consistent(&self) {
        let mut keys = 0;
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else {
                assert!(self.free.contains(&NodeId(at)), "empty places are free");
                continue;
            };
            keys += node.edge.len();
            for (first, &child) in &node.children {
                let child_node = self.node(child);
                assert_eq!(
                    child_node.edge.first(),
                    Some(first),
                    "children by first key"
                );
                assert_eq!(child_node.parent, NodeId(at), "children know their parent");
                assert_eq!(
                    child_node.depth,
                    node.depth + child_node.edge.len(),
                    "depth"
                );
            }
            if at != ROOT.0 {
                let is_needed = node.value.is_some() || node.children.len() > 1;
                assert!(is_needed, "nodes have values or are forks");
            }
        }
        assert_eq!(keys, self.keys, "keys are counted");
    }

    fn node(&self, id: NodeId) -> &Node<T> {
        self.nodes[id.0].as_ref().expect("ids of nodes that exist")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<T> {
        self.nodes[id.0].as_mut().expect("ids of nodes that exist")
    }

    fn add(&mut self, parent: NodeId, edge: Vec<Key>) -> NodeId {
        let node = Node {
            parent,
            depth: self.node(parent).depth + edge.len(),
            children: BTreeMap::new(),
            value: None,
            edge,
        };
        let first = node.edge[0];
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id.0] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() - 1)
            }
        };
        self.node_mut(parent).children.insert(first, id);
        id
    }

    /// Puts a node on the edge to `child`, `at` keys behind its start.
    fn split(&mut self, child: NodeId, at: usize) -> NodeId {
        let parent = self.node(child).parent;
        let tail = self.node_mut(child).edge.split_off(at);
        let head = std::mem::take(&mut self.node_mut(child).edge);
        let middle = self.add(parent, head);
        self.node_mut(middle).children.insert(tail[0], child);
        let node = self.node_mut(child);
        node.edge = tail;
        node.parent = middle;
        middle
    }

    /// Takes a node out that has one child and no value.
    fn join(&mut self, id: NodeId) {
        let node = self.node(id);
        if id == ROOT || node.value.is_some() || node.children.len() != 1 {
            return;
        }
        let (Some(&child), parent) = (node.children.values().next(), node.parent) else {
            return;
        };
        let mut edge = std::mem::take(&mut self.node_mut(id).edge);
        let first = edge[0];
        edge.append(&mut self.node_mut(child).edge);
        let node = self.node_mut(child);
        node.edge = edge;
        node.parent = parent;
        self.node_mut(parent).children.insert(first, child);
        self.nodes[id.0] = None;
        self.free.push(id);
    }
}

fn common_prefix(a: &[Key], b: &[Key]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn keys(tokens: &[u32]) -> Vec<Key> {
        tokens.iter().map(|&token| Key::text(token)).collect()
    }

    #[test]
    fn walks_tell_where_prompts_part() {
        let mut tree = Tree::new();
        for (prompt, value) in [
            (&[1, 2, 3][..], 'a'),
            (&[1, 2, 3, 4, 5], 'b'),
            (&[1, 9], 'c'),
        ] {
            let id = tree.insert(&keys(prompt));
            tree.set(id, value);
            tree.assert_consistent();
        }
        let check = |prompt: &[u32], values: &str, matched, other: Option<u32>| {
            let walk = tree.walk(&keys(prompt));
            let found: String = walk
                .values
                .iter()
                .filter_map(|&id| tree.value(id))
                .collect();
            assert_eq!(
                (found.as_str(), walk.matched),
                (values, matched),
                "{prompt:?}"
            );
            assert_eq!(walk.other, other.map(Key::text), "{prompt:?}");
        };
        check(&[1, 2, 3, 4, 5, 6], "ab", 5, None);
        check(&[1, 2, 3, 4], "a", 4, None);
        check(&[1, 2, 3, 4, 7], "a", 4, Some(5));
        check(&[1, 2, 3, 7], "a", 3, Some(4));
        check(&[1, 2, 7], "", 2, Some(3));
        check(&[7], "", 0, Some(1));
        check(&[], "", 0, None);
    }

    proptest! {
        /// The same as a map of prompts, whatever is put in and taken out.
        #[test]
        fn is_a_map_of_prompts(
            steps in prop::collection::vec((prop::collection::vec(0u32..3, 0..8), any::<bool>()), 1..60)
        ) {
            let mut tree = Tree::new();
            let mut map: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
            let mut ids = BTreeMap::new();
            for (index, (prompt, is_insert)) in steps.into_iter().enumerate() {
                if prompt.is_empty() {
                    continue;
                }
                if is_insert {
                    let id = tree.insert(&keys(&prompt));
                    prop_assert_eq!(tree.set(id, index), map.insert(prompt.clone(), index));
                    ids.insert(prompt.clone(), id);
                } else if let Some(id) = ids.remove(&prompt) {
                    prop_assert_eq!(tree.remove(id), map.remove(&prompt));
                }
                tree.assert_consistent();
                for (prompt, &id) in &ids {
                    prop_assert_eq!(tree.keys_of(id), keys(prompt));
                    prop_assert_eq!(tree.depth(id), prompt.len());
                }
                let expected: Vec<usize> = (0..=prompt.len())
                    .filter_map(|len| map.get(&prompt[..len]).copied())
                    .collect();
                let walk = tree.walk(&keys(&prompt));
                let found: Vec<usize> =
                    walk.values.iter().filter_map(|&id| tree.value(id).copied()).collect();
                prop_assert_eq!(found, expected);
                let common = map.keys().map(|other| {
                    other.iter().zip(&prompt).take_while(|(a, b)| a == b).count()
                });
                prop_assert_eq!(walk.matched, common.max().unwrap_or(0));
            }
        }
    }
}

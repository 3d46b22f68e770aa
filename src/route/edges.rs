//! The edges of a trie in one hash table: (parent, segment) → child.
//!
//! A walk costs one look-up per segment, whatever the number of routes, and hashes each byte of a request once. A map
//! per node would scatter 10,000 routes over as many allocations; a map keyed by whole prefixes would hash a path once
//! per segment. The table is built from the configuration and only read afterwards, so requests cannot lengthen its
//! chains, and a plain FNV-1a hash (no key, few instructions for short segments) is enough.

/// A node of a trie; the roots are made by [`Edges::node`], too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(u32);

impl Node {
    /// For tables with a row per node.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How segments are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// Paths.
    Matters,
    /// Hosts; ASCII only.
    Ignored,
}

/// One edge of the trie.
#[derive(Debug)]
struct Edge {
    parent: Node,
    child: Node,
    segment: Box<[u8]>,
}

/// All edges of a trie, open addressing with linear probing, at most half full.
#[derive(Debug)]
pub(super) struct Edges {
    case: Case,
    nodes: u32,
    used: usize,
    /// Length zero, or a power of two.
    slots: Vec<Option<Edge>>,
}

impl Edges {
    pub(super) fn new(case: Case) -> Self {
        Self { case, nodes: 0, used: 0, slots: Vec::new() }
    }

    /// A new node without a parent.
    pub(super) fn node(&mut self) -> Node {
        self.nodes += 1;
        Node(self.nodes - 1)
    }

    /// Whether there is no edge at all.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The child of `parent` at `segment`.
    #[inline]
    pub(super) fn child(&self, parent: Node, segment: &[u8]) -> Option<Node> {
        if self.is_empty() {
            return None;
        }
        self.slots[self.slot(parent, segment)].as_ref().map(|edge| edge.child)
    }

    /// The child of `parent` at `segment`, made if there is none.
    pub(super) fn child_or_new(&mut self, parent: Node, segment: &[u8]) -> Node {
        if let Some(child) = self.child(parent, segment) {
            return child;
        }
        let child = self.node();
        self.insert(Edge { parent, child, segment: segment.into() });
        child
    }

    fn insert(&mut self, edge: Edge) {
        if (self.used + 1) * 2 > self.slots.len() {
            let doubled = (self.slots.len() * 2).max(8);
            let old = std::mem::replace(&mut self.slots, (0..doubled).map(|_| None).collect());
            self.used = 0;
            for edge in old.into_iter().flatten() {
                self.insert(edge);
            }
        }
        let slot = self.slot(edge.parent, &edge.segment);
        self.slots[slot] = Some(edge);
        self.used += 1;
    }

    /// The slot that holds this edge, or the free one where it belongs. The table must not be empty.
    #[inline]
    fn slot(&self, parent: Node, segment: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let hash = match self.case {
            Case::Matters => hash(parent, segment.iter().copied()),
            Case::Ignored => hash(parent, segment.iter().map(u8::to_ascii_lowercase)),
        };
        let mut slot = hash as usize & mask;
        while let Some(edge) = &self.slots[slot] {
            if edge.parent == parent && self.same(&edge.segment, segment) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[inline]
    fn same(&self, one: &[u8], other: &[u8]) -> bool {
        match self.case {
            Case::Matters => one == other,
            Case::Ignored => one.eq_ignore_ascii_case(other),
        }
    }
}

/// FNV-1a, begun with the parent; the fold at the end brings the upper bits down to the mask.
#[inline]
fn hash(parent: Node, segment: impl Iterator<Item = u8>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = segment.fold((BASIS ^ u64::from(parent.0)).wrapping_mul(PRIME), |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    hash ^ (hash >> 32)
}

//! Toy domain for the benchmark. Its values have dependencies like those of a real configuration, and its descriptor does almost
//! no work.

use std::sync::Arc;

use kvscheduler::{Change, Comparison, DeleteCause, Dependency, Descriptor, Difference, Domain, Effect, Refusal, View};

/// Key of a toy value. Clones share the text.
pub type Key = Arc<str>;

/// Toy value. Clones share the dependencies and derived values.
#[derive(Clone, Debug)]
pub struct Toy {
    /// Content of the value. A value whose content changes must be updated.
    pub content: u32,
    links: Arc<Links>,
}

#[derive(Debug, Default)]
struct Links {
    needs: Box<[Key]>,
    needs_any: Option<Key>,
    derives: Box<[Key]>,
    implies: Option<Key>,
}

impl Toy {
    fn new(content: u32, links: Links) -> Self {
        Toy {
            content,
            links: Arc::new(links),
        }
    }

    /// Creates a value without dependencies.
    pub fn plain(content: u32) -> Self {
        Toy::new(content, Links::default())
    }

    /// Creates a value that depends on one other value.
    pub fn needing(content: u32, need: Key) -> Self {
        let needs = [need].into();
        Toy::new(content, Links { needs, ..Links::default() })
    }

    /// Creates a value that needs at least one value with the given prefix.
    pub fn needing_any(content: u32, prefix: Key) -> Self {
        let needs_any = Some(prefix);
        Toy::new(
            content,
            Links {
                needs_any,
                ..Links::default()
            },
        )
    }
}

/// Domain with one descriptor for all keys except properties (`state/…`) and facts.
#[derive(Clone)]
pub struct ToyDomain;

/// Operation without content, because the benchmark does not perform operations.
#[derive(Clone, Debug)]
pub struct Something;

impl Domain for ToyDomain {
    type Key = Key;
    type Value = Toy;
    type Operation = Something;

    fn descriptor(&self, key: &Key) -> Option<&dyn Descriptor<Self>> {
        let known = !key.starts_with("linux/interface/state/") && !key.starts_with("fact/");
        known.then_some(self)
    }
}

impl Descriptor<ToyDomain> for ToyDomain {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn compare(&self, _: &Key, applied: &Toy, desired: &Toy) -> Comparison {
        let differs = applied.content != desired.content;
        differs
            .then(|| Difference::in_place("the content was changed"))
            .into_iter()
            .collect()
    }

    fn dependencies(&self, _: &Key, value: &Toy) -> Vec<Dependency<Key>> {
        let named = value.links.needs.iter().map(|need| Dependency::key("needs", need.clone()));
        let any = value
            .links
            .needs_any
            .iter()
            .map(|prefix| Dependency::any_of("needs-any", vec![prefix.clone()], "anything below", None));
        named.chain(any).collect()
    }

    fn derived(&self, _: &Key, value: &Toy) -> Vec<(Key, Toy)> {
        value.links.derives.iter().map(|key| (key.clone(), Toy::plain(0))).collect()
    }

    fn implied(&self, _: &Key, value: &Toy) -> Vec<(Key, Toy)> {
        value.links.implies.iter().map(|key| (key.clone(), Toy::plain(0))).collect()
    }

    fn create(&self, _: &Key, _: &Toy, _: &View<'_, ToyDomain>) -> Result<Effect<Something>, Refusal> {
        Ok(Effect::one(Something))
    }

    fn update(&self, _: &Key, _: &Toy, _: &Toy, _: &View<'_, ToyDomain>) -> Result<Effect<Something>, Refusal> {
        Ok(Effect::one(Something))
    }

    fn delete(&self, _: &Key, _: &Toy, _: DeleteCause, _: &View<'_, ToyDomain>) -> Effect<Something> {
        Effect::one(Something)
    }
}

/// Number of values in a `Cell`.
pub const CELL: usize = 10;
/// Number of cells that share a namespace.
const CELLS_IN_NAMESPACE: usize = 100;

/// Group of ten values with dependencies. Two values are the ends of a veth pair. Each end depends on the other end and on a
/// namespace that many cells share. Each end has a derived address and a derived state, and a route and an ARP entry that need
/// them. The remaining four values form a chain that starts at one of the two ends. Creating a cell takes twelve operations.
struct Cell(usize);

impl Cell {
    fn interface(&self, end: &str) -> Key {
        Key::from(format!("config/linux/interfaces/v2/interface/{end}{:07}", self.0))
    }

    fn end(&self, content: u32, end: &str, other: &str) -> (Key, Toy) {
        let namespace = Key::from(format!("linux/namespace/NSID/ns{:05}", self.0 / CELLS_IN_NAMESPACE));
        let links = Links {
            needs: [namespace.clone(), self.interface(other)].into(),
            derives: [
                Key::from(format!("linux/interface/address/{end}{:07}/10.0.0.1/24", self.0)),
                Key::from(format!("linux/interface/state/{end}{:07}/UP", self.0)),
            ]
            .into(),
            implies: Some(namespace),
            needs_any: None,
        };
        (self.interface(end), Toy::new(content, links))
    }

    fn above(&self, content: u32, end: &str, key: String) -> (Key, Toy) {
        let links = Links {
            needs: [Key::from(format!("linux/interface/state/{end}{:07}/UP", self.0))].into(),
            needs_any: Some(Key::from(format!("linux/interface/address/{end}{:07}/", self.0))),
            ..Links::default()
        };
        (Key::from(key), Toy::new(content, links))
    }

    fn chained(&self, content: u32, position: usize) -> (Key, Toy) {
        let link = |position: usize| Key::from(format!("config/toy/v1/link/{:07}/{position}", self.0));
        let need = match position {
            0 => self.interface("left"),
            _ => link(position - 1),
        };
        (link(position), Toy::needing(content, need))
    }

    fn value(&self, content: u32, position: usize) -> (Key, Toy) {
        let cell = self.0;
        match position {
            0 => self.end(content, "left", "right"),
            1 => self.end(content, "right", "left"),
            2 => self.above(content, "left", format!("config/linux/l3/v2/route/10.1.0.0/16/left{cell:07}")),
            3 => self.above(content, "right", format!("config/linux/l3/v2/route/10.1.0.0/16/right{cell:07}")),
            4 => self.above(content, "left", format!("config/linux/l3/v2/arp/left{cell:07}/10.0.0.2")),
            5 => self.above(content, "right", format!("config/linux/l3/v2/arp/right{cell:07}/10.0.0.2")),
            chained => self.chained(content, chained - 6),
        }
    }
}

/// Returns the key and the value at position `index` of the benchmark configuration.
pub fn value(index: usize, content: u32) -> (Key, Toy) {
    Cell(index / CELL).value(content, index % CELL)
}

/// Returns a change that sets a desired value.
pub fn put((key, value): (Key, Toy)) -> Change<Key, Toy> {
    Change {
        key,
        revision: 1,
        value: Some(Ok(value)),
    }
}

/// Returns a change that deletes a key from the desired state.
pub fn delete(key: Key) -> Change<Key, Toy> {
    Change {
        key,
        revision: 2,
        value: None,
    }
}

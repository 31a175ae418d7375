//! The loads of configuration and code that workers are made of: the one that holds, and during a reload
//! the one that is on trial, or the one to go back to.

use std::collections::BTreeMap;
use std::rc::Rc;

use arctos_worker::shared::identity::Generation;

use crate::monitor::fatal::Fatal;
use crate::monitor::revision::Revision;
use crate::process::privileges::Identity;

/// A load and who its workers run as.
pub(super) struct Loaded {
    pub(super) load: Revision,
    pub(super) identity: Identity,
}

impl Loaded {
    /// Looks up user and group.
    pub(super) fn resolve(load: Revision) -> Result<Self, Fatal> {
        let identity = Identity::resolve(&load.config.privileges)?;
        Ok(Self { load, identity })
    }
}

/// See the module.
pub(super) struct Generations {
    current: Generation,
    loads: BTreeMap<u32, Rc<Loaded>>,
}

impl Generations {
    /// A server starts with this one.
    pub(super) fn first(loaded: Loaded) -> Self {
        let current = Generation(1);
        Self { current, loads: BTreeMap::from([(current.0, Rc::new(loaded))]) }
    }

    /// The one that holds.
    pub(super) fn current(&self) -> Rc<Loaded> {
        self.of(self.current).expect("the current one is dropped last")
    }

    /// The number of the one that holds.
    pub(super) fn number(&self) -> Generation {
        self.current
    }

    /// That of a worker; `None` once it has been given up.
    pub(super) fn of(&self, generation: Generation) -> Option<Rc<Loaded>> {
        self.loads.get(&generation.0).cloned()
    }

    /// Another one is tried.
    pub(super) fn propose(&mut self, generation: Generation, loaded: Loaded) {
        self.loads.insert(generation.0, Rc::new(loaded));
    }

    /// It holds from now on; the one before is kept, to go back to.
    pub(super) fn adopt(&mut self, generation: Generation) {
        if self.loads.contains_key(&generation.0) {
            self.current = generation;
        }
    }

    /// It is given up.
    pub(super) fn discard(&mut self, generation: Generation) {
        if generation != self.current {
            self.loads.remove(&generation.0);
        }
    }

    /// A reload has ended: nobody goes back any more.
    pub(super) fn settle(&mut self) {
        let current = self.current.0;
        self.loads.retain(|number, _| *number == current);
    }
}

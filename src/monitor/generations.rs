//! The revisions that workers are made of: the one in service, and during a reload the one on trial, or the one to
//! go back to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use arctos_worker::shared::identity::Generation;

use crate::monitor::fatal::Fatal;
use crate::monitor::revision::Revision;
use crate::process::privileges::Identity;

/// A revision, and who its workers run as.
pub(super) struct ResolvedRevision {
    revision: Revision,
    pub(super) identity: Identity,
}

impl ResolvedRevision {
    /// Looks up user and group.
    pub(super) fn resolve(revision: Revision) -> Result<Self, Fatal> {
        let identity = Identity::resolve(&revision.config.privileges)?;
        Ok(Self { revision, identity })
    }
}

impl Deref for ResolvedRevision {
    type Target = Revision;

    fn deref(&self) -> &Revision {
        &self.revision
    }
}

/// See the module.
pub(super) struct Generations {
    current: Generation,
    revisions: BTreeMap<u32, Rc<ResolvedRevision>>,
}

impl Generations {
    /// A server starts with this one.
    pub(super) fn first(revision: ResolvedRevision) -> Self {
        let current = Generation(1);
        Self { current, revisions: BTreeMap::from([(current.0, Rc::new(revision))]) }
    }

    /// The one in service.
    pub(super) fn current(&self) -> Rc<ResolvedRevision> {
        self.of(self.current).expect("the current one is never removed")
    }

    /// The number of the one in service.
    pub(super) fn number(&self) -> Generation {
        self.current
    }

    /// That of a worker; `None` once it was discarded.
    pub(super) fn of(&self, generation: Generation) -> Option<Rc<ResolvedRevision>> {
        self.revisions.get(&generation.0).cloned()
    }

    /// Another one is on trial.
    pub(super) fn propose(&mut self, generation: Generation, revision: ResolvedRevision) {
        self.revisions.insert(generation.0, Rc::new(revision));
    }

    /// It is in service from now on. The one before is kept, to go back to.
    pub(super) fn adopt(&mut self, generation: Generation) {
        if self.revisions.contains_key(&generation.0) {
            self.current = generation;
        }
    }

    /// It is not needed any more.
    pub(super) fn discard(&mut self, generation: Generation) {
        if generation != self.current {
            self.revisions.remove(&generation.0);
        }
    }

    /// A reload has ended: nothing goes back any more.
    pub(super) fn settle(&mut self) {
        let current = self.current.0;
        self.revisions.retain(|number, _| *number == current);
    }
}

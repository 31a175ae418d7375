//! The revisions that workers are started from: the one in service, and during a reload also the new one on trial or
//! the old one to go back to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::Log;
use arctos_worker::tls::TlsConfig;

use super::certificates;
use crate::monitor::fatal::Fatal;
use crate::monitor::revision::Revision;
use crate::process::privileges::Identity;

/// A revision, the user and group of its workers, and its certificates and keys.
pub(super) struct ResolvedRevision {
    revision: Revision,
    pub(super) identity: Identity,
    pub(super) tls: Option<TlsConfig>,
}

impl ResolvedRevision {
    /// Looks up the user and group of a revision, and reads its certificates and keys.
    pub(super) fn resolve(revision: Revision, log: &Log) -> Result<Self, Fatal> {
        let identity = Identity::resolve(&revision.config.privileges)?;
        let tls = certificates::load(&revision.config, log)?;
        Ok(Self { revision, identity, tls })
    }
}

impl ResolvedRevision {
    /// Undoes a change that needs a restart: all workers of a server speak TLS, or none of them does.
    pub(super) fn keep_tls(&self, new: &mut Self) {
        if self.tls.is_some() != new.tls.is_some() {
            new.tls.clone_from(&self.tls);
        }
    }
}

impl Deref for ResolvedRevision {
    type Target = Revision;

    fn deref(&self) -> &Revision {
        &self.revision
    }
}

/// The revisions by generation.
pub(super) struct Generations {
    current: Generation,
    revisions: BTreeMap<u32, Rc<ResolvedRevision>>,
}

impl Generations {
    /// Returns the revisions of a server that starts with this one.
    pub(super) fn first(revision: ResolvedRevision) -> Self {
        let current = Generation(1);
        Self { current, revisions: BTreeMap::from([(current.0, Rc::new(revision))]) }
    }

    /// The revision in service.
    pub(super) fn current(&self) -> Rc<ResolvedRevision> {
        self.of(self.current).expect("the current generation is never removed")
    }

    /// The scheme of URLs at addresses of TCP.
    pub(super) fn scheme(&self) -> &'static str {
        if self.current().tls.is_some() { "https" } else { "http" }
    }

    /// The generation in service.
    pub(super) fn number(&self) -> Generation {
        self.current
    }

    /// The revision of a generation; `None` once it was discarded.
    pub(super) fn of(&self, generation: Generation) -> Option<Rc<ResolvedRevision>> {
        self.revisions.get(&generation.0).cloned()
    }

    /// Adds a revision that is on trial.
    pub(super) fn propose(&mut self, generation: Generation, revision: ResolvedRevision) {
        self.revisions.insert(generation.0, Rc::new(revision));
    }

    /// Puts a generation into service. Its predecessor is kept, because a reload may go back to it.
    pub(super) fn adopt(&mut self, generation: Generation) {
        if self.revisions.contains_key(&generation.0) {
            self.current = generation;
        }
    }

    /// Removes a generation that is not needed any more.
    pub(super) fn discard(&mut self, generation: Generation) {
        if generation != self.current {
            self.revisions.remove(&generation.0);
        }
    }

    /// Keeps only the generation in service, because a reload that has ended cannot go back any more.
    pub(super) fn settle(&mut self) {
        let current = self.current.0;
        self.revisions.retain(|number, _| *number == current);
    }
}

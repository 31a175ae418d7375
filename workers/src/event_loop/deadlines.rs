//! The deadlines of clients: one queue per kind of timeout, each of them sorted by construction.
//!
//! All deadlines of one kind are set the same [`std::time::Duration`] ahead, so a queue is sorted if new ones are
//! appended. A client has at most one deadline of each kind; setting it again moves it to the tail. Every operation
//! is O(1): the queues are doubly linked lists through arrays that are indexed by the client's place in the table.
//!
//! A deadline belongs to a token, not to a place: whoever removes a client from the table calls
//! [`Deadlines::clear_all`] first. A deadline that was left behind is removed when the next client of its place sets
//! one.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::connection::Timer;
use crate::event_loop::client_table::Token;

/// The maximum duration: adding it to an [`Instant`] cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The deadlines of all clients.
pub struct Deadlines {
    queues: [Queue; Timer::ALL.len()],
}

impl Deadlines {
    /// No deadlines. Those of each kind are set `duration(kind)` ahead.
    pub fn new(duration: impl Fn(Timer) -> Duration) -> Self {
        Self { queues: Timer::ALL.map(|timer| Queue::new(duration(timer).min(MAX_DURATION))) }
    }

    /// Sets or moves the deadline of this kind to `now` plus its duration. `now` never decreases from call to call.
    pub fn set(&mut self, timer: Timer, token: Token, now: Instant) {
        self.queues[timer as usize].set(token, now);
    }

    /// Removes one deadline, if it is set.
    pub fn clear(&mut self, timer: Timer, token: Token) {
        self.queues[timer as usize].clear(token);
    }

    /// Removes all deadlines of a client.
    pub fn clear_all(&mut self, token: Token) {
        for queue in &mut self.queues {
            queue.clear(token);
        }
    }

    /// Whether a deadline of this kind is set.
    pub fn is_set(&self, timer: Timer, token: Token) -> bool {
        self.queues[timer as usize].is_set(token)
    }

    /// Since when a deadline of this kind runs.
    pub fn since(&self, timer: Timer, token: Token) -> Option<Instant> {
        let queue = &self.queues[timer as usize];
        queue.is_set(token).then(|| queue.node(Link::to(token)).at - queue.duration)
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        self.earliest().map(|(_, node)| node.at)
    }

    /// Removes and returns the earliest deadline that has passed.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(Timer, Token)> {
        let (timer, token) = match self.earliest() {
            Some((timer, node)) if node.at <= now => (timer, node.token),
            Some(_) | None => return None,
        };
        self.clear(timer, token);
        Some((timer, token))
    }

    /// The client that has waited longest in this queue.
    pub fn oldest(&self, timer: Timer) -> Option<Token> {
        self.queues[timer as usize].first().map(|node| node.token)
    }

    fn earliest(&self) -> Option<(Timer, &Node)> {
        let mut earliest: Option<(Timer, &Node)> = None;
        for (timer, queue) in Timer::ALL.into_iter().zip(&self.queues) {
            if let Some(node) = queue.first()
                && earliest.is_none_or(|(_, other)| node.at < other.at)
            {
                earliest = Some((timer, node));
            }
        }
        earliest
    }
}

/// The deadlines of one kind, with the earliest at the head.
struct Queue {
    duration: Duration,
    /// By [`Token::index`]; `None` where no deadline is set.
    nodes: Vec<Option<Node>>,
    head: Option<Link>,
    tail: Option<Link>,
}

struct Node {
    at: Instant,
    token: Token,
    before: Option<Link>,
    after: Option<Link>,
}

/// An index into [`Queue::nodes`] plus one, so that `Option<Link>` takes 4 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(NonZeroU32);

impl Link {
    fn to(token: Token) -> Self {
        let number = u32::try_from(token.index() + 1).expect("fewer places than descriptors");
        Self(NonZeroU32::new(number).expect("one was added"))
    }
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Queue {
    fn new(duration: Duration) -> Self {
        Self { duration, nodes: Vec::new(), head: None, tail: None }
    }

    fn first(&self) -> Option<&Node> {
        self.head.map(|link| self.node(link))
    }

    fn set(&mut self, token: Token, now: Instant) {
        let link = Link::to(token);
        if self.nodes.len() <= link.index() {
            self.nodes.resize_with(link.index() + 1, || None);
        }
        if let Some(node) = self.unlink(link) {
            debug_assert_eq!(node.token, token, "clear_all was not called on removal");
        }
        let at = now + self.duration;
        let before = self.tail;
        if let Some(before) = before {
            let node = self.node_mut(before);
            debug_assert!(node.at <= at, "`now` decreased");
            node.after = Some(link);
        } else {
            self.head = Some(link);
        }
        self.tail = Some(link);
        self.nodes[link.index()] = Some(Node { at, token, before, after: None });
    }

    fn is_set(&self, token: Token) -> bool {
        let node = self.nodes.get(token.index()).and_then(Option::as_ref);
        node.is_some_and(|node| node.token == token)
    }

    fn clear(&mut self, token: Token) {
        // A node of another token at the same place belongs to a later client and stays.
        if let Some(Some(node)) = self.nodes.get(token.index())
            && node.token == token
        {
            self.unlink(Link::to(token));
        }
    }

    fn unlink(&mut self, link: Link) -> Option<Node> {
        let node = self.nodes[link.index()].take()?;
        match node.before {
            Some(before) => self.node_mut(before).after = node.after,
            None => self.head = node.after,
        }
        match node.after {
            Some(after) => self.node_mut(after).before = node.before,
            None => self.tail = node.before,
        }
        Some(node)
    }

    fn node(&self, link: Link) -> &Node {
        self.nodes[link.index()].as_ref().expect("links lead to set deadlines")
    }

    fn node_mut(&mut self, link: Link) -> &mut Node {
        self.nodes[link.index()].as_mut().expect("links lead to set deadlines")
    }
}

#[cfg(test)]
mod tests;

//! Clients whose file the kernel reads from a disk: the loop looks at them again and again, because a disk that has
//! delivered is no event of epoll(7).

use std::time::Instant;

use super::client_table::Token;
use super::file_transfer::POLL_INTERVAL;

/// The clients, and when the loop looks at all of them next.
#[derive(Default)]
pub(super) struct DiskQueue {
    waiting: Vec<Token>,
    next_look: Option<Instant>,
}

impl DiskQueue {
    /// Adds a client.
    pub(super) fn push(&mut self, token: Token, now: Instant) {
        self.waiting.push(token);
        self.next_look.get_or_insert(now + POLL_INTERVAL);
    }

    /// When the loop looks next, if any client waits.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Takes all clients, if it is time to look at them.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Token> {
        if self.next_look.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.next_look = None;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_looked_at_together_once_per_interval() {
        let now = Instant::now();
        let (a, b) = (Token::from_bits(1), Token::from_bits(2));
        let mut queue = DiskQueue::default();
        assert_eq!((queue.next_look(), queue.take_due(now)), (None, vec![]));
        queue.push(a, now);
        queue.push(b, now + POLL_INTERVAL / 2);
        assert_eq!(queue.next_look(), Some(now + POLL_INTERVAL));
        assert_eq!(queue.take_due(now + POLL_INTERVAL / 2), vec![]);
        assert_eq!(queue.take_due(now + POLL_INTERVAL), vec![a, b]);
        assert_eq!((queue.next_look(), queue.take_due(now + POLL_INTERVAL * 9)), (None, vec![]));
    }
}

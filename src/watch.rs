//! Whether a worker hangs, and whether it is worn out: judged by what it wrote on the board.
//!
//! Pure: the board's words and the time come in, a judgement goes out. Who looks how often, and what
//! follows, is [`crate::monitor`]'s and the machine's.

use std::time::Duration;

use arctos_worker::metrics::{Block, Counter};

use crate::slot::Jitter;

/// An idle worker's loop turns every 2 s; one that has not for so long is stopped or stuck.
pub const LOOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a worker hangs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// A request, for so long.
    Request(Duration),
    /// Its own loop, or it was stopped: it has not turned for so long.
    Loop(Duration),
}

/// The supervisor was stopped for `gap`, until `until`, and the workers perhaps with it: what began
/// before is so much younger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pardon {
    /// When it went on; zero is never.
    pub until: Duration,
    /// For how long.
    pub gap: Duration,
}

/// Judges one worker that is ready. `request` is how long a request may take; `None` for any time.
pub fn hang(
    block: &Block,
    request: Option<Duration>,
    pardon: &Pardon,
    monotonic: Duration,
) -> Option<Hang> {
    let since = |moment: Duration| {
        let pardoned = if moment < pardon.until { pardon.gap } else { Duration::ZERO };
        monotonic.saturating_sub(moment).saturating_sub(pardoned)
    };
    if let Some(start) = block.request_start() {
        let age = since(start);
        return request.filter(|longest| age > *longest).map(|_| Hang::Request(age));
    }
    let tick = block.last_tick();
    let still = since(tick);
    (!tick.is_zero() && still > LOOP_PATIENCE).then_some(Hang::Loop(still))
}

/// After what a worker is replaced; `None` is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests given to the application.
    pub requests: Option<u64>,
    /// Resident memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// How many requests more a worker may be given, each another number up to this, so that workers do
    /// not wear out together.
    pub requests_jitter: u64,
    /// Time since it was ready; up to a tenth more, for the same reason.
    pub lifetime: Option<Duration>,
}

/// Which limit a worker has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wear {
    /// `--max-requests`.
    Requests(u64),
    /// `--max-rss`, in bytes.
    Rss(u64),
    /// `--max-lifetime`.
    Lifetime(Duration),
}

/// One worker's own limits, and where it began.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    limits: Limits,
    first_request: u64,
    since: Duration,
}

impl Limits {
    /// The limits of a worker that is ready now.
    pub fn lease(&self, block: &Block, monotonic: Duration, jitter: &mut Jitter) -> Lease {
        let more = jitter.draw() % self.requests_jitter.saturating_add(1);
        let most_requests = self.requests.map(|most| most.saturating_add(more));
        let thousandths = 1000 + (jitter.draw() % 101) as u32;
        let lifetime = self.lifetime.map(|most| most.saturating_mul(thousandths) / 1000);
        let limits = Self { requests: most_requests, lifetime, ..*self };
        Lease { limits, first_request: requests(block), since: monotonic }
    }
}

impl Lease {
    /// Whether [`Lease::wear`] is to be given the resident memory.
    pub fn wants_rss(&self) -> bool {
        self.limits.rss_bytes.is_some()
    }

    /// The first limit that is reached.
    pub fn wear(&self, block: &Block, rss_bytes: Option<u64>, monotonic: Duration) -> Option<Wear> {
        let served = requests(block).saturating_sub(self.first_request);
        let age = monotonic.saturating_sub(self.since);
        let by_requests =
            self.limits.requests.filter(|most| served >= *most).map(|_| Wear::Requests(served));
        let by_rss = || {
            let (most, has) = (self.limits.rss_bytes?, rss_bytes?);
            (has > most).then_some(Wear::Rss(has))
        };
        let by_age =
            || self.limits.lifetime.filter(|longest| age >= *longest).map(|_| Wear::Lifetime(age));
        by_requests.or_else(by_rss).or_else(by_age)
    }
}

fn requests(block: &Block) -> u64 {
    block.row.get(Counter::ReqSuccessRead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_request_hangs_when_it_takes_longer_than_allowed() {
        let block = Block::detached();
        block.tick(s(100));
        block.begin_request(s(100), b"GET", b"/");
        assert_eq!(hang(block, Some(s(30)), &Pardon::default(), s(130)), None);
        assert_eq!(
            hang(block, Some(s(30)), &Pardon::default(), s(131)),
            Some(Hang::Request(s(31)))
        );
        assert_eq!(hang(block, None, &Pardon::default(), s(100_000)), None);
        block.end_request(s(140));
        block.tick(s(140));
        assert_eq!(hang(block, Some(s(30)), &Pardon::default(), s(141)), None);
    }

    #[test]
    fn a_loop_hangs_when_it_does_not_turn_between_requests() {
        let block = Block::detached();
        assert_eq!(hang(block, Some(s(30)), &Pardon::default(), s(100)), None);
        block.tick(s(100));
        assert_eq!(hang(block, Some(s(30)), &Pardon::default(), s(110)), None);
        assert_eq!(hang(block, None, &Pardon::default(), s(111)), Some(Hang::Loop(s(11))));
    }

    #[test]
    fn what_was_stopped_with_the_supervisor_is_pardoned_the_time() {
        let block = Block::detached();
        block.tick(s(100));
        block.begin_request(s(100), b"GET", b"/");
        let pardon = Pardon { until: s(170), gap: s(60) };
        assert_eq!(hang(block, Some(s(30)), &pardon, s(190)), None);
        assert_eq!(hang(block, Some(s(30)), &pardon, s(191)), Some(Hang::Request(s(31))));
        block.begin_request(s(171), b"GET", b"/");
        assert_eq!(hang(block, Some(s(30)), &pardon, s(202)), Some(Hang::Request(s(31))));
    }

    #[test]
    fn each_limit_wears_a_worker_out() {
        let block = Block::detached();
        block.row.add(Counter::ReqSuccessRead, 1000);
        let mut jitter = Jitter::new(1);
        let lease = |limits: Limits, jitter: &mut Jitter| limits.lease(block, s(50), jitter);
        let never = lease(Limits::default(), &mut jitter);
        let requests = lease(Limits { requests: Some(10), ..Limits::default() }, &mut jitter);
        let rss = lease(Limits { rss_bytes: Some(1 << 20), ..Limits::default() }, &mut jitter);
        let lifetime = lease(Limits { lifetime: Some(s(60)), ..Limits::default() }, &mut jitter);
        block.row.add(Counter::ReqSuccessRead, 9);
        for lease in [never, requests, rss, lifetime] {
            assert_eq!(lease.wear(block, Some(1 << 20), s(109)), None);
        }
        block.row.inc(Counter::ReqSuccessRead);
        assert_eq!(never.wear(block, Some(2 << 20), s(110)), None);
        assert_eq!(requests.wear(block, None, s(60)), Some(Wear::Requests(10)));
        assert_eq!(rss.wear(block, Some((1 << 20) + 1), s(60)), Some(Wear::Rss((1 << 20) + 1)));
        assert_eq!(rss.wear(block, None, s(60)), None);
        assert_eq!(lifetime.wear(block, None, s(116)), Some(Wear::Lifetime(s(66))));
    }

    #[test]
    fn jitter_gives_each_worker_up_to_so_many_requests_more() {
        let block = Block::detached();
        let mut jitter = Jitter::new(1);
        let limits = Limits { requests: Some(1000), requests_jitter: 50, ..Limits::default() };
        let drawn: Vec<_> = (0..500)
            .filter_map(|_| limits.lease(block, s(0), &mut jitter).limits.requests)
            .collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&1000), Some(&1050)));
        let never = Limits { requests: None, requests_jitter: 50, ..Limits::default() };
        assert_eq!(never.lease(block, s(0), &mut jitter).limits.requests, None);
        let endless = Limits { requests: Some(1), requests_jitter: u64::MAX, ..Limits::default() };
        assert!(endless.lease(block, s(0), &mut jitter).limits.requests.is_some());
    }

    #[test]
    fn a_lifetime_is_spread_over_a_tenth_more() {
        let block = Block::detached();
        let mut jitter = Jitter::new(1);
        let limits = Limits { lifetime: Some(s(100)), ..Limits::default() };
        let drawn: Vec<_> = (0..200)
            .filter_map(|_| limits.lease(block, s(0), &mut jitter).limits.lifetime)
            .collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&s(100)), Some(&s(110))));
    }
}

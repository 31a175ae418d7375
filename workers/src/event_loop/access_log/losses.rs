//! When lost lines are logged: at once the first time, then at most once per minute.

use std::time::{Duration, Instant};

use super::Lost;

const INTERVAL: Duration = Duration::from_secs(60);

/// Lost lines that were not logged yet.
#[derive(Debug, Default)]
pub struct Losses {
    unlogged: Option<Lost>,
    logged_at: Option<Instant>,
}

impl Losses {
    /// Adds lost lines.
    pub fn add(&mut self, lost: Lost) {
        let before = self.unlogged.map_or(0, |unlogged| unlogged.lines);
        self.unlogged = Some(Lost { lines: before.saturating_add(lost.lines), ..lost });
    }

    /// What has to be logged now.
    pub fn due(&mut self, now: Instant) -> Option<Lost> {
        let is_early =
            self.logged_at.is_some_and(|logged| now.saturating_duration_since(logged) < INTERVAL);
        if is_early {
            return None;
        }
        let lost = self.unlogged.take()?;
        self.logged_at = Some(now);
        Some(lost)
    }

    /// What has to be logged at the end.
    pub fn take(&mut self) -> Option<Lost> {
        self.unlogged.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::access_log::LossCause;

    #[test]
    fn the_first_loss_is_logged_at_once_and_later_ones_once_per_minute() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let mut lose = |second: u64, lines: u64| {
            if lines > 0 {
                losses.add(Lost { lines, cause: LossCause::SlowReader });
            }
            losses.due(start + Duration::from_secs(second)).map(|lost| lost.lines)
        };
        assert_eq!(lose(0, 0), None);
        assert_eq!(lose(1, 2), Some(2));
        assert_eq!(lose(2, 3), None);
        assert_eq!(lose(60, 4), None);
        assert_eq!(lose(61, 0), Some(7));
        assert_eq!(lose(200, 0), None);
        assert_eq!(lose(201, 1), Some(1));
        assert_eq!(lose(202, 5), None);
        assert_eq!(losses.take().map(|lost| lost.lines), Some(5));
    }
}

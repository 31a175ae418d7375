//! How long requests took: in all, by the class of their status, and by what the time was spent on.

use crate::shared::scoreboard::{Counter, Histogram};

/// The class of the status of a finished request. It has no 1xx, because such a response is never the final one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum StatusClass {
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
    /// There was no response, because the client had left.
    None,
}

impl StatusClass {
    /// All classes, in order.
    pub const ALL: [Self; 5] =
        [Self::Success, Self::Redirection, Self::ClientError, Self::ServerError, Self::None];

    /// The class of a status, if there is one.
    #[inline]
    pub fn of(status: Option<u16>) -> Self {
        match status.map(|status| status / 100) {
            Some(2) => Self::Success,
            Some(3) => Self::Redirection,
            Some(4) => Self::ClientError,
            Some(5) => Self::ServerError,
            Some(_) | None => Self::None,
        }
    }

    /// The value of the tag `status`. Once released, it is an interface.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        }
    }

    /// The counter of requests of this class.
    pub const fn counter(self) -> Counter {
        match self {
            Self::Success => Counter::RequestCount2xx,
            Self::Redirection => Counter::RequestCount3xx,
            Self::ClientError => Counter::RequestCount4xx,
            Self::ServerError => Counter::RequestCount5xx,
            Self::None => Counter::RequestCountNone,
        }
    }
}

/// The histograms of a worker's requests.
#[repr(C, align(128))]
pub struct RequestTimes {
    /// By [`StatusClass`].
    durations: [Histogram; StatusClass::ALL.len()],
    /// From the arrival of the complete request to the call of the application.
    pub queue: Histogram,
    /// The calls of the application.
    pub application: Histogram,
    /// The rest of the time until the kernel has taken the last byte.
    pub send: Histogram,
}

impl RequestTimes {
    pub(super) const fn new() -> Self {
        Self {
            durations: [const { Histogram::new() }; StatusClass::ALL.len()],
            queue: Histogram::new(),
            application: Histogram::new(),
            send: Histogram::new(),
        }
    }

    /// From the call of the application until the kernel took the last byte.
    #[inline]
    pub fn duration(&self, class: StatusClass) -> &Histogram {
        &self.durations[class as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_belongs_to_the_class_of_its_first_digit() {
        let names =
            [200, 299, 304, 404, 499, 504].map(|status| StatusClass::of(Some(status)).name());
        assert_eq!(names, ["2xx", "2xx", "3xx", "4xx", "4xx", "5xx"]);
        assert_eq!(StatusClass::of(None).name(), "none");
    }

    #[test]
    fn the_tag_of_a_classs_counter_is_its_name() {
        for (index, class) in StatusClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(class.counter().tag(), Some(("status", class.name())));
        }
    }
}

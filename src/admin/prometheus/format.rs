//! The two formats of the page, and which of them a scraper gets.

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
}

/// What a media range asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    OpenMetrics,
    /// Prometheus' text format, by a media range with so many wildcards.
    Text(u8),
    Other,
}

impl Format {
    /// The format for a scraper that has sent this field Accept, which may be empty (RFC 9110 §12.5.1). OpenMetrics must be
    /// named, with a weight that is not below that of the text format.
    pub fn accepted(accept: &str) -> Self {
        let ranges: Vec<_> = accept.split(',').filter_map(read_range).collect();
        let weight_of = |wanted| {
            let weights = ranges.iter().filter(|(range, _)| *range == wanted);
            weights.map(|(_, weight)| *weight).reduce(f32::max)
        };
        let open = weight_of(Wanted::OpenMetrics).unwrap_or(0.0);
        // The most specific media range decides.
        let text = (0..=2).find_map(|wildcards| weight_of(Wanted::Text(wildcards))).unwrap_or(0.0);
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The Content-Type of the page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Reads a media range with its weight; `None` if the weight is not valid.
fn read_range(range: &str) -> Option<(Wanted, f32)> {
    let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
    let media = parts.next()?;
    let (mut weight, mut version) = (1.0, None);
    for part in parts {
        match part.split_once('=') {
            Some(("q", value)) => weight = value.parse().ok()?,
            Some(("version", value)) => version = Some(value.trim_matches('"').to_owned()),
            Some(_) | None => {}
        }
    }
    let wanted = match (&*media, version.as_deref()) {
        ("application/openmetrics-text", None | Some("0.0.1" | "1.0.0")) => Wanted::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) => Wanted::Text(0),
        ("text/*", _) => Wanted::Text(1),
        ("*/*", _) => Wanted::Text(2),
        _ => Wanted::Other,
    };
    (0.0..=1.0).contains(&weight).then_some((wanted, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    /// With `scrape_protocols: [PrometheusText0.0.4]`.
    const PROMETHEUS_3_TEXT: &str = "text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

    #[test]
    fn a_scraper_that_prefers_openmetrics_gets_it() {
        for accept in [
            PROMETHEUS_2,
            PROMETHEUS_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8",
            "text/plain;q=0.5, application/openmetrics-text;q=0.5",
            "text/plain;q=0, */*, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_the_text_format() {
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            PROMETHEUS_3_TEXT,
            "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=x",
            "application/openmetrics-texts",
            ",;,=;q,",
        ] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept}");
        }
    }
}

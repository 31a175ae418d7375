//! A parser of Prometheus' text format, as far as the tables need it.

use std::collections::BTreeMap;

/// One line: a value with its name and labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricSample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl MetricSample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The slot of the worker; `None` for a metric of the server.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.label("worker")?.parse().ok()
    }
}

/// The kind of each metric, by its name: `counter`, `gauge`, `histogram` or `summary`.
pub(crate) fn kinds(text: &str) -> BTreeMap<&str, &str> {
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    described.filter_map(|description| description.split_once(' ')).collect()
}

/// Parses all samples; `None` if the text has another format.
pub(crate) fn read(text: &str) -> Option<Vec<MetricSample>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(sample).collect()
}

fn sample(line: &str) -> Option<MetricSample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.trim_start().split(' ').next()?.parse().ok()?;
    Some(MetricSample { name: name.to_owned(), labels, value })
}

/// Parses `a="b",c="d"}`, and returns the rest of the line.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.strip_prefix(',').unwrap_or(text);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest;
    }
}

/// Parses a value up to its closing quote, and returns the rest of the line.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    loop {
        match letters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match letters.next()?.1 {
                'n' => '\n',
                letter => letter,
            }),
            (_, letter) => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_names_labels_and_values() {
        let text = "# HELP a Help.\n# TYPE a counter\n\na 1\nb{} 2.5 1700000000\n\
                    c{worker=\"7\",zone=\"x}, \\\"\\\\\\n\",le=\"+Inf\"} +Inf\n";
        let samples = read(text).unwrap();
        assert_eq!(samples.len(), 3);
        assert_eq!((samples[0].name.as_str(), samples[0].value), ("a", 1.0));
        assert_eq!((samples[1].labels.len(), samples[1].value), (0, 2.5));
        assert_eq!((samples[2].slot(), samples[2].value), (Some(7), f64::INFINITY));
        assert_eq!(samples[2].label("zone"), Some("x}, \"\\\n"));
        assert_eq!(samples[2].label("le"), Some("+Inf"));
        assert_eq!(kinds(text), BTreeMap::from([("a", "counter")]));
    }

    #[test]
    fn text_in_another_format_is_rejected() {
        for text in ["<html>", "a", "a b", "a{b 1", "a{b=\"c 1", "a{b=\"c\\"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::series::{Aggregation, Description};

use super::*;
use crate::admin::prometheus::tests::text;
use crate::metrics::series::buckets::Buckets;
use crate::metrics::{CarriedTotals, Gauges};

const WEB: &[(&str, &str)] = &[("channel", "web")];

fn description(kind: Kind, naming: Naming, family: &str, tags: &[(&str, &str)]) -> Description {
    let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Description {
        kind,
        aggregation: Aggregation::Sum,
        naming,
        family: family.into(),
        sample: String::new(),
        tags: tags.collect(),
    }
}

fn part(kind: Kind, family: &str, sample: &str, tags: &[(&str, &str)]) -> Description {
    Description { sample: sample.into(), ..description(kind, Naming::Verbatim, family, tags) }
}

/// The application's part of the page.
fn page(series: &[(Description, CountedIn, SeriesTotal)], zone: Option<&str>) -> String {
    let mut carried = CarriedTotals::default();
    let empty = text(&carried, &Gauges::default(), zone);
    for (description, place, total) in series {
        carried.series_mut().add_total(description, *place, total);
    }
    let page = text(&carried, &Gauges::default(), zone);
    page.strip_prefix(&empty).unwrap().to_owned()
}

fn slot(number: u16) -> CountedIn {
    Some(SlotId(number))
}

fn values(values: &[f64]) -> SeriesTotal {
    let mut buckets = Buckets::default();
    for value in values {
        buckets.add(ValueHistogram::index_of(*value) as u16, 1);
    }
    SeriesTotal::Values { sum: values.iter().sum(), buckets }
}

#[test]
fn a_counter_has_a_sample_for_each_slot_with_its_own_labels() {
    let orders = description(Kind::Counter, Naming::Prefixed, "orders.placed", WEB);
    let page = page(
        &[
            (orders.clone(), slot(1), SeriesTotal::Sum(1.5)),
            (orders, None, SeriesTotal::Sum(9_007_199_254_740_991.0)),
        ],
        Some("eu\"1"),
    );
    assert_eq!(
        page,
        "# HELP arctos_orders_placed_total \n\
         # TYPE arctos_orders_placed_total counter\n\
         arctos_orders_placed_total{zone=\"eu\\\"1\",channel=\"web\"} 9007199254740991\n\
         arctos_orders_placed_total{worker=\"1\",zone=\"eu\\\"1\",channel=\"web\"} 1.5\n"
    );
}

#[test]
fn the_bounds_of_a_distribution_are_those_of_its_family() {
    let seconds = |table: &str| {
        description(Kind::Distribution, Naming::Prefixed, "query", &[("table", table)])
    };
    let page = page(
        &[
            (seconds("a"), slot(0), values(&[0.3, 0.5])),
            (seconds("b"), slot(0), values(&[1.0, 1.9])),
        ],
        None,
    );
    let a = "worker=\"0\",table=\"a\"";
    let b = "worker=\"0\",table=\"b\"";
    let name = "arctos_query";
    assert_eq!(
        page,
        format!(
            "# HELP {name} \n# TYPE {name} histogram\n\
             {name}_bucket{{{b},le=\"0.5\"}} 0\n\
             {name}_bucket{{{b},le=\"1.0\"}} 0\n\
             {name}_bucket{{{b},le=\"2.0\"}} 2\n\
             {name}_bucket{{{b},le=\"+Inf\"}} 2\n\
             {name}_sum{{{b}}} 2.9\n\
             {name}_count{{{b}}} 2\n\
             {name}_bucket{{{a},le=\"0.5\"}} 1\n\
             {name}_bucket{{{a},le=\"1.0\"}} 2\n\
             {name}_bucket{{{a},le=\"2.0\"}} 2\n\
             {name}_bucket{{{a},le=\"+Inf\"}} 2\n\
             {name}_sum{{{a}}} 0.8\n\
             {name}_count{{{a}}} 2\n"
        )
    );
}

#[test]
fn values_beyond_all_bounds_are_in_the_last_bucket() {
    let sizes = description(Kind::Distribution, Naming::Prefixed, "size", &[]);
    let page = page(&[(sizes, None, values(&[0.0, -5.0, 1e300]))], None);
    assert!(page.contains("arctos_size_bucket{le=\"0.00000095367431640625\"} 2\n"), "{page}");
    assert!(page.contains("arctos_size_bucket{le=\"+Inf\"} 3\narctos_size_sum 1"), "{page}");
}

#[test]
fn a_librarys_metric_has_its_own_names_and_labels_and_one_sample() {
    let requests =
        |method| part(Kind::Counter, "requests", "requests_total", &[("method", method)]);
    let page = page(
        &[
            (requests("GET"), slot(0), SeriesTotal::Sum(2.0)),
            (requests("GET"), slot(1), SeriesTotal::Sum(3.0)),
        ],
        Some("eu"),
    );
    assert_eq!(
        page,
        "# HELP requests_total \n# TYPE requests_total counter\nrequests_total{method=\"GET\"} 5\n"
    );
}

#[test]
fn the_buckets_of_a_librarys_histogram_become_cumulative() {
    let bucket =
        |le| part(Kind::HistogramPart, "latency", "latency_bucket", &[("view", "a"), ("le", le)]);
    let sum = part(Kind::HistogramPart, "latency", "latency_sum", &[("view", "a")]);
    let one = |description| (description, slot(0), SeriesTotal::Sum(1.0));
    let page = page(
        &[
            one(bucket("+Inf")),
            one(bucket("10.0")),
            one(bucket("0.5")),
            one(bucket("2.5")),
            (sum, slot(0), SeriesTotal::Sum(4.5)),
        ],
        None,
    );
    assert_eq!(
        page,
        "# HELP latency \n# TYPE latency histogram\n\
         latency_sum{view=\"a\"} 4.5\n\
         latency_bucket{view=\"a\",le=\"0.5\"} 1\n\
         latency_bucket{view=\"a\",le=\"2.5\"} 2\n\
         latency_bucket{view=\"a\",le=\"10.0\"} 3\n\
         latency_bucket{view=\"a\",le=\"+Inf\"} 4\n\
         latency_count{view=\"a\"} 4\n"
    );
}

/// A page with a family or a sample twice would be rejected as a whole.
#[test]
fn no_family_and_no_sample_appears_twice() {
    let one = |description| (description, slot(0), SeriesTotal::Sum(1.0));
    let page = page(
        &[
            one(description(Kind::Counter, Naming::Prefixed, "jobs", &[("a", "1"), ("b", "2")])),
            one(description(Kind::Counter, Naming::Prefixed, "jobs", &[("b", "2"), ("a", "1")])),
            one(part(Kind::SummaryPart, "arctos_size", "arctos_size_sum", &[])),
            (description(Kind::Distribution, Naming::Prefixed, "size", &[]), None, values(&[1.0])),
            one(description(Kind::Counter, Naming::Prefixed, "req_done", &[])),
            one(description(Kind::Counter, Naming::Prefixed, "bad name", &[])),
            one(description(Kind::Counter, Naming::Prefixed, "bad_tag", &[("a-b", "")])),
        ],
        None,
    );
    let types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(types, ["# TYPE arctos_jobs_total counter", "# TYPE arctos_size histogram"]);
    let jobs = page.lines().filter(|line| line.starts_with("arctos_jobs_total{")).count();
    assert_eq!(jobs, 1, "{page}");
}

#[test]
fn a_series_for_which_prometheus_would_refuse_the_page_is_left_out() {
    let gauge = |tags: &[(&str, &str)]| description(Kind::Counter, Naming::Verbatim, "hits", tags);
    let hits = |tags| Description { sample: "hits_total".into(), ..gauge(tags) };
    let one = SeriesTotal::Sum(1.0);
    let broken = [
        hits(&[("a:b", "1")]),
        hits(&[("a_b", "1"), ("a_b", "2")]),
        part(Kind::SummaryPart, "took", "took_sum\nx 1\n", &[]),
        part(Kind::Counter, "arctos_conn_accept_success", "arctos_conn_accept_success_total", &[]),
    ];
    let mut all: Vec<_> = broken.into_iter().map(|it| (it, slot(0), one.clone())).collect();
    assert_eq!(page(&all, None), "");
    all.push((hits(&[("a_b", "1")]), slot(0), one));
    let expected = "# HELP hits_total \n# TYPE hits_total counter\nhits_total{a_b=\"1\"} 1\n";
    assert_eq!(page(&all, None), expected);
}

#[test]
fn families_that_share_the_name_of_a_sample_are_not_both_on_the_page() {
    let of = |kind, name| (description(kind, Naming::Prefixed, name, &[]), slot(0));
    let sum = |kind, name| {
        let (description, place) = of(kind, name);
        (description, place, SeriesTotal::Sum(1.0))
    };
    let text = page(
        &[
            sum(Kind::Counter, "orders"),
            sum(Kind::Counter, "orders.total"),
            sum(Kind::Counter, "sizes.count"),
            (of(Kind::Distribution, "sizes").0, slot(0), values(&[1.0])),
        ],
        None,
    );
    let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(
        types,
        [
            "# TYPE arctos_orders_total counter",
            "# TYPE arctos_orders_total_total counter",
            "# TYPE arctos_sizes histogram",
            "# TYPE arctos_sizes_count_total counter",
        ],
        "the text format has different names for all of them"
    );
    let text = page(
        &[
            sum(Kind::Counter, "sizes"),
            (of(Kind::Distribution, "sizes.total").0, slot(0), values(&[1.0])),
        ],
        None,
    );
    assert!(!text.contains("arctos_sizes_total counter"), "{text}");
    assert!(text.contains("# TYPE arctos_sizes_total histogram"), "the newer one");
}

use super::*;
use crate::cli::{self, Invocation};
use crate::config::Config;
use crate::supervisor::PROBATION;

const BEGIN: &str = "<!-- rollout:begin -->\n";
const END: &str = "<!-- rollout:end -->";

/// Returns the default configuration in a pod.
fn defaults() -> Config {
    let arguments = ["arctos", "shop.wsgi"].map(Into::into);
    let environment = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")].into_iter().collect();
    match cli::parse(arguments, environment) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// Returns the table of what a pod does after TERM, second by second.
fn markdown() -> String {
    let patience = defaults().patience;
    let policy = Policy {
        workers: 2,
        ceiling: 8,
        boot: patience.boot,
        graceful: patience.graceful,
        quick: patience.quick,
        drain_delay: patience.drain_delay,
        probation: PROBATION,
        preparation: crate::supervisor::Preparation::None,
    };
    let term = Instant::now();
    let Budget { quick_at, kill_at } = Budget::graceful(&policy, term);
    let second = |at: Instant| (at - term).as_secs_f64();
    let close = second(term + policy.drain_delay);
    let (quick, kill) = (second(quick_at), second(kill_at));
    let steps = [
        (
            "0".to_owned(),
            "TERM arrives. `/readyz` answers 503 from now on; `/livez` still answers 200. Connections are \
             accepted and served as before, and every response has `Connection: close`.",
        ),
        (
            format!("{close}"),
            "The drain delay ends. Queued connections are served; new ones get no answer, and are refused \
             once the last worker has closed the listener.",
        ),
        (
            format!("{close} to {quick}"),
            "Each worker exits when it has answered its last request and closed its idle connections. \
             After the last worker, arctos sends the last metrics and exits with 0, usually within this time.",
        ),
        (
            format!("{quick}"),
            "Workers that still run finish their current request and begin no other.",
        ),
        (
            format!("{kill}"),
            "Workers that still run are killed, and `server.stopped` counts their requests as `abandoned`. \
             The exit code is 0 in this case, too.",
        ),
    ];
    let mut text = "| s | what happens |\n|---|---|".to_owned();
    for (second, what) in steps {
        text.push_str(&format!("\n| {second} | {what} |"));
    }
    text
}

/// `ARCTOS_BLESS=1 cargo test -p arctos --no-default-features the_guide_holds_the_times` rewrites the table.
#[test]
fn the_guide_holds_the_times_of_a_stop() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/kubernetes.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    if std::env::var_os("ARCTOS_BLESS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}\n{}\n\n{END}{after}", markdown())).unwrap();
        return;
    }
    assert_eq!(table, format!("\n{}\n\n", markdown()), "run this test with ARCTOS_BLESS=1");
}

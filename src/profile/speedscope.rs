//! The file format of speedscope.app: a sampled profile for each worker.

use serde_json::{Value, json};

use super::names::route_label;
use super::report::{Frame, Profile, Stack};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// The whole file.
pub fn draw(profile: &Profile) -> String {
    let mut frames: Vec<_> = profile.frames.iter().map(frame).collect();
    let mut routes: Vec<&str> =
        profile.stacks.iter().filter_map(|it| it.route.as_deref()).collect();
    routes.sort_unstable();
    routes.dedup();
    let first_route = frames.len();
    frames.extend(routes.iter().map(|route| json!({"name": route_label(route)})));
    let ids = |stack: &Stack| {
        let route = stack.route.as_deref().and_then(|route| routes.binary_search(&route).ok());
        let known = stack.frames.iter().filter(|id| (**id as usize) < profile.frames.len());
        let route = route.map(|place| place + first_route);
        route.into_iter().chain(known.map(|id| *id as usize)).collect::<Vec<_>>()
    };
    let of_worker = |slot: u16| {
        let stacks = || profile.stacks.iter().filter(move |stack| stack.slot == slot);
        let seconds = |stack: &Stack| stack.count as f64 * profile.interval_ms as f64 / 1000.0;
        json!({
            "type": "sampled",
            "name": format!("worker {slot}"),
            "unit": "seconds",
            "startValue": 0,
            "endValue": stacks().map(seconds).sum::<f64>(),
            "samples": stacks().map(ids).collect::<Vec<_>>(),
            "weights": stacks().map(seconds).collect::<Vec<_>>(),
        })
    };
    let profiles: Vec<_> = profile.workers.iter().map(|worker| of_worker(worker.slot)).collect();
    let file = json!({
        "$schema": SCHEMA,
        "name": "arctos",
        "exporter": concat!("arctos ", env!("CARGO_PKG_VERSION")),
        "activeProfileIndex": 0,
        "shared": {"frames": frames},
        "profiles": profiles,
    });
    format!("{file}\n")
}

fn frame(frame: &Frame) -> Value {
    if frame.file.is_empty() {
        return json!({"name": frame.function});
    }
    json!({"name": frame.function, "file": frame.file, "line": frame.line})
}

#[cfg(test)]
mod tests {
    use super::super::report::stage::profile;
    use super::*;

    /// The fields that the schema requires, and the rules that it states in words.
    #[test]
    fn the_file_has_what_the_schema_requires() {
        let mut profile = profile();
        profile.stacks[0].route = Some("/orders".to_owned());
        let file: Value = serde_json::from_str(&draw(&profile)).unwrap();
        assert_eq!(file["$schema"], SCHEMA);
        let frames = file["shared"]["frames"].as_array().unwrap();
        assert!(frames.iter().all(|frame| frame["name"].is_string()));
        let profiles = file["profiles"].as_array().unwrap();
        assert_eq!(profiles.len(), 2);
        for profile in profiles {
            assert_eq!(
                (&profile["type"], &profile["unit"]),
                (&json!("sampled"), &json!("seconds"))
            );
            assert!(profile["name"].is_string() && profile["startValue"] == 0);
            let (samples, weights) = (&profile["samples"], profile["weights"].as_array().unwrap());
            let samples = samples.as_array().unwrap();
            assert_eq!(samples.len(), weights.len());
            let ids = samples.iter().flat_map(|sample| sample.as_array().unwrap());
            assert!(ids.clone().all(|id| (id.as_u64().unwrap() as usize) < frames.len()));
            let total: f64 = weights.iter().map(|weight| weight.as_f64().unwrap()).sum();
            assert_eq!(profile["endValue"].as_f64().unwrap(), total);
        }
        assert_eq!(profiles[0]["samples"][0], json!([3, 0, 1]));
        assert_eq!(frames[3]["name"], "route /orders");
        assert_eq!(profiles[0]["weights"][0], 0.8);
    }
}

use super::*;

/// A sample at second `at`. A worker is its slot, its process, its finished requests, and the start of its request.
fn sample(start: Instant, at: u64, workers: &[(u16, u64, u32, Option<f64>)]) -> Sample {
    let mut rows = Vec::new();
    let mut metrics = String::new();
    for (slot, pid, count, running) in workers {
        let request = match running {
            Some(age_s) => format!(r#"{{"line": "GET /{slot}", "age_s": {age_s}}}"#),
            None => "null".to_owned(),
        };
        rows.push(format!(
            r#"{{"slot": {slot}, "pid": {pid}, "state": "ready", "rss_bytes": {pid}, "request": {request}}}"#
        ));
        metrics.push_str(&format!(
            "arctos_request_duration_seconds_bucket{{worker=\"{slot}\",le=\"+Inf\"}} {count}\n"
        ));
    }
    let status = format!(r#"{{"pid": 7, "workers": [{}]}}"#, rows.join(","));
    Sample::read(&status, &metrics, start + Duration::from_secs(at)).unwrap()
}

struct Rig {
    screen: Screen,
    start: Instant,
}

impl Rig {
    fn new(workers: &[(u16, u64, u32, Option<f64>)]) -> Self {
        let start = Instant::now();
        Self { screen: Screen::new("unix:/a".to_owned(), sample(start, 0, workers)), start }
    }

    fn press(&mut self, keys: &str) -> Effect {
        let mut effect = Effect::Nothing;
        for key in keys.chars() {
            effect = self.screen.update(Input::Key(Key::Letter(key)));
        }
        effect
    }

    fn see(&mut self, at: u64, workers: &[(u16, u64, u32, Option<f64>)]) {
        let sample = sample(self.start, at, workers);
        assert_eq!(self.screen.update(Input::Sample(Box::new(sample))), Effect::Nothing);
    }

    fn slots(&self) -> Vec<u16> {
        self.screen.rows().iter().map(|row| row.slot).collect()
    }
}

fn recycle(slot: u16) -> Effect {
    Effect::Send { verb: Verb::Recycle { slot: SlotId(slot) } }
}

const THREE: [(u16, u64, u32, Option<f64>); 3] =
    [(0, 100, 0, None), (1, 101, 0, None), (2, 102, 0, None)];

#[test]
fn keys_act_on_the_selected_worker() {
    let mut rig = Rig::new(&THREE);
    assert_eq!(rig.press("r"), recycle(0));
    assert_eq!(rig.press("jr"), recycle(1));
    assert_eq!(rig.press("jjjjr"), recycle(2));
    assert_eq!(rig.press("kd"), Effect::Send { verb: Verb::Dump { slot: SlotId(1) } });
    rig.screen.update(Input::Key(Key::End));
    assert_eq!(rig.press("r"), recycle(2));
    rig.screen.update(Input::Key(Key::PageUp));
    assert_eq!(rig.press("r"), recycle(0));
}

#[test]
fn without_a_worker_no_verb_is_sent() {
    let mut rig = Rig::new(&[]);
    assert_eq!(rig.press("jr"), Effect::Nothing);
    assert_eq!(rig.screen.message.as_deref(), Some("no worker is selected"));
    rig.see(1, &THREE);
    assert_eq!(rig.press("r"), recycle(0), "the first one that comes is selected");
}

#[test]
fn a_reload_is_sent_only_after_a_question() {
    let mut rig = Rig::new(&THREE);
    assert_eq!(rig.press("R"), Effect::Nothing);
    assert_eq!(rig.screen.dialog, Dialog::Reload);
    assert_eq!(rig.press("y"), Effect::Send { verb: Verb::Reload { wait: false } });
    assert_eq!(rig.screen.dialog, Dialog::Nothing);
    for no in ["Rn", "Rq", "RR", "Rr"] {
        assert_eq!(rig.press(no), Effect::Nothing, "{no}");
        assert_eq!(rig.screen.message.as_deref(), Some("not reloaded"));
    }
    assert_eq!(rig.press("y"), Effect::Nothing, "the question is over");
}

#[test]
fn no_key_acts_on_a_worker_behind_the_routes() {
    let mut rig = Rig::new(&THREE);
    for keys in ["t", "d", "r", "p", "P", "s", "R", "y", "j"] {
        assert_eq!(rig.press(keys), Effect::Nothing, "{keys}");
        assert_eq!(rig.screen.dialog, Dialog::Routes { first: 0 }, "{keys}");
    }
    for keys in ["t", "tq", "t?x"] {
        rig.press(keys);
        assert_eq!(rig.screen.dialog, Dialog::Nothing, "{keys}");
    }
    rig.press("t");
    assert_eq!(rig.screen.update(Input::Key(Key::Escape)), Effect::Nothing);
    assert_eq!(rig.press("r"), recycle(0));
    rig.press("t");
    assert_eq!(rig.screen.update(Input::Key(Key::Interrupt)), Effect::Quit);
}

#[test]
fn quit_keys_close_a_dialog_first() {
    let mut rig = Rig::new(&THREE);
    assert_eq!(rig.press("q"), Effect::Quit);
    assert_eq!(rig.screen.update(Input::Key(Key::Escape)), Effect::Quit);
    assert_eq!(rig.press("?q"), Effect::Nothing);
    assert_eq!(rig.screen.dialog, Dialog::Nothing);
    rig.press("R");
    assert_eq!(rig.screen.update(Input::Key(Key::Escape)), Effect::Nothing);
    rig.press("R");
    assert_eq!(rig.screen.update(Input::Key(Key::Interrupt)), Effect::Quit);
}

#[test]
fn sorting_keeps_the_selected_worker() {
    let mut rig = Rig::new(&THREE);
    rig.press("j");
    rig.see(1, &[(0, 100, 5, None), (1, 101, 1, Some(0.1)), (2, 102, 9, Some(2.0))]);
    assert_eq!(rig.slots(), [0, 1, 2]);
    for (name, order) in [("req/s", [2, 0, 1]), ("rss", [2, 1, 0]), ("request", [2, 1, 0])] {
        rig.press("s");
        assert_eq!((rig.screen.sort.name(), rig.slots()), (name, order.to_vec()));
        assert_eq!(rig.press("r"), recycle(1));
    }
    rig.press("s");
    assert_eq!((rig.screen.sort, rig.slots()), (Sort::Slot, vec![0, 1, 2]));
}

#[test]
fn the_replacement_of_the_selected_worker_becomes_selected() {
    let mut rig = Rig::new(&THREE);
    rig.press("j");
    rig.see(1, &[(0, 100, 0, None), (1, 201, 0, None), (2, 102, 0, None), (1, 101, 0, None)]);
    assert_eq!(rig.slots(), [0, 1, 1, 2]);
    assert_eq!(rig.screen.selected_line(), Some(2), "as long as it is there");
    rig.see(2, &[(0, 100, 0, None), (1, 201, 0, None), (2, 102, 0, None)]);
    assert_eq!(rig.screen.selected_line(), Some(1));
    rig.see(3, &[(0, 100, 0, None)]);
    assert_eq!(rig.screen.selected_line(), Some(0), "there is no other one");
}

#[test]
fn the_last_sample_of_an_unreachable_server_stays_visible() {
    let mut rig = Rig::new(&THREE);
    rig.see(1, &[(0, 100, 4, None)]);
    let at = rig.start + Duration::from_secs(13);
    rig.screen.update(Input::Failure { text: "connection refused".to_owned(), at });
    let gone = Reachability::Unreachable {
        since_last: Duration::from_secs(12),
        text: "connection refused".to_owned(),
    };
    assert_eq!((&rig.screen.reachability, rig.slots()), (&gone, vec![0]));
    rig.see(20, &[(0, 100, 4, None)]);
    assert_eq!(rig.screen.reachability, Reachability::Reachable);
}

#[test]
fn the_history_is_limited() {
    let mut rig = Rig::new(&THREE);
    for at in 1..400 {
        rig.see(at, &[(0, 100, 2 * at as u32, None)]);
    }
    assert_eq!(rig.screen.history.len(), HISTORY);
    assert_eq!(rig.screen.history.back(), Some(&2.0));
}

#[test]
fn a_response_stays_until_the_next_key() {
    let mut rig = Rig::new(&THREE);
    rig.screen.update(Input::Response("reloading".to_owned()));
    rig.see(1, &THREE);
    assert_eq!(rig.screen.message.as_deref(), Some("reloading"));
    rig.press("j");
    assert_eq!(rig.screen.message, None);
}

#[test]
fn a_profile_is_shown_until_the_next_key() {
    let mut rig = Rig::new(&THREE);
    let profile = |slot| Effect::Send { verb: Verb::Profile { seconds: 5, slot } };
    assert_eq!(rig.press("jp"), profile(Some(SlotId(1))));
    assert_eq!(rig.screen.message.as_deref(), Some("sampling worker 1 for 5 s"));
    assert_eq!(rig.press("P"), profile(None));
    let text = "9 samples\nslow".to_owned();
    assert_eq!(rig.screen.update(Input::Profile(text)), Effect::Nothing);
    assert_eq!((rig.screen.dialog, rig.screen.profile.len()), (Dialog::Profile, 2));
    assert_eq!(rig.press("r"), Effect::Nothing, "the key only closes it");
    assert_eq!(rig.screen.dialog, Dialog::Nothing);
    let mut empty = Rig::new(&[]);
    assert_eq!(empty.press("p"), Effect::Nothing);
    assert_eq!(empty.screen.message.as_deref(), Some("no worker is selected"));
}

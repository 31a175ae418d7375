use std::time::{Duration, Instant};

use super::super::keys::Key;
use super::super::sample::Sample;
use super::super::screen::Input;
use super::*;
use crate::client::ctl::overview::ReloadSummary;

const PATH: &str = "/a/rather/long/path/to/something/that/takes/its/time";

/// A screen of the routes, after two seconds with four requests of each of `routes`, of which one failed.
fn routes(routes: &[&str], count: usize) -> Screen {
    let start = Instant::now();
    let sample = |second: u64| {
        let n = 2 * second;
        let row = |(index, name): (usize, &&str)| {
            format!(
                r#"{{"route": {name:?}, "requests": {{"2xx": {}, "5xx": {}}},
                    "duration_s": {}, "buckets": {{"0.25": {}}}}}"#,
                9 + 3 * second,
                second,
                0.25 * ((1 + index as u64) * n) as f64,
                9 + 4 * second
            )
        };
        let rows: Vec<String> = routes.iter().enumerate().map(row).collect();
        let status = format!(
            r#"{{"pid": 7, "workers": [], "routes_count": {count}, "routes": [{}]}}"#,
            rows.join(",")
        );
        Sample::read(&status, "", start + Duration::from_secs(2 * second)).unwrap()
    };
    let mut screen = Screen::new("unix:/run/a".to_owned(), sample(0));
    screen.update(Input::Key(Key::Letter('t')));
    screen.update(Input::Sample(Box::new(sample(1))));
    screen
}

/// A server with this number of workers. The first handles a request, and each has finished `count` requests.
fn sample(at: Instant, workers: u16, count: u32) -> Sample {
    let worker = |slot: u16| {
        let request = match slot {
            0 => format!(r#"{{"line": "GET {PATH}", "age_s": 1.5}}"#),
            _ => "null".to_owned(),
        };
        format!(
            r#"{{"slot": {slot}, "pid": {}, "generation": 3, "state": "ready", "age_s": 60.0,
                "restarts": 1, "request": {request}, "requests": 1234, "connections_open": 3,
                "rss_bytes": 36175872, "pss_bytes": 12582912, "private_bytes": 4194304}}"#,
            7000 + slot
        )
    };
    let rows: Vec<String> = (0..workers).map(worker).collect();
    let status = format!(
        r#"{{"version": "1.2.3", "pid": 6999, "state": "serving", "generation": 3, "age_s": 61.2,
            "workers_target": {workers}, "workers_ready": {workers},
            "backlog": {{"len": 3, "max": 2048}},
            "memory": {{"limit_bytes": 536870912, "working_set_bytes": 136314880}}, "reload": {{"state": "idle"}},
            "workers": [{}]}}"#,
        rows.join(",")
    );
    let metrics = (0..workers).map(|slot| {
        let name = "arctos_request_duration_seconds_bucket";
        let below = format!("{name}{{worker=\"{slot}\",le=\"0.001\"}} {count}\n");
        format!("{below}{name}{{worker=\"{slot}\",le=\"+Inf\"}} {count}\n")
    });
    Sample::read(&status, &metrics.collect::<String>(), at).unwrap()
}

fn screen(workers: u16) -> Screen {
    let start = Instant::now();
    let mut screen = Screen::new("unix:/run/a".to_owned(), sample(start, workers, 0));
    for second in 1..=3 {
        let at = start + Duration::from_secs(second);
        screen.update(Input::Sample(Box::new(sample(at, workers, 25 * second as u32))));
    }
    screen
}

fn lines(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let page = Page { buffer: draw(screen, width, height) };
    (0..height).map(|line| page.text(line).trim_end().to_owned()).collect()
}

/// The text of the inverted lines.
fn inverted(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let page = Page { buffer: draw(screen, width, height) };
    let is_inverted =
        |line: &u16| page.buffer.cell((0, *line)).unwrap().modifier.contains(Modifier::REVERSED);
    (0..height).filter(is_inverted).map(|line| page.text(line).trim_end().to_owned()).collect()
}

#[test]
fn a_screen_of_80_by_24_shows_the_server_and_its_workers() {
    let shown = lines(&screen(2), 80, 24);
    assert_eq!(
        shown[..7],
        [
            "serving, up 1m01s  generation 3  pid 6999  arctos 1.2.3  unix:/run/a",
            "2 of 2 ready  1 busy  backlog 3 of 2048  restarts 2  reload none yet",
            "req/s 50.0  p50 500us  p90 900us  p99 990us  memory 130.0M of 512.0M  ███",
            "",
            "slot   pid  gen  state  req/s    p99  restarts    rss    pss  request",
            "   0  7000    3  ready   25.0  990us         1  34.5M  12.0M  1.50s GET /a/rath…",
            "   1  7001    3  ready   25.0  990us         1  34.5M  12.0M  -",
        ]
    );
    assert_eq!(
        shown[23],
        "s by slot  d dump  r recycle  R reload  p profile  t routes  ? help  q quit"
    );
    assert_eq!(shown.len(), 24);
}

#[test]
fn a_small_screen_shows_the_most_important_values() {
    let shown = lines(&screen(9), 40, 10);
    assert_eq!(
        shown,
        [
            "serving, up 1m01s  generation 3",
            "9 of 9 ready  1 busy  backlog 3 of 2048",
            "req/s 225  p50 500us  p90 900us",
            "",
            "slot  state  req/s  request",
            "   0  ready   25.0  1.50s GET /a/rather…",
            "   1  ready   25.0  -",
            "   2  ready   25.0  -",
            "   3  ready   25.0  -",
            "s by slot  1-4 of 9  d dump  r recycle",
        ]
    );
}

#[test]
fn a_wide_screen_shows_everything() {
    let shown = lines(&screen(2), 200, 60);
    let headings = "slot   pid  gen  state    age  req/s    p99  requests  restarts  open    rss    pss  private  request";
    assert_eq!(shown[4], headings);
    assert!(shown[5].starts_with("   0  7000  "), "{}", shown[5]);
    assert!(shown[5].ends_with(&format!("1.50s GET {PATH}")), "{}", shown[5]);
}

#[test]
fn a_failed_reload_is_visible_on_every_screen() {
    let mut screen = screen(2);
    screen.sample.reload = ReloadSummary {
        brief: "canary-failed, 5s ago".to_owned(),
        report: Some("NameError: name 'shop' is not defined".to_owned()),
        has_failed: true,
    };
    let second = |width| lines(&screen, width, 24)[1].clone();
    let whole = "2 of 2 ready  1 busy  backlog 3 of 2048  restarts 2  reload canary-failed, 5s ago: \
                 NameError: name 'shop' is not defined";
    assert_eq!(second(200), whole);
    assert_eq!(
        second(110),
        "2 of 2 ready  reload canary-failed, 5s ago  1 busy  backlog 3 of 2048  restarts 2  \
         NameError: name 'shop' is …"
    );
    assert_eq!(second(80), "2 of 2 ready  reload canary-failed, 5s ago  1 busy  backlog 3 of 2048");
    assert_eq!(second(44), "2 of 2 ready  reload canary-failed, 5s ago");
}

#[test]
fn the_selected_one_of_many_workers_is_visible() {
    let mut screen = screen(64);
    let selected = |screen: &Screen| inverted(screen, 80, 24)[0][..4].trim().to_owned();
    assert_eq!(selected(&screen), "0");
    for slot in 1..64 {
        screen.update(Input::Key(Key::Down));
        assert_eq!(selected(&screen), slot.to_string());
    }
    assert!(lines(&screen, 80, 24)[23].contains("47-64 of 64"), "{:?}", lines(&screen, 80, 24));
    screen.update(Input::Key(Key::Home));
    assert_eq!(selected(&screen), "0");
    assert!(!lines(&screen, 200, 80)[79].contains("of 64"), "all are seen");
}

#[test]
fn no_size_is_too_small() {
    let mut screen = screen(3);
    let routes = Dialog::Routes { first: 7 };
    for dialog in [Dialog::Nothing, Dialog::Help, Dialog::Reload, Dialog::Profile, routes] {
        screen.dialog = dialog;
        for (width, height) in [(0, 0), (1, 1), (1, 9), (9, 1), (5, 2), (7, 5), (30, 6), (400, 3)] {
            assert_eq!(draw(&screen, width, height).area, Rect::new(0, 0, width, height));
        }
    }
}

#[test]
fn an_unreachable_server_is_reported_above_its_last_sample() {
    let mut screen = screen(1);
    let at = screen.sample.at + Duration::from_secs(5);
    let text = "cannot reach the server at unix:/run/a: Connection refused".to_owned();
    screen.update(Input::Failure { text, at });
    assert_eq!(
        lines(&screen, 60, 24)[0],
        "no response for 5s, trying again: cannot reach the server a…"
    );
    assert!(lines(&screen, 80, 24)[5].contains("GET /a"));
    assert!(inverted(&screen, 60, 24)[0].starts_with("no response"));
}

#[test]
fn questions_responses_and_help_have_their_place() {
    let mut screen = screen(1);
    screen.update(Input::Response("worker 0 (pid 7000) writes its stack to the log".to_owned()));
    assert!(lines(&screen, 80, 24)[23].starts_with("worker 0 (pid 7000) writes"));
    screen.update(Input::Key(Key::Letter('R')));
    assert!(inverted(&screen, 80, 24)[1].ends_with("? y/n"));
    screen.update(Input::Key(Key::Letter('n')));
    screen.update(Input::Key(Key::Letter('?')));
    let shown = lines(&screen, 80, 24).join("\n");
    assert!(shown.contains("as HUP does; asks first") && !shown.contains("GET /a"), "{shown}");
}

#[test]
fn a_page_for_a_pipe_has_all_workers_and_no_keys() {
    let text = plain(&screen(64), None);
    assert_eq!(text.lines().count(), 5 + 64);
    assert!(text.contains(&format!("GET {PATH}\n")));
    assert!(text.is_ascii() || !text.contains('…'));
    assert!(!text.contains("q quit") && !text.contains('\u{1b}'), "{text}");
    assert!(plain(&screen(1), Some(40)).lines().all(|line| line.chars().count() <= 40));
}

#[test]
fn text_from_strangers_cannot_control_the_terminal() {
    let status = r#"{"workers": [{"slot": 0, "state": "ready",
        "request": {"line": "GET /\u001b[2J\u009b\u202e\r\n?secret", "age_s": 1}}]}"#;
    let sample = Sample::read(status, "", Instant::now()).unwrap();
    let screen = Screen::new("unix:/run/a".to_owned(), sample);
    for text in [lines(&screen, 80, 24).concat(), plain(&screen, None).replace('\n', "")] {
        assert!(text.contains("GET /") && !text.contains("secret"), "{text}");
        assert!(
            !text.contains(|letter: char| letter.is_control() || letter == '\u{202e}'),
            "{text:?}"
        );
    }
}

#[test]
fn routes_are_shown_by_the_time_that_they_take() {
    let long = "/a/rather/long/route/{with}/{many}/{variable}/parts";
    let shown = lines(&routes(&["/quick", "/slow/{id}", long], 3), 80, 24);
    assert_eq!(
        shown[3..9],
        [
            "",
            "time/s   req/s    mean     p50     p99   5xx/s  route",
            " 0.750     2.0   375ms   188ms   249ms     0.5  /a/rather/long/route/{with}/{ma…",
            " 0.500     2.0   250ms   188ms   249ms     0.5  /slow/{id}",
            " 0.250     2.0   125ms   188ms   249ms     0.5  /quick",
            "",
        ]
    );
    assert_eq!(shown[23], "by time/s  t workers  arrows scroll  ? help");
}

#[test]
fn more_routes_than_lines_can_be_scrolled() {
    let names: Vec<String> = (0..50).map(|number| format!("/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut screen = routes(&names, 73);
    let last = |screen: &Screen| lines(screen, 80, 24)[23].clone();
    let cut = "t workers  arrows scroll  ? help  50 of 73 routes, with the";
    assert!(last(&screen).starts_with("by time/s  1-18 of 50  t workers"), "{}", last(&screen));
    assert!(lines(&screen, 120, 24)[23].contains(cut), "{:?}", lines(&screen, 120, 24));
    screen.update(Input::Key(Key::PageDown));
    screen.update(Input::Key(Key::Down));
    assert!(last(&screen).contains("  12-29 of 50  "), "{}", last(&screen));
    assert!(lines(&screen, 80, 24)[5].ends_with("  /38"));
    screen.update(Input::Key(Key::End));
    assert!(last(&screen).contains("  50-50 of 50  "), "{}", last(&screen));
    screen.update(Input::Key(Key::Home));
    assert!(lines(&screen, 80, 24)[5].ends_with("  /49"));
}

#[test]
fn without_a_terminal_the_first_routes_follow_the_workers() {
    let names: Vec<String> = (0..12).map(|number| format!("/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let text = plain(&routes(&names, 73), None);
    let shown: Vec<&str> = text.lines().collect();
    assert_eq!(shown.len(), usize::from(ABOVE) + 2 + 10 + 1);
    assert_eq!(shown[5..7], ["", "time/s   req/s    mean     p50     p99   5xx/s  route"]);
    assert!(shown[7].ends_with("  /11") && shown[16].ends_with("  /2"), "{text}");
    assert_eq!(shown[17], "and 63 more: see t in arctos top");
    assert!(!plain(&routes(&["/a"], 1), None).contains("more"));
}

#[test]
fn requests_in_quarantine_are_visible_while_there_are_any() {
    let mut screen = screen(2);
    screen.sample.quarantined = Some("3 requests".to_owned());
    let shown = lines(&screen, 80, 24);
    let expected = "2 of 2 ready  3 requests in quarantine  1 busy  backlog 3 of 2048  restarts 2";
    assert_eq!(shown[1], expected);
    assert!(plain(&screen, None).contains(&format!("\n{expected}  reload none yet\n")));
}

#[test]
fn without_a_route_the_screen_says_how_to_name_one() {
    let mut screen = screen(1);
    screen.update(Input::Key(Key::Letter('t')));
    let shown = lines(&screen, 80, 24);
    assert_eq!(shown[4], "No request has had a route yet. The application names it:");
    assert!(shown[8].contains("arctos help metrics") && !shown[8].ends_with('…'), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("GET /a")), "{shown:?}");
}

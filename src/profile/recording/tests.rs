use std::time::Duration;

use arctos_worker::shared::samples::message::{LineFormat, UNKNOWN_CODE};

use super::*;

const SLOT: SlotId = SlotId(0);

fn code(number: u32, name: &str) -> Message {
    let code = Code {
        number,
        first_line: 10,
        name: name.to_owned(),
        file: "/app/views.py".to_owned(),
        format: LineFormat::Pairs,
        lines: vec![4, 1, 4, 1],
    };
    Message::Code { pid: 7, code }
}

fn sample(pid: u32, frames: &[(u32, u32)]) -> Message {
    sample_in(1, pid, frames)
}

fn sample_in(request: u64, pid: u32, frames: &[(u32, u32)]) -> Message {
    let frames = frames.iter().map(|&(code, offset)| SampledFrame { code, offset });
    Message::Sample { pid, request, frames: frames.collect() }
}

fn route(pid: u32, request: u64, route: Option<&str>) -> Message {
    Message::Route { pid, request, route: route.map(str::to_owned) }
}

/// The routes of the stacks, with their samples.
fn routes(profile: &Profile) -> Vec<(Option<&str>, u64)> {
    profile.stacks.iter().map(|stack| (stack.route.as_deref(), stack.count)).collect()
}

fn shown(profile: &Profile) -> Vec<(String, u64)> {
    let name = |id: &u32| {
        let frame = &profile.frames[*id as usize];
        format!("{}:{}", frame.function, frame.line)
    };
    let stacks = profile.stacks.iter();
    let text = |stack: &Stack| stack.frames.iter().map(name).collect::<Vec<_>>().join(" ");
    stacks.map(|stack| (text(stack), stack.count)).collect()
}

#[test]
fn equal_stacks_are_counted_with_their_lines() {
    let mut recording = Recording::default();
    recording.add_message(SLOT, code(0, "inner"), 1);
    recording.add_message(SLOT, code(1, "outer"), 1);
    for _ in 0..3 {
        recording.add_message(SLOT, sample(7, &[(0, 0), (1, 4)]), 1);
    }
    recording.add_message(SLOT, sample(7, &[(0, 4), (1, 4)]), 2);
    recording.add_message(SLOT, sample(7, &[(0, UNKNOWN_OFFSET)]), 1);
    let profile = recording.finish(Duration::from_secs(1));
    let expected = [("outer:12 inner:11", 3), ("outer:12 inner:12", 2), ("inner:10", 1)];
    assert_eq!(shown(&profile), expected.map(|(text, count)| (text.to_owned(), count)));
    assert_eq!(profile.workers[0].busy_count, 6);
}

#[test]
fn idle_time_is_no_stack_and_the_rest_is() {
    let mut recording = Recording::default();
    recording.add_idle(SLOT, 50);
    recording.add_server(SLOT, 3);
    recording.add_message(SLOT, sample(7, &[]), 2);
    recording.add_unanswered(SLOT, 4);
    recording.add_unanswered(SLOT, 0);
    recording.add_lost(SLOT, 1);
    let profile = recording.finish(Duration::from_secs(1));
    let expected = [("[server]:0".to_owned(), 5), ("[no answer]:0".to_owned(), 4)];
    assert_eq!(shown(&profile), expected);
    let expected = WorkerTally { slot: 0, busy_count: 9, idle_count: 50, lost_count: 1 };
    assert_eq!(profile.workers, [expected]);
}

#[test]
fn code_of_another_process_is_another_function() {
    let mut recording = Recording::default();
    recording.add_message(SLOT, code(0, "old"), 1);
    recording.add_message(SLOT, sample(8, &[(0, 0)]), 1);
    recording.add_message(SLOT, sample(7, &[(UNKNOWN_CODE, 0)]), 1);
    let profile = recording.finish(Duration::from_secs(1));
    assert_eq!(shown(&profile), [("[unknown]:0".to_owned(), 2)]);
}

#[test]
fn samples_have_the_route_that_their_request_names_later() {
    let mut recording = Recording::default();
    let mut add = |message| recording.add_message(SLOT, message, 1);
    add(sample_in(10, 7, &[(0, 0)]));
    add(sample_in(10, 7, &[(0, 0)]));
    add(sample_in(15, 8, &[(0, 0)]));
    add(route(7, 10, Some("/a")));
    add(sample_in(20, 7, &[(0, 0)]));
    add(route(8, 15, Some("/a")));
    add(route(7, 20, None));
    // Of a request that an earlier profile has sampled, and of no request.
    add(route(7, 30, Some("/b")));
    add(sample_in(40, 7, &[(0, 0)]));
    add(route(7, 30, Some("/b")));
    add(route(7, 40, Some("/c")));
    add(sample_in(0, 7, &[(0, 0)]));
    let profile = recording.finish(Duration::from_secs(1));
    let expected = [(Some("/a"), 3), (None, 1), (Some(NO_ROUTE), 1), (Some("/c"), 1)];
    assert_eq!(routes(&profile), expected);
    assert_eq!(profile.workers[0].busy_count, 6);
}

#[test]
fn requests_that_do_not_end_say_so() {
    let mut recording = Recording::default();
    for (pid, request, slot) in [(7, 10, SlotId(0)), (8, 10, SlotId(1)), (9, 10, SlotId(2))] {
        recording.add_message(slot, sample_in(request, pid, &[(0, 0)]), 1);
    }
    recording.end_process(7);
    recording.end_process(7);
    // Another worker with its pid, and a worker that has left out a route.
    recording.add_message(SlotId(3), sample_in(11, 7, &[(0, 0)]), 1);
    recording.add_message(SlotId(3), route(7, 11, Some("/a")), 1);
    recording.add_message(SlotId(1), sample_in(20, 8, &[(0, 0)]), 1);
    recording.add_message(SlotId(1), route(8, 20, Some("/a")), 1);
    let profile = recording.finish(Duration::from_secs(1));
    let unfinished = (Some(UNFINISHED), 1);
    let named = (Some("/a"), 1);
    assert_eq!(routes(&profile), [unfinished, unfinished, named, unfinished, named]);
}

#[test]
fn without_any_route_nothing_is_said_about_them() {
    let mut recording = Recording::default();
    recording.add_message(SLOT, sample_in(10, 7, &[(0, 0)]), 1);
    recording.add_message(SLOT, route(7, 10, None), 1);
    recording.add_message(SLOT, sample_in(20, 7, &[(0, 0)]), 1);
    recording.add_message(SLOT, sample_in(0, 7, &[(0, 0)]), 1);
    assert_eq!(routes(&recording.finish(Duration::from_secs(1))), [(None, 3)]);
}

#[test]
fn the_number_of_routes_and_of_running_requests_is_bounded() {
    let mut recording = Recording::default();
    let many = MAX_ROUTES as u64 + 10;
    for request in 1..=many {
        recording.add_message(SLOT, sample_in(request, 7, &[(0, 0)]), 1);
        recording.add_message(SLOT, route(7, request, Some(&format!("/{request}"))), 1);
    }
    for pid in 0..MAX_RUNNING as u32 + 10 {
        recording.add_message(SLOT, sample_in(1, pid, &[(0, 0)]), 1);
    }
    assert_eq!(recording.running.len(), MAX_RUNNING);
    let profile = recording.finish(Duration::from_secs(1));
    assert_eq!(profile.stacks.len(), MAX_ROUTES + 2);
    let largest = [(Some(UNFINISHED), MAX_RUNNING as u64 + 10), (Some(OTHER), 10)];
    assert_eq!(routes(&profile)[..2], largest);
}

#[test]
fn the_number_of_stacks_and_frames_is_bounded() {
    let mut recording = Recording::default();
    let many = MAX_FRAMES as u32 + 1000;
    for number in 0..many {
        recording.add_message(SLOT, code(number, &format!("f{number}")), 1);
        recording.add_message(SLOT, sample(7, &[(number, 0)]), 1);
    }
    let profile = recording.finish(Duration::from_secs(1));
    assert!(profile.frames.len() <= MAX_FRAMES + 1, "{}", profile.frames.len());
    assert!(profile.stacks.len() <= MAX_STACKS + 1, "{}", profile.stacks.len());
    assert_eq!(profile.stacks.iter().map(|stack| stack.count).sum::<u64>(), u64::from(many));
    assert!(shown(&profile)[0].0.starts_with("[other stacks]"));
}

use super::*;
use crate::shared::scoreboard::{Counter, StatusClass};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_new_entry_is_unoccupied_idle_and_has_the_command_to_serve() {
    let entry = WorkerEntry::detached();
    assert_eq!(entry.pid(), 0);
    assert!(!entry.is_ready());
    assert_eq!(entry.command(), Command::Serve);
    assert_eq!(entry.request_start(), None);
    assert_eq!(entry.ticks(), 0);
    assert_eq!(entry.request_line().unwrap(), "");
}

#[test]
fn each_command_arrives() {
    let entry = WorkerEntry::detached();
    for command in [Command::LameDuck, Command::Drain, Command::Quick, Command::Serve] {
        entry.set_command(command);
        assert_eq!(entry.command(), command);
    }
}

#[test]
fn a_command_word_that_nobody_wrote_reads_as_serve() {
    let entry = WorkerEntry::detached();
    for word in [4, u32::MAX] {
        entry.control.command.store(word, Ordering::Relaxed);
        assert_eq!(entry.command(), Command::Serve);
    }
}

#[test]
fn a_request_is_seen_from_its_start_to_its_end() {
    let entry = WorkerEntry::detached();
    entry.begin_request(ms(0), b"GET", b"/slow");
    assert_eq!(entry.request_start(), Some(ms(0)));
    assert_eq!(entry.request_line().unwrap(), "GET /slow");
    entry.end_call(ms(3));
    assert_eq!(entry.request_start(), None);
    assert_eq!(entry.request_line().unwrap(), "GET /slow");
}

#[test]
fn a_resumed_request_keeps_its_start_but_not_that_of_its_call() {
    let entry = WorkerEntry::detached();
    entry.begin_request(ms(10), b"GET", b"/download");
    entry.end_call(ms(11));
    entry.resume_request(ms(70), ms(10), b"GET", b"/download");
    assert_eq!((entry.request_start(), entry.call_start()), (Some(ms(10)), Some(ms(70))));
    entry.end_call(ms(72));
    assert_eq!(entry.busy_time(ms(100)), ms(3), "the client's time is not the worker's");
}

#[test]
fn only_the_call_that_was_interrupted_is() {
    let entry = WorkerEntry::detached();
    assert!(!entry.is_call_interrupted(), "no call runs");
    entry.begin_request(ms(10), b"GET", b"/slow");
    assert!(!entry.is_call_interrupted());
    entry.interrupt_call(ms(10));
    assert!(entry.is_call_interrupted());
    entry.end_call(ms(20));
    assert!(!entry.is_call_interrupted());
    entry.begin_request(ms(20), b"GET", b"/next");
    assert!(!entry.is_call_interrupted());
    entry.assign(Generation(2));
    entry.begin_request(ms(10), b"GET", b"/");
    assert!(!entry.is_call_interrupted());
}

#[test]
fn a_connection_is_passed_on_only_for_the_call_that_was_asked_for_and_before_its_response() {
    let entry = WorkerEntry::detached();
    entry.begin_request(ms(10), b"GET", b"/");
    entry.show_connection(Some(0));
    assert_eq!((entry.connection(), entry.requested_connection()), (Some(0), None));
    entry.ask_for_connection(ms(10));
    assert_eq!(entry.requested_connection(), Some(0));
    entry.show_connection(None);
    assert_eq!((entry.connection(), entry.requested_connection()), (None, None));
    entry.end_call(ms(20));
    entry.begin_request(ms(20), b"GET", b"/next");
    entry.show_connection(Some(7));
    assert_eq!((entry.connection(), entry.requested_connection()), (Some(7), None));
    entry.end_call(ms(30));
    assert_eq!(entry.connection(), None, "no request runs");
    entry.resume_request(ms(40), ms(20), b"GET", b"/next");
    assert_eq!(entry.connection(), None, "its response has begun");
    entry.begin_request(ms(50), b"GET", b"/");
    entry.show_connection(Some(7));
    entry.ask_for_connection(ms(50));
    entry.assign(Generation(2));
    entry.begin_request(ms(50), b"GET", b"/");
    assert_eq!((entry.connection(), entry.requested_connection()), (None, None));
}

#[test]
fn more_time_is_that_of_one_call() {
    let entry = WorkerEntry::detached();
    assert_eq!(entry.call_extension(), ms(0));
    entry.begin_request(ms(10), b"GET", b"/report");
    entry.extend_call(ms(500));
    entry.extend_call(ms(900));
    assert_eq!(entry.call_extension(), ms(900));
    entry.end_call(ms(20));
    entry.begin_request(ms(20), b"GET", b"/next");
    assert_eq!(entry.call_extension(), ms(0));
}

#[test]
fn a_request_has_an_identifier_once_it_is_named() {
    let entry = WorkerEntry::detached();
    assert_eq!(entry.request_id().unwrap(), "");
    entry.identify_request(b"7f3a-01", None);
    assert_eq!((entry.request_id().unwrap().as_str(), entry.trace_id()), ("7f3a-01", None));
    let (id, trace) = ("x".repeat(128), "4bf92f3577b34da6a3ce929d0e0e4736");
    entry.identify_request(id.as_bytes(), trace.as_bytes().try_into().ok());
    assert_eq!((entry.request_id(), entry.trace_id().as_deref()), (Some(id), Some(trace)));
    entry.assign(Generation(1));
    assert_eq!(entry.request_id().unwrap(), "");
}

#[test]
fn a_call_without_a_request_is_busy_time() {
    let entry = WorkerEntry::detached();
    entry.begin_call(ms(10));
    assert_eq!((entry.call_start(), entry.request_start()), (Some(ms(10)), None));
    assert_eq!(entry.busy_time(ms(12)), ms(2));
    entry.end_call(ms(15));
    assert_eq!((entry.call_start(), entry.busy_time(ms(20))), (None, ms(5)));
}

#[test]
fn the_end_of_a_call_is_a_step_of_the_loop() {
    let entry = WorkerEntry::detached();
    entry.begin_request(ms(0), b"GET", b"/");
    let before = entry.ticks();
    entry.end_call(ms(1));
    assert!(entry.ticks() > before);
}

#[test]
fn busy_time_adds_up_requests_and_the_running_one() {
    let entry = WorkerEntry::detached();
    entry.begin_request(ms(10), b"GET", b"/");
    entry.end_call(ms(15));
    entry.begin_request(ms(100), b"GET", b"/");
    assert_eq!(entry.busy_time(ms(107)), ms(12));
    entry.end_call(ms(110));
    assert_eq!(entry.busy_time(ms(1000)), ms(15));
}

#[test]
fn ending_a_call_that_did_not_begin_is_no_busy_time() {
    let entry = WorkerEntry::detached();
    entry.end_call(ms(500));
    assert_eq!(entry.busy_time(ms(1000)), Duration::ZERO);
}

#[test]
fn the_next_worker_finds_a_cleared_state_and_kept_counters() {
    let entry = WorkerEntry::detached();
    entry.assign(Generation(1));
    entry.occupy(71);
    entry.set_ready();
    entry.tick();
    entry.begin_request(ms(6), b"GET", b"/");
    entry.end_call(ms(7));
    entry.begin_request(ms(8), b"GET", b"/last");
    entry.set_sampled(ms(8));
    entry.begin_exit(ms(9));
    entry.set_command(Command::Drain);
    entry.counters.inc(Counter::RespDone);
    entry.requests.duration(StatusClass::Success).record(ms(1));
    entry.queue_wait.record(ms(1));

    entry.assign(Generation(2));
    assert_eq!(entry.generation(), Generation(2));
    assert_eq!(entry.pid(), 0);
    assert!(!entry.is_ready());
    assert_eq!(entry.ticks(), 0);
    assert_eq!((entry.call_start(), entry.request_start()), (None, None));
    assert_eq!((entry.exit_start(), entry.take_sampled()), (None, None));
    assert_eq!(entry.request_line().unwrap(), "");
    assert_eq!(entry.command(), Command::Serve);
    assert_eq!(entry.counters.get(Counter::RespDone), 1);
    assert_eq!(entry.requests.duration(StatusClass::Success).count(), 1);
    assert_eq!(entry.queue_wait.count(), 1);
    assert_eq!(entry.busy_time(ms(1000)), ms(1));
}

#[test]
fn a_shared_connection_is_open_where_it_is_served() {
    let entries = [WorkerEntry::detached(), WorkerEntry::detached()];
    let open = || entries.map(WorkerEntry::open_connections);
    entries[0].counters.inc(Counter::ConnAcceptSuccess);
    entries[0].release_connection();
    assert_eq!(open(), [0, 0]);
    entries[1].claim_connection();
    assert_eq!(open(), [0, 1]);
    entries[1].counters.inc(Counter::RespConnClose);
    assert_eq!(open(), [0, 0]);
}

#[test]
fn connections_that_died_with_a_worker_are_not_open_in_the_next_one() {
    let entry = WorkerEntry::detached();
    entry.counters.add(Counter::ConnAcceptSuccess, 5);
    entry.counters.add(Counter::RespConnClose, 2);
    assert_eq!(entry.open_connections(), 3);
    entry.assign(Generation(1));
    assert_eq!(entry.open_connections(), 0);
    entry.counters.inc(Counter::ConnAcceptSuccess);
    assert_eq!(entry.open_connections(), 1);
    entry.assign(Generation(2));
    assert_eq!(entry.open_connections(), 0);
}

use std::num::NonZeroU16;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};

use super::*;
use arctos_worker::shared::identity::SlotId;

use crate::admin::verb::{self, StopMode};
use crate::admin::{Admin, AdminResponse, reload};
use crate::supervisor::ReloadOutcome;

/// The time after which a test has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The verb that arrives at a server that gives this response, and the outcome of the command. The server exits once
/// its only response is read.
fn sent_and_shown(
    verb: Verb,
    is_json: bool,
    response: Option<AdminResponse>,
) -> (Verb, Result<String, String>) {
    sent_and_shown_as(verb, is_json, ProfileOutput::default(), response)
}

fn sent_and_shown_as(
    verb: Verb,
    is_json: bool,
    profile: ProfileOutput,
    response: Option<AdminResponse>,
) -> (Verb, Result<String, String>) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/admin", directory.path().display());
    let mut admin = Admin::bind(&[address.parse().unwrap()]).unwrap();
    let server = thread::spawn(move || {
        let mut received = None;
        loop {
            let poll_fds = admin.poll_fds();
            let mut fds: Vec<_> = poll_fds.iter().map(|(fd, it)| PollFd::new(*fd, *it)).collect();
            let count = poll(&mut fds, PollTimeout::try_from(TIMEOUT).unwrap()).unwrap();
            assert!(count > 0, "no descriptor became ready");
            if let Some(request) = admin.turn(Instant::now()).pop() {
                received = Some(Verb::read(&request).unwrap());
                match &response {
                    Some(response) => admin.respond(request.id, response),
                    None => break,
                }
            } else if received.is_some() && admin.poll_fds().len() == 1 {
                break; // Only the listener is left: the client is gone.
            }
        }
        received.unwrap()
    });
    let command = CtlCommand { verb, is_json, profile, server: address.parse().unwrap() };
    let shown = run(&command).map_err(|error| error.to_string().replace(&address, "HERE"));
    (server.join().unwrap(), shown)
}

#[test]
fn each_verb_arrives_at_the_server_as_it_was_given() {
    for verb in [
        Verb::Reload { wait: false },
        Verb::Reload { wait: true },
        Verb::Stop { mode: StopMode::Graceful },
        Verb::Stop { mode: StopMode::Quick },
        Verb::Scale { workers: 3 },
        Verb::Dump { slot: SlotId(2) },
        Verb::Recycle { slot: SlotId(2) },
        Verb::Release { number: None },
        Verb::Release { number: NonZeroU16::new(2) },
    ] {
        let response = Some(AdminResponse::plain(202, "as requested\n"));
        let expected = (verb, Ok("as requested\n".to_owned()));
        assert_eq!(sent_and_shown(verb, false, response), expected);
    }
    let response = || Some(AdminResponse::plain(200, "nonsense\n"));
    assert_eq!(sent_and_shown(Verb::Metrics, false, response()).0, Verb::Metrics);
    let (verb, shown) = sent_and_shown(Verb::Status, true, response());
    assert_eq!(verb, Verb::Status);
    assert!(shown.unwrap_err().starts_with("HERE does not answer as the admin socket"));
}

#[test]
fn a_status_is_shown_as_a_table_or_as_json() {
    let text = r#"{"workers": [], "version": "1.2.3"}"#;
    let response = || Some(AdminResponse::plain(200, text));
    assert_eq!(sent_and_shown(Verb::Status, true, response()).1, Ok(text.to_owned()));
    let table = sent_and_shown(Verb::Status, false, response()).1.unwrap();
    assert!(table.starts_with("server   arctos 1.2.3,"), "{table}");
}

#[test]
fn a_reload_that_fails_is_an_error_with_its_report() {
    let wait = Verb::Reload { wait: true };
    let done = reload::response(ReloadOutcome::Done, None);
    assert_eq!(sent_and_shown(wait, false, Some(done)).1, Ok("done\n".to_owned()));
    let report = "Traceback:\n\tx\u{1b}[2J\nNameError: y\n";
    let failed = reload::response(ReloadOutcome::CanaryFailed, Some(report));
    let message = sent_and_shown(wait, false, Some(failed)).1.unwrap_err();
    assert!(message.starts_with("the reload failed: canary-failed: "), "{message}");
    assert!(message.ends_with("\nTraceback:\n\tx\u{fffd}[2J\nNameError: y"), "{message}");
}

#[test]
fn a_refusal_is_an_error_with_the_text_of_the_server() {
    let response = verb::scaled(99, 64).unwrap_err();
    let text = "refused: there is room for at most 64 workers";
    assert_eq!(
        sent_and_shown(Verb::Scale { workers: 99 }, false, Some(response)).1,
        Err(format!("the server at HERE answers 409: {text}"))
    );
}

#[test]
fn a_server_that_ends_before_its_response_is_an_error() {
    let (verb, shown) = sent_and_shown(Verb::Reload { wait: true }, false, None);
    assert_eq!(verb, Verb::Reload { wait: true });
    let message = "the server at HERE has closed the connection without an answer";
    assert_eq!(shown, Err(message.to_owned()));
}

#[test]
fn a_profile_is_shown_in_the_format_that_was_asked_for() {
    let profile = crate::profile::report::stage::profile();
    let verb = Verb::Profile { seconds: 2, slot: Some(SlotId(1)) };
    let answer = || Some(AdminResponse::plain(200, &profile.to_json()));
    for (format, start) in [
        (ProfileFormat::Flamegraph, "<?xml version"),
        (ProfileFormat::Collapsed, "worker 0;main (shop/views.py:5);slow"),
        (ProfileFormat::Speedscope, "{"),
        (ProfileFormat::Top, "100 samples in 2.0 s"),
    ] {
        let output = ProfileOutput { format, file: None };
        let (sent, shown) = sent_and_shown_as(verb, false, output, answer());
        let shown = shown.unwrap();
        assert_eq!(sent, verb);
        assert!(shown.starts_with(start), "{shown}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("profile.svg");
    let output = ProfileOutput { format: ProfileFormat::Flamegraph, file: Some(file.clone()) };
    let shown = sent_and_shown_as(verb, false, output, answer()).1.unwrap();
    assert!(shown.starts_with("100 samples in 2.0 s"), "{shown}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("<svg"));
    let file = directory.path().join("missing/profile.svg");
    let output = ProfileOutput { format: ProfileFormat::Top, file: Some(file) };
    let failed = sent_and_shown_as(verb, false, output, answer()).1.unwrap_err();
    assert!(
        failed.starts_with("cannot write") && failed.contains("missing/profile.svg"),
        "{failed}"
    );
    let refused = Some(AdminResponse::plain(409, "refused: another profile is running\n"));
    let failed = sent_and_shown(verb, false, refused).1.unwrap_err();
    assert!(failed.ends_with("answers 409: refused: another profile is running"), "{failed}");
}

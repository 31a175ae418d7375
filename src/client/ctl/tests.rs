use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};

use super::*;
use crate::admin::verb::{self, Request};
use crate::admin::{self, Admin, reload};
use crate::supervisor::ReloadOutcome;

/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a verb asks of a server that gives this answer, and what comes of it. The server goes when its
/// one answer is read.
fn asked_and_said(verb: Verb, answer: Option<admin::Answer>) -> (Request, Result<String, String>) {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/admin", folder.path().display());
    let mut admin = Admin::bind(&[address.parse().unwrap()]).unwrap();
    let server = thread::spawn(move || {
        let mut request = None;
        loop {
            let awaited = admin.awaited();
            let mut fds: Vec<_> = awaited.iter().map(|(fd, it)| PollFd::new(*fd, *it)).collect();
            let count = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
            assert!(count > 0, "nothing has happened");
            if let Some(question) = admin.turn(Instant::now()).pop() {
                request = Some(Request::read(&question));
                match &answer {
                    Some(answer) => admin.answer(question.id, answer.clone()),
                    None => break,
                }
            } else if request.is_some() && admin.awaited().len() == 1 {
                break; // The listener alone: who has asked has gone.
            }
        }
        request.unwrap()
    });
    let order = Order { verb, server: address.parse().unwrap() };
    let said = obey(&order).map_err(|error| error.to_string().replace(&address, "HERE"));
    (server.join().unwrap(), said)
}

#[test]
fn each_verb_asks_for_what_it_is() {
    for (verb, request) in [
        (Verb::Reload { wait: false }, Request::Reload { wait: false }),
        (Verb::Reload { wait: true }, Request::Reload { wait: true }),
        (Verb::Stop { haste: Haste::Graceful }, Request::Stop { haste: Haste::Graceful }),
        (Verb::Stop { haste: Haste::Quick }, Request::Stop { haste: Haste::Quick }),
        (Verb::Scale { workers: 3 }, Request::Scale { workers: 3 }),
        (Verb::Dump { slot: SlotId(2) }, Request::Dump { slot: SlotId(2) }),
        (Verb::Recycle { slot: SlotId(2) }, Request::Recycle { slot: SlotId(2) }),
    ] {
        let answer = Some(admin::Answer::plain(202, "as asked\n"));
        assert_eq!(asked_and_said(verb, answer), (request, Ok("as asked\n".to_owned())));
    }
    let answer = || Some(admin::Answer::plain(200, "nonsense\n"));
    assert_eq!(asked_and_said(Verb::Metrics, answer()).0, Request::Metrics);
    let (request, said) = asked_and_said(Verb::Status { json: true }, answer());
    assert_eq!(request, Request::Status);
    assert!(said.unwrap_err().starts_with("HERE does not answer as the admin socket"));
}

#[test]
fn a_status_is_a_table_or_as_it_came() {
    let text = r#"{"workers": [], "version": "1.2.3"}"#;
    let answer = || Some(admin::Answer::plain(200, text));
    assert_eq!(asked_and_said(Verb::Status { json: true }, answer()).1, Ok(text.to_owned()));
    let table = asked_and_said(Verb::Status { json: false }, answer()).1.unwrap();
    assert!(table.starts_with("server   arctos 1.2.3,"), "{table}");
}

#[test]
fn a_reload_that_fails_is_an_error_with_its_report() {
    let wait = Verb::Reload { wait: true };
    let done = reload::answer(ReloadOutcome::Done, None);
    assert_eq!(asked_and_said(wait, Some(done)).1, Ok("done\n".to_owned()));
    let report = "Traceback:\n\tx\u{1b}[2J\nNameError: y\n";
    let failed = reload::answer(ReloadOutcome::CanaryFailed, Some(report));
    let message = asked_and_said(wait, Some(failed)).1.unwrap_err();
    assert!(message.starts_with("the reload failed: canary-failed: "), "{message}");
    assert!(message.ends_with("\nTraceback:\n\tx\u{fffd}[2J\nNameError: y"), "{message}");
}

#[test]
fn a_refusal_is_an_error_in_the_words_of_the_server() {
    let answer = verb::scaled(99, 64).unwrap_err();
    let words = "refused: there is room for 64 workers at most";
    assert_eq!(
        asked_and_said(Verb::Scale { workers: 99 }, Some(answer)).1,
        Err(format!("the server at HERE answers 409: {words}"))
    );
}

#[test]
fn a_server_that_ends_meanwhile_has_not_done_it() {
    let (request, said) = asked_and_said(Verb::Reload { wait: true }, None);
    assert_eq!(request, Request::Reload { wait: true });
    let message = "the server at HERE has closed the connection without an answer";
    assert_eq!(said, Err(message.to_owned()));
}

use proptest::prelude::*;

use super::*;

fn seconds(timer: Timer) -> Duration {
    Duration::from_secs(match timer {
        Timer::KeepAlive => 75,
        Timer::Handshake | Timer::Head | Timer::Body | Timer::BodyRate => 30,
        Timer::Write => 60,
        Timer::Linger | Timer::LingerTotal => 2,
    })
}

fn token(index: u32, generation: u32) -> Token {
    Token::from_bits(u64::from(generation) << 32 | u64::from(index))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_due_in_empty_queues() {
    let mut deadlines = Deadlines::new(seconds);
    assert_eq!(deadlines.next(), None);
    assert_eq!(deadlines.pop_expired(Instant::now() + MAX_DURATION), None);
    assert_eq!(deadlines.oldest(Timer::KeepAlive), None);
}

#[test]
fn a_deadline_expires_at_its_moment_and_not_before() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::Head, token(0, 0), start);
    let due = start + 30 * SECOND;
    assert_eq!(deadlines.next(), Some(due));
    assert_eq!(deadlines.pop_expired(due - Duration::from_nanos(1)), None);
    assert_eq!(deadlines.pop_expired(due), Some((Timer::Head, token(0, 0))));
    assert_eq!(deadlines.pop_expired(due), None);
}

#[test]
fn the_earliest_of_all_kinds_comes_first() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::KeepAlive, token(0, 0), start);
    deadlines.set(Timer::Linger, token(1, 0), start);
    let late = start + 100 * SECOND;
    assert_eq!(deadlines.pop_expired(late), Some((Timer::Linger, token(1, 0))));
    assert_eq!(deadlines.pop_expired(late), Some((Timer::KeepAlive, token(0, 0))));
}

#[test]
fn setting_again_moves_to_the_tail() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::KeepAlive, token(0, 0), start);
    deadlines.set(Timer::KeepAlive, token(1, 0), start + SECOND);
    deadlines.set(Timer::KeepAlive, token(0, 0), start + 2 * SECOND);
    assert_eq!(deadlines.oldest(Timer::KeepAlive), Some(token(1, 0)));
    assert_eq!(deadlines.next(), Some(start + 76 * SECOND));
}

#[test]
fn a_cleared_deadline_never_expires_but_the_others_stay() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::Body, token(3, 1), start);
    deadlines.set(Timer::BodyRate, token(3, 1), start);
    deadlines.clear(Timer::Body, token(3, 1));
    let late = start + MAX_DURATION;
    assert_eq!(deadlines.pop_expired(late), Some((Timer::BodyRate, token(3, 1))));
    assert_eq!(deadlines.pop_expired(late), None);
}

#[test]
fn clearing_what_is_not_set_does_nothing() {
    let mut deadlines = Deadlines::new(seconds);
    deadlines.clear(Timer::Write, token(9, 0));
    deadlines.clear_all(token(9, 0));
    assert_eq!(deadlines.next(), None);
}

#[test]
fn a_stale_token_does_not_clear_the_deadline_of_its_successor() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::Write, token(0, 1), start);
    deadlines.clear(Timer::Write, token(0, 0));
    deadlines.clear_all(token(0, 0));
    assert_eq!(deadlines.oldest(Timer::Write), Some(token(0, 1)));
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "clear_all was not called")]
fn a_deadline_left_behind_is_a_bug() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(seconds);
    deadlines.set(Timer::Write, token(0, 0), start);
    deadlines.set(Timer::Write, token(0, 1), start);
}

#[test]
fn an_endless_duration_does_not_overflow() {
    let mut deadlines = Deadlines::new(|_| Duration::MAX);
    deadlines.set(Timer::KeepAlive, token(0, 0), Instant::now());
    assert!(deadlines.next().is_some());
}

#[test]
fn a_deadline_takes_32_bytes() {
    assert_eq!(size_of::<Option<Node>>(), 32);
}

#[derive(Clone, Debug)]
enum Action {
    Set(Timer, u32),
    Clear(Timer, u32),
    /// The client is removed, and its place gets the next generation.
    Remove(u32),
    Pass(u64),
    Pop,
}

fn action() -> impl Strategy<Value = Action> {
    let timer = || prop::sample::select(Timer::ALL.to_vec());
    prop_oneof![
        4 => (timer(), 0..8u32).prop_map(|(timer, index)| Action::Set(timer, index)),
        2 => (timer(), 0..8u32).prop_map(|(timer, index)| Action::Clear(timer, index)),
        1 => (0..8u32).prop_map(Action::Remove),
        2 => (0..40u64).prop_map(Action::Pass),
        2 => Just(Action::Pop),
    ]
}

proptest! {
    #[test]
    fn the_queues_behave_like_a_sorted_list(actions in prop::collection::vec(action(), 0..300)) {
        let mut now = Instant::now();
        let mut deadlines = Deadlines::new(seconds);
        // In the order of setting. The model finds the earliest by comparing all.
        let mut model: Vec<(Timer, Token, Instant)> = Vec::new();
        let mut generations = [0; 8];
        for action in actions {
            match action {
                Action::Set(timer, index) => {
                    let token = token(index, generations[index as usize]);
                    deadlines.set(timer, token, now);
                    model.retain(|entry| (entry.0, entry.1) != (timer, token));
                    model.push((timer, token, now + seconds(timer)));
                }
                Action::Clear(timer, index) => {
                    let token = token(index, generations[index as usize]);
                    deadlines.clear(timer, token);
                    model.retain(|entry| (entry.0, entry.1) != (timer, token));
                }
                Action::Remove(index) => {
                    let token = token(index, generations[index as usize]);
                    deadlines.clear_all(token);
                    model.retain(|entry| entry.1 != token);
                    generations[index as usize] += 1;
                }
                Action::Pass(seconds) => now += Duration::from_secs(seconds),
                Action::Pop => {
                    let first = model.iter().map(|entry| entry.2).min();
                    let popped = deadlines.pop_expired(now);
                    prop_assert_eq!(popped.is_some(), first.is_some_and(|at| at <= now));
                    if let Some((timer, token)) = popped {
                        let position = model.iter().position(|entry| (entry.0, entry.1) == (timer, token));
                        let (_, _, at) = model.remove(position.expect("it was set"));
                        prop_assert_eq!(Some(at), first);
                    }
                }
            }
            prop_assert_eq!(deadlines.next(), model.iter().map(|entry| entry.2).min());
            for timer in Timer::ALL {
                let oldest = model.iter().find(|entry| entry.0 == timer).map(|entry| entry.1);
                prop_assert_eq!(deadlines.oldest(timer), oldest);
            }
        }
        for token in model.iter().map(|entry| entry.1) {
            deadlines.clear_all(token);
        }
        prop_assert_eq!(deadlines.next(), None);
    }
}

//! The delay before a worker that died is replaced.

use super::*;

impl Rig {
    /// Lets the newest worker and its successors fail to boot so often that their slot waits for seconds.
    fn fails_to_boot(&mut self) {
        for _ in 0..8 {
            let newest = self.next_pid - 1;
            if self.exited(newest, ExitStatus::Code(3)).is_empty() {
                self.after(s(5.5));
            }
        }
        let newest = self.next_pid - 1;
        assert_eq!(self.exited(newest, ExitStatus::Code(3)), []);
        assert_eq!(self.after(s(4.0)), []);
    }
}

#[test]
fn a_worker_that_received_a_request_is_always_replaced_at_once() {
    let mut rig = Rig::serving(policy(2));
    for _ in 0..100 {
        let (pid, status) = (Pid(rig.next_pid - 1), ExitStatus::Signal(11));
        let did = rig.event(Event::Exited {
            pid,
            status,
            details: ExitDetails { had_request: true, ..ExitDetails::default() },
        });
        assert_eq!(did, [Spawn(1)]);
        rig.ready(rig.next_pid - 1);
    }
}

#[test]
fn a_worker_that_serves_ends_the_backoff_of_all_slots() {
    let mut rig = Rig::serving(policy(2));
    rig.after(s(1.0));
    rig.fails_to_boot();
    let (pid, status) = (Pid(100), ExitStatus::Signal(11));
    let did = rig.event(Event::Exited {
        pid,
        status,
        details: ExitDetails { had_request: true, ..ExitDetails::default() },
    });
    assert_eq!(did, [Spawn(0), Spawn(1)]);
    let (one, other) = (rig.next_pid - 2, rig.next_pid - 1);
    rig.ready(one);
    for _ in 0..8 {
        let newest = rig.next_pid - 1;
        rig.exited(if newest == one { other } else { newest }, ExitStatus::Code(3));
    }
    assert_eq!(rig.after(s(1.0)), [Spawn(1)], "the other worker has been ready for a second");
}

#[test]
fn every_command_of_an_operator_ends_the_backoff_of_all_slots() {
    for command in [
        OperatorCommand::Reload,
        OperatorCommand::More,
        OperatorCommand::Recycle { slot: SlotId(0) },
    ] {
        let mut rig = Rig::serving(policy(2));
        rig.after(s(1.0));
        rig.fails_to_boot();
        assert!(rig.command(command).contains(&Spawn(1)), "{command:?}");
    }
}

#[test]
fn one_slot_is_tried_every_half_second_while_most_workers_are_missing() {
    let mut rig = Rig::serving(policy(4));
    rig.after(s(1.0));
    for pid in [101, 102, 103] {
        rig.exited(pid, ExitStatus::Signal(9));
    }
    for _ in 0..40 {
        let tried: Vec<_> = (104..rig.next_pid).collect();
        for pid in tried {
            rig.exited(pid, ExitStatus::Code(3));
        }
        assert!(rig.after(s(0.5)).len() <= 4);
    }
    let mut tries = 0;
    for _ in 0..40 {
        rig.exited(rig.next_pid - 1, ExitStatus::Code(3));
        tries += rig.after(s(0.5)).len();
    }
    assert_eq!(tries, 40);
}

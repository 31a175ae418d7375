"""The fault table: what may happen, what is not lost then, and which tests prove it.

| row | fault | nothing is lost, except |
|---|---|---|
| F1 | kill -9 of one worker | the request it ran, and what was sent on connections that it has not shared; counters exact to 1 |
| F2 | kill -9 of all workers | as F1 for each; no connection is refused, and no shared one that is idle is closed |
| F3 | SIGSTOP of a worker, for 5 s and forever | its own connections wait, or it is killed, as F1 |
| F4 | `while True`, a C loop that holds the GIL, a deadlock | that request; the log has it and the stack |
| F5 | HUP: new code raises, hangs or crashes at import | nothing; same pids; one traceback; the next HUP works |
| F6 | HUP: new code dies 0.5 s after it is ready | the requests of the canary; the rollout halts |
| F7 | 50 HUPs in 1 s | nothing; at most two generations and one extra worker |
| F8 | segmentation fault in a request | that request; the log names it |
| F9 | the first start is broken | exit 4 or 3; one traceback; port closed; nothing left; the same for 1 and 8 workers |
| F10 | workers always die 0.3 s after they are ready | one is tried every 0.5 s; exit 5 only after 60 s without any |
| F11 | fork fails (RLIMIT_NPROC) | nothing; tried again; recovers by itself |
| F12 | EMFILE in one worker, in all | nothing; hardly any processor time; recovers |
| F13 | statsd: absent, then present; does not read; name servers hang | no metric; requests go on |
| F14 | standard error full, its reader stopped, closed | log lines |
| F15 | kill -9 of the supervisor | accepted requests are finished; workers exit; a new start succeeds |
| F16 | SIGSTOP of the supervisor, suspend, another wall clock | nothing; no worker is killed for it |
| F17 | TERM under load, with and without a drain delay | with: nothing; without: refused, never reset |
| F18 | TERM with a request beyond the graceful timeout | that request; exit 0 |
| F19 | first process of a PID namespace, with orphans | nothing |
| F20 | the application takes signals, forks, exits in a request | that request; the worker is replaced |
| F21 | out of memory in a cgroup | as F1; the cause is named |
| F22 | a worker overwrites its own counters | the metrics of that slot until it is replaced |
| F23 | two supervisors on one port | the second exits 1, unless `--reuse-port` |
| F24 | USR2 with a broken new program | nothing; the old one goes on |
| F25 | all workers reach `--max-requests` together | nothing, not even an idle connection; never fewer ready than wanted |
| F26 | requests crash their workers repeatedly | as F1 for each; no client waits for a backoff |
| F27 | HUP, WINCH, scale, recycle and upgrade in any order at any time | nothing |
| F28 | no memory for sockets, no descriptors in the system (accept, send, receive) | the request whose call failed, or an idle connection |
| F29 | the disk of request bodies is full, its quota used up, files limited | that request: 507, 503 or 500 |
| F30 | the disk of the access log is full | log lines, each counted and reported once |
| F31 | the application closes the worker's descriptors, or puts files in their place | that request; the worker is replaced |
| F32 | any of these in a request that has run for a second, or on a shared connection | the response: its client reads a 502, or a 504 after a hang |

F1, F5, F6, F9 and F10 also run with real processes and without Python in `tests/supervisor`, and in thousands of
orders in the simulation of the supervisor.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1]
WORKERS, RELOADS = "faults/test_worker_faults.py::test_", "faults/test_reload_faults.py::test_"
DEATHS, STOP = "faults/test_worker_deaths.py::test_", "lifecycle/test_stop.py::test_"
SUPERVISOR, APPLICATION = "faults/test_supervisor_faults.py::test_", "faults/test_application_faults.py::test_"
PROCESS = "faults/test_process_misuse.py::test_"
ROLLING, UPGRADE = "deploy/test_rolling_update.py::test_", "deploy/test_upgrade.py::test_"
SHORTAGES = "faults/test_shortages.py::test_"
VICTIMS, OUTLIVE = "lifecycle/test_victims.py::test_", "lifecycle/test_connections_outlive_workers.py::test_"
LOAD, STATSD, LOG = "metrics/test_metrics_under_load.py::test_", "metrics/test_statsd.py::test_", "cli/test_log.py::test_"

TESTS = {
    "F1": [
        WORKERS + "killed_workers_cost_their_own_requests_and_are_counted",
        DEATHS + "kill_9_of_a_worker_fails_only_requests_on_its_own_connections",
        LOAD + "with_workers_killed_in_requests_every_request_is_accounted_for",
        LOAD + "each_worker_killed_at_any_moment_loses_at_most_one_count",
        OUTLIVE + "kill_9_costs_the_request_that_ran_and_its_client_gets_502",
    ],
    "F2": [
        WORKERS + "killed_workers_cost_their_own_requests_and_are_counted",
        DEATHS + "kill_9_of_all_workers_never_refuses_a_connection",
        OUTLIVE + "a_storm_of_kills_executes_nothing_twice_and_closes_nothing_idle",
    ],
    "F3": [
        WORKERS + "a_worker_that_is_stopped_for_a_while_loses_nothing",
        WORKERS + "a_worker_stopped_forever_is_killed_and_costs_its_own_requests",
    ],
    "F4": [WORKERS + "a_hung_request_is_logged_with_its_stack_and_costs_one_worker"],
    "F5": [
        RELOADS + "a_reload_that_fails_at_import_loses_nothing_and_the_next_works",
        RELOADS + "100_reloads_under_load_lose_nothing_and_the_last_good_code_serves",
    ],
    "F6": [
        RELOADS + "code_that_dies_in_probation_loses_only_the_requests_of_its_canary",
        RELOADS + "a_rollout_whose_workers_die_rolls_back_and_loses_only_their_own",
    ],
    "F7": [RELOADS + "50_reloads_in_a_second_lose_nothing_and_the_last_one_counts"],
    "F8": [WORKERS + "a_crashing_request_is_logged_and_costs_one_worker"],
    "F9": [
        WORKERS + "a_first_start_that_is_broken_ends_soon_and_leaves_nothing",
        "cli/test_command_line.py::test_an_application_that_breaks_at_import_ends_the_start",
    ],
    "F10": [
        WORKERS + "the_server_gives_up_after_60_s_of_workers_that_never_serve"
    ],
    "F11": [
        WORKERS + "a_fork_that_fails_loses_nothing_and_is_tried_again",
        DEATHS + "a_fork_that_fails_is_tried_again_while_the_others_serve",
    ],
    "F12": [
        WORKERS + "one_worker_without_descriptors_loses_nothing",
        WORKERS + "all_workers_without_descriptors_lose_nothing",
        DEATHS + "a_worker_out_of_descriptors_waits_for_one_without_spinning",
    ],
    "F13": [
        SUPERVISOR + "an_unreachable_daemon_costs_no_metric_no_request_and_no_probe",
        STATSD + "counts_made_while_the_daemon_was_away_are_not_lost",
        STATSD + "a_daemon_that_comes_after_the_server_gets_all",
        STATSD + "a_daemon_that_does_not_read_delays_no_request",
        STATSD + "an_absent_daemon_costs_no_request",
    ],
    "F14": [
        SUPERVISOR + "a_log_that_cannot_be_written_costs_no_request_and_no_worker",
        LOG + "a_full_standard_error_costs_log_lines_only",
        LOG + "a_log_that_nobody_reads_costs_log_lines_only",
    ],
    "F15": [
        SUPERVISOR + "after_kill_9_of_the_supervisor_nothing_is_cut_and_a_start_works",
        DEATHS + "a_new_server_starts_at_once_when_the_supervisor_is_killed",
        DEATHS + "orphaned_workers_exit_however_many_clients_connect",
        DEATHS + "workers_exit_when_the_supervisor_is_killed",
    ],
    "F16": [
        SUPERVISOR + "no_worker_is_killed_because_of_a_suspension_of",
        SUPERVISOR + "a_wall_clock_that_jumps_moves_nothing",
        "metrics/test_metrics_across_restarts.py::test_counts_made_while_the_supervisor_is_suspended_come_later",
    ],
    "F17": [
        SUPERVISOR + "with_kubernetes_delay_a_balancer_that_lags_3_s_loses_nothing",
        SUPERVISOR + "without_a_delay_clients_are_refused_and_never_cut_off",
        ROLLING + "replacing_two_instances_in_turn_fails_none_of_20_000_requests",
        STOP + "term_under_load_fails_no_request_that_was_accepted",
        STOP + "a_balancer_that_keeps_sending_in_the_drain_delay_loses_nothing",
    ],
    "F18": [
        SUPERVISOR + "only_a_request_beyond_the_graceful_timeout_is_aborted_and_counted",
        STOP + "a_request_beyond_the_graceful_timeout_is_aborted_and_exit_is_0",
    ],
    "F19": ["deploy/test_pid_one.py::test_it_reaps_orphans_whatever_they_exit_with"],
    "F20": [
        APPLICATION + "an_application_that_takes_over_signals_can_still_be_stopped",
        APPLICATION + "processes_started_in_requests_cost_no_other_request_anything",
        APPLICATION + "sys_exit_in_a_request_is_a_500_and_the_worker_goes_on",
        PROCESS + "a_worker_goes_on",
        PROCESS + "a_worker_is_replaced",
        APPLICATION + "os_exit_under_load_costs_only_the_connections_of_those_workers",
        DEATHS + "os_exit_costs_its_own_request_and_the_worker_is_replaced",
        DEATHS + "an_application_that_forks_and_waits_is_answered",
        DEATHS + "a_forked_child_that_returns_is_no_second_worker",
        DEATHS + "a_process_of_multiprocessing_can_be_terminated",
        DEATHS + "signal_handlers_replaced_by_the_import_are_reinstalled",
    ],
    "F21": [
        APPLICATION + "an_oom_kill_costs_what_a_kill_costs_and_the_log_names_the_cause",
    ],
    "F22": [
        APPLICATION + "corrupted_counters_affect_one_slot_until_its_worker_is_replaced",
    ],
    "F23": [
        SUPERVISOR + "a_second_server_on_the_port_gets_requests_only_if_told_to_share",
        "http/test_binds.py::test_a_second_server_on_the_port_exits_1_and_the_first_goes_on",
        "http/test_binds.py::test_a_second_server_may_share_the_port_when_it_is_asked_to",
    ],
    "F24": [
        UPGRADE + "the_old_server_goes_on_whatever_is_wrong_with_the_new_one",
        UPGRADE + "a_successor_that_never_serves_costs_nothing",
    ],
    "F25": [
        SUPERVISOR + "workers_due_for_recycling_together_are_replaced_one_by_one",
        OUTLIVE + "idle_connections_go_on_when_workers_are_replaced",
    ],
    "F26": [
        WORKERS + "repeated_crashes_cost_their_own_requests_and_are_summed_up",
    ],
    "F27": [
        RELOADS + "a_hup_during_probation_cuts_no_connection_of_the_canary",
        "faults/test_operator_commands.py::test_any_order_of_reload_pause_scale_recycle_upgrade_loses_nothing",
    ],
    "F28": [
        SHORTAGES + "a_shortage_at_accept_costs_the_longest_idle_connection",
        SHORTAGES + "a_shortage_at_accept_delays_a_connection_if_none_is_idle",
        SHORTAGES + "a_send_that_fails_aborts_its_response_and_closes_its_iterable",
        SHORTAGES + "a_sendfile_that_fails_aborts_its_response",
        SHORTAGES + "a_receive_that_fails_closes_its_connection",
    ],
    "F29": [
        SHORTAGES + "a_body_that_cannot_be_stored_costs_its_request",
        SHORTAGES + "a_body_above_the_limit_on_file_sizes_costs_its_request",
        SHORTAGES + "uploads_to_a_full_disk_are_507_and_work_again_when_there_is_room",
    ],
    "F30": [
        SHORTAGES + "an_access_log_on_a_full_disk_loses_lines_until_there_is_room",
        LOG + "lost_access_log_lines_are_reported_at_once_and_then_counted",
    ],
    "F31": [
        PROCESS + "a_server_recovers_when_its_descriptors_are_lost",
        PROCESS + "a_server_recovers_when_all_descriptors_are_closed",
    ],
    "F32": [
        VICTIMS + "the_client_of_a_killed_request_gets_502",
        VICTIMS + "the_client_of_a_request_that_hangs_gets_504",
        VICTIMS + "a_response_that_had_begun_by_write_is_not_followed_by_another",
        VICTIMS + "nginx_passes_the_answer_on",
        OUTLIVE + "kill_9_costs_the_request_that_ran_and_its_client_gets_502",
        OUTLIVE + "the_client_of_a_request_that_hangs_gets_504",
        OUTLIVE + "victims_behind_nginx_get_the_answer_of_the_server",
    ],
}


@pytest.fixture(scope="module")
def collected():
    """The names of all tests of the suite, without their parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--color=no", "."]
    found = subprocess.run(command, cwd=SUITE, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout
    return {line.split("[")[0] for line in found.stdout.splitlines() if "::" in line}


def test_the_table_and_its_text_have_the_same_rows():
    lines = [line.split("|")[1].strip() for line in __doc__.splitlines() if line.startswith("| F")]
    assert lines == list(TESTS) == [f"F{number}" for number in range(1, 33)]


@pytest.mark.parametrize("row", TESTS)
def test_the_tests_of_a_row_exist(collected, row):
    assert TESTS[row] and set(TESTS[row]) <= collected

"""arctos.metrics: definitions, updates and errors. tests/wsgi/metrics/ shows what becomes of the numbers."""

import threading

import pytest
from arctos import metrics


def test_the_same_definition_gives_the_same_metric():
    first = metrics.counter("api.same", "Help", tags=("a", "b"))
    assert metrics.counter("api.same", "Help", tags=["a", "b"]) is first
    assert (first.name, repr(first)) == ("api.same", "<arctos.metrics.Counter api.same>")


def test_metrics_whose_samples_would_have_one_name_are_refused():
    metrics.counter("api.sold", "Help")
    metrics.distribution("api.weight", "Help")
    for define, name in (
        (lambda: metrics.gauge("api.sold.total", "Help"), "api_sold_total"),
        (lambda: metrics.counter("api.sold_total", "Help"), "api_sold_total"),
        (lambda: metrics.counter("api.weight.count", "Help"), "api_weight_count"),
        (lambda: metrics.gauge("api.weight.bucket", "Help"), "api_weight_bucket"),
    ):
        with pytest.raises(ValueError, match=f"would both have the name {name} in Prometheus"):
            define()
    metrics.counter("api.sold", "Help").inc()
    metrics.gauge("api.sold.bucket", "Help").set(1)


@pytest.mark.parametrize(
    "define",
    [
        lambda: metrics.counter("api.twice", "Another text"),
        lambda: metrics.counter("api_twice", "Help"),
        lambda: metrics.gauge("api.twice", "Help"),
        lambda: metrics.counter("api.twice", "Help", tags=("a",)),
    ],
    ids=["help", "name", "type", "tags"],
)
def test_another_definition_of_a_metric_is_refused(define):
    metrics.counter("api.twice", "Help")
    with pytest.raises(ValueError, match="defined twice"):
        define()


@pytest.mark.parametrize("name", ["", "1a", "a b", "a..b", "a.", ".a", "a-b", "ä", "a" * 201, None, 1])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=r"letters, digits, underscores and single dots.*like orders\.placed"):
        metrics.counter(name, "Help")


@pytest.mark.parametrize("name", ["req.done", "req_done", "worker.rss", "request.duration", "route.duration.seconds"])
def test_a_name_of_the_server_is_refused(name):
    with pytest.raises(ValueError, match="the server has a metric"):
        metrics.distribution(name, "Help")


@pytest.mark.parametrize(
    "tags, message",
    [
        (("a-b",), "no name for a tag"),
        (("__a",), "no name for a tag"),
        ((1,), "no name for a tag"),
        (("a" * 81,), "at most 80 characters"),
        (("worker",), "belongs to the server"),
        (("le",), "belongs to the server"),
        (("a", "a"), "each once"),
        (tuple(f"a{number}" for number in range(21)), "at most 20"),
        ("channel", r"a tuple of names, like \('channel',\)"),
    ],
)
def test_a_tag_that_is_none_is_refused(tags, message):
    with pytest.raises(ValueError, match=message):
        metrics.counter("api.tags", "Help", tags=tags)


def test_a_wrong_help_text_and_a_wrong_aggregation_are_refused():
    for help in (None, "x" * 1001):
        with pytest.raises(ValueError, match="the help is a text"):
            metrics.counter("api.help", help)
    with pytest.raises(ValueError, match="one of sum, max, min, last"):
        metrics.gauge("api.aggregation", "Help", aggregation="mean")


@pytest.mark.parametrize(
    "update, error, message",
    [
        (lambda m: m.inc(), TypeError, "the tag 'channel' is missing; its tags are channel"),
        (lambda m: m.inc(channel="a", city="b"), TypeError, "there is no tag 'city'; its tags are channel"),
        (lambda m: m.inc(-1, channel="a"), ValueError, "a counter cannot decrease"),
        (lambda m: m.inc(float("nan"), channel="a"), ValueError, "a finite number"),
        (lambda m: m.inc(2.0**54, channel="a"), ValueError, r"at most 2\^53"),
        (lambda m: m.inc(10**400, channel="a"), OverflowError, "too large"),
        (lambda m: m.inc("1", channel="a"), TypeError, "a number is needed, not str"),
        (lambda m: m.inc(1, 2, channel="a"), TypeError, "one number"),
        (lambda m: m.inc(True, channel="a"), TypeError, "a number is needed, not bool"),
    ],
)
def test_a_wrong_update_says_what_is_accepted(update, error, message):
    with pytest.raises(error, match=message):
        update(metrics.counter("api.updates", "Help", tags=("channel",)))


def test_a_value_is_needed_where_there_is_no_default():
    with pytest.raises(TypeError, match=r"set\(\) needs a number"):
        metrics.gauge("api.gauge", "Help").set()
    with pytest.raises(TypeError, match=r"observe\(\) needs a number"):
        metrics.distribution("api.distribution", "Help").observe()


def test_a_value_of_a_tag_may_be_anything_with_a_text():
    class Odd:
        def __str__(self):
            counter.inc(channel="within")
            return "odd"

    class Broken:
        def __str__(self):
            raise LookupError("no text")

    counter = metrics.counter("api.values", "Help", tags=("channel",))
    for value in ("a", 1, 1.5, None, True, Odd(), "ä" * 500, "\ud800", b"x"):
        if value == "\ud800":
            with pytest.raises(UnicodeEncodeError):
                counter.inc(channel=value)
        else:
            counter.inc(channel=value)
    with pytest.raises(LookupError, match="no text"):
        counter.inc(channel=Broken())


def test_a_timer_passes_on_what_the_function_returns_or_raises():
    took = metrics.distribution("api.took", "Help", tags=("view",))

    @metrics.timer(took, view="list")
    def view(number, *, other):
        """A view."""
        return number / other

    assert (view(6, other=3), view.__name__, view.__doc__) == (2, "view", "A view.")
    with pytest.raises(ZeroDivisionError):
        view(1, other=0)
    with pytest.raises(KeyError), metrics.timer(took, view="list"):
        raise KeyError


def test_threads_may_update_the_same_metric():
    counter = metrics.counter("api.threads", "Help", tags=("channel",))
    failures = []

    def count():
        try:
            for number in range(2000):
                counter.inc(channel=f"c{number % 7}")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []

"""The page of scripts/serve in a real browser. What it promises of the server has to hold."""

import re

import pytest
from support.browser import Browser, why_not
from support.demo import DEMO, Demo, short_directory
from support.server import WORKER_DIED
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

ENTER = "\ue007"
# The lowest contrast of a text with the background behind it, with the text: WCAG's formula.
CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => channels(color).slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor;
    if ((channels(color)[3] ?? 1) === 1) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
  if (!text || element.getClientRects().length === 0) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), text]);
}
return found.sort((a, b) => a[0] - b[0])[0];
"""
# Buttons, links and fields that a screen reader cannot name.
NAMELESS = """
return [...document.querySelectorAll("button, a, input, summary, canvas, iframe, svg[role]")]
  .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.title || one.labels?.length))
  .map((one) => one.outerHTML)
"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as window:
        yield window


@pytest.fixture(scope="module")
def shared():
    """A server for all tests that leave it as it was, apart from its workers and its version."""
    with short_directory() as base, Demo(base, workers=4) as server:
        yield server


@pytest.fixture
def base():
    with short_directory() as path:
        yield path


@pytest.fixture
def page(browser, shared):
    """The page, in a browser that has begun to send requests."""
    return Page(browser, shared)


@pytest.fixture
def own_page(browser, base):
    """The page of a server of its own."""
    with Demo(base, workers=4) as server:
        yield Page(browser, server)


class Page:
    """The page, as somebody who watches it."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server
        browser.resize(1440, 900)
        browser.prefer(prefers_reduced_motion="reduce")  # It takes half the processor time.
        browser.open("about:blank")
        browser.console(), browser.requested()  # those of the previous page
        browser.open(server.url)
        self.wait_for_total(10)

    def number(self, selector):
        return int(self.browser.text(selector).replace(",", ""))

    def wait_for_total(self, total):
        self.browser.wait("+document.querySelector('#total').textContent.replace(',', '') >= arguments[0]", total)

    def wait_for_event(self, pattern):
        """Waits until the list of events has this, and returns the match."""
        self.browser.wait("new RegExp(arguments[0]).test(document.querySelector('#events').textContent)", pattern)
        return re.search(pattern, self.browser.text("#events"))

    def wait_for_worker(self, condition, otherwise="0"):
        """Waits for a card for which this JavaScript holds, and returns the selector of its button; or until `otherwise`
        holds, and returns None."""
        found = f"[...document.querySelectorAll('.worker')].findIndex((card) => {condition}) + 1"
        number = self.browser.wait(f"{found} || ({otherwise} ? -1 : 0)")
        return f".worker:nth-child({number}) button" if number > 0 else None

    def send_slow(self, send):
        """Sends slow requests until a card shows one, and returns the selector of its button. On a busy machine, one may be
        answered before the page has asked what the workers do."""
        answers = "document.querySelector('#events').textContent.split('answered a slow request').length"
        while True:
            before = self.browser.run(f"return {answers}")
            send()
            button = self.wait_for_worker("/GET .slow/.test(card.textContent)", f"{answers} > {before}")
            if button:
                return button

    def failures(self):
        """The number of failed requests and the IDs with which they were reported, once both agree."""
        shown = lambda: re.findall(
            r"A request failed: \S+ (?:502|504) [^.]*\. Its ID is ([\w-]+)", self.browser.text("#events")
        )  # noqa: E731
        return self.number("#failed"), shown()

    def check_console(self, lost):
        """Nothing is wrong with the page, apart from the responses of lost requests; and it has loaded nothing else."""
        said = self.browser.console()
        assert len([line for line in said if "502" in line["message"]]) == len(said) == lost, said
        requested = self.browser.requested()
        assert requested and all(url.startswith(f"{self.server.url}/") for url in requested), requested


def test_a_slow_request_holds_up_no_other(page):
    total = page.number("#total")
    page.send_slow(lambda: page.browser.press("#slow", ENTER))
    page.wait_for_event(r"Worker \d answered a slow request")
    assert page.number("#total") > total + 3
    assert page.failures() == (0, [])
    page.check_console(lost=0)


def test_a_killed_worker_is_replaced_and_its_request_reported(page):
    # A worker that waits. It may begin a request just before it dies, which is then reported.
    page.browser.click(page.wait_for_worker("card.querySelector('.state').textContent === 'idle'"))
    killed, pid = page.wait_for_event(r"Worker (\d) was killed: process (\d+), by SIGKILL").groups()
    page.wait_for_event(rf"Process \d+ took the place of {pid} within")
    page.server.wait_for(WORKER_DIED, slot=killed, pid=pid, status="SIGKILL")
    failed, reported = page.failures()
    assert failed == len(reported) <= 1

    page.browser.click(page.send_slow(lambda: page.browser.click("#slow")))
    lost = page.wait_for_event(r"A request failed: /slow, 502 Bad Gateway. Its ID is ([\w-]+)")[1]
    assert page.server.wait_for(WORKER_DIED, request_id=lost).pairs["answered"] == "502"
    assert page.number("#failed") == failed + 1
    page.check_console(lost=failed + 1)


def test_a_deployment_fails_no_request_and_broken_code_changes_nothing(page):
    page.browser.wait("/version/.test(document.querySelector('#deploy-name').textContent)")
    version = page.browser.text("#deploy-name").split()[-1]
    page.browser.click("#broken")
    page.wait_for_event(f"Version {version} is broken and was refused. The old code keeps serving. No request failed.")
    assert "SyntaxError" in page.browser.text("#report-text")
    page.browser.click("#deploy")
    page.wait_for_event(rf"Version {version} serves in all workers after .* No request failed\.")
    shown = "[...document.querySelectorAll('.worker dl')].every((card) => card.textContent.includes('Version' + arguments[0]))"
    page.browser.wait(shown, version)
    assert page.failures() == (0, [])
    page.check_console(lost=0)


def test_a_new_server_takes_over_and_no_request_fails(own_page):
    own_page.send_slow(lambda: own_page.browser.run("document.querySelector('#slow').click()"))
    own_page.server.upgrade()
    own_page.wait_for_event(r"Worker \d answered a slow request")
    own_page.browser.click("#deploy")
    own_page.wait_for_event(r"Version 2 serves in all workers after .* No request failed\.")
    assert own_page.failures() == (0, [])
    own_page.check_console(lost=0)
    own_page.server.stop()


def test_the_page_notices_that_the_server_is_gone_and_back(own_page, base):
    first, port = own_page.server, own_page.server.port
    first.stop()
    own_page.wait_for_event("The server does not answer")
    total = own_page.number("#total")
    with Demo(base, workers=4, bind=f"127.0.0.1:{port}"):
        # It loads itself again, because the new server has another token.
        own_page.browser.wait(
            "!/does not answer/.test(document.querySelector('#events')?.textContent ?? 'does not answer')"
        )
        own_page.browser.wait(f"document.body.dataset.token !== {first.fields['X-Demo-Token']!r}")
        own_page.wait_for_total(10)
        assert own_page.number("#failed") == 0 and total > 0


def test_everything_fits_and_can_be_read_and_named(page):
    page.browser.run("document.querySelector('details').open = true")
    for scheme in ("light", "dark"):
        page.browser.prefer(prefers_color_scheme=scheme)
        for width in (320, 360, 390, 768, 1024, 1440, 1920):
            page.browser.resize(width, 800, is_phone=width < 700)
            wide = page.browser.run(
                "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
            )
            assert wide[0] <= wide[1] <= width, wide
        ratio, text = page.browser.run(CONTRAST)
        assert ratio >= 4.5, text
    assert page.browser.run(NAMELESS) == []


def test_the_chart_does_not_grow_by_what_is_drawn_on_it(page):
    heights = []
    for width in (1440, 320, 1440):
        page.browser.resize(width, 900)
        page.browser.wait("document.querySelector('#canvas').width === document.querySelector('#canvas').clientWidth")
        heights.append(page.browser.run("return document.querySelector('#canvas').clientHeight"))
    assert heights[0] == heights[2]


def test_nothing_moves_for_those_who_prefer_that(page):
    page.browser.run(
        "const ask = requestAnimationFrame; window.requestAnimationFrame = (...all) => { window.moved = true; ask(...all); }"
    )
    page.wait_for_total(page.number("#total") + 20)
    assert not page.browser.run("return window.moved")
    page.browser.prefer(prefers_reduced_motion="no-preference")
    page.browser.wait("window.moved")


def test_a_paused_page_sends_only_what_the_status_needs(page):
    page.browser.click("#pause")
    assert page.browser.text("#pause") == "Continue"
    page.browser.requested()
    asked = []
    wait_until(lambda: asked.extend(page.browser.requested()) or sum(url.endswith("/status") for url in asked) >= 3)
    assert sum(url.endswith("/fast") for url in asked) <= 4  # those that were about to be sent
    page.browser.click("#pause")
    page.wait_for_total(page.number("#total") + 20)


def test_a_page_without_an_admin_socket_says_so_and_goes_on(browser, serve):
    page = Page(browser, serve("demo:app", workers=2, cwd=DEMO))
    assert "scripts/serve" in browser.text("#blind") and "scripts/serve" in browser.text("#refusal")
    page.browser.click("#slow")
    page.wait_for_event(r"Worker \d answered a slow request")
    for command in ("#kill", "#deploy", "#broken"):
        browser.click(command)
    assert page.failures() == (0, [])
    page.check_console(lost=0)

"""A headless Chromium, driven over the HTTP of WebDriver (W3C) by Debian's chromedriver."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading

import requests
from support.server import PATIENCE_S
from support.waiting import wait_until

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's name, by the standard
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    # A page in a window that nobody sees must run as in one that somebody sees.
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
    # No other host can be reached, whatever the page or the browser tries.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


def why_not():
    """Why there is no browser here, or `None`."""
    missing = [
        name for name, path in (("chromium", program()), ("chromedriver", shutil.which("chromedriver"))) if not path
    ]
    return f"{' and '.join(missing)} not installed (Debian: chromium, chromium-driver)" if missing else None


def program():
    """The path of the browser, or `None`."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One window. Everything that it loads and says is kept."""

    def __init__(self):
        self.home = tempfile.TemporaryDirectory()
        environment = {**os.environ, "HOME": self.home.name, "XDG_CONFIG_HOME": self.home.name}
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self.http = requests.Session()
        self.http.trust_env = False
        self.session = None
        try:
            for line in self.driver.stdout:
                if found := re.search(r"started successfully on port (\d+)", line):
                    break
            else:
                raise AssertionError("chromedriver did not start")
            threading.Thread(target=self.driver.stdout.read, daemon=True).start()
            self.base = f"http://127.0.0.1:{found[1]}/session"
            options = {"args": [*FLAGS, f"--user-data-dir={self.home.name}/profile"], "binary": program()}
            wanted = {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            answer = self._send("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self.session = answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def _send(self, method, path, body=None):
        place = f"{self.base}/{self.session}{path}" if self.session else self.base
        answer = self.http.request(
            method, place, data=json.dumps(body) if body is not None else None, timeout=PATIENCE_S
        )
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value

    def open(self, url):
        """Loads a page."""
        self._send("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs JavaScript in the page; returns what it returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": arguments})

    def text(self, selector):
        """The text of an element."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, script, *arguments):
        """Waits for the first true value of a JavaScript expression."""
        return wait_until(lambda: self.run(f"return {script}", *arguments))

    def click(self, selector):
        """Clicks an element with the mouse, which has to be visible for that."""
        element = self._send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._send("POST", f"/element/{element}/click", {})

    def press(self, selector, keys):
        """Types into an element that can have the focus."""
        element = self._send("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
        self._send("POST", f"/element/{element}/value", {"text": keys})

    def devtools(self, command, **parameters):
        """Sends a command of the DevTools protocol."""
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width, height, is_phone=False, scale=1):
        """Gives the page the size of another screen."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )

    def prefer(self, **features):
        """Sets media features, such as `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=named)

    def console(self):
        """What the page, or the browser about it, has written to the console since the last call."""
        return self._send("POST", "/se/log", {"type": "browser"})

    def requested(self):
        """The URLs that it has requested since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self._send("POST", "/se/log", {"type": "performance"})
        ]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def close(self):
        """Closes the window, and ends all processes of the browser."""
        try:
            if self.session:
                self._send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(PATIENCE_S)
            self.driver.stdout.close()
            self.http.close()
            self.home.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

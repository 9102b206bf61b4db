"""A headless browser that visits the rendered site, driven through the DevTools protocol."""

import functools
import gzip
import http.server
import itertools
import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

SITE = ROOT / "_build" / "html"
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --remote-debugging-port=0 "
    "--remote-allow-origins=*"
).split()
PAGES = sorted(
    str(p.relative_to(SITE))
    for folder in ("book", "notebooks")
    for p in (SITE / folder).glob("*.html")
)

#: What every test of the site needs.
needs = [
    pytest.mark.site,
    pytest.mark.skipif(not BROWSER, reason="no chromium on this machine: install it to run this"),
    pytest.mark.skipif(not PAGES, reason="the site is not built: run make book first"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the site as public hosts do: text is compressed on its way."""

    TEXT = (".html", ".css", ".js", ".svg")

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        packed = path.suffix in self.TEXT and path.is_file()
        if not packed or "gzip" not in self.headers.get("Accept-Encoding", ""):
            return super().do_GET()
        data = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


class Tab:
    """One tab, driven through the DevTools protocol; it remembers what it saw."""

    def __init__(self, socket):
        self.socket, self.count = socket, itertools.count(1)
        self.requests, self.errors, self.failed, self.loaded = [], [], [], False
        self.bytes = 0
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    def call(self, method, **parameters):
        number = next(self.count)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                return message.get("result", {})
            self.note(message)

    def note(self, message):
        method, data = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])
        elif method == "Network.responseReceived" and data["response"]["status"] >= 400:
            self.failed.append(data["response"]["url"])
        elif method == "Network.loadingFinished":
            self.bytes += data["encodedDataLength"]
        elif method == "Runtime.exceptionThrown":
            self.errors.append(data["exceptionDetails"].get("text", ""))
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            self.errors.append(data["entry"]["text"] + " " + data["entry"].get("url", ""))
        elif method == "Page.loadEventFired":
            self.loaded = True

    def visit(self, url):
        self.loaded = False
        self.call("Page.navigate", url=url)
        end = time.time() + 30
        while not self.loaded and time.time() < end:
            time.sleep(0.01)
            self.run("1")
        # typesetting is asynchronous: wait until it is over
        self.run("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => 1) : 1")

    def run(self, script):
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        return answer.get("result", {}).get("value")

    def fresh(self, url):
        """Visit a page as someone who has never been here; return the bytes it took."""
        self.call("Network.clearBrowserCache")
        self.bytes = 0
        self.visit(url)
        self.run("new Promise(done => setTimeout(done, 200))")
        return self.bytes

    def busy(self):
        """The seconds of processor time that the page's main thread has taken so far."""
        found = self.call("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in found if m["name"] == "TaskDuration")

    def settled(self, url):
        """Visit a page afresh; return what its main thread took until the page was settled.

        That is loaded, typeset, with its fonts, and painted. Counted is the time of the
        processor and not the clock's, which other work on the machine would lengthen.
        """
        self.visit(urllib.parse.urljoin(url, "/_static/favicon.svg"))  # the same renderer
        self.call("Network.clearBrowserCache")
        before = self.busy()
        self.visit(url)
        painted = "requestAnimationFrame(() => requestAnimationFrame(() => done(1)))"
        self.run(f"document.fonts.ready.then(() => new Promise(done => {painted}))")
        return self.busy() - before

    def colours(self, mode):
        """Show the page in the light or in the dark."""
        root = "document.documentElement.dataset"
        self.run(f"{root}.theme = {root}.mode = '{mode}'")

    def width(self, pixels):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=844,
            deviceScaleFactor=1,
            mobile=pixels < 500,
        )


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    websocket = pytest.importorskip("websocket")
    profile = tmp_path_factory.mktemp("profile")
    process = subprocess.Popen(
        [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    port = profile / "DevToolsActivePort"
    end = time.time() + 30
    while not (port.exists() and port.read_text().strip()) and time.time() < end:
        time.sleep(0.1)
    number = port.read_text().split()[0]
    targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{number}/json"))
    page = next(t for t in targets if t["type"] == "page")
    socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60)
    made = Tab(socket)
    made.call("Emulation.setFocusEmulationEnabled", enabled=True)  # as if it lay in front
    yield made
    socket.close()
    process.kill()
    process.wait()

"""The rendered site in a headless browser: mathematics, links, search, no other host."""

import functools
import http.server
import itertools
import json
import shutil
import subprocess
import threading
import time
import urllib.request

import pytest
from conftest import ROOT

from mflib.claims import register

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

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not BROWSER, reason="no chromium on this machine: install it to run this"),
    pytest.mark.skipif(not PAGES, reason="the site is not built: run make book first"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
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
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

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
            self.run("1")
        # typesetting is asynchronous: wait until it is over
        self.run("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => 1) : 1")

    def run(self, script):
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        return answer.get("result", {}).get("value")

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
    yield Tab(socket)
    socket.close()
    process.kill()
    process.wait()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_typeset_complete_and_fetches_nothing_from_elsewhere(tab, address, page):
    tab.requests.clear(), tab.errors.clear(), tab.failed.clear()
    tab.width(1280)
    tab.visit(f"{address}/{page}")
    outside = [u for u in tab.requests if not u.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []
    assert tab.failed == [] and tab.errors == []
    raw = tab.run("document.querySelectorAll('article .math').length")
    if raw:
        assert tab.run("document.querySelectorAll('mjx-container').length") >= raw
    assert tab.run("document.querySelectorAll('mjx-merror, [data-mml-node=merror]').length") == 0
    # a macro that nothing defines is set in red
    red = "[...document.querySelectorAll('[data-mml-node=mtext][fill=red]')].map(e => e.outerHTML)"
    assert tab.run(red) == []
    marks = r"/\\\(|\\\[|\$\$|```|:::|\{(prf|cite|ref|eq|doc)\b/"
    words = "[...document.querySelectorAll('article p, article td, article li')]"
    assert tab.run(f"{marks}.test({words}.map(e => e.innerText).join(' '))") is False


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone(tab, address, page):
    tab.width(390)
    tab.visit(f"{address}/{page}")
    assert tab.run("document.scrollingElement.scrollWidth") <= 392


def test_every_claim_of_the_ledger_leads_to_its_place(tab, address):
    tab.width(1280)
    tab.visit(f"{address}/book/ledger.html")
    links = tab.run("[...document.querySelectorAll('.mf-ledger a')].map(a => a.href)")
    assert len(links) >= 7
    for page in {link.split("#")[0] for link in links}:
        text = urllib.request.urlopen(page).read().decode()
        for link in links:
            where, anchor = link.split("#")
            if where == page:
                assert f'id="{anchor}"' in text, link


def test_the_ledger_filters_and_sorts(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    rows = (
        "[...document.querySelectorAll('.mf-ledger tbody tr:not(.mf-group)')]"
        ".filter(r => !r.hidden)"
    )
    every = tab.run(f"{rows}.length")
    tab.run(
        "{const f = document.getElementById('mf-filter'); f.value = 'LU-T2r';"
        "f.dispatchEvent(new Event('input'));}"
    )
    assert tab.run(f"{rows}.length") == 1 < every
    tab.run(
        "{const f = document.getElementById('mf-filter'); f.value = '';"
        "f.dispatchEvent(new Event('input'));}"
    )
    papers = (
        "[...document.querySelectorAll('.mf-ledger tbody')].map(b => [...b.rows]"
        ".slice(1).map(r => r.cells[1].textContent))"
    )
    tab.run("document.querySelectorAll('.mf-ledger th')[1].click()")
    first = tab.run(papers)
    tab.run("document.querySelectorAll('.mf-ledger th')[1].click()")
    assert tab.run(papers) == [names[::-1] for names in first]
    assert all(sorted(names)[0] == min(names) for names in first)


def test_the_ledger_groups_by_paper_and_shows_what_is_planned(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    heads = tab.run("[...document.querySelectorAll('.mf-group')].map(r => r.textContent)")
    assert all(" claims measured" in head and " of " in head for head in heads)
    assert {head.split(":")[0].strip() for head in heads} == {
        row.paper for row in register.read(ROOT / "book" / "claims.csv").values()
    }


def test_search_leads_from_every_claim_to_its_chapter_and_to_the_ledger(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    rows = "[...document.querySelectorAll('.mf-ledger tbody td:nth-child(2) a')]"
    claims = tab.run(f"{rows}.map(a => [a.textContent.trim(), a.href.split('#')[0]])")
    assert claims
    links = "[...document.querySelectorAll('#search-results li a')].map(a => a.href.split('?')[0])"
    done = "document.querySelector('#search-results .search-summary, #search-results p')"
    lost = []
    for name, chapter in claims:
        tab.visit(f"{address}/search.html?q={name}")
        wanted, found = {chapter, f"{address}/book/ledger.html"}, set()
        end = time.time() + 20
        while not wanted <= found and time.time() < end:
            found = {link.split("#")[0] for link in tab.run(links) or []}
            time.sleep(0.1)
            if tab.run(f"{done} && /finished|found/.test({done}.textContent)") and found >= wanted:
                break
        lost += [(name, page) for page in wanted - found]
    assert lost == []


def test_mathematics_neither_links_nor_loads_nor_has_a_menu(tab, address):
    page = next(p for p in PAGES if p.startswith("notebooks/"))
    tab.visit(f"{address}/{page}")
    tab.requests.clear()
    script = (
        "(async () => { const box = document.createElement('div'); box.id = 'bad';"
        "box.className = 'math'; document.body.append(box);"
        r"box.textContent = '\\(\\href{javascript:alert(1)}{x} \\require{html}"
        r"\\cssId{bad2}{y}\\)'; await MathJax.typesetPromise([box]); return box.innerHTML; })()"
    )
    shown = tab.run(script)
    assert "mjx-container" in shown and "<a" not in shown and 'xlink:href="javascript' not in shown
    assert tab.run("document.getElementById('bad2')") is None
    tab.run(
        "document.querySelector('mjx-container').dispatchEvent("
        "new MouseEvent('contextmenu', {bubbles: true}))"
    )
    assert not tab.run("document.querySelectorAll('.CtxtMenu_Menu').length")
    assert tab.requests == []


def test_a_chapter_that_is_downloaded_says_what_it_needs(tab, address):
    for page in PAGES:
        if page.startswith("notebooks/"):
            path = SITE / "_sources" / f"{page.removesuffix('.html')}.ipynb"
            cells = json.loads(path.read_text("utf-8"))["cells"]
            assert "import mflib" in "".join(cells[0]["source"]), page
            assert not any(cell.get("outputs") for cell in cells), page


def sliders():
    return [p for p in PAGES if 'class="mf-slider"' in (SITE / p).read_text("utf-8")]


SHOWN = "[...document.querySelectorAll('.mf-slider')[0].querySelectorAll('.mf-frame')]"
PART = "document.querySelectorAll('.mf-slider')[0].querySelector"


def test_the_book_has_pictures_that_answer_to_a_slider():
    assert len(sliders()) >= 3


@pytest.mark.parametrize("page", sliders())
def test_a_slider_moves_its_picture_by_keyboard_and_says_what_is_seen(tab, address, page):
    tab.width(1280)
    tab.visit(f"{address}/{page}")
    frames = tab.run(f"{SHOWN}.length")
    visible = f"{SHOWN}.map((f, i) => f.offsetHeight > 50 ? i : -1).filter(i => i >= 0)"
    assert tab.run(visible) == [0] and frames >= 2
    assert tab.run(f"{SHOWN}.every(f => f.complete && f.naturalWidth > 100)")
    first = tab.run(f"{PART}('.mf-says').textContent")
    tab.run(f"{PART}('input').focus()")
    for key in ("ArrowRight", "End"):
        for kind in ("rawKeyDown", "keyUp"):
            code = {"ArrowRight": 39, "End": 35}[key]
            tab.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)
        at = 1 if key == "ArrowRight" else frames - 1
        assert tab.run(visible) == [at]
        says = tab.run(f"{SHOWN}[{at}].dataset.says")
        assert tab.run(f"{PART}('.mf-says').textContent") == says
        assert says in tab.run(f"{PART}('input').getAttribute('aria-valuetext')")
        assert tab.run(f"{PART}('.mf-at').textContent") == tab.run(f"{SHOWN}[{at}].dataset.label")
    assert says != first


@pytest.mark.parametrize("page", sliders()[:1])
def test_a_slider_rests_until_it_is_played_and_never_plays_for_who_wants_less_motion(
    tab, address, page
):
    value = f"+{PART}('input').value"
    later = "new Promise(done => setTimeout(() => done(1), 900))"
    tab.visit(f"{address}/{page}")
    tab.run(later)
    assert tab.run(value) == 0
    tab.run(f"{PART}('button').click()")
    tab.run(later)
    assert tab.run(value) > 0 and tab.run(f"{PART}('button').textContent") == "Pause"
    tab.run(f"{PART}('button').click()")
    stopped = tab.run(value)
    tab.run(later)
    assert tab.run(value) == stopped and tab.run(f"{PART}('button').textContent") == "Play"
    wish = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    tab.call("Emulation.setEmulatedMedia", features=wish)
    try:
        tab.visit(f"{address}/{page}")
        assert tab.run(f"{PART}('button').offsetHeight") == 0
        assert tab.run(f"{PART}('input').offsetHeight") > 0
    finally:
        tab.call("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("page", sliders()[:1])
def test_without_a_script_the_first_frame_stands_alone(tab, address, page):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.call("Page.navigate", url=f"{address}/{page}")
        time.sleep(3)
        number = tab.call("DOM.getDocument")["root"]["nodeId"]

        def shown(selector):
            found = tab.call("DOM.querySelector", nodeId=number, selector=selector)["nodeId"]
            return "model" in tab.call("DOM.getBoxModel", nodeId=found)

        assert shown(".mf-frame:first-child") and shown(".mf-says")
        assert not shown(".mf-frame:nth-child(2)") and not shown(".mf-moves input")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_word_of_the_glossary_is_linked_once_a_page_and_leads_to_its_place(tab, address):
    text = (SITE / "book" / "glossary.html").read_text("utf-8")
    words = 0
    for page in PAGES:
        tab.visit(f"{address}/{page}")
        links = tab.run("[...document.querySelectorAll('a.mf-term')].map(a => [a.hash, a.title])")
        if page != "book/glossary.html":
            assert len({place for place, _ in links}) == len(links), page
        for place, title in links:
            assert f'id="{place[1:]}"' in text and title, (page, place)
        words += len(links)
    assert words > 100

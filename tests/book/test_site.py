"""The rendered site in a headless browser: mathematics, links, search, no other host."""

import json
import re
import time
import urllib.parse
import urllib.request

import pytest
from browser import PAGES, SITE, needs
from conftest import ROOT

from mflib.claims import register

pytestmark = needs
ROWS = "[...document.querySelectorAll('.mf-ledger > table > tbody > tr:not(.mf-group)')]"
LISTED = f"{ROWS}.filter(row => !row.hidden)"
CLAIM = ".mf-ledger > table > tbody > tr > td:nth-child(2) a"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_typeset_complete_and_fetches_nothing_from_elsewhere(tab, address, page):
    tab.requests.clear(), tab.errors.clear(), tab.failed.clear()
    tab.width(1280)
    tab.visit(f"{address}/{page}")
    outside = [u for u in tab.requests if not u.startswith((address, "data:", "blob:", "about:"))]
    assert outside == []
    assert tab.failed == [] and tab.errors == []
    icons = (
        "[...document.querySelectorAll('i[class*=fa-]')].map(i => getComputedStyle(i).fontFamily)"
    )
    assert all("Font Awesome" in font for font in tab.run(icons))
    assert tab.run("document.fonts.check('900 16px \"Font Awesome 6 Free\"')")
    raw = tab.run("document.querySelectorAll('article .math').length")
    if raw:
        assert tab.run("document.querySelectorAll('mjx-container').length") >= raw
    assert tab.run("document.querySelectorAll('mjx-merror, [data-mml-node=merror]').length") == 0
    # a macro that nothing defines is set in red
    red = "[...document.querySelectorAll('mjx-mtext[style*=red]')].map(e => e.outerHTML)"
    assert tab.run(red) == []
    marks = r"/\\\(|\\\[|\$\$|```|:::|\{(prf|cite|ref|eq|doc)\b/"
    words = "[...document.querySelectorAll('article p, article td, article li')]"
    assert tab.run(f"{marks}.test({words}.map(e => e.innerText).join(' '))") is False


def test_every_claim_of_the_ledger_leads_to_its_place(tab, address):
    tab.width(1280)
    tab.visit(f"{address}/book/ledger.html")
    links = tab.run(f"[...document.querySelectorAll('{CLAIM}')].map(a => a.href)")
    assert len(links) >= 7
    for page in {link.split("#")[0] for link in links}:
        text = urllib.request.urlopen(page).read().decode()
        for link in links:
            where, anchor = link.split("#")
            if where == page:
                assert f'id="{anchor}"' in text, link


def test_the_ledger_filters_by_words_and_says_how_many_are_left(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    every = tab.run(f"{LISTED}.length")
    for words, left in (("LU-T2r", 1), ("", every)):
        tab.run(
            f"{{const f = document.getElementById('mf-filter'); f.value = '{words}';"
            "f.dispatchEvent(new Event('input'));}"
        )
        assert tab.run(f"{LISTED}.length") == left
        said = tab.run("document.getElementById('mf-count').textContent")
        assert said == f"{left} of {every} claims shown"
    assert tab.run("document.getElementById('mf-count').getAttribute('role')") == "status"


def test_the_buttons_of_the_ledger_filter_and_the_address_keeps_them(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    button = "document.querySelector('[data-filter={}][data-value={}]')"
    for what, value in (("paper", "lu2020"), ("kind", "counterexample")):
        tab.run(button.format(what, value) + ".click()")
        assert tab.run(button.format(what, value) + ".getAttribute('aria-pressed')") == "true"
    few = tab.run(f"{LISTED}.map(row => [row.dataset.paper, row.dataset.kind].join())")
    assert few and set(few) == {"lu2020,counterexample"}
    tab.visit(tab.run("location.href"))
    assert tab.run(f"{LISTED}.length") == len(few)
    tab.run("document.querySelector('.mf-reset').click()")
    assert tab.run(f"{LISTED}.length") == tab.run(f"{ROWS}.length") > len(few)
    assert "?" not in tab.run("location.href")


def test_the_ledger_sorts_within_papers_by_its_heads(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    papers = (
        "[...document.querySelectorAll('.mf-ledger > table > tbody')].map(b => [...b.rows]"
        ".slice(1).map(r => r.cells[1].textContent))"
    )
    head = "document.querySelectorAll('.mf-ledger > table > thead th')[1]"
    tab.run(f"{head}.querySelector('button').click()")
    first = tab.run(papers)
    assert tab.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    tab.run(f"{head}.querySelector('button').click()")
    assert tab.run(papers) == [names[::-1] for names in first]
    assert all(sorted(names)[0] == min(names) for names in first)


def test_a_row_of_the_ledger_unfolds_to_its_checks_and_the_page_is_short(tab, address):
    rows = len(register.read(ROOT / "book" / "claims.csv"))
    for width, most in ((1280, 66 * rows), (390, 96 * rows)):
        tab.width(width)
        tab.visit(f"{address}/book/ledger.html")
        assert tab.run("document.scrollingElement.scrollHeight") <= most
    folds = f"{ROWS}.filter(row => row.cells[0].innerText.includes('verified'))"
    assert tab.run(f"{folds}.every(row => !row.querySelector('details').open)")
    assert tab.run(f"{folds}.every(row => row.querySelector('.mf-checks tbody tr'))")
    tab.width(1280)


def test_the_bars_of_the_landing_page_lead_to_the_rows_they_count(tab, address):
    tab.visit(f"{address}/book/index.html")
    bars = tab.run("[...document.querySelectorAll('.mf-bar')].map(a => [a.href, a.textContent])")
    assert bars
    for href, count in bars[:3] + bars[-2:]:
        tab.visit(href)
        assert tab.run(f"{LISTED}.length") == int(count)


def test_the_landing_page_has_a_picture_three_doors_and_says_how_to_cite(tab, address):
    tab.visit(f"{address}/book/index.html")
    pictures = "document.querySelectorAll('article figure img:not(.mf-stack img)')"
    assert tab.run(f"{pictures}.length") == 1
    assert tab.run("document.querySelectorAll('.mf-door').length") == 3
    assert "@misc{" in tab.run("document.querySelector('article').innerText")
    foot = tab.run("document.querySelector('.mf-footer').innerText")
    assert re.search(r"Commit [0-9a-f]{12}, \d{4}-\d\d-\d\d", foot)
    page = next(p for p in PAGES if p.startswith("notebooks/"))
    tab.visit(f"{address}/{page}")
    assert re.search(r"seed \d", tab.run("document.querySelector('.mf-footer').innerText"))


def test_the_map_shows_on_whom_a_result_rests_to_keys_and_to_readers_of_lists(tab, address):
    tab.visit(f"{address}/book/map.html")
    claims = set(register.read(ROOT / "book" / "claims.csv"))
    assert tab.run("document.querySelectorAll('.mf-map svg').length") >= 4
    boxes = tab.run("[...document.querySelectorAll('.mf-map a')].map(a => a.dataset.node)")
    listed = tab.run("[...document.querySelectorAll('.mf-list > li > a:first-child')]"
                     ".map(a => a.textContent)")  # fmt: skip
    assert set(boxes) <= set(listed) == claims
    tab.run("document.querySelector('.mf-map a[data-node=\"LU-T2\"]').focus()")
    lit = "[...document.querySelectorAll('.mf-map .mf-node.mf-lit')].map(n => n.dataset.node)"
    assert {"LU-T2", "LU-ADJ", "LU-T1a", "LU-PDE14"} <= set(tab.run(lit))
    assert "LU-T1c" not in tab.run(lit)
    tab.run("document.activeElement.blur()")
    assert not tab.run("document.querySelector('.mf-map').classList.contains('mf-traced')")


def test_a_link_to_an_erratum_unfolds_it(tab, address):
    tab.visit(f"{address}/book/errata.html#erratum-lu-t3")
    entry = "document.getElementById('erratum-lu-t3')"
    assert tab.run(f"{entry}.open") is True
    rows = tab.run("[...document.querySelectorAll('.mf-errata tbody a')].map(a => a.hash)")
    entries = tab.run("[...document.querySelectorAll('.mf-erratum')].map(e => '#' + e.id)")
    assert rows == entries and len(set(rows)) == len(rows) > 20


def test_the_ledger_groups_by_paper_and_shows_what_is_planned(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    heads = tab.run("[...document.querySelectorAll('.mf-group')].map(r => r.textContent)")
    assert all(" claims measured" in head and " of " in head for head in heads)
    papers = {row.paper for row in register.read(ROOT / "book" / "claims.csv").values()}
    assert len(heads) == len(papers)


def test_every_link_within_the_site_leads_somewhere(tab, address):
    ids, lost = {}, []

    def known(page):
        if page not in ids:
            text = (SITE / page).read_text("utf-8") if (SITE / page).is_file() else ""
            ids[page] = set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) | {""}
            ids[page] |= {"exists"} if text else set()
        return ids[page]

    for page in PAGES:
        text = (SITE / page).read_text("utf-8")
        for href in set(re.findall(r'<a\b[^>]*?href="([^"]+)"', text)):
            found = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://site/{page}", href))
            if found.hostname != "site":
                continue
            path = urllib.parse.unquote(found.path).lstrip("/")
            if not path.endswith(".html"):
                lost += [(page, href)] if not (SITE / path).exists() else []
            elif "exists" not in known(path) or found.fragment not in known(path):
                lost.append((page, href))
    assert lost == []


def test_search_leads_from_every_claim_to_its_chapter_and_to_the_ledger(tab, address):
    tab.visit(f"{address}/book/ledger.html")
    rows = f"[...document.querySelectorAll('{CLAIM}')]"
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


def test_a_chapter_that_is_downloaded_says_what_it_needs_and_shows_what_it_found(tab, address):
    for page in PAGES:
        if page.startswith("notebooks/"):
            path = SITE / "_sources" / f"{page.removesuffix('.html')}.ipynb"
            cells = json.loads(path.read_text("utf-8"))["cells"]
            first = next(cell for cell in cells if cell["cell_type"] == "code")
            assert "import mflib" in "".join(first["source"]), page
            assert "%pip install" in "".join(first["source"]), page
            assert any(cell.get("outputs") for cell in cells), page
            tags = [tag for cell in cells for tag in cell["metadata"].get("tags", ())]
            assert "injected-parameters" not in tags and "parameters" in tags


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

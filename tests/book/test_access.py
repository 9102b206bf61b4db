"""The rendered site for every reader: phones, the dark, screen readers, slow connections."""

import shutil
import subprocess

import pytest
from browser import PAGES, needs
from conftest import ROOT

pytestmark = needs
AXE = ROOT / "_build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
#: The most bytes that a page may take on its way, text compressed, with nothing in the cache.
HEAVIEST = 1_500_000
#: The most seconds of the main thread until a page is loaded, typeset and painted.
SETTLED = 2.0


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core, which npm fetches once; it is no file of ours."""
    if not AXE.is_file():
        if not shutil.which("npm"):
            pytest.skip("axe-core is not in _build/axe, and no npm is there to fetch it")
        home = AXE.parents[2]
        home.mkdir(parents=True, exist_ok=True)
        words = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), "axe-core@4"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm could not fetch axe-core: {done.stderr[-200:]}")
    return AXE.read_text("utf-8")


def violations(tab, axe):
    # a colour on its way from light to dark is neither
    tab.run(
        "document.head.insertAdjacentHTML('beforeend', '<style>*, ::before, ::after {"
        "transition: none !important; animation: none !important}</style>')"
    )
    tab.run(axe + "; 1")
    return tab.run(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then(found =>"
        "found.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.target.join(' ') + ' ' +"
        "(n.any[0] || n.all[0] || n.none[0] || {message: ''}).message)))"
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_accessible_in_the_light_in_the_dark_and_on_a_phone(tab, address, axe, page):
    found = {}
    for width in (1280, 390):
        tab.width(width)
        tab.visit(f"{address}/{page}")
        for mode in ("light", "dark"):
            tab.colours(mode)
            if wrong := violations(tab, axe):
                found[width, mode] = wrong[:5]
    assert found == {}


CUT = """[...document.querySelectorAll('article mjx-container')].filter(formula => {
  const box = formula.getBoundingClientRect();
  if (!box.width) return false;
  for (let around = formula; around !== document.body; around = around.parentElement) {
    const flow = getComputedStyle(around).overflowX;
    if (flow === 'auto' || flow === 'scroll') return false;
    if (around !== formula && flow !== 'visible' &&
        box.right > around.getBoundingClientRect().right + 1) return true;
  }
  return box.right > innerWidth + 1;
}).map(formula => formula.textContent.slice(0, 60))"""


#: Short formulas within a line that are not shown whole.
CLIPPED = """[...document.querySelectorAll('article mjx-container:not([display])')]
.filter(formula => {
  const box = formula.getBoundingClientRect();
  const drawn = formula.querySelector('mjx-math').getBoundingClientRect();
  return box.width && drawn.width < 150 && drawn.right > box.right + 1;
}).map(formula => formula.textContent.slice(0, 60))"""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone_and_cuts_no_formula(tab, address, page):
    tab.width(390)
    tab.visit(f"{address}/{page}")
    tab.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    tab.run("new Promise(done => setTimeout(done, 50))")
    assert tab.run("document.scrollingElement.scrollWidth") <= 392
    tab.run("window.dispatchEvent(new Event('resize')); new Promise(done => setTimeout(done, 50))")
    assert tab.run(CUT) == []
    assert tab.run(CLIPPED) == []
    tab.width(1280)


@pytest.mark.parametrize("page", PAGES)
def test_every_image_says_in_words_what_is_seen(tab, address, page):
    tab.width(1280)
    tab.visit(f"{address}/{page}")
    images = "[...document.querySelectorAll('article img:not(.mf-stack img)')].map(i => i.alt)"
    silent = [alt for alt in tab.run(images) if len(alt.split()) < 4 or "_build" in alt]
    assert silent == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(tab, address, page):
    tab.width(1280)
    assert tab.fresh(f"{address}/{page}") <= HEAVIEST


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_settled_after_two_seconds_of_work(tab, address, page):
    tab.width(1280)
    assert min(tab.settled(f"{address}/{page}") for _ in range(2)) <= SETTLED


def test_the_meter_of_work_counts_work_and_not_waiting(tab, address):
    tab.visit(f"{address}/_static/favicon.svg")

    def takes(script):
        before = tab.busy()
        tab.run(script)
        return tab.busy() - before

    waited = takes("new Promise(done => setTimeout(() => done(1), 500))")
    worked = takes("{let s = 0; for (let i = 0; i < 3e8; i++) s += i % 7; s}")
    assert waited < 0.1 < worked


def test_panels_side_by_side_stand_one_below_the_other_on_a_phone(tab, address):
    page = "notebooks/adjoint.html"
    for width, stacked in ((1280, False), (390, True)):
        tab.width(width)
        tab.visit(f"{address}/{page}")
        image = "document.querySelector('img[data-panels]')"
        tops = tab.run(
            f"[...{image}.nextElementSibling.children].map(p => p.getBoundingClientRect().top)"
        )
        assert (tops[0] < tops[1]) == stacked
        assert (tab.run(f"{image}.getBoundingClientRect().width") > 100) != stacked

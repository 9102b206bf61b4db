"""What the pages load: the icons they show and no others, labels that a screen reader can use."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pydata_sphinx_theme
import pytest
from fontTools.ttLib import TTFont

from mflib.book.sphinx import assets
from mflib.book.sphinx.citation import bibtex, footer, line

PAGE = """<html><head>
  <script src="_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=1"></script>
<link rel="preload" as="font" crossorigin href="_static/webfonts/fa-solid-900.woff2" />
  <script src="_static/pages.js"></script></head><body>
<button class="btn search-button-field x" title="Search" aria-label="Search" data-x="1">
<i class="fa-solid fa-sun"></i> Search</button>
<details><summary><span class="toctree-toggle"><i class="fas fa-chevron-down"></i></span></summary>
</details><summary aria-label="Toggle hidden content">Show code</summary>
<dl>
<dd><em class="sig-param">a</em>,</dd>
<dd><em class="sig-param">b</em>,</dd>
</dl>
<dl><dt>term</dt><dd>what it is</dd></dl></body></html>"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "page.html").write_text(PAGE, "utf-8")
    home = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    shutil.copytree(home / "vendor", tmp_path / "_static" / "vendor")
    return SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))


def test_the_icons_of_the_pages_are_drawn_and_the_others_are_not_loaded(site):
    assets._icons(site, None)
    (sheet,) = site.outdir.rglob("all.min.css")
    text = sheet.read_text("utf-8")
    assert ".fa-sun:before" in text and ".fa-dragon:before" not in text
    assert re.search(r"\.fa-solid,[^{]*{[^}]*font-family:[^}]*Font Awesome", text)
    (font,) = [path for path in site.outdir.rglob("*900*") if path.is_file()]
    assert font.name in text and "woff2" not in text
    glyphs = set(TTFont(font).getBestCmap())
    assert {0xF185, 0xF078} <= glyphs and len(glyphs) < 40
    assert sheet.stat().st_size + font.stat().st_size < 30_000
    before = text, font.read_bytes()
    assets._icons(site, None)  # of a site that is light already nothing is taken
    assert (sheet.read_text("utf-8"), font.read_bytes()) == before


def test_a_page_loses_what_it_does_not_need_and_says_what_its_buttons_say(site):
    assets._light(site, None)
    text = (site.outdir / "page.html").read_text("utf-8")
    assert "all.min.js" not in text and "preload" not in text and "pages.js" in text
    assert 'title="Search" data-x="1"' in text
    assert '<summary aria-label="pages below"><span class="toctree-toggle">' in text
    assert "<summary>Show code</summary>" in text
    assert '<span class="mf-params"><span><em class="sig-param">a</em>,</span>' in text
    assert "<dl><dt>term</dt><dd>what it is</dd></dl>" in text
    assets._light(site, None)
    assert (site.outdir / "page.html").read_text("utf-8") == text


def test_a_formula_within_a_line_keeps_the_comma_that_follows(site):
    span = '<span class="math notranslate nohighlight">{}</span>'
    one, two = span.format(r"\(x\)"), span.format(r"\(a &lt; b\)")
    (site.outdir / "page.html").write_text(f"<p>{one}, and {two} or {one}).</p>", "utf-8")
    for _ in range(2):  # a second time nothing changes
        assets._light(site, None)
        held = '<span class="mf-held">{}{}</span>'
        wanted = f"<p>{held.format(one, ',')} and {two} or {held.format(one, ').')}</p>"
        assert (site.outdir / "page.html").read_text("utf-8") == wanted


def test_the_book_says_how_it_is_cited(tmp_path, monkeypatch):
    words = (
        'title: "A book"\nauthors:\n  - name: "the authors"\n  - family-names: Else\n'
        'repository-code: "https://example.org/book"\n'
    )
    (tmp_path / "CITATION.cff").write_text(words, "utf-8")
    monkeypatch.setenv("MFLIB_COMMIT", "0123456789abcdef")
    assert "the authors and Else, A book" in line(tmp_path)
    assert line(tmp_path).endswith("commit 0123456789ab, https://example.org/book")
    assert "author = {{the authors and Else}}" in bibtex(tmp_path)
    assert footer(tmp_path, "book/index").startswith("Commit 0123456789ab")
    assert "seed" not in footer(tmp_path, "notebooks/none")

"""Tables of claims: everything from a record is text, and cells stand apart for the search."""

import html.parser
import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import CLAIM, ROOT, cell, notebook
from executed_chapters import run_cells

from mflib.book import badges, ledger_table, papers, referee, tables
from mflib.book.portable import portable
from mflib.book.sphinx import placeholders

BAD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&"


class Tags(html.parser.HTMLParser):
    """The tags and addresses of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.events = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name == "href"]
        self.events += [name for name, _ in attributes if name.startswith("on")]


@pytest.fixture
def record():
    source = CLAIM.format(id="X-1", error="0.0", control="1.0")
    return run_cells(source, {"seed": 0}) | {"notebook": "one"}


def spoilt(value):
    """Return a record with every text in it spoilt, but for its verdicts."""
    if isinstance(value, dict):
        kept = ("verdict", "expected")
        return {k: v if k in kept else spoilt(v) for k, v in value.items()}
    if isinstance(value, list):
        return [spoilt(v) for v in value]
    return BAD if isinstance(value, str) else value


@pytest.mark.parametrize("kind", ["ledger", "verdicts", "claims", "again"])
def test_nothing_from_a_record_becomes_markup(record, kind):
    bad = spoilt(record)
    address = 'page.html#"><script>'
    text = {
        "ledger": lambda: ledger_table.ledger([bad], [bad], lambda claim: address, cite=BAD),
        "verdicts": lambda: tables.verdicts([bad]),
        "claims": lambda: tables.claims([bad], lambda claim: address, lambda chapter: BAD),
        "again": lambda: tables.again(
            {
                "claims": [referee.over(bad, [bad, bad | {"verdict": "refuted"}])],
                "runs": [{"name": BAD, "parameters": {BAD: BAD}, "seconds": 3}],
                "commit": BAD,
                "versions": {BAD: BAD},
            }
        ),
    }[kind]()
    found = Tags(tables.apart(text))
    assert not found.tags & {"script", "img"} and found.events == []
    assert all(a in (address, "page.html") or a.startswith("ledger.html?") for a in found.addresses)
    assert "alert(1)" in text


def test_an_address_with_a_scheme_leads_nowhere(record):
    for address in ("javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,x"):
        text = ledger_table.ledger([record], [], lambda claim, a=address: a)
        assert Tags(text).addresses == ["#"]


def test_the_words_of_neighbouring_cells_are_not_glued(record):
    for text in (
        ledger_table.ledger([record], [], lambda claim: "#"),
        tables.claims([record], lambda claim: "#", lambda chapter: "Title"),
    ):
        words = re.split(r"\s+", re.sub(r"<[^<]+?>", "", tables.apart(text)))
        assert "X-1" in words and "One" in words


def test_the_bars_count_every_claim_and_lead_to_its_rows(record):
    claims = [record, record | {"id": "X-2", "verdict": "refuted", "expected": "refuted"}]
    claims.append(record | {"id": "X-3", "paper": "other paper"})
    found = Tags(tables.verdicts(claims, "book/ledger.html", str.upper))
    one = f"book/ledger.html?paper={badges.slug(record['paper'])}&verdict="
    assert one + "verified" in found.addresses and one + "refuted-as-predicted" in found.addresses
    assert "book/ledger.html?paper=other-paper&verdict=verified" in found.addresses
    assert "book/ledger.html?verdict=verified" in found.addresses


def test_many_works_of_one_claim_share_a_row_whose_bars_lead_to_all_of_them(record):
    claims = [record | {"id": f"X-{k}"} for k in range(4)]
    claims += [record | {"id": f"X-1{k}", "paper": f"work {k}"} for k in range(4)]
    shown = tables.verdicts(claims, "ledger.html")
    assert shown.count("mf-tally") == 2 and "4 other works" in shown
    where = "ledger.html?paper=work-0+work-1+work-2+work-3&verdict=verified"
    assert where in Tags(shown).addresses
    assert tables.verdicts(claims[:-1], "ledger.html").count("mf-tally") == 4


def test_verdicts_stand_in_one_order_and_a_cross_is_never_green(record):
    bad = record | {"verdict": "refuted", "expected": "refuted"}
    lost = record | {"verdict": "inconclusive"}
    assert list(badges.counts([lost, bad, record])) == [
        "verified",
        "refuted, as predicted",
        "inconclusive",
    ]
    for claim in (record, bad, lost, record | {"verdict": "refuted", "expected": "verified"}):
        sign, word = badges.of(claim)
        assert (badges.tone(word) == "good") == (sign in "✓≤"), word


def test_a_row_of_the_ledger_holds_what_the_buttons_and_the_citation_need(record):
    text = ledger_table.ledger([record], [], lambda claim: "#", str.title, "A book, commit abc")
    kind, paper = record["kind"], record["paper"]
    assert f'data-paper="{paper}" data-verdict="verified" data-kind="{kind}"' in text
    for what, value in (("paper", paper), ("verdict", "verified"), ("kind", kind)):
        assert f'data-filter="{what}" data-value="{value}"' in text
    assert "Cite as: X-1, in: A book, commit abc" in text
    assert all(check["name"] in text for check in record["checks"])


def test_mathematics_cannot_link_load_or_open_a_menu():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    mathjax = config["mathjax3_config"]
    assert {"autoload", "require"} <= set(mathjax["tex"]["packages"]["[-]"])
    assert mathjax["options"]["enableMenu"] is False


def test_a_chapter_that_is_opened_elsewhere_says_what_to_install():
    text = notebook(cell("seed: int = 0  # the seed", "parameters"))
    made = portable(text, "git+https://example.org/book")
    cells = json.loads(made)["cells"]
    assert len(cells) == 2 and portable(made, "git+https://example.org/book") == made
    assert "%pip install again'" in portable(made, "again")
    ran = json.loads(text) | {"metadata": {"papermill": {"input_path": "/home/me/one.ipynb"}}}
    ran["cells"].append(ran["cells"][0] | {"metadata": {"tags": ["injected-parameters"]}})
    ran["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "seen"}]
    made = portable(json.dumps(ran), "here")
    assert "seen" in made and "/home/me" not in made and "injected-parameters" not in made
    first = "".join(cells[0]["source"])
    code = f"import sys; sys.modules['mflib'] = None\n{first}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "    %pip install git+https://example.org/book\n" in done.stderr
    done = subprocess.run([sys.executable, "-c", first], capture_output=True, cwd=ROOT)
    assert done.returncode == 0


def test_a_paper_is_called_by_its_name_with_the_whole_family_name():
    assert papers.name(ROOT, "debortoli2020") == "De Bortoli et al. 2020"
    assert papers.name(ROOT, "no such key") == "no such key"
    card = '<span class="mf-badge">x</span> <span class="mf-where">{}, eq. (3)</span>'
    assert placeholders._named(ROOT, card.format("lu2020")) == card.format("Lu et al. 2020")
    assert placeholders._named(ROOT, card.format("lu 2020")) == card.format("lu 2020")


def test_one_claim_is_no_claims():
    claim = {"id": "X", "paper": "p", "verdict": "verified", "expected": "verified", "checks": []}
    for count in (1, 2):
        words = tables.verdicts([claim | {"kind": "rate"}] * count, "ledger.html")
        assert (" 1 claim<" in words) == (count == 1) and (" 2 claims<" in words) == (count == 2)


def test_no_two_works_are_called_by_the_same_name():
    keys = re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "book/references.bib").read_text("utf-8"), re.M)
    names = [papers.name(ROOT, key) for key in keys]
    assert len(names) > 20 and len(set(names)) == len(names)

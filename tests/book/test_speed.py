"""Records of benchmarks on their page: what they say, and what is refused."""

import json

import pytest
from conftest import ROOT

from mflib.book import speed
from mflib.claims import ClaimError

ROW = {
    "peer": "a <b> & c",
    "size": "n=3",
    "ratio": 1.5,
    "spread": [1.25, 2.0],
    "judged": True,
    "agreement": 3e-16,
    "goal": 2.0,
    "peak_mib": 12.0,
    "peer_peak_mib": None,
}
RECORD = {
    "name": "adjoint",
    "title": "A job",
    "command": "python -m benchmarks adjoint --json",
    "machine": {"processor": "One", "tanh": "sigmoid"},
    "versions": {"torch": "2", "jax": None},
    "rounds": 7,
    "rows": [ROW, ROW | {"peer": "d", "ratio": 0.5, "spread": [0.4, 0.6], "judged": False}],
    "limit_fraction": {"n=3": 0.5},
    "exponents": {"n": 1.01},
    "kept": [{"what": "change of <mass>", "size": "n=3", "value": 2e-15, "most": 1e-14}],
    "missing": ["e"],
}


def written(tmp_path, record):
    path = tmp_path / "adjoint.json"
    path.write_text(json.dumps(record))
    return path


def test_a_table_says_ratio_goal_difference_and_what_ran(tmp_path):
    text = speed.table(speed.read(written(tmp_path, RECORD)))
    assert "a &lt;b&gt; &amp; c" in text and "<b>" not in text
    assert "1.50 [1.25, 2.00]" in text and "missed by a factor 1.3 (at least 2)" in text
    assert "missed by a factor 4 (at least 2)" in text and "(another problem)" in text
    assert "change of &lt;mass&gt; 2e-15 at n=3" in text
    assert "torch 2" in text and "jax" not in text and "50% at n=3" in text
    met = RECORD | {"rows": [ROW | {"ratio": 2.0, "spread": [2.0, 2.0]}]}
    assert "met (at least 2)" in speed.table(speed.read(written(tmp_path, met)))


def test_bars_lead_from_one_to_the_ratio(tmp_path):
    text = speed.drawing(speed.read(written(tmp_path, RECORD)))
    assert text.count("<rect") == 2 and text.count("mf-ahead") == text.count("mf-behind") == 1
    assert "a &lt;b&gt; &amp; c" in text


@pytest.mark.parametrize(
    "bad",
    [
        {},
        RECORD | {"rows": []},
        RECORD | {"rows": [ROW | {"ratio": -1.0}]},
        RECORD | {"rows": [ROW | {"ratio": "fast"}]},
        RECORD | {"rows": [ROW | {"spread": [1.0]}]},
        RECORD | {"command": 3},
    ],
)
def test_a_record_that_is_none_is_refused_by_name(tmp_path, bad):
    with pytest.raises(ClaimError, match="adjoint.json: .*python -m benchmarks adjoint"):
        speed.read(written(tmp_path, bad))
    with pytest.raises(ClaimError, match="none.json: no record"):
        speed.read(tmp_path / "none.json")


def test_rows_that_compare_with_nobody_are_a_table_of_their_columns(tmp_path):
    rows = [{"way": "a <b>", "points": 50, "times": 1.0}, {"way": "c", "points": 50, "times": 5.25}]
    machine = {"processor": "One", "cores": 2, "load": 0.04}
    good = RECORD | {"rows": rows, "machine": machine, "commit": "abc+dirty"}
    found = speed.read(written(tmp_path, good))
    text = speed.table(found)
    assert "a &lt;b&gt;" in text and "<td>5.25</td>" in text and "<th>times</th>" in text
    assert "One, 2 cores, load 0.0 when it ended, torch 2, commit abc+dirty." in text
    assert "interleaved" not in text and speed.drawing(found) == ""
    for bad in (
        [rows[0], {"way": "c"}],
        [rows[0] | {"times": float("nan")}],
        [{"way": None}],
        [{}],
    ):
        with pytest.raises(ClaimError, match="adjoint.json: .*python -m benchmarks adjoint"):
            speed.read(written(tmp_path, good | {"rows": bad}))


def test_the_pages_show_committed_records_alone():
    pages = [(ROOT / "book" / name).read_text("utf-8") for name in ("benchmarks.md", "rerun.md")]
    for path in (ROOT / "book" / "records" / "bench").glob("*.json"):
        assert speed.read(path)["name"] == path.stem
        assert any(f"{{benchmark}} {path.stem}\n" in page for page in pages)


def test_the_directive_shows_either_kind_of_record_or_says_that_nothing_was_measured(tmp_path):
    from sphinx.application import Sphinx

    folder = tmp_path / "book" / "records" / "bench"
    folder.mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_toc.yml").write_text("root: index\n")
    ways = {"name": "ways", "rows": [{"way": "loop", "times": 1.0}], "machine": {"processor": "P"}}
    for name, record in (("adjoint", RECORD), ("ways", RECORD | ways)):
        (folder / f"{name}.json").write_text(json.dumps(record))
    names = ("adjoint", "ways", "absent")
    (tmp_path / "index.md").write_text("\n".join(f"```{{benchmark}} {n}\n```" for n in names))
    app = Sphinx(
        tmp_path,
        None,
        tmp_path / "html",
        tmp_path / "trees",
        "html",
        confoverrides={"extensions": ["myst_parser", "mflib.book.sphinx.placeholders"]},
        status=None,
        warning=None,
    )
    app.build()
    page = (tmp_path / "html" / "index.html").read_text("utf-8")
    assert page.count("<svg") == 1 and "a &lt;b&gt; &amp; c" in page and "<td>loop" in page
    assert "Not measured: no record of the benchmark absent is committed yet." in page


def test_the_words_and_spreads_of_a_drawing_take_the_colour_of_the_page():
    record = {"title": "job", "rows": [{"size": "1", "peer": "p", "ratio": 2, "spread": [1, 3]}]}
    drawn = speed.drawing(record)
    assert "fill='currentColor'" in drawn and "stroke='currentColor'" in drawn
    assert "black" not in drawn

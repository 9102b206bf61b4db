"""The table of a sweep: whole points only, whatever a killed process or a full disk left."""

import random

import pytest

from mflib.book import report
from mflib.book.chapters import ChapterError
from mflib.book.results import Table, key


def row(check, measured):
    return {"claim": "X-1", "check": check, "measured": measured, "verdict": "verified",
            "predicted": 0.5, "controls": 1, "flipped": 1}  # fmt: skip


def filled(folder, points=5):
    """Points of one, two or three rows."""
    table = Table(folder, ["seed", "width"])
    for seed in range(points):
        rows = [row(f'check {i}, "said"\nin two lines', seed + i / 7) for i in range(1 + seed % 3)]
        table.add("one", {"seed": seed, "width": 3}, rows, error="", fingerprint="f")
    return table


def test_what_is_written_is_read_again(tmp_path):
    made = filled(tmp_path)
    again = Table(tmp_path)
    assert again.points == made.points and again.parameters == ["seed", "width"]
    assert [len(rows) for rows in again.points.values()] == [1, 2, 3, 1, 2]
    assert float(again.points[key("one", {"seed": 4, "width": 3})][1]["measured"]) == 4 + 1 / 7


def test_a_file_cut_anywhere_loses_only_the_points_that_it_lacks(tmp_path):
    made = filled(tmp_path)
    data = (tmp_path / "results.csv").read_bytes()
    ends = []
    for number in range(5):
        part = tmp_path / str(number)
        part.mkdir()
        filled(part, number + 1)
        ends.append((part / "results.csv").stat().st_size)
    head = data.index(b"\n") + 1  # it is written whole or not at all
    for cut in random.Random(1).sample(range(head, len(data)), 60):
        (tmp_path / "results.csv").write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        found = Table(tmp_path, ["seed", "width"])
        assert list(found.points) == list(made.points)[:whole], cut
        # and what comes after it is read
        found.add("one", {"seed": 77, "width": 3}, [row("x", 1.0)], error="", fingerprint="f")
        assert len(Table(tmp_path).points) == whole + 1, cut


def test_an_interrupt_while_a_point_is_written_loses_no_point(tmp_path, monkeypatch):
    table, given = filled(tmp_path, 2), {"seed": 9, "width": 4}

    def interrupted(number):
        raise KeyboardInterrupt

    table._synced = float("-inf")
    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr("os.fsync", interrupted)
        table.add("one", given, [row("a", 1.0)], seconds=1.0, fingerprint="f")
    table.finish()
    found = Table(tmp_path).points
    assert len(found) == 3 and found[key("one", given)][0]["measured"] == "1.0"


def test_the_later_of_two_runs_of_a_point_counts(tmp_path):
    table = filled(tmp_path)
    given = {"seed": 2, "width": 3}
    table.add("one", given, [row("new", 9.0)], error="", fingerprint="g")
    found = Table(tmp_path).points[key("one", given)]
    assert [r["check"] for r in found] == ["new"]
    read = report.read(tmp_path)
    assert list(read[read["seed"] == 2]["check"]) == ["new"] and read["point"].nunique() == 5
    table.finish()
    assert (tmp_path / "results.csv").read_text().count(",f,") == 6  # the three old rows are gone


def test_a_new_parameter_becomes_a_column_and_the_old_rows_stay(tmp_path):
    filled(tmp_path)
    table = Table(tmp_path, ["depth"])
    table.add("one", {"seed": 0, "depth": 2}, [row("x", 1.0)], error="", fingerprint="f")
    again = Table(tmp_path)
    assert again.parameters == ["seed", "width", "depth"] and len(again.points) == 6


def test_a_foreign_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ChapterError, match="is no table of a sweep of this version"):
        Table(tmp_path)
    assert (tmp_path / "results.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(ChapterError, match="is no table of a sweep"):
        report.read(tmp_path)


def test_a_parameter_named_as_a_column_is_refused(tmp_path):
    with pytest.raises(ChapterError, match="parameter seconds: the table has a column"):
        Table(tmp_path, ["seconds"])


def test_the_report_puts_changed_verdicts_first_and_counts_by_parameter(tmp_path):
    table = Table(tmp_path, ["seed", "width"])
    for width in (4, 16):
        for seed in range(5):
            bad = row("moves", 1.0) | {
                "verdict": "refuted" if (seed, width) == (3, 16) else "verified"
            }
            table.add(
                "one", {"seed": seed, "width": width}, [row("stays", 0.0), bad], fingerprint="f"
            )
    table.add("one", {"seed": 9, "width": 4}, [], error="cell 2: it broke", fingerprint="f")
    found = report.lines(report.read(tmp_path))
    assert found[0] == "11 points, 1 of them failed"
    assert found[1] == "✗ one width=4, seed=9: cell 2: it broke"
    assert found[2] == "changed their verdict (1 of 2 checks):"
    assert found[3] == "  X-1: moves: 9 verified, 1 refuted"
    assert found[4] == "    other than most at width=16, seed=3"
    assert "  width = 16: 9 verified, 1 refuted" in found and "  width = 4: 10 verified" in found
    path = report.draw(report.read(tmp_path), tmp_path / "report.png")
    assert path.read_bytes().startswith(b"\x89PNG")

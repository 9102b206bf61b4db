"""The map of results: arrows that the register knows, a picture and a list that agree."""

import re

import pytest
from conftest import ROOT

from mflib.book import implications, results_map
from mflib.book.implications import Arrow, hypothesis, layers, ordered, part_of, read
from mflib.claims import ClaimError, register

ENTRIES = register.read(ROOT / "book" / "claims.csv")
TABLE = ROOT / "book" / "implications.csv"
GOOD = "result,relation,on\nLU-T2,rests on,LU-ADJ\n"


def claims():
    return {
        id: {
            "id": id,
            "paper": row.paper,
            "where": row.where,
            "kind": row.kind,
            "verdict": "verified" if i % 2 else "inconclusive",
            "expected": "verified",
            "notebook": row.chapter,
        }
        for i, (id, row) in enumerate(ENTRIES.items())
    }


def of(part):
    return [a for a in read(TABLE, ENTRIES) if part_of(a.result, ENTRIES) == part]


PARTS = sorted({part_of(id, ENTRIES) for id in ENTRIES})


@pytest.mark.parametrize(
    "row, message",
    [
        ("LU-T2,leans on,LU-ADJ", "a relation is one of"),
        ("LU-T2,rests on", "needs result, relation, on"),
        ("LU-T2,rests on,LU-XYZ", "'LU-XYZ' is neither a claim"),
        ("LU-T2,rests on,nobody2020: Assumption 1", "neither a claim"),
        ("LU-T2,rests on,TS-T1", "joins two papers"),
        ("LU-T2,extends,LU-ADJ", "stands there twice"),
        ("LU-ADJ,rests on,LU-T2", "go round in a circle"),
    ],
)
def test_a_wrong_arrow_is_named(tmp_path, row, message):
    path = tmp_path / "implications.csv"
    path.write_text(GOOD + row + "\n", "utf-8")
    with pytest.raises(ClaimError, match=message):
        read(path, ENTRIES)


def test_a_table_that_is_none_is_named(tmp_path):
    with pytest.raises(ClaimError, match="cannot be read"):
        read(tmp_path / "none.csv", ENTRIES)
    path = tmp_path / "implications.csv"
    path.write_text("a,b\n", "utf-8")
    with pytest.raises(ClaimError, match="first line must be result,relation,on"):
        read(path, ENTRIES)


def test_every_arrow_leads_to_a_higher_layer_and_every_node_stands_once():
    arrows = read(TABLE, ENTRIES)
    height = layers(arrows)
    assert all(height[a.result] > height[a.on] for a in arrows)
    assert all(height[node] == 0 for node in height if hypothesis(node) and not any(
        a.result == node for a in arrows))  # fmt: skip
    for part in PARTS:
        mine = of(part)
        columns = ordered(mine)
        nodes = [node for column in columns for node in column]
        assert sorted(nodes) == sorted(layers(mine)) and len(set(nodes)) == len(nodes)


def test_the_order_takes_crossings_away():
    arrows = [Arrow(f"T{i}", "rests on", f"L{4 - i}") for i in range(5)]
    lower, upper = ordered(arrows)
    assert [node[1] for node in lower] == [str(4 - int(node[1])) for node in upper]


def test_what_goes_beyond_the_papers_is_one_part_and_leans_on_them(tmp_path):
    assert PARTS == ["beyond", "chen2024", "fang2021", "lu2020", "teacher_student"]
    leaned = {part_of(arrow.on, ENTRIES) for arrow in of("beyond")}
    assert {"beyond", "chen2024", "lu2020"} <= leaned
    path = tmp_path / "implications.csv"
    path.write_text(GOOD + "LU-T2,extends,X-SHAPE\n", "utf-8")
    with pytest.raises(ClaimError, match="joins two papers"):
        read(path, ENTRIES)


@pytest.mark.parametrize("part", PARTS)
def test_the_picture_and_the_list_say_the_same(part):
    mine, every = of(part), claims()
    ends = {arrow.on for arrow in mine}
    here = {id: c for id, c in every.items() if id in ends or part_of(id, ENTRIES) == part}
    link = lambda claim: f"page.html#claim-{claim['id'].lower()}"  # noqa: E731
    picture = results_map.drawing(mine, here, link, "A map")
    words = results_map.listing(mine, here, link)
    nodes = [node for node in layers(mine) if not hypothesis(node)]
    for node in nodes:
        place = f'href="page.html#claim-{node.lower()}"'
        assert place in picture and place in words
    drawn = set(re.findall(r'data-from="([^"]*)" data-to="([^"]*)"', picture))
    assert drawn == {(a.on, a.result) for a in mine}
    assert words.count("<li") == len(here)
    assert words.count("stands alone") == len(set(here) - set(nodes))
    assert words.count("; leads to ") == len({a.on for a in mine if not hypothesis(a.on)})
    for relation in implications.RELATIONS:
        told = {a.result for a in mine if a.relation == relation}
        assert words.count(f"; {relation} ") == len(told)


def test_a_box_says_its_verdict_in_words_and_not_by_colour_alone():
    arrows = [Arrow("LU-T2", "rests on", "LU-ADJ")]
    every = claims()
    here = {id: every[id] for id in ("LU-T2", "LU-ADJ")}
    picture = results_map.drawing(arrows, here, lambda claim: "#", "A map")
    for id, claim in here.items():
        assert f"{id} ({claim['where']}), {claim['verdict']}" in picture


def test_a_place_that_is_too_long_for_its_box_says_that_it_goes_on():
    every = claims()
    where = {"LU-T2": "Section 1.2, before the theorem", "LU-ADJ": "Theorem 2"}
    here = {id: every[id] | {"where": place} for id, place in where.items()}
    picture = results_map.drawing([Arrow("LU-T2", "rests on", "LU-ADJ")], here, str, "A map")
    assert re.findall('mf-place"[^>]*>([^<]*)<', picture) == ["Section 1.2…", "Theorem 2"]


def test_what_a_record_says_is_no_markup_in_the_map():
    every = claims()
    bad = '"><script>alert(1)</script>'
    here = {id: every[id] | {"where": bad} for id in ("LU-T2", "LU-ADJ")}
    arrows = [Arrow("LU-T2", "rests on", "LU-ADJ")]
    for text in (
        results_map.drawing(arrows, here, lambda claim: bad, bad),
        results_map.listing(arrows, here, lambda claim: bad),
    ):
        assert "<script" not in text

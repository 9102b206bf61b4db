"""Pictures that answer to a slider: frames of one size, light, escaped, each with its sentence."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.dom import minidom

import matplotlib
import pytest
from matplotlib import pyplot as plt

from mflib.book import slider as module
from mflib.book.slider import slider

matplotlib.use("Agg")


class Tags(HTMLParser):
    """Collects tags with their attributes, as a browser would read them."""

    def __init__(self):
        super().__init__()
        self.tags, self.words = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


def read(shown):
    tags = Tags()
    tags.feed(shown._repr_html_())
    return tags


def images(shown):
    return [about for tag, about in read(shown).tags if tag == "img"]


def svg(about):
    kind, text = about["src"].split(",", 1)
    assert kind == "data:image/svg+xml"
    return unquote(text)


def dots(heights, x=0.25):
    def draw(ax, value):
        ax.plot([x] * len(heights), [value * h for h in heights], "o", color="#0072B2")
        ax.set(xlim=(0, 1), ylim=(0, 4))
        return f"It is {value} high."

    return draw


def places(about):
    return [float(y) for y in re.findall(r"<use [^>]*y='([\d.]+)'", svg(about))]


def test_there_is_one_frame_a_value_and_only_the_first_is_shown():
    shown = slider(dots([1]), [1, 2, 3], "height", "A dot.")
    frames = images(shown)
    assert ["hidden" in about for about in frames] == [False, True, True]
    assert len({about["src"] for about in frames}) == 3
    assert len({(about["width"], about["height"]) for about in frames}) == 1
    assert repr(shown) == "a slider of 3 frames"


def test_a_frame_is_an_image_that_draws_what_it_was_told():
    low, high = images(slider(dots([1, 1.5], x=0.4), [1, 2], "height", "Dots."))
    for about in (low, high):
        assert minidom.parseString(svg(about)).documentElement.tagName == "svg"
    # the dots of the second frame stand higher, twice as far from the axis: y points downwards
    ground = 4
    (a, b), (c, d) = (places(about)[-2:] for about in (low, high))
    unit = (a - b) / 0.5
    assert c == pytest.approx(a - unit, abs=0.05) and d == pytest.approx(b - 1.5 * unit, abs=0.05)
    assert ground * unit > 100


def test_every_frame_has_its_words_for_those_who_do_not_see_it():
    shown = slider(dots([1]), [1, 2], "height h", "A dot.", labels=["one", "two"])
    first, second = images(shown)
    assert first["alt"] == "A dot. height h: one. It is 1 high."
    assert (second["data-label"], second["data-says"]) == ("height h: two", "It is 2 high.")
    (range_,) = (about for tag, about in read(shown).tags if tag == "input")
    assert range_["aria-label"] == "height h" and range_["type"] == "range"
    assert range_["aria-valuetext"] == "height h: one. It is 1 high."
    assert (range_["min"], range_["max"], range_["value"]) == ("0", "1", "0")


def test_without_a_script_the_controls_are_hidden_and_the_first_sentence_stands():
    tags = read(slider(dots([1]), [1, 2], "height", "A dot."))
    (moves,) = (about for _, about in tags.tags if about.get("class") == "mf-moves")
    assert "hidden" in moves
    assert "It is 1 high." in tags.words and "It is 2 high." not in tags.words


def test_texts_are_text_and_never_markup():
    evil = '"><script>alert(1)</script>&'

    def draw(ax, value):
        ax.set(xlim=(0, 1), ylim=(0, 1), title="'<b>'")
        return evil

    shown = slider(draw, [1, 2], evil, evil, labels=[evil, evil])
    tags = read(shown)
    assert {tag for tag, _ in tags.tags} == {"div", "img", "button", "input", "span", "p"}
    assert all(not name.startswith("on") for _, about in tags.tags for name in about)
    assert images(shown)[0]["data-says"] == evil
    assert "<script" not in shown.html
    minidom.parseString(svg(images(shown)[0]))


def test_the_same_picture_gives_the_same_text_and_no_figure_stays_open():
    before = plt.get_fignums()
    one, two = (slider(dots([1, 2]), [1, 2], "height", "Dots.") for _ in range(2))
    assert one.html == two.html
    assert plt.get_fignums() == before


def test_the_style_of_a_crowd_of_dots_is_said_once_and_dots_of_two_colours_keep_them():
    def crowd(many):
        def draw(ax, value):
            ax.plot([0.1] * many, [value] * many, "o", color="#112233")
            ax.scatter([0.4, 0.5], [value] * 2, c=["#445566", "#778899"])
            ax.set(xlim=(0, 1), ylim=(0, 3))
            return "So."

        return svg(images(slider(draw, [1, 2], "height", "Dots."))[0])

    few, lots = crowd(3), crowd(30)
    assert lots.count("#112233") == few.count("#112233") > 0
    assert lots.count("<use") == few.count("<use") + 27
    assert "#445566" in few and "#778899" in few


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(values=[1]), "two frames at least"),
        (dict(labels=["one"]), "2 values with 1 labels"),
        (dict(alt=" "), "alt: expected words"),
        (dict(over=""), "over: expected words"),
        (dict(labels=["one", 2]), "labels: expected words"),
        (dict(draw=lambda ax, value: None), "draw: expected words"),
        (dict(draw=lambda ax, v: f"{ax.plot([0, v])}"), "set xlim and ylim"),
    ],
)
def test_what_cannot_be_moved_or_heard_is_refused(change, message):
    given = dict(draw=dots([1]), values=[1, 2], over="height", alt="A dot.") | change
    with pytest.raises((TypeError, ValueError), match=message):
        slider(**given)
    assert not plt.get_fignums()


def test_frames_that_weigh_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 20_000)
    with pytest.raises(ValueError, match="more than 20; draw fewer frames"):
        slider(dots([1] * 200), [1, 2, 3], "height", "Dots.")

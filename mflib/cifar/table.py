r"""The tables from the records: paired differences with intervals, never a typed number.

What is compared, how often it is looked at and how it is corrected stands here before
the runs; the numbers come from the records alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from mflib.claims.families import FEWEST_PAIRS, Paired, decide, paired

from .algorithm_one import twin
from .recipe import PAPER, PROTOCOLS
from .records import sorted_times

__all__ = [
    "ALPHA",
    "LOOKS",
    "MARGIN",
    "Question",
    "answers",
    "detectable",
    "dots",
    "families",
    "finished",
    "headline",
    "markdown",
    "measure",
    "scatter",
    "sentence",
    "sorting",
]

#: The chance of any false decision in a family of questions.
ALPHA = 0.05
#: "Equal" means: the whole interval within this many points of test error.
MARGIN = 0.2
#: One image of the test set, in points.
RESOLUTION = 0.01
#: Numbers of pairs at which a question of so many planned pairs is judged, and the factor
#: its p-value pays for each look (Pocock: two looks at .0294 are one at .05).
LOOKS = {16: ((8, 16), ALPHA / 0.0294)}


@dataclass(frozen=True)
class Question:
    """Is the error of `rule` below that of `against`, on one network?

    Attributes
    ----------
    net, data, rule, against : str
        What is compared; the difference is error(against) - error(rule).
    planned : int
        Pairs, fixed in advance.
    """

    net: str
    data: str
    rule: str
    against: str
    planned: int

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of pairs at which it is judged."""
        return LOOKS.get(self.planned, ((self.planned,), 1.0))[0]

    @property
    def price(self) -> float:
        """The factor that its p-value pays for the looks."""
        return LOOKS.get(self.planned, ((self.planned,), 1.0))[1]


def families() -> dict[str, list[Question]]:
    """Return the families of questions, stated before any run.

    ``small`` and ``full`` ask for every network whether mean-field beats vanilla;
    ``...-ablations`` compare the other rules with vanilla; ``sort`` compares Algorithm 1
    on the smallest network with the same learned steps where blocks stay or others move.
    """
    out: dict[str, list[Question]] = {
        "small": [],
        "sort": [],
        "small-ablations": [],
        "full": [],
        "full-ablations": [],
    }
    for name, rows in PROTOCOLS.items():
        for net, rules, count in rows:
            data = "cifar10-16px" if name == "small" else dict(PAPER.keys())[net]
            for how in rules:
                if how == "mean-field":
                    out[name].append(Question(net, data, how, "vanilla", count))
                elif how != "vanilla":
                    out[f"{name}-ablations"].append(Question(net, data, how, "vanilla", count))
                    if name == "small" and twin(how) == "mean-field":
                        out["sort"].append(Question(net, data, "mean-field", how, count))
    return out


def detectable(spread: float, pairs: int, questions: int, power: float = 0.8) -> float:
    r"""Return the smallest mean difference that pairs see, in the unit of `spread`.

    Student's two-sided test at the first step of Holm's procedure, level
    :math:`\alpha/m`, decides a difference of this size with chance `power`.

    Parameters
    ----------
    spread : float
        Standard deviation of one difference.
    pairs, questions : int
        Pairs, and the questions m of the family.
    power : float
        The chance.
    """
    freedom, root = pairs - 1, math.sqrt(pairs)
    bar = stats.t.ppf(1 - ALPHA / questions / 2, freedom)
    shift = optimize.brentq(lambda x: stats.nct.sf(bar, freedom, x) - power, 0.0, 100.0)
    return float(shift) / root * spread


def scatter(records: list[dict], net: str = "small-n3", first: int = 4) -> float | None:
    """Return the standard deviation of the first vanilla runs' errors, in seeds' order.

    None while fewer than `first` are there.
    """
    found = {
        r["config"]["seed"]: r["final"]["test_error"]
        for r in records
        if r["protocol"]
        and r["status"] == "finished"
        and (r["config"]["net"], r["config"]["rule"]) == (net, "vanilla")
    }
    seeds = range(first)
    if any(seed not in found for seed in seeds):
        return None
    return float(np.std([found[seed] for seed in seeds], ddof=1))


def finished(records: list[dict], how: str, net: str) -> list[dict]:
    """Return the finished runs of a rule by a protocol, in seeds' order."""
    mine = [
        r
        for r in records
        if r["protocol"]
        and r["status"] == "finished"
        and (r["config"]["rule"], r["config"]["net"]) == (how, net)
    ]
    return sorted(mine, key=lambda r: r["config"]["seed"])


def _runs(records: list[dict], asked: Question) -> dict[tuple[str, int], dict]:
    """The runs of a network by (rule, seed): of one precision, that with the most.

    A rule that differs from Algorithm 1 only in what the sort moves has its runs too
    where that of Algorithm 1 never sorted: they are the same run.
    """
    by_precision: dict[str, dict] = defaultdict(dict)
    for r in records:
        cfg = r["config"]
        if r["protocol"] and (cfg["net"], cfg["data"]) == (asked.net, asked.data):
            by_precision[cfg["precision"]][cfg["rule"], cfg["seed"]] = r
    runs = max(by_precision.values(), key=len, default={})
    for how in {asked.rule, asked.against}:
        for (other, seed), r in list(runs.items()):
            same = other == twin(how) and r["status"] == "finished" and not sorted_times(r)
            if same and (how, seed) not in runs:
                runs[how, seed] = r | {"same_as": other}
    return runs


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None


def _row(runs: dict[tuple[str, int], dict], asked: Question, questions: int) -> dict[str, Any]:
    """The comparison of one question, over the pairs of its last complete look."""
    done = {key: r for key, r in runs.items() if r["status"] == "finished"}
    both = sorted(s for how, s in done if how == asked.rule and (asked.against, s) in done)
    seeds = [s for s in both if done[asked.rule, s]["source"] == done[asked.against, s]["source"]]
    broken = sum(
        how in (asked.rule, asked.against) and r["status"] == "diverged"
        for (how, _), r in runs.items()
    )
    reached = [look for look in asked.looks if look <= len(seeds)]
    judged = seeds[: reached[-1]] if reached else seeds
    final = {key: r["final"]["test_error"] for key, r in done.items()}
    ours = [final[asked.rule, s] for s in judged]
    theirs = [final[asked.against, s] for s in judged]
    differences = [round(b - a, 6) for a, b in zip(ours, theirs, strict=True)]
    row = {
        **vars(asked),
        "price": asked.price,
        "paper": PAPER.get((asked.net, asked.data)),
        "pairs": len(judged),
        "had": len(seeds),
        "seeds": judged,
        "differences": differences,
        "difference": _mean(differences),
        "error": _mean(ours),
        "error_against": _mean(theirs),
        "best": _mean(done[asked.rule, s]["final"]["best_error"] for s in judged),
        "best_against": _mean(done[asked.against, s]["final"]["best_error"] for s in judged),
        "interval": None,
        "simultaneous": None,
        "spread": None,
        "student": None,
        "flips": None,
        "correlation": None,
        "welch": None,
        "diverged": broken,
        "unlike": len(both) - len(seeds),
        "complete": bool(reached) and not broken,
        "identical": sum(
            "same_as" in done[how, s] for s in judged for how in (asked.rule, asked.against)
        ),
        "reorderings_per_epoch": _mean(
            sorted_times(done[asked.rule, s]) / len(done[asked.rule, s]["epochs"]) for s in judged
        ),
        "sorting": sum(sorted_times(done[asked.rule, s]) > 0 for s in judged),
        "shuffled": _mean(done[asked.rule, s]["shuffled"]["mean"] for s in judged),
        "shuffled_rule": [
            final[asked.against, s] - done[asked.rule, s]["shuffled"]["mean"] for s in judged
        ],
        "shuffled_against": [
            done[asked.against, s]["shuffled"]["mean"] - final[asked.rule, s] for s in judged
        ],
    }
    if len(judged) > 1 and not broken:
        level = ALPHA / asked.price
        one, all_ = paired(differences, 1 - level), paired(differences, 1 - level / questions)
        row |= {
            "interval": one.interval,
            "simultaneous": all_.interval,
            "spread": one.spread,
            "student": min(one.student * asked.price, 1.0),
            "flips": min(one.flips * asked.price, 1.0),
        }
        if np.std(ours) > 0 and np.std(theirs) > 0:
            row["correlation"] = float(np.corrcoef(ours, theirs)[0, 1])
            if row["correlation"] < 0:  # pairing did not help; the unpaired interval beside
                welch = stats.ttest_ind(theirs, ours, equal_var=False)
                row["welch"] = tuple(map(float, welch.confidence_interval(1 - level)))
    return row


def _sides(rows: list[dict]) -> None:
    """Decide the questions of a family together, in place: +1, -1 or 0."""
    found = [
        Paired(r["difference"], r["interval"], r["spread"], r["student"], r["flips"], r["pairs"])
        if r["complete"] and r["pairs"] >= FEWEST_PAIRS and r["student"] is not None
        else None
        for r in rows
    ]
    for row, have, decision in zip(rows, found, decide(found, ALPHA, ALPHA), strict=True):
        row["side"], row["judged"], row["verdict"] = 0, row["simultaneous"], "open"
        row["level"] = 1 - (1 - decision.level) / row["price"]
        if decision.rejected:
            row["judged"] = (-math.inf, math.inf)  # unless the signs agree
            if decision.side:
                row["side"] = decision.side
                row["judged"] = paired(row["differences"], row["level"]).interval
                row["verdict"] = "better" if row["side"] > 0 else "worse"
        elif have and max(map(abs, row["simultaneous"])) <= MARGIN:
            row["verdict"] = "equal"
        if row["judged"] is not None and row["judged"][0] == row["judged"][1]:
            # equal to the bit; an error is known to one image of the test set
            row["judged"] = tuple(
                end + RESOLUTION * way for end, way in zip(row["judged"], (-1, 1), strict=True)
            )
        if not row["had"] and not row["diverged"]:
            row["verdict"] = "not run"


def answers(records: list[dict]) -> dict[str, list[dict[str, Any]]]:
    r"""Return one row for each question of each family.

    Parameters
    ----------
    records : list of dict
        As ``read_records`` returns them.

    Returns
    -------
    dict
        For every name of :func:`families` its rows. A difference is error(against) minus
        error(rule) in percentage points: positive favours the rule. ``interval`` is
        Student's at 95 % (97.06 % where there are two looks), ``simultaneous`` that of
        the whole family, ``student`` and ``flips`` the p-values, ``side`` what Holm's
        procedure and the sign flips decide together, ``judged`` the interval of the
        deciding step (at ``level``), ``verdict`` a word: better, worse, equal (the
        simultaneous interval within the margin), open, not run. Less than the
        planned pairs, or a diverged run of either rule, leave a question open. Pairs whose
        runs come from other code are left out and counted as ``unlike``; ``identical``
        counts runs that are known from another rule's because nothing was sorted.
    """
    out = {}
    for name, asked in families().items():
        rows = [_row(_runs(records, q), q, len(asked)) for q in asked]
        _sides(rows)
        out[name] = rows
    return out


# words and Markdown -----------------------------------------------------------------------
def _number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def _range(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else "[{:+.2f}, {:+.2f}]".format(*ends)


def _pairs(row: dict) -> str:
    text = (
        str(row["pairs"])
        if row["pairs"] == row["planned"]
        else (f"{row['pairs']} of {row['planned']}")
    )
    for word in ("diverged", "unlike"):
        text += f" ({row[word]} {word})" if row[word] else ""
    return text


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _with_best(last: float | None, best: float | None) -> str:
    return "–" if last is None else f"{last:.2f} ({best:.2f})"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def sentence(row: dict[str, Any]) -> str:
    """Return in one sentence what the pairs of a row say."""
    what = f"On {row['net']}, {row['rule']} against {row['against']}"
    if row["difference"] is None:
        return f"{what}: not run."
    gain = row["difference"]
    way = f"is {abs(gain):.2f} points {'lower' if gain > 0 else 'higher'}" if gain else "is equal"
    head = f"{what}: the test error {way} over {_counted(row['pairs'], 'pair')}"
    if row["interval"] is None:
        return f"{head}; nothing is decided."
    head += f", interval {_range(row['judged'])} at {100 * row['level']:.1f} %"
    if not row["complete"]:
        return f"{head}; {row['planned']} pairs are planned, and until then nothing is decided."
    word = {
        "better": "the gain is decided",
        "worse": "the loss is decided",
        "equal": f"the two are equal within {MARGIN:g} points",
        "open": "the sign is open",
    }[row["verdict"]]
    return f"{head}; {word}."


def headline(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the answer of the small protocol, in words that follow the records."""
    rows = found["small"]
    first, have = rows[0], [row for row in rows if row["verdict"] != "not run"]
    if not have:
        return "**Not answered yet:** no pair of the small protocol is recorded."
    words = {
        word: sum(row["verdict"] == word for row in rows)
        for word in ("better", "worse", "equal", "open", "not run")
    }
    counts = ", ".join(f"{number} {word}" for word, number in words.items() if number)
    lead = {
        "better": "Yes on the smallest network",
        "worse": "No on the smallest network",
        "equal": "It makes no difference on the smallest network",
        "not run": "Open on the smallest network",
        "open": "Open on the smallest network",
    }[first["verdict"]]
    out = f"**{lead}.** {sentence(first)} Of the {len(rows)} networks: {counts}."
    return f"{out} {sorting(found)}"


def sorting(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return in words whether the stamps of Algorithm 1 ever left their order."""
    rows = [row for row in found["small"] if row["pairs"]]
    runs, moved = (sum(row[key] for row in rows) for key in ("pairs", "sorting"))
    if not runs:
        return "No run of Algorithm 1 says yet whether anything is sorted."
    if not moved:
        return (
            f"In {_counted(runs, 'run')} of Algorithm 1 no stamp ever left its order: "
            "the sort had nothing to do, and whatever Algorithm 1 changes here, it "
            "changes by its step sizes."
        )
    return f"In {moved} of {_counted(runs, 'run')} of Algorithm 1 blocks changed places."


def markdown(rows: list[dict], kind: str = "small") -> str:
    """Return a Markdown table of the rows of a family."""
    heads = {
        "full": [
            "network",
            "data",
            "paper: vanilla",
            "paper: mean-field",
            "vanilla (best)",
            "mean-field (best)",
        ],
        "small": ["network", "vanilla (best)", "mean-field (best)"],
        "ablations": ["network", "rule", "vanilla (best)", "rule (best)"],
        "sort": ["network", "Algorithm 1 against", "its error (best)", "Algorithm 1 (best)"],
    }[kind.split("-")[-1]]
    heads += ["difference", "interval", "whole family", "p Student", "p signs", "pairs", "verdict"]
    if kind.endswith("ablations"):
        heads += ["sorted / epoch", "shuffled"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        name = {
            "full": [row["net"], row["data"], *map(_number, row["paper"] or (None, None))],
            "small": [row["net"]],
            "ablations": [row["net"], row["rule"]],
            "sort": [row["net"], row["against"]],
        }[kind.split("-")[-1]]
        cells = [
            *name,
            _with_best(row["error_against"], row["best_against"]),
            _with_best(row["error"], row["best"]),
            _number(row["difference"], True),
            _range(row["interval"]),
            _range(row["simultaneous"]),
            _p(row["student"]),
            _p(row["flips"]),
            _pairs(row),
            row["verdict"],
        ]
        if kind.endswith("ablations"):
            cells += [_number(row["reorderings_per_epoch"]), _number(row["shuffled"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(check: Any, row: dict[str, Any]) -> None:
    """Let a check judge a row, then its control; fewer pairs than can decide are not judged.

    In the control the blocks of the network that did better (of the rule's, where it did
    not lose) are shuffled after training: against the same runs it must lose.

    Parameters
    ----------
    check : mflib.claims.Reproduction
        Predicted, not measured yet.
    row : dict
        Of :func:`answers`.
    """
    if row["judged"] is None or row["pairs"] < FEWEST_PAIRS:
        return
    check.measure(row["difference"], interval=row["judged"], seeds=row["pairs"], level=row["level"])
    lost = "against" if check.verdict == "refuted" else "rule"
    control = check.control(
        f"{row['net']}: blocks of {row[lost]} shuffled", broke="every block keeps its place"
    )
    control.measure(row[f"shuffled_{lost}"])


def dots(ax: Any, rows: list[dict[str, Any]], name: str) -> None:
    """Draw the rows of a family: one dot a pair, below it the mean and what was judged.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where.
    rows : list of dict
        Of :func:`answers`.
    name : str
        The entry of a row that names it.
    """
    for y, row in enumerate(rows):
        d = row["differences"]
        ax.plot(d, y + np.linspace(-0.2, 0.2, len(d)), "o", ms=3.5, color="C0", alpha=0.6)
        if not d:
            where = ax.get_yaxis_transform()  # the middle of the axes, whatever is drawn
            ax.text(0.5, y, "not run", ha="center", va="center", size=8, transform=where)
        elif row["judged"] is not None and np.isfinite(row["judged"]).all():
            ax.plot(row["judged"], [y + 0.33] * 2, color="C1", lw=2.5)
            ax.plot(row["difference"], y + 0.33, "D", ms=5, color="C1")
    ax.set_yticks(range(len(rows)), [row[name] for row in rows])
    ax.set_ylim(len(rows) - 0.3, -0.7)
    ax.axvline(0, color="black", ls="--", lw=1)

r"""The table from the records: paired differences with intervals, never a typed number."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from .algorithm_one import ABLATIONS, RULES
from .recipe import PAPER

__all__ = ["LEVEL", "finished", "markdown", "paired_interval", "summary"]

#: Coverage of the intervals, that of the whole book.
LEVEL = 0.999


def _student(p: float, freedom: int) -> float:
    """The p-quantile of Student's law by quadrature and bisection (numpy only)."""
    log_c = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    c = math.exp(log_c) / math.sqrt(freedom * math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(200)

    def below(t: float) -> float:  # with x = sqrt(freedom) tan(u)
        top = math.atan(t / math.sqrt(freedom))
        u = 0.5 * top * (nodes + 1.0)
        return 0.5 + c * math.sqrt(freedom) * 0.5 * top * float(
            weights @ np.cos(u) ** (freedom - 1)
        )

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if below(middle) < p else (low, middle)
    return high


def paired_interval(differences: Any, level: float = LEVEL) -> tuple[float, float] | None:
    r"""Return a bootstrap interval of the mean of paired differences.

    The percentile interval is widened about the mean by
    :math:`t_{n-1}/z\cdot\sqrt{n/(n-1)}`, which few pairs need, and is never narrower on
    a side than Student's: resampling three or four pairs draws too few different means.

    Parameters
    ----------
    differences : array
        Shape (n,), one a seed.
    level : float
        Coverage.

    Returns
    -------
    tuple of float, or None
        None for fewer than three pairs.
    """
    values = np.asarray(differences, float)
    n = len(values)
    if n < 3:
        return None
    rng = np.random.default_rng(n)
    means = values[rng.integers(0, n, (50_000, n))].mean(1)
    tail = 0.5 * (1.0 - level)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    quantile = _student(1.0 - tail, n - 1)
    wide = quantile / _student(1.0 - tail, 10**6) * math.sqrt(n / (n - 1))
    mean = float(values.mean())
    half = quantile * float(values.std(ddof=1)) / math.sqrt(n)
    below, above = wide * (mean - float(low)), wide * (float(high) - mean)
    return mean - max(below, half), mean + max(above, half)


def _verdict(interval: tuple[float, float] | None, pairs: int) -> str:
    if pairs == 0:
        return "not run"
    if interval is None or interval[0] <= 0.0 <= interval[1]:
        return "inconclusive"
    return "verified" if interval[0] > 0.0 else "refuted"


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _key(record: dict) -> tuple:
    """What must agree for two records to be compared: all but method and seed."""
    same = {k: v for k, v in record["config"].items() if k not in ("method", "seed")}
    return tuple(sorted((k, str(v)) for k, v in same.items()))


def _row(runs: dict[tuple[str, int], dict], how: str, net: str, data: str) -> dict:
    """Compare one method with vanilla over the seeds that both have, run by equal code."""
    done = {key: r for key, r in runs.items() if r["status"] == "finished"}
    error = {key: r["final"]["test_error"] for key, r in done.items()}
    both = sorted(s for m, s in done if m == how and ("vanilla", s) in done)
    seeds = [s for s in both if done[how, s]["source"] == done["vanilla", s]["source"]]
    differences = [error["vanilla", s] - error[how, s] for s in seeds]
    diverged = sum(
        m in (how, "vanilla") and r["status"] == "diverged" for (m, _), r in runs.items()
    )
    interval = None if diverged else paired_interval(differences)
    shuffled = [
        r["shuffled"]["mean"] for (m, _), r in runs.items() if m == how and r.get("shuffled")
    ]
    moves = [
        sum(sum(e["reorderings"]) for e in r["epochs"]) / len(r["epochs"])
        for (m, _), r in runs.items() if m == how and r["epochs"]
    ]
    paper = PAPER.get((net, data))
    return {
        "net": net,
        "data": data,
        "method": how,
        "paper": None if paper is None else {"vanilla": paper[0], "mean_field": paper[1]},
        "vanilla": _mean([error["vanilla", s] for s in seeds]),
        "mean_field": _mean([error[how, s] for s in seeds]),
        "difference": _mean(differences),
        "interval": None if interval is None else list(interval),
        "pairs": len(seeds),
        "verdict": _verdict(interval, len(seeds)),
        "differences": differences,
        "seeds": seeds,
        "best": _mean([runs[how, s]["final"]["best_error"] for s in seeds]),
        "best_vanilla": _mean([runs["vanilla", s]["final"]["best_error"] for s in seeds]),
        "diverged": diverged,
        "unlike": len(both) - len(seeds),
        "shuffled": _mean(shuffled),
        "reorderings_per_epoch": _mean(moves),
    }


def _grouped(records: list[dict]) -> dict[tuple, dict[tuple[str, int], dict]]:
    out: dict[tuple, dict] = defaultdict(dict)
    for record in records:
        cfg = record["config"]
        out[_key(record)][cfg["method"], cfg["seed"]] = record
    return out


def _best_group(groups: dict, net: str, data: str) -> dict:
    """The group of a network with the most runs (one precision, never mixed)."""
    mine = [
        runs for runs in groups.values()
        if (c := next(iter(runs.values()))["config"])["net"] == net and c["data"] == data
    ]
    return max(mine, key=len, default={})


def summary(records: list[dict]) -> dict[str, list[dict]]:
    r"""Return the rows of the table.

    Parameters
    ----------
    records : list of dict
        As ``read_records`` returns them.

    Returns
    -------
    dict
        ``rows`` (one for each row of the paper, from full runs only), ``ablations`` and
        ``reduced`` (runs shorter than the protocol). A difference is vanilla minus the
        other method, in percentage points: positive favours the other method. Verdicts
        say whether the whole interval lies above 0 (verified), below (refuted), neither
        (inconclusive), or that nothing ran. With a ``diverged`` run of either method
        there is no interval: the pairs that survived are no fair sample. Pairs whose
        runs come from other code are left out and counted as ``unlike``.
    """
    full = _grouped([r for r in records if not r["reduced"]])
    rows, ablations, reduced = [], [], []
    for net, data in PAPER:
        runs = _best_group(full, net, data)
        rows.append(_row(runs, "mean-field", net, data))
        present = {m for m, _ in runs}
        ablations += [_row(runs, m, net, data) for m in ABLATIONS if m in present]
    for runs in _grouped([r for r in records if r["reduced"]]).values():
        first = next(iter(runs.values()))
        cfg = first["config"]
        for how in RULES:
            if how != "vanilla" and any(m == how for m, _ in runs):
                row = _row(runs, how, cfg["net"], cfg["data"])
                row |= {"paper": None, "epochs": cfg["epochs"],
                        "train_images": first["train_images"]}
                reduced.append(row)
    return {"rows": rows, "ablations": ablations, "reduced": reduced}


def finished(records: list[dict], how: str, net: str = "resnet20") -> list[dict]:
    """Return the finished runs of a method: the full ones, else the reduced ones."""
    mine = [
        r for r in records
        if r["status"] == "finished"
        and (r["config"]["method"], r["config"]["net"]) == (how, net)
    ]
    return [r for r in mine if not r["reduced"]] or mine


def _number(value: float | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def _last_and_best(last: float | None, best: float | None) -> str:
    return "–" if last is None else f"{last:.2f} ({best:.2f})"


def _interval(row: dict) -> str:
    if row["interval"] is None:
        return "–"
    return "[{:+.2f}, {:+.2f}]".format(*row["interval"])


def markdown(rows: list[dict], kind: str = "rows") -> str:
    """Return a Markdown table of ``rows``, ``ablations`` or ``reduced`` rows."""
    heads = {
        "rows": ["network", "data", "paper: vanilla", "paper: mean-field",
                 "vanilla (best)", "mean-field (best)", "difference", "interval 99.9 %",
                 "pairs", "verdict"],
        "ablations": ["network", "method", "vanilla (best)", "method (best)", "difference",
                      "interval 99.9 %", "pairs", "re-orderings / epoch", "shuffled"],
        "reduced": ["network", "images", "epochs", "method", "vanilla (best)",
                    "method (best)", "difference", "interval 99.9 %", "pairs"],
    }[kind]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows:
        count = str(row["pairs"])
        for word in ("diverged", "unlike"):
            count += f" ({row[word]} {word})" if row[word] else ""
        ours = [_last_and_best(row["vanilla"], row["best_vanilla"]),
                _last_and_best(row["mean_field"], row["best"]),
                _number(row["difference"], True), _interval(row), count]
        if kind == "rows":
            paper = row["paper"]
            cells = [row["net"], row["data"], _number(paper["vanilla"]),
                     _number(paper["mean_field"]), *ours, row["verdict"]]
        elif kind == "ablations":
            cells = [row["net"], row["method"], *ours,
                     _number(row["reorderings_per_epoch"]), _number(row["shuffled"])]
        else:
            cells = [row["net"], str(row["train_images"]), str(row["epochs"]),
                     row["method"], *ours]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)

"""The commands train, plan, all, table and doctor."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..workers import Inline, Workers, WorkersError, connect
from . import CifarError, data
from .algorithm_one import RULES
from .architectures import NETWORKS
from .executor import on_gpu, run_all, written
from .group import Place
from .recipe import PROTOCOLS, Config, config, protocol
from .records import (
    checkout,
    checkpoint_path,
    committed,
    prepare,
    read_records,
    settled,
)

__all__ = ["main"]


def seeds_of(text: str) -> list[int]:
    """Return the seeds of ``0-7`` or ``0,2,5`` or a mixture.

    Raises
    ------
    CifarError
        If there is none, or the text cannot be read.
    """
    out: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, dash, last = part.partition("-")
        try:
            ends = int(first), int(last if dash else first)
        except ValueError:
            raise CifarError(f"seeds: {text!r} is not like 0-7 or 0,2,5") from None
        if ends[1] - ends[0] >= 1000:
            raise CifarError(f"seeds: {part} are more than 1000")
        out += range(ends[0], ends[1] + 1)
    if not out:
        raise CifarError(f"seeds: {text!r} names no seed; give for instance 0-7")
    return sorted(set(out))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mflib cifar",
        description="Table 1 as a measurement: vanilla and mean-field residual networks.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    here = "of the checkout that holds this program"
    records = f"folder of the records (default: book/records/cifar {here})"
    unfinished = f"folder of unfinished runs (default: _build/cifar {here})"
    where = f"folder of the official files (now: {data.default_folder()}; MFLIB_CIFAR changes it)"
    places: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("data", where, {"metavar": "DIR"}),
        ("device", "auto, cpu, cuda or cuda:N", {"default": "auto"}),
    )
    common = (
        *places,
        ("out", records, {"metavar": "DIR", "default": str(committed())}),
        (
            "checkpoints",
            unfinished,
            {"metavar": "DIR", "default": str(checkout() / "_build" / "cifar")},
        ),
        (
            "precision",
            "auto: bf16 on a GPU, fp32 on a CPU",
            {"choices": ("auto", "fp32", "bf16"), "default": "auto"},
        ),
        ("epochs", "default: the protocol's", {"type": int, "metavar": "N"}),
        ("subset", "train on the first N images only", {"type": int, "metavar": "N"}),
        (
            "together",
            "runs advanced together (default: by network on a GPU, else 1)",
            {"type": int, "metavar": "N"},
        ),
        (
            "minutes",
            "stop after M minutes; the same command goes on from there",
            {"type": float, "metavar": "M"},
        ),
        (
            "checkpoint-seconds",
            "seconds between checkpoints (default: 60)",
            {"type": float, "metavar": "S", "default": 60.0},
        ),
        (
            "download",
            "fetch the official archive, with its checksum (needs pooch)",
            {"action": "store_true"},
        ),
        (
            "unverified",
            "accept files of another length or md5; such runs enter no table",
            {"action": "store_true"},
        ),
        (
            "scheduler",
            "spread the runs over a Dask cluster, e.g. tcp://host:8786; --data and"
            " --checkpoints are paths on the workers",
            {"metavar": "ADDRESS"},
        ),
        ("quiet", "no progress", {"action": "store_true"}),
    )
    asked = (
        (
            "protocol",
            "full: Table 1, needs a GPU; small: the same question on averaged images"
            " with small networks (default: full)",
            {"choices": tuple(PROTOCOLS), "default": "full"},
        ),
        ("net", "only these networks", {"nargs": "+", "metavar": "NET"}),
        ("seeds-at-most", "fewer seeds a row", {"type": int, "metavar": "N"}),
        ("resnext", "the ResNeXt rows too (some ten GPU-hours)", {"action": "store_true"}),
        *common,
    )
    chosen = (
        ("net", ", ".join(NETWORKS), {"nargs": "+", "required": True, "metavar": "NET"}),
        (
            "rule",
            ", ".join(RULES),
            {"nargs": "+", "default": ["vanilla", "mean-field"], "metavar": "RULE"},
        ),
        ("seeds", "like 0-7 or 0,2,5", {"default": "0-7", "metavar": "LIST"}),
        ("overwrite", "replace existing records", {"action": "store_true"}),
        ("missing", "run only what has no record yet", {"action": "store_true"}),
        *common,
    )
    for name, text, options in (
        ("train", "Train networks; each finished run becomes a JSON record.", chosen),
        ("plan", "List the missing runs of a protocol in its order.", asked),
        ("all", "Run the missing runs of a protocol in its order.", asked),
        (
            "table",
            "Print the tables from the records, as Markdown or JSON.",
            (
                ("records", records, {"metavar": "DIR"}),
                ("json", "as JSON", {"action": "store_true"}),
            ),
        ),
        (
            "doctor",
            "Say in about a minute what works on this machine, and how fast.",
            (
                *places,
                (
                    "seconds",
                    "for one measurement (default: 5)",
                    {"type": float, "default": 5.0, "metavar": "S"},
                ),
            ),
        ),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        for option, about, more in options:
            sub.add_argument(f"--{option}", help=about, **more)
    return parser


def _precision(options: argparse.Namespace) -> str:
    if options.precision != "auto":
        return options.precision
    return "bf16" if on_gpu(options.device, options.workers) else "fp32"


def _workers(options: argparse.Namespace) -> AbstractContextManager[Workers]:
    """Return what gives the workers: those of a scheduler, else this process."""
    if not getattr(options, "scheduler", None):
        return nullcontext(Workers(Inline()))
    if options.minutes is not None or options.download:
        raise CifarError("scheduler: --minutes and --download are for one machine")
    return connect(options.scheduler)


def _train(options: argparse.Namespace) -> int:
    precision = _precision(options)
    configs = [
        config(
            net,
            how,
            seed,
            precision=precision,
            epochs=options.epochs,
            subset=options.subset,
            verified=not options.unverified,
        )
        for net in options.net
        for seed in seeds_of(options.seeds)
        for how in options.rule
    ]
    known = written(configs, options.out)
    if known and options.missing:
        configs = [cfg for cfg in configs if cfg not in known]
    elif known and not options.overwrite:
        raise CifarError(
            f"{len(known)} of these runs have a record in {options.out} (first: "
            f"{known[0].name}); add --missing to run the others, --overwrite to replace"
        )
    return _execute(list(dict.fromkeys(configs)), options, options.overwrite)


def _execute(
    configs: list[Config],
    options: argparse.Namespace,
    overwrite: bool = False,
    skip: Callable[[Config], bool] | None = None,
) -> int:
    if options.together is not None and options.together < 1:
        raise CifarError(f"together: at least one run, got {options.together}")
    if options.minutes is not None and not 0 < options.minutes < 1e6:
        raise CifarError(f"minutes: a positive number is needed, got {options.minutes}")
    if not 0 <= options.checkpoint_seconds <= 86_400:
        raise CifarError(f"checkpoint-seconds: from 0 to 86400, got {options.checkpoint_seconds}")
    if options.download:
        for name in dict.fromkeys(cfg.data for cfg in configs):
            data.download(name, options.data)
    place = Place(
        options.data,
        options.out,
        options.checkpoints,
        options.device,
        options.checkpoint_seconds,
        options.quiet,
        overwrite,
    )
    if not configs:
        print("nothing is missing")
        return 0
    prepare(Path(options.out))
    done, left = run_all(
        configs,
        place,
        options.workers,
        together=options.together,
        minutes=options.minutes,
        skip=skip,
    )
    print(f"{done} of {done + left} runs finished, records in {options.out}")
    if left:
        print(f"time is up: {left} to go; {_again(options)}")
    return 0


def _again(options: argparse.Namespace) -> str:
    more = " with --missing" if options.command == "train" else ""
    return f"the same command{more} goes on from here"


def _protocol(options: argparse.Namespace) -> int:
    for net in options.net or ():
        config(net, "vanilla", 0)  # an unknown name is an error
        if net.startswith("resnext") and not options.resnext:
            raise CifarError(
                f"net: {net} needs --resnext beside it: such a row takes some ten GPU-hours"
            )
    if options.seeds_at_most is not None and options.seeds_at_most < 1:
        raise CifarError(f"seeds-at-most: at least one, got {options.seeds_at_most}")
    nets = {net for net, _, _ in PROTOCOLS[options.protocol]}
    if options.net and not nets >= set(options.net):
        raise CifarError(f"net: the {options.protocol} protocol has {', '.join(sorted(nets))}")
    precision = "fp32" if options.protocol == "small" else _precision(options)
    configs = protocol(
        options.protocol,
        precision,
        resnext=options.resnext,
        verified=not options.unverified,
        epochs=options.epochs,
        subset=options.subset,
        seeds=options.seeds_at_most,
        nets=options.net,
    )
    known = set(written(configs, options.out))

    def settles(cfg: Config) -> bool:
        return settled(cfg, Path(options.out))

    missing = [cfg for cfg in configs if cfg not in known and not settles(cfg)]
    if options.command == "all":
        return _execute(missing, options, skip=settles)
    for cfg in missing:
        path = checkpoint_path(Path(options.checkpoints), cfg)
        print(cfg.name + (" (begun)" if path.exists() else ""))
    print(f"{len(missing)} of {len(configs)} runs are missing", file=sys.stderr)
    return 0


_TITLES = {
    "small": "The small protocol",
    "sort": "Is it the sorting? (small protocol)",
    "small-ablations": "Other rules against vanilla (small protocol)",
    "full": "Table 1",
    "full-ablations": "Other rules against vanilla (full protocol)",
}


def _table(options: argparse.Namespace) -> int:
    try:
        from .table import answers, markdown
    except ModuleNotFoundError as error:
        raise CifarError(
            f"table: needs {error.name}, as the book does; the trainer does not, "
            "and records of a machine without it can be copied here"
        ) from None

    if options.records and not Path(options.records).is_dir():
        raise CifarError(
            f"records: {options.records} is no folder; name the one that train wrote with --out"
        )
    found = answers(read_records(Path(options.records or committed())))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for kind, title in _TITLES.items():
        asked = [row for row in found[kind] if row["verdict"] != "not run"]
        missing = len(found[kind]) - len(asked)
        print(f"## {title}\n")
        if asked:
            print(markdown(asked, kind) + "\n")
        if missing:
            print(f"{missing} of {len(found[kind])} rows not run.\n")
    print(
        "Test error in percent after the last epoch (of the best epoch), over the pairs; "
        "difference = error(against) - error(rule), paired by seed."
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import examine, report

    if not 0 < options.seconds <= 60:
        raise CifarError(f"seconds: more than 0 and at most 60, got {options.seconds}")
    print(report(examine(options.device, options.seconds), options.data))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 for success, 2 for a mistake, 130 when interrupted."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    act = {
        "train": _train,
        "plan": _protocol,
        "all": _protocol,
        "table": _table,
        "doctor": _doctor,
    }[options.command]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may know ASCII only
    try:
        with _workers(options) as options.workers:
            return act(options)
    except (CifarError, WorkersError) as error:
        print(f"mflib cifar: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"mflib cifar: interrupted; {_again(options)}", file=sys.stderr)
        return 130

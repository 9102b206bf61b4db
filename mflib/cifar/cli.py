"""The commands train, table, plan and all."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import CifarError, data
from .algorithm_one import RULES
from .architectures import NETWORKS
from .executor import Place, run_all, written
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
            out += range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise CifarError(f"seeds: {text!r} is not like 0-7 or 0,2,5") from None
    if not out:
        raise CifarError(f"seeds: {text!r} names no seed; give for instance 0-7")
    return sorted(set(out))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mflib cifar",
        description="Table 1 as a measurement: vanilla and mean-field residual networks.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    here = "of the checkout that holds this program"

    def common(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", metavar="DIR", help="folder of the official binary files"
                         f" (default: MFLIB_CIFAR, else {data.cache_folder()})")
        sub.add_argument("--out", default=str(committed()), metavar="DIR",
                         help=f"folder of the records (default: book/records/cifar {here})")
        sub.add_argument("--checkpoints", default=str(checkout() / "_build" / "cifar"),
                         metavar="DIR",
                         help=f"folder of unfinished runs (default: _build/cifar {here})")
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        sub.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                         help="auto: bf16 on a GPU, fp32 on a CPU")
        sub.add_argument("--epochs", type=int, metavar="N", help="default: the paper's")
        sub.add_argument("--subset", type=int, metavar="N",
                         help="train on the first N images only (a reduced run)")
        sub.add_argument("--together", type=int, metavar="N",
                         help="runs advanced together (default: by network on a GPU, else 1)")
        sub.add_argument("--minutes", type=float, metavar="M",
                         help="stop after M minutes; the same command goes on from there")
        sub.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="S",
                         help="seconds between checkpoints (default: 60)")
        sub.add_argument("--download", action="store_true",
                         help="fetch the official archive, with its checksum (needs pooch)")
        sub.add_argument("--unverified", action="store_true",
                         help="accept files of another length or md5; such runs never"
                         " enter the table")
        sub.add_argument("--scheduler", metavar="ADDRESS",
                         help="spread the runs over a Dask cluster, e.g. tcp://host:8786;"
                         " --data and --checkpoints are paths on the workers")
        sub.add_argument("--quiet", action="store_true", help="no progress")

    train = add("train", "Train networks; each finished run becomes a JSON record.")
    train.add_argument("--net", nargs="+", required=True, metavar="NET",
                       help=", ".join(NETWORKS))
    train.add_argument("--rule", nargs="+", default=["vanilla", "mean-field"],
                       metavar="RULE", help=", ".join(RULES))
    train.add_argument("--seeds", default="0-7", metavar="LIST", help="like 0-7 or 0,2,5")
    train.add_argument("--overwrite", action="store_true", help="replace existing records")
    train.add_argument("--missing", action="store_true",
                       help="run only what has no record yet")
    common(train)

    for name, text in (
        ("plan", "List the missing runs of the table in the order of the protocol."),
        ("all", "Run the missing runs of the table in the order of the protocol."),
    ):
        sub = add(name, text)
        sub.add_argument("--protocol", choices=tuple(PROTOCOLS), default="full",
                         help="full: Table 1, needs a GPU; small: the same question on"
                         " averaged images with small networks (default: full)")
        sub.add_argument("--net", nargs="+", metavar="NET", help="only these networks")
        sub.add_argument("--seeds-at-most", type=int, metavar="N", help="fewer seeds a row")
        sub.add_argument("--resnext", action="store_true",
                         help="the ResNeXt rows too (some ten GPU-hours)")
        common(sub)

    table = add("table", "Print the table from the records, as Markdown or JSON.")
    table.add_argument("--records", "--out", metavar="DIR",
                       help=f"folder of the records (default: book/records/cifar {here})")
    table.add_argument("--json", action="store_true")

    return parser


def _precision(options: argparse.Namespace, client: Any) -> str:
    if options.precision != "auto":
        return options.precision
    if options.device != "auto":
        return "bf16" if options.device.startswith("cuda") else "fp32"
    if client is not None:
        from .executor import has_gpu

        return "bf16" if has_gpu(client) else "fp32"
    return "bf16" if torch.cuda.is_available() else "fp32"


def _workers(options: argparse.Namespace) -> Any:
    """The cluster's client as a context, or a context of None."""
    if not options.scheduler:
        return contextlib.nullcontext()
    if options.minutes is not None or options.download:
        raise CifarError("scheduler: --minutes and --download are for one machine")
    from .executor import connect

    return connect(options.scheduler)


def _train(options: argparse.Namespace) -> int:
    with _workers(options) as client:
        return _train_on(client, options)


def _train_on(client: Any, options: argparse.Namespace) -> int:
    precision = _precision(options, client)
    configs = [
        config(net, how, seed, precision=precision, epochs=options.epochs,
               subset=options.subset, verified=not options.unverified)
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
    return _execute(list(dict.fromkeys(configs)), options, client, options.overwrite)


def _execute(
    configs: list[Config], options: argparse.Namespace, client: Any, overwrite: bool = False,
    skip: Callable[[Config], bool] | None = None,
) -> int:
    if options.together is not None and options.together < 1:
        raise CifarError(f"together: at least one run, got {options.together}")
    if options.minutes is not None and not options.minutes > 0:
        raise CifarError(f"minutes: a positive number is needed, got {options.minutes}")
    if options.download:
        for name in dict.fromkeys(cfg.data for cfg in configs):
            data.download(name, options.data)
    place = Place(
        options.data, options.out, options.checkpoints, options.device,
        options.checkpoint_seconds, options.quiet, overwrite,
    )
    if not configs:
        print("nothing is missing")
        return 0
    prepare(Path(options.out))
    if client is not None:
        from .executor import run_on_cluster

        done, left = run_on_cluster(configs, place, client, options.together)
    else:
        done, left = run_all(configs, place, options.together, options.minutes, skip)
    print(f"{done} of {done + left} runs finished, records in {options.out}")
    if left:
        print(f"time is up: {left} to go; {_again(options)}")
    return 0


def _again(options: argparse.Namespace) -> str:
    more = " with --missing" if options.command == "train" else ""
    return f"the same command{more} goes on from here"


def _protocol(options: argparse.Namespace) -> int:
    with _workers(options) as client:
        return _protocol_on(client, options)


def _protocol_on(client: Any, options: argparse.Namespace) -> int:
    for net in options.net or ():
        config(net, "vanilla", 0)  # an unknown name is an error
    if options.seeds_at_most is not None and options.seeds_at_most < 1:
        raise CifarError(f"seeds-at-most: at least one, got {options.seeds_at_most}")
    precision = "fp32" if options.protocol == "small" else _precision(options, client)
    configs = protocol(
        options.protocol, precision, resnext=options.resnext,
        verified=not options.unverified, epochs=options.epochs, subset=options.subset,
        seeds=options.seeds_at_most, nets=options.net,
    )
    known = set(written(configs, options.out))
    def settles(cfg: Config) -> bool:
        return settled(cfg, Path(options.out))

    missing = [cfg for cfg in configs if cfg not in known and not settles(cfg)]
    if options.command == "all":
        return _execute(missing, options, client, skip=settles)
    for cfg in missing:
        path = checkpoint_path(Path(options.checkpoints), cfg)
        print(cfg.name + (" (begun)" if path.exists() else ""))
    print(f"{len(missing)} of {len(configs)} runs are missing", file=sys.stderr)
    return 0


def _table(options: argparse.Namespace) -> int:
    from .table import markdown, summary

    if options.records and not Path(options.records).is_dir():
        raise CifarError(f"records: {options.records} is no folder; name the one that train"
                         " wrote with --out")
    found = summary(read_records(Path(options.records or committed())))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    titles = {"rows": "Table 1", "ablations": "Ablations",
              "reduced": "Reduced runs (not the paper's protocol)"}
    for kind, title in titles.items():
        if found[kind]:
            print(f"## {title}\n\n{markdown(found[kind], kind)}\n")
    print("Test error in percent after the last epoch (of the best epoch); difference = "
          "vanilla - method, paired by seed.")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 for success, 2 for a mistake, 130 when interrupted."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    act = {"train": _train, "plan": _protocol, "all": _protocol, "table": _table}[
        options.command]
    try:
        return act(options)
    except CifarError as error:
        print(f"mflib cifar: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"mflib cifar: interrupted; {_again(options)}", file=sys.stderr)
        return 130

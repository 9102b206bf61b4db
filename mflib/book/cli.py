"""The command ``mflib``: run chapters, read the ledger."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .. import provenance, workers
from ..claims import KINDS
from . import chapters, coverage, execute, executed, grid, hold, referee, runner, template
from . import ledger as books

__all__ = ["main"]


#: Signs for a terminal that has no others than ASCII or one nation's.
_PLAIN = {
    "✓": "+",
    "✗": "x",
    "–": "-",
    "—": "-",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "…": "...",
    "→": "->",
}


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Replace what a terminal cannot show, instead of failing."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "?") for sign in found), error.end


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("the empty text names no folder")
    return Path(text)


def _seconds(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        if 0 <= int(text) <= 10**7:
            return int(text) or None
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds, 0 for no limit")


def _given(parser: argparse.ArgumentParser) -> None:
    """Add the options that set parameters."""
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter, as papermill does; may be repeated",
    )
    parser.add_argument("--preset", choices=chapters.PRESETS, help="same as -p preset ...")


def _workers(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where work is done."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a running Dask scheduler, like tcp://host:8786"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of each process here (default: 1)"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mflib", description="Run the chapters of the book and read their verdicts."
    )
    parser.add_argument(
        "--root", type=_folder, metavar="DIR", help="the checkout (default: from here upwards)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument(
            "--out",
            type=_folder,
            metavar="DIR",
            help="folder of executed chapters (default: _build/chapters)",
        )
        return made

    run = add("run", "Run chapters through papermill, only those whose inputs changed.")
    run.add_argument("chapter", nargs="*", metavar="CHAPTER", help="default: all chapters")
    _given(run)
    _workers(run)
    run.add_argument(
        "--timeout",
        type=_seconds,
        default=runner.TIMEOUT,
        metavar="S",
        help=f"seconds that one cell may take (default: {runner.TIMEOUT}; 0: no limit)",
    )
    run.add_argument("--force", action="store_true", help="run even what is up to date")

    sweep = commands.add_parser(
        "sweep",
        help="Run a chapter at every point of a grid, under many seeds.",
        description="Run a chapter at every point of a grid, under many seeds, into one table. The "
        "same command again runs what is missing, failed or stale.",
    )
    sweep.add_argument("chapter", nargs="?", metavar="CHAPTER")
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=A,B,...",
        help="values of a parameter; may be repeated, then the product counts",
    )
    sweep.add_argument("--seeds", metavar="LIST", help="values of the seed, like 0-49 or 0,2,5")
    _given(sweep)
    sweep.add_argument("--out", type=_folder, metavar="DIR", help="folder of the results")
    _workers(sweep)
    sweep.add_argument(
        "--timeout",
        type=_seconds,
        default=None,
        metavar="S",
        help="seconds that one point may take (default: no limit)",
    )
    sweep.add_argument("--keep", action="store_true", help="keep every executed notebook")
    sweep.add_argument("--force", action="store_true", help="run even what is done")
    sweep.add_argument(
        "--report",
        type=_folder,
        metavar="DIR",
        help="run nothing: print the summary of a folder and draw its figure",
    )

    book = add("ledger", "Show every claim of the executed chapters.")
    book.add_argument("chapter", nargs="*", metavar="CHAPTER", help="default: all chapters")
    book.add_argument("--json", action="store_true", help="print everything as JSON")
    book.add_argument(
        "--check",
        action="store_true",
        help="exit 1 and say why if a verdict, control, id or chapter is not as it should be",
    )

    again = commands.add_parser(
        "referee",
        help="Run the whole book under fresh seeds, and compare every verdict.",
        description="Run the whole book under fresh seeds and compare the verdicts of every claim, "
        "check and control; or compare folders that mflib run --out wrote.",
    )
    again.add_argument(
        "folder",
        nargs="*",
        type=_folder,
        metavar="FOLDER",
        help="what mflib run --out wrote, one folder a run: these are compared, nothing is run",
    )
    again.add_argument(
        "--seeds", metavar="K", help="how many fresh seeds (default: 5), or a list like 401-405"
    )
    again.add_argument(
        "--out", type=_folder, metavar="DIR", help="folder of the runs (default: runs/referee)"
    )
    _given(again)
    _workers(again)
    again.add_argument("--json", action="store_true", help="print everything as JSON")
    again.add_argument(
        "--record",
        type=Path,
        metavar="PATH",
        help="write the JSON to a file; a folder (book/records/referee) gets one by its seeds",
    )
    again.add_argument(
        "--check",
        action="store_true",
        help="exit 1 if a verdict differs, a check changed or a control did not flip",
    )

    made = commands.add_parser(
        "new",
        help="Write a new chapter from the template.",
        description="Write a new chapter from the template, which runs as it is; see "
        "CONTRIBUTING.md.",
    )
    made.add_argument("chapter", metavar="CHAPTER", help="its name, for instance gram_matrix")
    made.add_argument("--paper", required=True, metavar="KEY", help="the paper's bib key")
    made.add_argument(
        "--claims",
        required=True,
        nargs="+",
        metavar="ID",
        help="rows of book/claims.csv, or X-... for claims of your own",
    )
    made.add_argument(
        "--kind", default="identity", choices=KINDS, help="of the X- claims (default: identity)"
    )

    add("chapters", "List the chapters with their parameters.")
    commands.add_parser(
        "cifar", add_help=False, help="Train CIFAR networks and print Table 1 (cifar --help)."
    )
    return parser


def _run(root: Path, options: argparse.Namespace) -> int:
    return _run_into(root, options, options.out, {}, options.chapter, options.force)


def _run_into(
    root: Path,
    options: argparse.Namespace,
    out: Path | None,
    more: dict[str, Any],
    names: list[str] = (),
    force: bool = False,
) -> int:
    """Run chapters into a folder, with a line for each; return the exit status."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    given: dict[str, Any] = dict(options.parameter) | more
    if options.preset:
        given["preset"] = options.preset
    total = len(chapters.discover(root, names))
    place = _place(options, out or root / "_build" / "chapters")
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )

    def say(line: str) -> None:
        # a terminal that is gone takes no more words; the run goes on or ends without
        with contextlib.suppress(OSError, ValueError):
            if console.is_terminal:
                console.print(line, markup=False)
            else:
                print(line, file=sys.stderr, flush=True)

    try:
        with bar:
            task = bar.add_task("chapters", total=total)

            def report(result: runner.Result) -> None:
                words = {"fresh": "up to date", "done": f"{result.seconds:.0f} s"}
                signs = {"failed": "✗", "interrupted": "–"}
                message = words.get(result.status, result.message)
                say(f"{signs.get(result.status, '✓')} {result.name}: {message}")
                bar.advance(task)

            results = runner.run(
                root,
                names,
                given,
                out=out,
                jobs=options.jobs,
                workers=place if options.scheduler or options.threads else None,
                force=force,
                timeout=getattr(options, "timeout", runner.TIMEOUT),
                report=report,
            )
    except (KeyboardInterrupt, hold.Ended) as ended:
        number = ended.args[0] if isinstance(ended, hold.Ended) else signal.SIGINT
        say(
            f"interrupted ({signal.Signals(number).name}); finished chapters are kept, the others "
            "run next time"
        )
        return 128 + number
    _verdicts(root, out, [r.name for r in results if r.status in ("fresh", "done")])
    if any(r.status == "failed" for r in results):
        return 1
    return 130 if any(r.status == "interrupted" for r in results) else 0


def _place(
    options: argparse.Namespace, out: Path
) -> Callable[[], AbstractContextManager[workers.Workers]]:
    """Return what gives the workers that the options ask for."""
    for name, word in (("jobs", "process"), ("threads", "thread")):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise chapters.ChapterError(f"--{name} {value}: at least one {word} is needed")
    if options.scheduler:
        if options.threads:
            raise chapters.ChapterError("--threads: the workers of a scheduler have their own")
        try:
            address = workers.checked(options.scheduler)
        except workers.WorkersError as error:
            raise chapters.ChapterError(str(error)) from None
        return lambda: workers.connect(address)
    mark = {execute.MARK: str(out.resolve() / ".warm")}
    return lambda: workers.local(options.jobs, options.threads or 1, mark)


def _sweep(root: Path, options: argparse.Namespace) -> int:
    from . import report

    def say(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)

    if options.report:
        return _report(report, options.report)
    if not options.chapter:
        raise chapters.ChapterError("sweep: name a chapter, or a folder with --report")
    if not options.out:
        raise chapters.ChapterError("sweep: say with --out where the results are to lie")
    given: dict[str, Any] = dict(options.parameter)
    if options.preset:
        given["preset"] = options.preset
    axes: dict[str, list[Any]] = {}
    for text in options.grid:
        name, values = grid.values_of(text)
        if name in axes or (name == "seed" and options.seeds):
            raise chapters.ChapterError(f"parameter {name}: has two grids")
        axes[name] = values
    if options.seeds:
        axes["seed"] = grid.seeds_of(options.seeds)
    todo = grid.points(root, [options.chapter], axes, given)
    began = time.monotonic()
    try:
        count = grid.run(
            root,
            todo,
            options.out,
            _place(options, options.out),
            timeout=options.timeout,
            keep=options.keep,
            force=options.force,
            say=say,
        )
    except (KeyboardInterrupt, hold.Ended) as ended:
        number = ended.args[0] if isinstance(ended, hold.Ended) else signal.SIGINT
        say(
            f"interrupted ({signal.Signals(number).name}); finished points are kept, the same "
            "command goes on from there"
        )
        return 128 + number
    say(
        f"{count.done} points ran in {time.monotonic() - began:.0f} s, {count.failed} failed; "
        f"results in {options.out / 'results.csv'}"
    )
    _report(report, options.out)
    return 1 if count.failed else 0


def _report(report: Any, folder: Path) -> int:
    table = report.read(folder)
    for line in report.lines(table):
        print(line)
    if table["measured"].notna().any():
        print(f"figure: {report.draw(table, folder / 'report.png')}")
    return 0


def _verdicts(root: Path, out: Path | None, names: list[str]) -> None:
    """Print the verdicts of the chapters that ran, if they carry any."""
    with contextlib.suppress(chapters.ChapterError, OSError):
        claims = books.ledger(root, out, names)["claims"] if names else []
        if claims:
            _table({"claims": claims})


def _dump(found: Any) -> str:
    """Return JSON that the terminal can show."""
    wide = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    return json.dumps(found, indent=1, ensure_ascii=not wide)


def _ledger(root: Path, options: argparse.Namespace) -> int:
    found = None
    if options.json or not options.check:
        found = books.ledger(root, options.out, options.chapter)
        print(_dump(found)) if options.json else _table(found)
    if not options.check:
        return 0
    lines = books.problems(root, options.out, options.chapter)
    for line in lines:
        print(line, file=sys.stderr)
    if not lines:
        found = found or books.ledger(root, options.out, options.chapter)
        counted = coverage.counted(found["claims"], found["planned"])
        print(
            f"{counted} claims measured: every verdict as expected, every control flipped",
            file=sys.stderr,
        )
    return 1 if lines else 0


def _table(book: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..claims import card

    heads = ("", "claim", "verdict", "deciding check", "predicted", card.MEASURED, "controls")
    table = Table(*heads, "chapter")
    planned = book.get("planned", [])
    for paper, (claims, waiting) in coverage.by_paper(book["claims"], planned).items():
        table.add_section()
        if planned:
            counted = Text(coverage.counted(claims, waiting))
            table.add_row("", Text(paper), counted, style="bold")
        for claim in [*claims, *waiting]:
            sign, word, _ = card.badge(claim)
            flipped = sum(c["flipped"] for c in claim["controls"])
            shown = card.deciding(claim)
            cells = [
                sign,
                claim["id"],
                word,
                shown["name"] if shown else "",
                card.predicted(shown) if shown else "",
                card.measured(shown) if shown else "",
                f"{flipped}/{len(claim['controls'])} flipped" if claim["checks"] else "",
                claim["notebook"],
            ]
            # what a record says is text, never markup
            table.add_row(*map(Text, cells))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    console.print(table)
    if planned:
        console.print(f"{coverage.counted(book['claims'], planned)} claims measured")


def _referee(root: Path, options: argparse.Namespace) -> int:
    folders = options.folder
    if folders and options.seeds:
        raise chapters.ChapterError("referee: name folders to compare, or --seeds to run")
    if not folders:
        out = (options.out or root / "runs" / "referee").resolve()
        runs = referee.fresh_seeds(out, options.seeds or "5")
        failed = []
        for seed, folder in runs.items():
            print(f"seed {seed}: {folder}", file=sys.stderr)
            status = _run_into(root, options, folder, {"seed": seed})
            failed += [str(seed)] if status else []
            if status > 1:  # ended from outside; what failed at one seed may run at the next
                break
        if failed:
            words = f"seed {', '.join(failed)}: not whole; the same command goes on from there"
            print(words, file=sys.stderr)
            return status or 1
        folders = list(runs.values())
    found = referee.collect(root, folders)
    if options.record:
        path = options.record
        if path.is_dir() or not path.suffix:
            seeds = "-".join(str(run["parameters"].get("seed", "none")) for run in found["runs"])
            path = path / f"{found['date']}-seeds-{seeds}.json"
        try:
            provenance.write(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise chapters.ChapterError(
                f"{path}: cannot be written ({error.strerror}); choose another file"
            ) from None
        print(f"record: {path}", file=sys.stderr)
    if options.json:
        print(_dump(found))
    else:
        _rerun_table(found)
    bad = any(
        referee.differing(claim) or claim["stuck"] or referee.changed(claim)
        for claim in found["claims"]
    )
    return 1 if options.check and bad else 0


def _rerun_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "claim",
        "expected",
        "verdicts",
        "checks that changed",
        "controls that did not flip",
        "chapter",
    )
    for claim in found["claims"]:
        cells = [
            claim["id"],
            claim["expected"] or "open",
            referee.counted(claim),
            "; ".join(referee.changed(claim)),
            ", ".join(claim["stuck"]),
            claim["notebook"],
        ]
        table.add_row(*map(Text, cells))
    console = Console(highlight=False)
    console.print(table)
    total = sum(verdict is not None for c in found["claims"] for verdict in c["verdicts"])
    wrong = sum(map(referee.differing, found["claims"]))
    console.print(f"{wrong} of {total} verdicts in {len(found['runs'])} runs differ")
    console.print(referee.summary(found))


def _new(root: Path, options: argparse.Namespace) -> int:
    path = template.new(root, options.chapter, options.paper, options.claims, options.kind)
    print(f"{path}: written, and listed in _toc.yml; mflib run {options.chapter}")
    return 0


def _chapters(root: Path, options: argparse.Namespace) -> int:
    out = options.out or root / "_build" / "chapters"
    status = 0
    for chapter in chapters.discover(root):
        try:
            declared = chapters.parameters(chapter)
        except chapters.ChapterError as error:
            print(f"mflib: {error}", file=sys.stderr)
            status = 1
            continue
        state = "up to date" if executed.is_fresh(chapter, out) else "to run"
        print(f"{chapter.name}  ({state})")
        for name, (kind, default, comment) in declared.items():
            print(f"    {name}: {kind or '?'} = {default}   {comment}")
    return status


def _cifar(argv: list[str]) -> list[str] | None:
    """Return the arguments of ``mflib [--root DIR] cifar ...``, None for another command."""
    head = argv[: argv.index("cifar")] if "cifar" in argv else [""]
    if len(head) == 2 and head[0] == "--root":
        head = [f"--root={head[1]}"]
    if len(head) == 1 and head[0].startswith("--root="):
        root = chapters.find_root(Path(head[0].removeprefix("--root=")))
        os.environ["MFLIB_ROOT"] = str(root)
        head = []
    return None if head else argv[argv.index("cifar") + 1 :]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for wrong arguments)."""
    argv = sys.argv[1:] if argv is None else argv
    codecs.register_error("mflib", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="mflib")
    try:
        return _command(argv)
    except chapters.ChapterError as error:
        print(f"mflib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(argv: list[str]) -> int:
    rest = _cifar(argv)
    if rest is not None:
        from ..cifar.cli import main as cifar

        return cifar(rest)
    options = _parser().parse_args(argv)
    commands = {
        "run": _run,
        "sweep": _sweep,
        "ledger": _ledger,
        "chapters": _chapters,
        "referee": _referee,
        "new": _new,
    }
    root = chapters.find_root(options.root)
    if root == chapters.SHIPPED:
        _beside(options)
    return commands[options.command](root, options)


def _beside(options: argparse.Namespace) -> None:
    """Let results lie in the current folder where the chapters are those of a wheel."""
    if options.command == "new":
        raise chapters.ChapterError("new: needs a checkout; change to one or set MFLIB_ROOT")
    if options.command != "sweep" and options.out is None:
        folder = "runs/referee" if options.command == "referee" else "_build/chapters"
        options.out = Path.cwd() / folder


if __name__ == "__main__":
    sys.exit(main())

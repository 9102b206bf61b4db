"""The command ``mflib``: run chapters, read the ledger."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from pathlib import Path
from typing import Any

from .. import provenance
from . import chapters, coverage, reruns, runner
from . import ledger as books

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mflib", description="Run the chapters of the book and read their verdicts."
    )
    parser.add_argument("--root", type=Path, help="the checkout (default: from here upwards)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument(
            "--out", type=Path, help="folder of executed chapters (default: _build/chapters)")
        return made

    run = add("run", "Run chapters through papermill, only those whose inputs changed.")
    run.add_argument("chapter", nargs="*", metavar="CHAPTER", help="default: all chapters")
    run.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter, as papermill does; may be repeated")
    run.add_argument("--preset", choices=("quick", "full"), help="same as -p preset ...")
    run.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    run.add_argument("--force", action="store_true", help="run even what is up to date")

    book = add("ledger", "Show every claim of the executed chapters.")
    book.add_argument("--json", action="store_true", help="print everything as JSON")
    book.add_argument(
        "--check", action="store_true",
        help="exit 1 and say why if a verdict, control, id or chapter is not as it should be")

    again = commands.add_parser(
        "reruns", help="Compare the verdicts of several runs, with fresh seeds for instance.",
        description="Compare the verdicts of several runs, with fresh seeds for instance.")
    again.add_argument("folder", nargs="+", type=Path, metavar="FOLDER",
                       help="what mflib run --out wrote, one folder a run")
    again.add_argument("--json", action="store_true", help="print everything as JSON")
    again.add_argument("--record", type=Path, metavar="FILE", help="write the JSON to a file")
    again.add_argument("--check", action="store_true",
                       help="exit 1 if a verdict differs or a control did not flip")

    add("chapters", "List the chapters with their parameters.")
    commands.add_parser(
        "cifar", add_help=False, help="Train CIFAR networks and print Table 1 (cifar --help).")
    return parser


def _value(text: str) -> Any:
    """Read a parameter's value as Python would, else as a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _run(root: Path, options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    if options.jobs is not None and options.jobs < 1:
        raise chapters.ChapterError(f"--jobs {options.jobs}: at least one process is needed")
    given = {name: _value(value) for name, value in options.parameter}
    if options.preset:
        given["preset"] = options.preset
    total = len(chapters.discover(root, options.chapter))
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("chapters", total=total)

        def report(result: runner.Result) -> None:
            words = {"fresh": "up to date", "done": f"{result.seconds:.0f} s"}
            sign = "✗" if result.status == "failed" else "✓"
            console.print(
                f"{sign} {result.name}: {words.get(result.status, result.message)}", markup=False)
            bar.advance(task)

        try:
            results = runner.run(
                root, options.chapter, given, out=options.out, jobs=options.jobs,
                force=options.force, report=report,
            )
        except KeyboardInterrupt:
            console.print("interrupted; finished chapters are kept, the others run next time")
            return 130
    return 1 if any(r.status == "failed" for r in results) else 0


def _ledger(root: Path, options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(books.ledger(root, options.out), indent=1, ensure_ascii=False))
    elif not options.check:
        _table(books.ledger(root, options.out))
    if not options.check:
        return 0
    lines = books.problems(root, options.out)
    for line in lines:
        print(line, file=sys.stderr)
    if not lines:
        book = books.ledger(root, options.out)
        print(f"{coverage.counted(book['claims'], book['planned'])} claims measured: "
              "every verdict as expected, every control flipped", file=sys.stderr)
    return 1 if lines else 0


def _table(book: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..claims import card

    table = Table("", "claim", "verdict", "predicted", "measured", "controls", "chapter")
    for paper, (claims, waiting) in coverage.by_paper(book["claims"], book["planned"]).items():
        table.add_section()
        table.add_row("", paper, coverage.counted(claims, waiting), style="bold")
        for claim in [*claims, *waiting]:
            sign, word, _ = card.badge(claim)
            flipped = sum(c["flipped"] for c in claim["controls"])
            shown = claim["checks"][:1] or [None]
            table.add_row(
                sign, claim["id"], word,
                card.predicted(shown[0]) if shown[0] else "",
                card.measured(shown[0]) if shown[0] else "",
                f"{flipped}/{len(claim['controls'])} flipped" if claim["checks"] else "",
                claim["notebook"],
            )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{coverage.counted(book['claims'], book['planned'])} claims measured")


def _reruns(root: Path, options: argparse.Namespace) -> int:
    found = reruns.collect(root, options.folder)
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if options.record:
        try:
            provenance.write(options.record, text)
        except OSError as error:
            raise chapters.ChapterError(
                f"{options.record}: cannot be written ({error.strerror}); choose another file"
            ) from None
    if options.json:
        print(text, end="")
    else:
        _rerun_table(found)
    bad = any(reruns.differing(claim) or claim["stuck"] for claim in found["claims"])
    return 1 if options.check and bad else 0


def _rerun_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("claim", "expected", "verdicts", "controls that did not flip", "chapter")
    for claim in found["claims"]:
        table.add_row(claim["id"], claim["expected"] or "open", reruns.counted(claim),
                      ", ".join(claim["stuck"]), claim["notebook"])
    console = Console(highlight=False)
    console.print(table)
    total = sum(verdict is not None for c in found["claims"] for verdict in c["verdicts"])
    wrong = sum(map(reruns.differing, found["claims"]))
    console.print(f"{wrong} of {total} verdicts in {len(found['runs'])} runs differ")


def _chapters(root: Path, options: argparse.Namespace) -> int:
    out = options.out or root / "_build" / "chapters"
    for chapter in chapters.discover(root):
        state = "up to date" if chapters.is_fresh(chapter, out) else "to run"
        print(f"{chapter.name}  ({state})")
        for name, (kind, default, comment) in chapters.parameters(chapter).items():
            print(f"    {name}: {kind or '?'} = {default}   {comment}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for wrong arguments)."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["cifar"]:
        from ..cifar.cli import main as cifar

        return cifar(argv[1:])
    options = _parser().parse_args(argv)
    commands = {"run": _run, "ledger": _ledger, "chapters": _chapters,
                "reruns": _reruns}
    try:
        return commands[options.command](chapters.find_root(options.root), options)
    except chapters.ChapterError as error:
        print(f"mflib: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""A peer in an environment of its own: made once, asked line by line, answering in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


def environment(name: str) -> Path:
    """Return the Python of a peer's environment below ``_build/peers``."""
    return HERE.parent / "_build" / "peers" / name / "bin" / "python"


def make(name: str) -> Path:
    """Make the environment of ``benchmarks/NAME.txt``, unless it is whole; return its Python."""
    python, wanted = environment(name), HERE / f"{name}.txt"
    done = python.parent.parent / "installed.txt"
    if not (done.is_file() and done.read_text() == wanted.read_text()):
        folder = str(python.parent.parent)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True, stdout=sys.stderr)
        done.write_text(wanted.read_text())
    return python


class Outside:
    """A job of ``benchmarks/NAME.py`` on some arrays, in the process of its environment.

    It is called, timed and weighed there; the harness only passes on what it says. The process
    starts at the first question and ends with this object.
    """

    def __init__(self, name: str, **arrays: np.ndarray) -> None:
        self.name, self.arrays, self._process = name, arrays, None

    def ask(self, question: str) -> Any:
        if self._process is None:
            with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
                np.savez(file, **self.arrays)
            self._file = Path(file.name)
            self._process = subprocess.Popen(
                [str(environment(self.name)), "-I", str(HERE / f"{self.name}.py"), file.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        try:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            why = self._process.communicate()[1].strip().splitlines() or ["nothing was said"]
            raise SystemExit(f"{self.name}: its process ended: {why[-1]}") from None

    def __call__(self) -> np.ndarray:
        return np.asarray(self.ask("answer"))

    def seconds(self, repeats: int) -> float:
        """Return processor seconds of one call."""
        return self.ask(f"time {repeats}")

    def memory(self) -> float:
        """Return the MiB that the first call adds to the peak."""
        return self.ask("memory")

    def __del__(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._file.unlink(missing_ok=True)

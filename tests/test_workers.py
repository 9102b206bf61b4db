"""Workers of this machine: who hears Ctrl-C, and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = str(Path(__file__).parents[1])
STARTING = """
import os, signal
import distributed, psutil
from mflib import workers

class Interrupted(distributed.LocalCluster):
    def __init__(self, **named):
        os.kill(os.getpid(), signal.SIGINT)
        super().__init__(**named)

if __name__ == "__main__":
    distributed.LocalCluster = Interrupted
    try:
        with workers.local(1):
            print("nobody heard it")
    except KeyboardInterrupt:
        words = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
        print("heard, then", [w for w in words if "spawn_main" in w])
    print("restored" if signal.getsignal(signal.SIGINT) is signal.default_int_handler else "lost")
"""
COMPUTING = """
import signal
from mflib import workers

def blocked():
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

if __name__ == "__main__":
    with workers.local(1) as hands:
        print("worker", hands.anywhere(blocked), "here", blocked())
"""


def _said(tmp_path: Path, code: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": HERE},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ctrl_c_while_local_workers_start_is_heard_when_they_can_be_ended(tmp_path):
    assert _said(tmp_path, STARTING) == "heard, then []\nrestored\n"


def test_a_local_worker_leaves_ctrl_c_to_the_process_that_started_it(tmp_path):
    assert _said(tmp_path, COMPUTING) == "worker True here False\n"

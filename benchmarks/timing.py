"""Times of things that are measured turn by turn, so that a busy moment of the machine hits all of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

REPEATS = 5
# Between two measurements: threads of the one before spin for a while before they sleep.
_REST = 0.1  # seconds


def seconds(works: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """The median time of each, after one call that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            time.sleep(_REST)
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def processes(
    commands: Mapping[str, list[str]], cwd: Path, repeats: int = REPEATS
) -> dict[str, tuple[float, float]]:
    """Wall seconds (median) and largest resident memory in MB of each command, start to exit."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, float] = {}
    for _ in range(repeats):
        for name, command in commands.items():
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            times[name].append(time.perf_counter() - started)
            memory[name] = max(memory.get(name, 0), usage.ru_maxrss / 1024)
            if status:
                raise SystemExit(f"{command} failed")
    return {name: (statistics.median(times[name]), memory[name]) for name in commands}

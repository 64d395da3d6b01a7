"""How long the page of `cvae demo` takes to answer a slider, by Gradio's client: a digit and a photograph.

A picture is uploaded once, and what comes back is not downloaded before the clock stops, as a browser has it.

python benchmarks/page.py PICTURE...   in an environment with the extra demo
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client

from cvae.demo import server

REPEATS = 9


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server.running("127.0.0.1", port) as address:
        client = Client(address, verbose=False, download_files=False)
        print("| picture | quality slider to answer, median s | slowest |\n|---|---|---|")
        for path in sys.argv[1:]:
            times = measured(client, uploaded(address, Path(path)))
            print(f"| {path} | {statistics.median(times):.3f} | {max(times):.3f} |")


def uploaded(address: str, path: Path) -> dict[str, str]:
    """A picture as the page names it once the server has it."""
    with path.open("rb") as file:
        (name,) = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()
    return {"path": name}


def measured(client: Any, picture: Any) -> list[float]:
    """Seconds at one quality after the other; the first answer, which loads the model, is left out."""
    times = []
    for turn in range(REPEATS + 1):
        quality = 20 + 7 * turn
        started = time.perf_counter()
        client.predict(picture, "automatic", None, quality, 5, False, api_name="/code")
        times.append(time.perf_counter() - started)
    return times[1:]


if __name__ == "__main__":
    main()

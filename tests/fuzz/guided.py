"""One target under atheris: `python -m tests.fuzz.guided TARGET SEEDS [options of libFuzzer]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cvae"]):
    from .targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup([*sys.argv, "-timeout=5", "-rss_limit_mb=2000"], TARGETS[name])
    atheris.Fuzz()

"""Who the pictures that `photo` learned from are by: docs/models/photo-credits.md from a table of sources.

python benchmarks/credits.py photos-sources.tsv docs/models/photo-credits.md
"""

from __future__ import annotations

import argparse
import csv
import html
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SETS = {"train": "to train", "valid": "to validate"}

HEAD = """# Credits of the pictures behind `photo`

Made by `python benchmarks/credits.py TABLE docs/models/photo-credits.md`, TABLE having the columns `set`,
`source`, `licence` and `credit`. {counts}.
They are parts of these pictures, scaled down. Grouped by the licence that the source states; one line
an author, or a source that names none, with the number of pictures where it is more than one.
"""

_HEADING = re.compile(r"^[(\s]*(?:(?:figure|photo)?\s*credits?\b[^:]*:)?\s*", re.IGNORECASE)
# What stands behind the title of a work: `“Title” by Author/place, licence`.
_AUTHOR = re.compile(r"[”“\"]\)?,?\s*by\s*(.+)$")
# A caption that ran into the credit ends so.
_CAPTION = re.compile(r".*[.?!] \((?=[A-Z])")
_LONGEST = 120  # letters of a credit; longer ones are captions without any
_LICENCE = re.compile(
    r"[,/;]?\s*\(?\s*(?:CC[ -]?(?:BY|0)[-A-Z]*\s*[\d.]*|Public Domain|"
    r"Attribution[- \w.]*(?:\(CC[^)]*\))?)\s*\)*\s*$",
    re.IGNORECASE,
)


def author(credit: str) -> str:
    """`(credit: “Title” by Author/flickr, CC BY 2.0)` -> `Author/flickr`; empty where nobody is named."""
    text = _CAPTION.sub("", _HEADING.sub("", html.unescape(credit).strip()))
    if found := _AUTHOR.search(text):
        text = re.sub('[“”"]', "", found[1])
    shorter = _LICENCE.sub("", text).strip(" ,/;")
    text = shorter or text
    if text.count(")") > text.count("("):
        text = text.rstrip(")")
    if len(text) > _LONGEST and "/" not in text:
        return ""
    return re.sub(r"\s*/\s*", "/", " ".join(text.split()))


def source(name: str) -> str:
    """`github.com/owner/project` -> `owner/project`, which is no link."""
    return name.removeprefix("github.com/")


def document(rows: Iterable[dict[str, str]]) -> str:
    """The page of rows with `set`, `source`, `licence` and `credit`."""
    licences: dict[str, Counter[str]] = {}
    sets: Counter[str] = Counter()
    for row in rows:
        sets[row["set"]] += 1
        names = licences.setdefault(row["licence"], Counter())
        names[author(row["credit"]) or f"from {source(row['source'])}"] += 1
    counts = ", ".join(f"{sets[name]:,} pictures {purpose}" for name, purpose in SETS.items())
    parts = [HEAD.format(counts=counts)]
    for licence in sorted(licences, key=lambda name: (-licences[name].total(), name)):
        names = licences[licence]
        parts.append(f"## {licence}: {names.total():,}\n")
        parts += [_line(name, names[name]) for name in sorted(names, key=str.casefold)]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _line(name: str, count: int) -> str:
    # Nothing in a name is Markdown, or becomes a link.
    plain = re.sub(r"([\\`*_<>\[\]])", r"\\\1", name)
    plain = re.sub(r"\b(https?://|www\.)\S*", "", plain).strip(" ,")
    return f"- {plain}" + (f" ({count})" if count > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with options.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(document(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

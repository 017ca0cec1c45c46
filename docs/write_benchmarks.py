"""Put the tables of ``scsnet-bids-benchmark`` into the documents: ``make benchmark``.

    python docs/write_benchmarks.py FOLDER

FOLDER is what ``scsnet-bids-benchmark --out`` wrote. What each benchmark printed goes between its
two marks in ``docs/benchmarks.md``, and its figure beside the other images. A benchmark that was
not run keeps what is there. No number is typed by hand.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def main() -> None:
    """Read what there is and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    page = options.docs / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    for printed in sorted(options.folder.glob("*.md")):
        text = replace_block(text, printed.stem, printed.read_text(encoding="utf-8"))
        figure = printed.with_suffix(".svg")
        if figure.exists():
            shutil.copyfile(figure, options.docs / "images" / f"benchmark_{figure.name}")
    page.write_text(text, encoding="utf-8")


def replace_block(page: str, name: str, table: str) -> str:
    """Put a table between the two marks of a benchmark."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"The page needs the marks {begin!r} and {end!r}.")
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{after}"


if __name__ == "__main__":
    main()

"""Photograph the pages of the documents, in docs/images, with a headless Chromium.

    python docs/make_screens.py /out sub-01

The top of a participant's page from the outputs of a run, and the profiles and comparison of a
simulated cohort in which FA of the lateral columns is lower at C5.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402
from cohorts import write_cohort  # noqa: E402

from scsnet_bids.group.collect import collect_group  # noqa: E402
from scsnet_bids.group.page import write_group_page  # noqa: E402
from scsnet_bids.group.tables import analyse_group, write_group  # noqa: E402

IMAGES = ROOT / "docs" / "images"
PEOPLE = 20
DROP = {("C5", "lateral_column"): 0.15}
PARTICIPANT_SIZE, GROUP_SIZE = (1200, 1560), (1240, 1840)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path, help="outputs of a run")
    parser.add_argument("participant", help="such as sub-01")
    options = parser.parse_args()
    with Browser() as browser, TemporaryDirectory() as folder:
        browser.open(options.out_dir / f"{options.participant}.html")
        browser.resize(*PARTICIPANT_SIZE)
        print(browser.picture(IMAGES / "report.png"))
        write_cohort(Path(folder), PEOPLE, PEOPLE, DROP, seed=2)
        analysis = analyse_group(collect_group(Path(folder)), "group==control")
        write_group(Path(folder), analysis)
        browser.open(write_group_page(Path(folder), analysis))
        browser.resize(*GROUP_SIZE)
        browser.run("document.querySelector('#profiles').scrollIntoView({behavior: 'instant'})")
        print(browser.picture(IMAGES / "group.png"))


if __name__ == "__main__":
    main()

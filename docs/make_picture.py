"""Draw the README's pictures and write its table, from the outputs of a run; copy the tutorial's.

    python docs/make_picture.py /out sub-01

The pictures, in docs/images, show five slices spread over the run; the table is the region table of
the whole cord.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np

from scsnet_bids.derivatives import read_table
from scsnet_bids.figures.sheets import FA_RANGE, draw_regions
from scsnet_bids.images import read_image
from scsnet_bids.regions import Tissue
from scsnet_bids.shift_table import shifts_from_table

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = {"motion": "displacement", "profile": "faprofile", "shape": "shape"}
"""Pictures of the tutorial, and what the page of a run calls them."""
TABLE = re.compile(r"(?<=\n\n)\| region \| side \|(?:.*\n)+?(?=\n)")
"""The README's table of regions."""


def main(out_dir: Path, run: str) -> None:
    """Write the pictures and the table."""
    (series,) = out_dir.glob(f"sub-*/**/{run}_desc-preproc_dwi.nii.gz")
    stem = str(series).removesuffix("_desc-preproc_dwi.nii.gz")
    b0 = read_image(Path(f"{stem}_desc-b0_dwiref.nii.gz"))
    fa = read_image(Path(f"{stem}_model-tensor_param-fa_dwimap.nii.gz"))
    share = read_image(Path(f"{stem}_seg-SCSNet_probseg.nii.gz")).data
    transform = Path(f"{stem}_from-dwiref_to-dwi_mode-image_desc-slicewise_xfm.tsv")
    shift_mm = shifts_from_table(read_table(transform))
    slices = np.linspace(0, b0.data.shape[2] - 1, 5).round().astype(int).tolist()
    where = {"spacing_mm": b0.grid.spacing_mm, "slices": slices}
    pictures = {
        "b0": draw_regions(b0.data, share, title="b=0 image", dwi_to_image_mm=-shift_mm, **where),
        "fa": draw_regions(fa.data, share, title="FA", limits=FA_RANGE, **where),
    }
    for name, picture in pictures.items():
        path = ROOT / "docs" / "images" / f"regions_{name}.svg"
        path.write_text(picture, encoding="utf-8")
    for name, part in TUTORIAL.items():
        (picture,) = out_dir.glob(f"sub-*/**/{run}_desc-{part}_dwi.svg")
        shutil.copy(picture, ROOT / "docs" / "images" / f"tutorial_{name}.svg")
    table = describe_regions(Path(f"{stem}_model-tensor_seg-SCSNet_scalarstats.tsv"))
    readme = ROOT / "README.md"
    text, n_tables = TABLE.subn(table, readme.read_text(encoding="utf-8"))
    if n_tables != 1:
        raise SystemExit(f"{readme} must hold one table of regions: found {n_tables}.")
    readme.write_text(text, encoding="utf-8")


def describe_regions(path: Path) -> str:
    """Write FA and MD of the whole cord by region as Markdown."""
    table = read_table(path)
    table = table[(table["scope"] == "cord") & (table["side"] != "both")]
    table = table[table["region"].isin([str(tissue) for tissue in Tissue])]
    lines = [
        "| region | side | FA, unmixed | FA, plain mean | MD, unmixed (mm2/s) | voxels |",
        "|---|---|---|---|---|---|",
    ]
    for (region, side), rows in table.groupby(["region", "side"], sort=False):
        fa, md = (rows[rows["metric"] == metric].iloc[0] for metric in ("FA", "MD"))
        lines.append(
            f"| {region.replace('_', ' ')} | {side} "
            f"| {fa['unmixed']:.3f} ± {fa['unmixed_uncertainty']:.3f} | {fa['mean']:.3f} "
            f"| {md['unmixed']:.2e} | {fa['n_voxels']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""Draw the README's pictures and table from the outputs of a run.

    python docs/make_picture.py /out sub-01 docs/images

The pictures show five slices spread over the run; the table, which is printed, is the region table
of the whole cord as Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from scsnet_bids.confounds import shifts_from_table
from scsnet_bids.derivatives import read_table
from scsnet_bids.figures.sheets import FA_RANGE, draw_regions
from scsnet_bids.images import read_image


def main(out_dir: Path, run: str, folder: Path) -> None:
    """Write the pictures and print the table."""
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
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (folder / f"regions_{name}.svg").write_text(picture, encoding="utf-8")
    print_table(Path(f"{stem}_model-tensor_seg-SCSNet_scalarstats.tsv"))


def print_table(path: Path) -> None:
    """Print FA and MD of the whole cord by region as Markdown."""
    table = read_table(path)
    table = table[(table["scope"] == "cord") & (table["side"] != "both")]
    table = table[
        table["region"].isin(["lateral_column", "dorsal_column", "ventral_column", "gray_matter"])
    ]
    print("| region | side | FA, unmixed | FA, plain mean | MD, unmixed (mm2/s) | voxels |")
    print("|---|---|---|---|---|---|")
    for (region, side), rows in table.groupby(["region", "side"], sort=False):
        fa, md = (rows[rows["metric"] == metric].iloc[0] for metric in ("FA", "MD"))
        print(
            f"| {region.replace('_', ' ')} | {side} "
            f"| {fa['unmixed']:.3f} ± {fa['unmixed_uncertainty']:.3f} | {fa['mean']:.3f} "
            f"| {md['unmixed']:.2e} | {fa['n_voxels']} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

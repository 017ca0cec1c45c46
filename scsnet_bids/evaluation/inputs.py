"""What a comparison of the network's inputs has found, in tables."""

from __future__ import annotations

import pandas as pd

from scsnet_bids.evaluation.tables import markdown_table

OVERLAP = ["precision", "recall", "dice"]
SIDES = {"left": "L", "right": "R"}
REAL = {
    "explained_percent": "FA explained %",
    "white_minus_gray": "white minus gray FA",
    "gray_percent": "gray matter in the cord %",
}


def describe_inputs(table: pd.DataFrame) -> str:
    """Write overlap and error of FA per region, and what real series show if any.

    Parameters
    ----------
    table : of :func:`scsnet_bids.training.inputs.compare_inputs`

    Returns
    -------
    text, Markdown
    """
    known = table[table["region"].notna()]
    overlap = known.pivot_table(index="input", columns="region", values=OVERLAP, sort=False)
    error = known.pivot_table(
        index="input", columns=["region", "side"], values="fa_error_percent", sort=False
    )
    regions = list(dict.fromkeys(known["region"]))
    overlaps, errors = pd.DataFrame(index=overlap.index), pd.DataFrame(index=error.index)
    for region in regions:
        cells = [overlap[name][region].map("{:.2f}".format) for name in OVERLAP]
        overlaps[region] = cells[0] + " / " + cells[1] + " / " + cells[2]
        sides = [error[region, side].map("{:.1f}".format) for side in SIDES]
        errors[f"{region}, {' / '.join(SIDES.values())}"] = sides[0] + " / " + sides[1]
    errors["mean"] = error.mean(axis=1).map("{:.1f}".format)
    parts = [
        f"Error of region-mean FA, %\n\n{markdown_table(errors)}",
        f"Precision / recall / Dice, mean of both sides\n\n{markdown_table(overlaps)}",
    ]
    if "run" in table:
        real = table[table["run"].notna()].groupby(["input", "run"], sort=False)
        figures = real[list(REAL)].mean().rename(columns=REAL).reset_index("run")
        cells = figures.apply(lambda x: x if x.name == "run" else x.map("{:.3f}".format))
        parts.append(f"FA within real cords\n\n{markdown_table(cells)}")
    return "\n\n".join(parts)

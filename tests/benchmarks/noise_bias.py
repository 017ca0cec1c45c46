"""Bias of unmixed values with true regions, by noise, over enough people to see it.

    python tests/benchmarks/noise_bias.py [--people 14] [--snr 5 6.5 25]

Still phantoms, as in ``scsnet-bids-benchmark values``, which takes few people and adds SCS-Net's
own regions. Printed is the mean over people of value against tissue, in %, mean of the sides,
after ± its standard error.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from scsnet_bids.benchmark.region_values import UNMIXED, USUAL_SCHEME, Condition, measure_true
from scsnet_bids.evaluation.tables import markdown_table

TISSUES = ("lateral", "dorsal", "ventral", "gray")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=14)
    parser.add_argument("--snr", type=float, nargs="+", default=[5.0, 6.5, 25.0])
    options = parser.parse_args()
    rows = {}
    for snr in options.snr:
        measured = measure_true(Condition("healthy", USUAL_SCHEME, snr), options.people)
        error_pct = 100 * np.array([v / truth - 1 for way, v, truth in measured if way == UNMIXED])
        by_tissue = error_pct.reshape(-1, len(TISSUES), 2, 2).mean(axis=2)  # (people, 4, FA and MD)
        mean, error = by_tissue.mean(axis=0), by_tissue.std(axis=0) / np.sqrt(options.people)
        rows[f"{snr:g}"] = {
            f"{metric}, {tissue}": f"{mean[t, m]:+.1f} ± {error[t, m]:.1f}"
            for m, metric in enumerate(("FA", "MD"))
            for t, tissue in enumerate(TISSUES)
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("b=0 SNR")
    print(markdown_table(table))


if __name__ == "__main__":
    main()

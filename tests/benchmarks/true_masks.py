"""Write the true cord of phantoms as the masks of another tool.

    python tests/benchmarks/true_masks.py DATA MASKS
    scsnet-bids DATA OUT participant --derivatives MASKS
    scsnet-bids-evaluate DATA OUT

Shows what the region values and their intervals are worth where the outline of the cord is given:
voxels that are at least half cord.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from scsnet_bids.images import Image, read_image, write_image
from scsnet_bids.unmixing.transfer import cord_mask

SHARES, MASK = "_seg-SCSNet_probseg.nii.gz", "_label-SC_mask.nii.gz"


def main(data: Path, masks: Path) -> None:
    """Write the dataset of masks."""
    truth = data / "derivatives" / "phantom"
    masks.mkdir(parents=True)
    described = {"Name": "true masks", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (masks / "dataset_description.json").write_text(json.dumps(described))
    for path in sorted(truth.glob(f"sub-*/**/*{SHARES}")):
        share = read_image(path)
        place = masks / path.relative_to(truth)
        place.parent.mkdir(parents=True, exist_ok=True)
        cord = cord_mask(share.data).astype(np.uint8)
        write_image(place.with_name(place.name.replace(SHARES, MASK)), Image(cord, share.grid))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

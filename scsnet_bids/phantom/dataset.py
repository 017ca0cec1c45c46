"""Write simulated participants as a raw BIDS dataset, with the truth as a derivative of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scsnet_bids import __version__
from scsnet_bids.arrays import FloatArray
from scsnet_bids.derivatives import write_sidecar, write_table
from scsnet_bids.errors import OutputError, UsageError
from scsnet_bids.files import write_text
from scsnet_bids.gradients import write_gradients
from scsnet_bids.images import Image, write_image
from scsnet_bids.phantom.drawn import DrawnCord
from scsnet_bids.phantom.settings import PhantomSettings
from scsnet_bids.phantom.simulation import REPETITION_TIME_S, Phantom, simulate
from scsnet_bids.regions import REGIONS, label_shares
from scsnet_bids.shift_table import SHIFT_COLUMNS, tabulate_shifts

GENERATOR = "scsnet-bids-phantom"
BIDS_VERSION = "1.9.0"
TRUTH = Path("derivatives") / "phantom"

README = """# Synthetic cervical cord diffusion MRI

Every image here is computed, not measured: a parametric cervical cord with one diffusion tensor
per region, seen through thick voxels, with motion, distortion and noise. No person was scanned.

`derivatives/phantom` holds what is true about each series: the share of every voxel that each
region fills, the motion of every slice, and FA and MD of every region. Written by
`scsnet-bids-phantom` {version}.
"""
TRUTH_README = """# What is true about the synthetic series

Everything is given in DTI space, where the weighted volumes lie without motion. The motion of each
slice averages to zero over its b=0 volumes and over its weighted volumes. Slices count from 0 for
the lowest. A displacement from a to b is what must be added to the position of a point in a to get
its position in b.

- `seg-SCSNet_probseg`: share of each voxel filled by background and the eight regions, exact.
- `seg-SCSNet_dseg`: largest region of the voxels that the cord fills at least half.
- `from-orig_to-dwiref_..._xfm.tsv`: per volume and slice, what undoes its motion.
- `from-dwiref_to-dwi_..._xfm.tsv`: per slice, from the place of the b=0 volumes to DTI space.
- `desc-tissue_scalarstats.tsv`: FA and MD of each region's mean tensor, and FA of its fibres, which
  are tilted against each other.
- `desc-distortion_displacement`, of distorted series: how far back, in mm, what lies at a voxel is
  seen in the series, and how far to the front in `fmap/*_dir-PA_epi`.
- `from-orig_to-dwiref_..._desc-eddy_xfm.tsv`, of series with eddy currents: what lies at a place is
  seen shift_mm + scale * back + shear * left farther back, both from the middle of the image.
"""
SERIES_METADATA: dict[str, Any] = {
    "Manufacturer": "none (synthetic)",
    "MagneticFieldStrength": 3,
    "BodyPart": "CSPINE",
    "RepetitionTime": REPETITION_TIME_S,
    "EchoTime": 0.075,
    "FlipAngle": 90,
    "PhaseEncodingDirection": "j-",
}
OPPOSITE_PHASE_ENCODING = "j"
ECHO_SPACING_S = 0.0007
COLUMNS: dict[str, dict[str, Any]] = SHIFT_COLUMNS | {
    "compression": {
        "Description": "Loss of the cord's depth at C5-C6, 0 if healthy.",
        "Units": "1",
    },
    "shift_mm": {"Description": "Shift toward the back by eddy currents.", "Units": "mm"},
    "scale": {"Description": "Shift toward the back per mm toward the back.", "Units": "1"},
    "shear": {"Description": "Shift toward the back per mm toward the left.", "Units": "1"},
    "region": {"Description": "Region of the cord."},
    "side": {"Description": "Side of the patient."},
    "FA": {"Description": "Fractional anisotropy of the region's mean tensor.", "Units": "1"},
    "MD": {"Description": "Mean diffusivity of the region.", "Units": "mm2/s"},
    "fibre_FA": {
        "Description": "Fractional anisotropy of the fibres, which are tilted against each other.",
        "Units": "1",
    },
}


def write_dataset(
    out: Path,
    settings: PhantomSettings,
    participants: int,
    seed: int,
    compressed: int | None = None,
    drawn: Sequence[DrawnCord] = (),
) -> None:
    """Write a dataset of simulated participants, ``sub-01`` onward.

    Earlier participants of the same folder are replaced.

    Parameters
    ----------
    out : folder that is empty, does not exist, or holds an earlier dataset of this kind
    settings : what is scanned, and how well
    participants : how many, 1 to 99
    seed : determines all of them
    compressed : how many, the last ones, have the compression of the settings; None for all
    drawn : cords to take in turn; none takes the curves of ``anatomy``

    Raises
    ------
    UsageError
        If a number of participants or the seed is out of range.
    OutputError
        If the folder holds anything else, or cannot be written.
    """
    if not 1 <= participants <= 99:
        raise UsageError(f"participants must lie between 1 and 99: found {participants}.")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more: found {seed}.")
    if compressed and not settings.compression:
        raise UsageError(
            "Somebody compressed needs a loss of the cord's depth: found compression 0. Give "
            "--compression, such as 0.4."
        )
    compressed = participants if compressed is None else compressed
    if not 0 <= compressed <= participants:
        raise UsageError(
            f"compressed must lie between 0 and the {participants} participants: found "
            f"{compressed}."
        )
    _clear(out)
    names = [f"sub-{number:02d}" for number in range(1, participants + 1)]
    healthy = [replace(settings, compression=0.0)] * (participants - compressed)
    scanned = [*healthy, *[settings] * compressed]
    _write_descriptions(out, names, [one.compression for one in scanned])
    for number, (name, one) in enumerate(zip(names, scanned, strict=True), start=1):
        cord = drawn[(number - 1) % len(drawn)] if drawn else None
        phantom = simulate(one, (seed, number), cord)
        _write_series(out / name / "dwi" / f"{name}_dwi", phantom)
        if one.reversed_b0:
            _write_reversed(out / name / "fmap" / f"{name}_dir-PA_epi", name, phantom)
        _write_truth(out / TRUTH / name / "dwi", name, phantom)


def _clear(out: Path) -> None:
    """Make the folder ready: refuse what is not ours, remove earlier participants."""
    try:
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
        if occupied and not _is_phantom(out):
            raise OutputError(
                "The phantom needs an empty folder or an earlier phantom dataset: "
                f"{out} holds something else. Choose another folder."
            )
        for folder in (*out.glob("sub-[0-9][0-9]"), out / TRUTH):
            if folder.is_dir():
                shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(
            f"The output folder must be writable: {out} is not ({error}). Choose another folder."
        ) from error


def _is_phantom(folder: Path) -> bool:
    """Tell whether a folder holds a dataset that this module has written."""
    try:
        description = json.loads((folder / "dataset_description.json").read_text("utf-8"))
        return bool(description["GeneratedBy"][0]["Name"] == GENERATOR)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _write_descriptions(out: Path, names: list[str], compression: list[float]) -> None:
    """Write what describes the dataset and its truth as a whole."""
    description = {
        "Name": "Synthetic cervical cord diffusion MRI",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "License": "CC0",
        "Authors": [GENERATOR],
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__}],
    }
    write_sidecar(out / "dataset_description.json", description)
    write_text(out / "README.md", README.format(version=__version__))
    people = pd.DataFrame({"participant_id": names, "compression": compression})
    write_table(out / "participants.tsv", people)
    write_sidecar(out / "participants.json", {"compression": COLUMNS["compression"]})
    truth = {"Name": "Truth of the synthetic series", "DatasetType": "derivative"}
    write_sidecar(out / TRUTH / "dataset_description.json", description | truth)
    write_text(out / TRUTH / "README.md", TRUTH_README)
    write_text(out / TRUTH / ".bidsignore", "*_xfm.*\n*_scalarstats.*\n*_displacement.*\n")


def _write_series(stem: Path, phantom: Phantom) -> None:
    """Write the series as a scanner's conversion would, under a name without extension."""
    write_image(stem.with_suffix(".nii.gz"), Image(_stored(phantom.series), phantom.grid))
    write_gradients(
        stem.with_suffix(".bval"), stem.with_suffix(".bvec"), phantom.gradients, phantom.grid
    )
    has_pair = phantom.reversed_b0.shape[-1] > 0
    field = {"B0FieldIdentifier": "pepolar", "B0FieldSource": "pepolar"} if has_pair else {}
    write_sidecar(stem.with_suffix(".json"), _metadata(phantom) | field)


def _write_reversed(stem: Path, name: str, phantom: Phantom) -> None:
    """Write the b=0 volumes with reversed phase encoding, as a fieldmap of the series."""
    write_image(stem.with_suffix(".nii.gz"), Image(_stored(phantom.reversed_b0), phantom.grid))
    said = {
        "PhaseEncodingDirection": OPPOSITE_PHASE_ENCODING,
        "B0FieldIdentifier": "pepolar",
        "IntendedFor": f"bids::{name}/dwi/{name}_dwi.nii.gz",
    }
    write_sidecar(stem.with_suffix(".json"), _metadata(phantom) | said)


def _stored(data: FloatArray) -> npt.NDArray[np.int16]:
    """Round a signal to what a scanner stores."""
    return np.round(data).clip(0, np.iinfo(np.int16).max).astype(np.int16)


def _metadata(phantom: Phantom) -> dict[str, Any]:
    """Say how the scans of a phantom were acquired."""
    geometry = {
        "SliceThickness": round(phantom.grid.spacing_mm[2], 6),
        "EffectiveEchoSpacing": ECHO_SPACING_S,
        "TotalReadoutTime": ECHO_SPACING_S * (phantom.grid.shape[1] - 1),
    }
    return SERIES_METADATA | geometry


def _write_truth(folder: Path, name: str, phantom: Phantom) -> None:
    """Write shares, labels, displacements and tensors of one participant."""
    shares = folder / f"{name}_seg-SCSNet_probseg.nii.gz"
    write_image(shares, Image(phantom.region_share, phantom.grid))
    labels = label_shares(phantom.region_share)
    write_image(folder / f"{name}_seg-SCSNet_dseg.nii.gz", Image(labels, phantom.grid))
    label_map = ["background", *(region.name for region in REGIONS)]
    write_sidecar(folder / f"{name}_seg-SCSNet_probseg.json", {"LabelMap": label_map})
    tables = {
        "from-orig_to-dwiref_mode-image_desc-slicewise_xfm": tabulate_shifts(-phantom.motion_mm),
        "from-dwiref_to-dwi_mode-image_desc-slicewise_xfm": tabulate_shifts(phantom.b0_to_dwi_mm),
        "desc-tissue_scalarstats": _tabulate_tissue(phantom),
    }
    if phantom.eddy.any():
        eddy = pd.DataFrame(phantom.eddy, columns=["shift_mm", "scale", "shear"])
        eddy.insert(0, "volume", np.arange(len(eddy)))
        tables["from-orig_to-dwiref_mode-image_desc-eddy_xfm"] = eddy
    if phantom.field_mm.any():
        field = Image(phantom.field_mm.astype(np.float32), phantom.grid)
        write_image(folder / f"{name}_desc-distortion_displacement.nii.gz", field)
    for kind, table in tables.items():
        write_table(folder / f"{name}_{kind}.tsv", table)
        described = {column: COLUMNS[column] for column in table.columns.tolist()}
        write_sidecar(folder / f"{name}_{kind}.json", described)


def _tabulate_tissue(phantom: Phantom) -> pd.DataFrame:
    """Write the true tensors as one row per region."""
    seen = phantom.region_tensors
    return pd.DataFrame(
        {
            "region": [str(part.region.tissue) for part in seen],
            "side": [str(part.region.side) for part in seen],
            "FA": [part.fa for part in seen],
            "MD": [part.md for part in seen],
            "fibre_FA": [part.fa for part in phantom.tissue],
        }
    )

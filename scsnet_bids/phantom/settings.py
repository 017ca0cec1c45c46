"""What is scanned of a phantom, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scsnet_bids.errors import UsageError
from scsnet_bids.settings import setting

LIMITS: dict[str, tuple[float, float]] = {
    "directions": (6, 1000),
    "averages": (1, 20),
    "b0_volumes": (1, 100),
    "slices": (1, 20),
    "snr": (1, np.inf),
    "motion_mm": (0, 1.5),
    "b0_to_dwi_mm": (0, 1.5),
    "compression": (0, 0.6),
    "fa_drop": (0, 0.5),
    "lost_slices": (0, 0.5),
    "tilt_deg": (0, 30),
    "variation": (0, 0.1),
    "eddy_mm": (0, 3),
    "distortion_mm": (0, 4),
    "reversed_b0": (0, 20),
    "ringing": (0, 1),
}
SMALLEST_FIELD_MM = 30.0


@dataclass(frozen=True)
class PhantomSettings:
    """What is scanned, and how well.

    Raises
    ------
    UsageError
        If a value lies outside ``LIMITS``, or the cord might leave the field of view.
    """

    directions: int = setting(30, "1", "Diffusion directions.")
    averages: int = setting(1, "1", "Times that each direction is scanned.")
    b0_volumes: int = setting(5, "1", "b=0 volumes; the first leads, the others are interleaved.")
    slices: int = setting(15, "1", "Slices of 5 mm; 15 reach from C2 to C7.")
    snr: float = setting(15.0, "1", "White-matter b=0 signal over noise SD; inf for no noise.")
    motion_mm: float = setting(0.6, "mm", "RMS of the slice-wise in-plane motion.")
    b0_to_dwi_mm: float = setting(0.4, "mm", "RMS over slices of the displacement B0 to DWI.")
    compression: float = setting(0.0, "1", "Loss of the cord's depth at C5-C6.")
    fa_drop: float = setting(0.0, "1", "Loss of FA in all white columns.")
    lost_slices: float = setting(0.0, "1", "Share of weighted slices that lose their signal.")
    tilt_deg: float = setting(10.0, "deg", "RMS tilt of the fibres from the course of the cord.")
    variation: float = setting(0.03, "1", "Spread of FA and MD between participants.")
    eddy_mm: float = setting(0.0, "mm", "RMS displacement by eddy currents at the image's edge.")
    distortion_mm: float = setting(0.0, "mm", "Largest displacement of the cord by its field.")
    reversed_b0: int = setting(0, "1", "Further b=0 volumes with reversed phase encoding.")
    ringing: int = setting(0, "1", "1 for Gibbs ringing, 0 for voxels that average their area.")
    b_value: float = setting(800.0, "s/mm2", "b-value of the weighted volumes.")
    matrix: tuple[int, int] = setting((96, 48), "1", "Voxels left to right and front to back.")
    spacing_mm: tuple[float, float, float] = setting((0.9, 0.9, 5.0), "mm", "Voxel size.")

    def __post_init__(self) -> None:
        for name, (lowest, highest) in LIMITS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise UsageError(
                    f"{name} must lie between {lowest:g} and {highest:g}: found {value:g}."
                )
        field_mm = min(n * mm for n, mm in zip(self.matrix, self.spacing_mm, strict=False))
        if field_mm < SMALLEST_FIELD_MM:
            raise UsageError(
                f"matrix must span at least {SMALLEST_FIELD_MM:g} mm around the cord: found "
                f"{field_mm:g} mm."
            )

"""What a reader is told instead of the names of columns, flags and pictures."""

from __future__ import annotations

from collections.abc import Mapping

FIGURES: dict[str, str] = {
    "n_slices": "number of slices",
    "n_slices_with_cord": "slices with a cord",
    "n_slices_excluded": "excluded slices",
    "snr_b0": "signal-to-noise ratio (b=0, one volume)",
    "displacement_mean_mm": "mean displacement (mm)",
    "displacement_max_mm": "largest displacement (mm)",
    "untrusted_share": "share of displacements borrowed from neighbours",
    "lost_share": "share of slices that lost their signal",
    "lost_share_max": "share of volumes that lost their signal in the worst slice",
    "b0_to_dwi_max_mm": "largest displacement from B0 to DWI (mm)",
    "b0_to_dwi_untrusted_share": "share of slices whose cord was not found in the mean DWI",
    "cord_area_mm2": "area of the cord (mm2)",
    "fa_white_matter": "plain FA of white matter",
    "fa_gray_matter": "plain FA of gray matter",
    "non_positive_share": "share of voxels with eigenvalues below 0",
    "direction_angle_rad": "angle of white matter to the cord's axis (rad)",
    "noise_sigma": "noise level",
    "noise_source": "source of the noise level",
    "unexplained_max": "part of the cord's signal that its regions do not explain, worst slice",
    "outline_area_ratio": "area by the signals over that of the network, median of the slices",
    "outline_area_ratio_min": "area by the signals over that of the network, lowest slice",
    "outline_area_ratio_max": "area by the signals over that of the network, highest slice",
    "outline_at_limit": "slices whose outline would have moved farther than it may",
    "gray_area_ratio": "area of gray matter by the signals over that of the network, median",
}
"""The columns of the quality row."""

PICTURES: dict[str, str] = {
    "b0regions": "regions on b=0",
    "dwiregions": "regions on the mean DWI",
    "faregions": "regions on FA",
    "directions": "directions",
    "uncorrected": "mean before motion correction",
    "corrected": "mean after motion correction",
    "uncorrectedlines": "line through the cord before motion correction",
    "correctedlines": "line through the cord after motion correction",
    "displacement": "displacement",
    "carpet": "signal of the cord",
    "faprofile": "FA along the slices",
    "mdprofile": "MD along the slices",
    "asymmetry": "asymmetry of FA",
    "shape": "shape of the cord",
}
"""Every picture of a run, by the entity ``desc`` of its file."""


def name_figure(column: str) -> str:
    """Name a figure of the quality row as a reader would.

    >>> name_figure("snr_b0"), name_figure("compressed_deviation")
    ('signal-to-noise ratio (b=0, one volume)', 'compressed deviation')
    """
    return FIGURES.get(column, column.replace("_", " "))


def name_picture(name: str) -> str:
    """Name a picture as a reader would."""
    return PICTURES.get(name, name)


def explain_flags(flags: str, sentences: Mapping[str, str]) -> str:
    """Say what the flags of a cell of a table mean.

    Parameters
    ----------
    flags : joined by semicolons; n/a or empty if there is none
    sentences : meaning of each flag

    Returns
    -------
    str, empty if there is none

    >>> explain_flags("no_cord;odd", {"no_cord": "no cord was found"})
    'no cord was found; odd'
    """
    names = [] if flags in ("", "n/a") else flags.split(";")
    return "; ".join(sentences.get(name, name.replace("_", " ")) for name in names)

"""Results of another tool, taken instead of computed: a corrected series, the cord, or levels.

Other derivative datasets are searched for files of the same participant, session and run:

- ``*_desc-preproc_dwi.nii.gz`` with its ``.bval`` and ``.bvec``, as QSIPrep writes it, takes the
  place of the series as acquired and is not corrected again;
- ``*_label-SC_mask``, ``*_label-SC_seg`` or the Spinal Cord Toolbox's ``*_seg`` in the folder
  ``dwi``, on the voxels of the series, is taken as the cord, and the regions are placed in it;
- label images of vertebral levels or discs tell the levels, as with ``--levels``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scsnet_bids.errors import ImageError, InputDataError, ScsnetError, UsageError, listed
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.level_files import check_levels, find_levels
from scsnet_bids.runs import ENTITIES, DwiRun, comparable, leave_out, read_entities
from scsnet_bids.settings import Settings

SERIES = re.compile(r"_desc-preproc_dwi\.nii(?:\.gz)?$")
MASKS = (
    re.compile(r"_label-(?:SC|cord|spinalcord)_mask\.nii(?:\.gz)?$", re.IGNORECASE),
    re.compile(r"_label-(?:SC|cord|spinalcord)_d?seg\.nii(?:\.gz)?$", re.IGNORECASE),
    re.compile(r"_seg-SCSNet_dseg\.nii(?:\.gz)?$"),
    re.compile(r"_(?:dwi|mean|moco|dwi_mean|crop|b0)_seg(?:-manual)?\.nii(?:\.gz)?$"),
)
"""Names of a mask of the cord; the first that fits is taken."""
NEAR_MM = 0.1
"""Two images have the same voxels if their corners lie nearer to each other than this."""
RAW = "raw"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorResults:
    """What other tools have found for a run.

    Attributes
    ----------
    series : corrected series; None if there is none
    cord_mask : mask of the cord on the voxels of the series; None if there is none
    levels : label image of vertebral levels; None if there is none
    """

    series: Path | None = None
    cord_mask: Path | None = None
    levels: Path | None = None

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return any((self.series, self.cord_mask, self.levels))


def list_datasets(folders: Sequence[str]) -> dict[str, Path]:
    """Name the datasets that results are taken from.

    Parameters
    ----------
    folders : each a folder, or ``NAME=folder``

    Returns
    -------
    dict of folders by name, in the order given; a name has letters and digits only

    Raises
    ------
    UsageError
        If a folder does not exist, or two have the same name.
    """
    datasets: dict[str, Path] = {}
    for word in folders:
        found = re.fullmatch(r"(?:([A-Za-z0-9]+)=)?(.+)", word, re.DOTALL)
        folder = Path(found[2] if found else word)
        if not folder.is_dir():
            raise UsageError(
                f"--derivatives needs folders of other tools' results: {folder} is none. Correct "
                "the path."
            )
        name = (found[1] if found else "") or re.sub(r"[^A-Za-z0-9]", "", folder.resolve().name)
        if name in (*datasets, RAW, ""):
            raise UsageError(
                f"Every folder of --derivatives needs a name of its own: {folder} would be "
                f"{name or 'without one'!r}. Name it, such as other={folder}."
            )
        datasets[name] = folder
    return datasets


def find_prior(run: DwiRun, folders: Sequence[str]) -> PriorResults:
    """Find what other tools have found for a run; the first folder that has a result gives it.

    Parameters
    ----------
    run : the run
    folders : each a folder, or ``NAME=folder``

    Returns
    -------
    PriorResults

    Raises
    ------
    UsageError
        As :func:`list_datasets`.
    InputDataError
        If a folder has several corrected series of the run.
    """
    found = PriorResults()
    for folder in list_datasets(folders).values():
        images = sorted((folder / run.output_folder).glob("*.nii*"))
        found = PriorResults(
            found.series or _one_series(run, images),
            found.cord_mask or _first_mask(run, images),
            found.levels or find_levels(run, str(folder)),
        )
    return found


def find_taken(run: DwiRun, settings: Settings) -> dict[str, Path]:
    """List what is taken from other tools for a run.

    Parameters
    ----------
    run : the run
    settings : of the run; levels that it names itself are no other tool's

    Returns
    -------
    dict of files by kind: series, cord_mask, levels
    """
    prior = find_prior(run, settings.derivatives.folders)
    found = {kind: path for kind, path in vars(prior).items() if path is not None}
    if settings.regional.levels:
        found.pop("levels", None)
    return found


def take_series(runs: Sequence[DwiRun], folders: Sequence[str]) -> list[DwiRun]:
    """Put corrected series of other tools, and their gradients, in the place of runs.

    Parameters
    ----------
    runs : as the dataset has them
    folders : each a folder, or ``NAME=folder``

    Returns
    -------
    list of DwiRun, names and sidecars unchanged; a run of which a folder has several corrected
    series stays as it is, and :func:`check_prior` leaves it out

    Raises
    ------
    UsageError
        As :func:`list_datasets`.
    """
    clear, _ = leave_out(runs, {}, lambda run: find_prior(run, folders))
    series = {run: find_prior(run, folders).series for run in clear}
    return [_with_series(run, series.get(run)) for run in runs]


def check_prior(
    good: Sequence[DwiRun], left_out: Mapping[DwiRun, ScsnetError], settings: Settings
) -> tuple[list[DwiRun], dict[DwiRun, ScsnetError]]:
    """Check what other tools have found before any run is processed.

    Parameters
    ----------
    good, left_out : runs as :func:`scsnet_bids.run_checks.check_runs` sorts them
    settings : of the runs

    Returns
    -------
    The same, with the runs whose prior results cannot be used left out; of runs that have none,
    where others have, a warning tells

    Raises
    ------
    UsageError
        If there are folders, and nothing in them belongs to any of the runs.
    """
    folders = settings.derivatives.folders
    clear, left_out = leave_out(good, left_out, lambda run: find_prior(run, folders))
    found = {run: find_prior(run, folders) for run in clear} if folders else {}
    if found and len(clear) == len(good) and not any(found.values()):
        raise UsageError(
            "--derivatives must lead to results of the chosen series: there is neither a corrected "
            "series (*_desc-preproc_dwi.nii.gz), nor a mask of the cord (dwi/*_label-SC_mask.nii.gz"
            f" or dwi/*_seg.nii.gz), nor levels of {listed(run.prefix for run in good)} in "
            f"{', '.join(folders)}. Check their names, or leave the option out."
        )
    if absent := [run.prefix for run, prior in found.items() if not prior]:
        _log.warning(
            "In --derivatives there is nothing of %s: processed from the series as acquired.",
            listed(absent),
        )

    def check(run: DwiRun) -> None:
        prior = found.get(run)
        if prior is not None and prior.cord_mask is not None:
            read_cord_mask(prior.cord_mask, read_grid(run.image)[0])
        if prior is not None and prior.levels is not None and not settings.regional.levels:
            _, faults = check_levels([run], {}, str(_dataset_of(prior.levels, folders)))
            if run in faults:
                raise faults[run]

    return leave_out(clear, left_out, check)


def level_source(run: DwiRun, settings: Settings) -> str:
    """Say what tells the levels of a run: what was asked for, or another tool; may be empty."""
    if settings.regional.levels or not settings.derivatives.folders:
        return settings.regional.levels
    levels = find_prior(run, settings.derivatives.folders).levels
    return str(_dataset_of(levels, settings.derivatives.folders)) if levels else ""


def settings_of_run(run: DwiRun, settings: Settings) -> Settings:
    """Leave out what another tool has done to the series of a run.

    Parameters
    ----------
    run : the run
    settings : of all runs

    Returns
    -------
    Settings
    """
    if not find_prior(run, settings.derivatives.folders).series:
        return settings
    return replace(
        settings,
        denoising=replace(settings.denoising, method="none", degibbs=False),
        motion=replace(settings.motion, method="none"),
        distortion=replace(settings.distortion, method="none"),
    )


def prior_uri(path: Path, folders: Sequence[str]) -> str:
    """BIDS URI of a file of another tool; its dataset is named in ``DatasetLinks``."""
    for name, folder in list_datasets(folders).items():
        if path.is_relative_to(folder):
            return f"bids:{name}:{path.relative_to(folder).as_posix()}"
    return path.as_uri()


def read_cord_mask(path: Path, grid: Grid) -> npt.NDArray[np.float64]:
    """Read a mask of the cord on the voxels of a series.

    Parameters
    ----------
    path : mask, probability or labels; voxels above half of the largest value are cord, and so is
        every label
    grid : of the series

    Returns
    -------
    (i, j, k) float array, 0 or 1

    Raises
    ------
    ImageError
        If it has other voxels than the series, or marks nothing.
    """
    mask = read_image(path, np.float64)
    if mask.data.ndim != 3 or not _same_voxels(mask.grid, grid):
        raise ImageError(
            f"A mask of the cord must have the voxels of its series: {path} has "
            f"{mask.grid.describe()}, the series {grid.describe()}, or they lie elsewhere. Bring "
            "the mask to the series, or leave its folder out of --derivatives."
        )
    least = 0 if "_dseg." in path.name else 0.5 * np.nanmax(mask.data)
    cord = np.nan_to_num(mask.data) > least
    if not cord.any():
        raise ImageError(
            f"A mask of the cord must mark voxels: {path} marks none. Correct it, or leave its "
            "folder out of --derivatives."
        )
    return np.asarray(cord, dtype=np.float64)


def describe_prior(runs: Collection[DwiRun], settings: Settings) -> list[str]:
    """Say in lines what is taken for runs instead of computed."""
    lines = [
        f"  {run.prefix}: {kind.replace('_', ' ')} of {path}"
        for run in runs
        for kind, path in find_taken(run, settings).items()
    ]
    return ["Taken from other tools, and not computed:", *lines] if lines else []


def _one_series(run: DwiRun, images: Sequence[Path]) -> Path | None:
    """Find the corrected series of a run."""
    own = _comparable(run.entities)
    fitting = [p for p in images if SERIES.search(p.name) and _raw_entities(p) == own]
    if len(fitting) > 1:
        raise InputDataError(
            f"A folder of --derivatives may have one corrected series of {run.prefix}: "
            f"{fitting[0].parent} has {', '.join(path.name for path in fitting)}. Leave one."
        )
    return fitting[0] if fitting else None


def _first_mask(run: DwiRun, images: Sequence[Path]) -> Path | None:
    """Find the mask of the cord of a run."""
    own = _comparable(run.entities)
    fitting = [p for p in images if _raw_entities(p).items() <= own.items()]
    masks = (path for kind in MASKS for path in fitting if kind.search(path.name))
    return next(masks, None)


def _raw_entities(path: Path) -> dict[str, str]:
    """Entities of a file name that a series as acquired may have."""
    return _comparable(pair for pair in read_entities(path).items() if pair[0] in ENTITIES)


def _comparable(entities: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Entities, written so that what means the same is the same."""
    return {key: comparable(key, value) for key, value in entities}


def _with_series(run: DwiRun, series: Path | None) -> DwiRun:
    """Put a corrected series in the place of a run's."""
    if series is None:
        return run
    stem = series.name.split(".")[0]
    bval, bvec = (series.with_name(stem + suffix) for suffix in (".bval", ".bvec"))
    return replace(run, image=series, bval=bval, bvec=bvec)


def _dataset_of(path: Path, folders: Sequence[str]) -> Path:
    """Find the folder that a result was found in."""
    return next(f for f in list_datasets(folders).values() if path.is_relative_to(f))


def _same_voxels(one: Grid, other: Grid) -> bool:
    """Tell whether two images have the same voxels."""
    corners = np.array([(0, 0, 0, 1), (*np.array(one.shape) - 1, 1)], dtype=float).T
    apart_mm = np.abs(one.affine @ corners - other.affine @ corners).max()
    return one.shape == other.shape and bool(apart_mm < NEAR_MM)

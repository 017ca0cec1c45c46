"""Datasets to be spoiled, and what must hold after any run on any of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

LOCK = ".scsnet-bids.lock"
LARGE_BYTES = 2**28
DIMENSIONS, DATATYPE, OFFSET, SLOPE, FORM_CODES, QUATERNION, SROW_Z, MAGIC = (
    (40, "<i2"),
    (70, "<i2"),
    (108, "<f4"),
    (112, "<f4"),
    (252, "<i2"),
    (256, "<f4"),
    (312, "<f4"),
    (344, "S4"),
)
"""Where fields of a NIfTI header begin, and their type."""


class Dataset:
    """A good dataset of one participant, with the means to spoil it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, extension: str = ".nii.gz") -> Path:
        return self.root / f"sub-01/dwi/sub-01_dwi{extension}"

    @property
    def voxels(self) -> np.ndarray:
        return np.asarray(nib.load(self.path()).dataobj)

    @property
    def affine(self) -> np.ndarray:
        return np.asarray(nib.load(self.path()).affine)

    def write_image(
        self, voxels: np.ndarray | None = None, affine: np.ndarray | None = None
    ) -> None:
        """Write the series with other voxels, or in another place."""
        voxels = self.voxels if voxels is None else voxels
        affine = self.affine if affine is None else affine
        nib.save(nib.Nifti1Image(voxels, affine), self.path())

    def unpacked(self) -> bytes:
        return gzip.decompress(self.path().read_bytes())

    def pack(self, content: bytes) -> None:
        self.path().write_bytes(gzip.compress(content, compresslevel=1))

    def unpack(self, content: bytes | None = None) -> Path:
        """Replace the series by an unpacked one."""
        content = self.unpacked() if content is None else content
        self.path().unlink()
        self.path(".nii").write_bytes(content)
        return self.path(".nii")

    def patched(self, field: tuple[int, str], *values: object) -> bytes:
        """Put values into the unpacked header."""
        place, kind = field
        content = bytearray(self.unpacked())
        raw = np.array(values, kind).tobytes()
        content[place : place + len(raw)] = raw
        return bytes(content)

    def patch(self, field: tuple[int, str], *values: object) -> None:
        self.pack(self.patched(field, *values))

    @property
    def bvals(self) -> np.ndarray:
        return np.loadtxt(self.path(".bval"))

    @property
    def bvecs(self) -> np.ndarray:
        return np.loadtxt(self.path(".bvec"))

    def write_bvals(self, bvals: np.ndarray) -> None:
        np.savetxt(self.path(".bval"), np.atleast_2d(bvals), fmt="%.8g")

    def write_bvecs(self, bvecs: np.ndarray) -> None:
        np.savetxt(self.path(".bvec"), bvecs, fmt="%.8g")

    def replace_by_link(self, path: Path, target: str | Path) -> None:
        path.unlink()
        path.symlink_to(target)

    def write_json(self, content: object, name: str = "dataset_description.json") -> None:
        (self.root / name).write_text(json.dumps(content))


class Fault(NamedTuple):
    """Something wrong with the input or the command, and how the command must end.

    Attributes
    ----------
    spoil : what is done to a good dataset
    exit_code : what the command must return
    said : what it must say, among other things
    arguments : what is added to the command; ``{data}`` and ``{out}`` are filled in
    """

    spoil: Callable[[Dataset], object]
    exit_code: int
    said: tuple[str, ...]
    arguments: tuple[str, ...] = ()


def fingerprint(root: Path) -> dict[str, tuple[object, ...]]:
    """Kind, size and content of everything below a folder, links not followed."""
    return {str(path.relative_to(root)): _identify(path) for path in sorted(root.rglob("*"))}


def _identify(path: Path) -> tuple[object, ...]:
    """Describe a file so that no change of it goes unseen."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return ("link", os.readlink(path))
    if not stat.S_ISREG(found.st_mode):
        return (stat.S_IFMT(found.st_mode),)
    if found.st_size > LARGE_BYTES:  # a sparse file that would take minutes to read
        return (found.st_size, found.st_mtime_ns)
    return (found.st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def unfinished_files(out_dir: Path) -> list[str]:
    """Find files of an output folder that are not whole."""
    found = [path for path in sorted(out_dir.rglob("*")) if path.is_file()]
    return [str(path) for path in found if not _is_whole(path)]


def _is_whole(path: Path) -> bool:
    """Tell whether a file has its final name and can be read to its end."""
    if path.name == LOCK:
        return True
    if (path.name.startswith(".") and path.name != ".bidsignore") or path.stat().st_size == 0:
        return False
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        if path.name.endswith(".nii.gz"):
            gzip.decompress(path.read_bytes())
            np.asarray(nib.load(path).dataobj)
    except (ValueError, OSError, EOFError):
        return False
    return True

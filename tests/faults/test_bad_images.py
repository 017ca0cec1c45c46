"""Series whose image cannot be used: each is refused in a sentence, before anything is computed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from faults.datasets import (
    DATATYPE,
    DIMENSIONS,
    FORM_CODES,
    MAGIC,
    OFFSET,
    SROW_Z,
    Dataset,
    Fault,
)

NAME = "sub-01_dwi.nii.gz"
NOT_WHOLE = f"{NAME} ends early or is damaged"
ANNEX = "../../.git/annex/objects/f8/9G/SHA256E-s146504--0ab3.nii.gz/SHA256E-s146504--0ab3.nii.gz"


def keep_bytes(kept: slice) -> Callable[[Dataset], object]:
    """Keep a part of the packed file."""
    return lambda d: d.path().write_bytes(d.path().read_bytes()[kept])


def flip_bit(place: int) -> Callable[[Dataset], object]:
    """Flip one bit of the packed file, counted from its end."""

    def spoil(dataset: Dataset) -> None:
        raw = bytearray(dataset.path().read_bytes())
        raw[place] ^= 1
        dataset.path().write_bytes(raw)

    return spoil


def replace_file(content: bytes) -> Callable[[Dataset], object]:
    """Write something else under the name of the series."""
    return lambda d: d.path().write_bytes(content)


def write_voxels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], object]:
    """Write other voxels."""
    return lambda d: d.write_image(change(d.voxels))


def spoil_volume(number: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Put a value into a volume: one voxel of it if it is no number, else all of them."""

    def change(voxels: np.ndarray) -> np.ndarray:
        spoiled = voxels.astype(float)
        if np.isfinite(value) and value == 0:
            spoiled[..., number] = value
        else:
            spoiled[3, 4, 1, number] = value
        return spoiled

    return change


def scale_voxels(*spacing_mm: float) -> Callable[[Dataset], object]:
    """Give the series another voxel size."""
    return lambda d: d.write_image(affine=np.diag([-spacing_mm[0], *spacing_mm[1:], 1]))


def replace_by_pipe(dataset: Dataset) -> None:
    dataset.path().unlink()
    os.mkfifo(dataset.path())


def replace_by_folder(dataset: Dataset) -> None:
    dataset.path().unlink()
    dataset.path().mkdir()


def link_to_itself(dataset: Dataset) -> None:
    dataset.replace_by_link(dataset.path(), dataset.path().name)


def cut_unpacked(dataset: Dataset) -> None:
    dataset.unpack(dataset.unpacked()[:-1])


def claim_a_terabyte(dataset: Dataset) -> None:
    """Write a file that is as large as its header says, with hardly anything on disk."""
    path = dataset.unpack(dataset.patched(DIMENSIONS, 4, 20000, 20000, 100, 14))
    os.truncate(path, 352 + 20000 * 20000 * 100 * 14 * 2)


def write_other_format(dataset: Dataset) -> None:
    nib.save(nib.MGHImage(np.ones((8, 8, 8), np.float32), np.eye(4)), dataset.root / "x.mgz")
    (dataset.root / "x.mgz").rename(dataset.path())


def set_forms(turn: np.ndarray, sform_code: int) -> Callable[[Dataset], object]:
    """Let the qform say something else than the sform."""

    def spoil(dataset: Dataset) -> None:
        image = nib.load(dataset.path())
        voxels = np.asarray(image.dataobj)
        nifti = nib.Nifti1Image(voxels, image.affine)
        nifti.set_sform(image.affine, code=sform_code)
        nifti.set_qform(turn @ image.affine, code=1)
        nib.save(nifti, dataset.path())

    return spoil


FAULTS = {
    # files
    "empty": Fault(replace_file(b""), 65, (f"must be NIfTI: {{}}{NAME} cannot be read",)),
    "text": Fault(replace_file(b"see readme " * 99), 65, (f"{NAME} cannot be read",)),
    "other_format": Fault(write_other_format, 65, (f"{NAME}",)),
    "wrong_magic": Fault(lambda d: d.patch(MAGIC, b"nope"), 65, (f"{NAME}",)),
    "folder": Fault(replace_by_folder, 66, ("there is no dwi/*_dwi.nii.gz in",)),
    "pipe": Fault(replace_by_pipe, 65, ("it is a folder, a pipe or a device",)),
    "device": Fault(
        lambda d: d.replace_by_link(d.path(), "/dev/zero"),
        65,
        ("it is a folder, a pipe or a device",),
    ),
    "link_to_itself": Fault(link_to_itself, 65, (f"{NAME} cannot be read",)),
    "broken_link": Fault(
        lambda d: d.replace_by_link(d.path(), "../elsewhere/x.nii.gz"),
        65,
        (f"{NAME} is missing (it is a link to ../elsewhere/x.nii.gz, which does not exist)",),
    ),
    "annex_link": Fault(
        lambda d: d.replace_by_link(d.path(), ANNEX),
        65,
        ("its content is not fetched yet: run datalad get", NAME),
    ),
    "annex_pointer": Fault(
        replace_file(b"/annex/objects/SHA256E-s146504--0ab3.nii.gz\n"),
        65,
        ("its content is not fetched yet: run datalad get", NAME),
    ),
    "lfs_pointer": Fault(
        replace_file(b"version https://git-lfs.github.com/spec/v1\noid sha256:0ab3\nsize 9\n"),
        65,
        ("its content is not fetched yet", NAME),
    ),
    # lengths
    "half": Fault(keep_bytes(slice(0, 15000)), 65, (NOT_WHOLE,)),
    "part_of_the_header": Fault(keep_bytes(slice(0, 90)), 65, (f"{NAME} cannot be read",)),
    "no_checksum": Fault(keep_bytes(slice(0, -8)), 65, (NOT_WHOLE,)),
    "wrong_checksum": Fault(flip_bit(-8), 65, (NOT_WHOLE,)),
    "wrong_gzip_length": Fault(flip_bit(-4), 65, (NOT_WHOLE,)),
    "one_bit": Fault(flip_bit(-9000), 65, (NAME,)),
    "cut_before_packing": Fault(lambda d: d.pack(d.unpacked()[:-1]), 65, (NOT_WHOLE,)),
    "cut_unpacked": Fault(cut_unpacked, 65, ("sub-01_dwi.nii ends early or is damaged",)),
    "packed_twice": Fault(lambda d: d.pack(d.path().read_bytes()), 65, (f"{NAME} cannot be read",)),
    "garbage_behind": Fault(
        lambda d: d.path().write_bytes(d.path().read_bytes() + b"garbage"), 65, (NOT_WHOLE,)
    ),
    "goes_on": Fault(
        lambda d: d.pack(d.unpacked() + bytes(2**21)), 65, (NOT_WHOLE, "more than the")
    ),
    "bomb": Fault(
        lambda d: d.path().write_bytes(gzip.compress(d.unpacked() + bytes(2**27))),
        65,
        (NOT_WHOLE, "more than the"),
    ),
    "claims_more_than_the_file": Fault(
        lambda d: d.patch(DIMENSIONS, 4, 32767, 32767, 32767, 14),
        65,
        (NOT_WHOLE, "bytes on disk cannot hold the"),
    ),
    "claims_more_than_memory": Fault(
        claim_a_terabyte, 65, ("must fit into memory: ", "needs 3129.2 GB")
    ),
    # headers
    "negative_dimension": Fault(lambda d: d.patch(DIMENSIONS, 4, -24, 24, 3, 14), 65, (NAME,)),
    "no_voxels": Fault(
        lambda d: d.patch(DIMENSIONS, 4, 24, 0, 3, 14), 65, ("3D or 4D", "(24, 0, 3, 14)")
    ),
    "too_many_dimensions": Fault(lambda d: d.patch(DIMENSIONS, 99), 65, (NAME,)),
    "plane": Fault(write_voxels(lambda v: v[:, :, 0, 0]), 65, ("3D or 4D", "(24, 24)")),
    "volume": Fault(write_voxels(lambda v: v[..., 0]), 65, (f"{NAME} has 1 volume",)),
    "series_of_one": Fault(write_voxels(lambda v: v[..., :1]), 65, (f"{NAME} has 1 volume",)),
    "five_dimensions": Fault(
        write_voxels(lambda v: v.reshape(24, 24, 3, 7, 2)), 65, ("(24, 24, 3, 7, 2)",)
    ),
    "complex": Fault(
        write_voxels(lambda v: v.astype(np.complex64)), 65, ("must hold real numbers",)
    ),
    "colour": Fault(
        write_voxels(lambda v: np.zeros(v.shape, [(c, "u1") for c in "RGB"])),
        65,
        ("must hold real numbers",),
    ),
    "unknown_type": Fault(lambda d: d.patch(DATATYPE, 12345), 65, (f"{NAME} cannot be read",)),
    "endless_offset": Fault(lambda d: d.patch(OFFSET, 1e30), 65, (NAME,)),
    "singular": Fault(lambda d: d.patch(SROW_Z, 0, 0, 0, 0), 65, (f"{NAME} is singular",)),
    "nan_affine": Fault(lambda d: d.patch(SROW_Z, np.nan), 65, (f"{NAME} is singular",)),
    "no_orientation": Fault(
        lambda d: d.patch(FORM_CODES, 0, 0),
        65,
        (f"{NAME} sets neither qform nor sform, so left and right are unknown",),
    ),
    "contradicting_sides": Fault(
        set_forms(np.diag([-1, 1, 1, 1]), 1),
        65,
        ("qform and sform of an image must agree", "left and right are unknown"),
    ),
    # geometry
    "sagittal": Fault(scale_voxels(3.3, 1, 1), 65, ("must be axial", "slices are sagittal")),
    "coronal": Fault(scale_voxels(1, 3, 1), 65, ("must be axial", "slices are coronal")),
    "in_metres": Fault(scale_voxels(9e-4, 9e-4, 5e-3), 65, ("Check the header and its unit",)),
    "too_coarse": Fault(scale_voxels(4, 4, 5), 65, ("Voxels must resolve the cord",)),
    "too_narrow": Fault(write_voxels(lambda v: v[:12]), 65, ("covers 11 x 22 mm",)),
    # voxels
    "nan": Fault(
        write_voxels(spoil_volume(5, np.nan)),
        65,
        (f"finite numbers: {{}}{NAME} has some that are not in volume 5 (counted from 0)",),
    ),
    "infinite": Fault(
        write_voxels(spoil_volume(0, np.inf)), 65, ("that are not in volume 0 (counted",)
    ),
    "larger_than_float32": Fault(
        write_voxels(spoil_volume(2, 1e300)), 65, ("that are not in volume 2 (counted",)
    ),
    "empty_series": Fault(write_voxels(np.zeros_like), 65, ("has none in volumes 0, 1, 2,",)),
    "negative_series": Fault(write_voxels(lambda v: -v), 65, ("has none in volumes 0, 1, 2,",)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_unusable_image_is_refused_in_a_sentence(
    name: str, expect_refusal: Callable[[Fault], None], dataset: Dataset
) -> None:
    fault = FAULTS[name]
    folder = f"{dataset.path().parent}/"
    expect_refusal(fault._replace(said=tuple(text.replace("{}", folder) for text in fault.said)))


@pytest.mark.parametrize("volume", [0, 13])
def test_an_empty_volume_is_left_out_with_a_warning(
    volume: int, run_app, dataset, tmp_path
) -> None:
    write_voxels(spoil_volume(volume, 0))(dataset)
    code, said = run_app(dataset)
    assert code == 0
    assert f"{NAME} there is no signal in volume {volume} (counted from 0)" in said
    (table,) = (tmp_path / "out").glob("sub-*/dwi/*_desc-outliers_scalarstats.tsv")
    rows = pd.read_csv(table, sep="\t")
    assert (rows.loc[rows["volume"] == volume, "weight"] == 0).all()
    assert rows.loc[rows["volume"] != volume, "weight"].mean() > 0.9

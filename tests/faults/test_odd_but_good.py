"""Datasets that look odd and are good: they are taken, and taken for what they are."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from faults.datasets import FORM_CODES, QUATERNION, Dataset
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy.spatial.transform import Rotation

from scsnet_bids.bids import find_runs
from scsnet_bids.gradients import Gradients, read_gradients, write_gradients
from scsnet_bids.images import Image, read_grid, read_image
from scsnet_bids.run_checks import check_runs
from scsnet_bids.runs import DwiRun
from scsnet_bids.settings import GradientSettings

Read = tuple[Image, Gradients]


def read_run(run: DwiRun) -> Read:
    """Read a series and its gradients as every stage does."""
    image = read_image(run.image)
    n_volumes = image.data.shape[-1]
    return image, read_gradients(run.bval, run.bvec, image.grid, n_volumes, run.image)


def take(dataset: Dataset) -> list[Read]:
    """Find and check all series; none may be refused."""
    good, bad = check_runs(find_runs(dataset.root), GradientSettings())
    assert bad == {}
    return [read_run(run) for run in good]


@pytest.fixture
def expected(dataset: Dataset) -> Read:
    """Read the series before anything odd is done to it."""
    return take(dataset)[0]


def assert_same(found: Read, expected: Read, atol: float = 0.0) -> None:
    """Compare voxels, place and directions."""
    np.testing.assert_allclose(found[0].data, expected[0].data, atol=atol)
    np.testing.assert_allclose(found[0].grid.affine, expected[0].grid.affine, atol=1e-4)
    np.testing.assert_allclose(found[1].bvals, expected[1].bvals)
    np.testing.assert_allclose(found[1].bvecs, expected[1].bvecs, atol=1e-5)


def store(dataset: Dataset, order: str) -> None:
    """Store the series, and its b-vectors, in another voxel order."""
    turn = ornt_transform(io_orientation(dataset.affine), axcodes2ornt(order))
    voxels, affine = dataset.voxels, dataset.affine
    gradients = take(dataset)[0][1]
    moved = affine @ inv_ornt_aff(turn, voxels.shape[:3])
    dataset.write_image(apply_orientation(voxels, turn), moved)
    grid, _ = read_grid(dataset.path())
    write_gradients(dataset.path(".bval"), dataset.path(".bvec"), gradients, grid)


@pytest.mark.parametrize("order", ["LAS", "RAS", "LPS", "PIL", "SRA", "AIR"])
def test_every_voxel_order_is_the_same_series(order: str, dataset: Dataset, expected: Read) -> None:
    store(dataset, order)
    assert "".join(nib.aff2axcodes(dataset.affine)) == order
    assert_same(take(dataset)[0], expected)


@pytest.mark.parametrize("tilt_deg", [-25, 12, 40])
def test_oblique_slices_are_taken(tilt_deg: float, dataset: Dataset, expected: Read) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", tilt_deg, degrees=True).as_matrix()
    dataset.write_image(affine=turn @ dataset.affine)
    image, gradients = take(dataset)[0]
    np.testing.assert_array_equal(image.data, expected[0].data)
    np.testing.assert_allclose(gradients.bvecs, expected[1].bvecs @ turn[:3, :3].T, atol=1e-5)


def keep_as(kind: str) -> Callable[[Dataset], object]:
    return lambda d: d.write_image(d.voxels.astype(kind))


def scale_integers(dataset: Dataset) -> None:
    """Store half of every value, and say so in the header."""
    nifti = nib.Nifti1Image(dataset.voxels, dataset.affine)
    nifti.header.set_slope_inter(1, 0)
    content = bytearray(nifti.to_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()
    content[352:] = np.frombuffer(bytes(content[352:]), "<i2").astype("<i2").tobytes()
    dataset.pack(bytes(content))


def swap_bytes(dataset: Dataset) -> None:
    """Store the series as a machine of the other byte order would."""
    image = nib.load(dataset.path())
    header = image.header.as_byteswapped(">")
    voxels = np.asarray(image.dataobj)
    dataset.path().unlink()
    nib.save(nib.Nifti1Image(voxels, image.affine, header), dataset.path())


def pad(dataset: Dataset) -> None:
    dataset.pack(dataset.unpacked() + bytes(512))


def pack_in_two_members(dataset: Dataset) -> None:
    content = dataset.unpacked()
    dataset.path().write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))


SAME_SERIES: dict[str, Callable[[Dataset], object]] = {
    "float64": keep_as("f8"),
    "unsigned": keep_as("u2"),
    "int32": keep_as("i4"),
    "big_endian": swap_bytes,
    "unpacked": lambda d: d.unpack(),
    "padded": pad,
    "two_gzip_members": pack_in_two_members,
    "five_dimensions_with_one": lambda d: d.write_image(d.voxels[..., None]),
    "volumes_on_the_fifth_axis": lambda d: d.write_image(d.voxels[..., None, :]),
    "only_sform": lambda d: d.patch(FORM_CODES, 0, 1),
    "bvecs_in_columns": lambda d: d.write_bvecs(d.bvecs.T),
    "bvecs_of_any_length": lambda d: d.write_bvecs(d.bvecs * 1000),
    "bvecs_with_commas": lambda d: np.savetxt(d.path(".bvec"), d.bvecs, delimiter=", "),
    "bvecs_with_nan_at_b0": lambda d: d.write_bvecs(np.where(d.bvals == 0, np.nan, d.bvecs)),
    "bvals_in_a_column": lambda d: np.savetxt(d.path(".bval"), d.bvals),
    "line_ends_of_windows": lambda d: d.path(".bval").write_bytes(
        d.path(".bval").read_bytes().replace(b"\n", b"\r\n")
    ),
    "utf16": lambda d: d.path(".bvec").write_text(d.path(".bvec").read_text(), encoding="utf-16"),
    "no_sidecar": lambda d: d.path(".json").unlink(),
    "sidecar_with_nan": lambda d: d.path(".json").write_text('{"EchoTime": NaN, "x": 1e999}'),
    "sidecar_with_byte_order_mark": lambda d: d.path(".json").write_text(
        '{"EchoTime": 1}', encoding="utf-8-sig"
    ),
    "rules_for_names": lambda d: d.write_json({"name": 3, "entities": [1]}, "layout_config.json"),
    "ignored_rubbish": lambda d: (d.root / "sub-01/dwi/.DS_Store").write_bytes(b"\0"),
    "derivatives_inside": lambda d: shutil.copytree(d.root / "sub-01", d.root / "derivatives/x"),
}


@pytest.mark.parametrize("name", SAME_SERIES)
def test_the_same_series_written_otherwise_is_the_same(
    name: str, dataset: Dataset, expected: Read
) -> None:
    SAME_SERIES[name](dataset)
    (found,) = take(dataset)
    assert_same(found, expected)


def test_scaled_integers_are_read_as_their_values(dataset: Dataset, expected: Read) -> None:
    scale_integers(dataset)
    image, _ = take(dataset)[0]
    np.testing.assert_allclose(image.data, expected[0].data * 0.5 + 10)


@pytest.mark.parametrize("b", [5, 10, 1.29])
def test_small_b_values_count_as_b0(b: float, dataset: Dataset) -> None:
    dataset.write_bvals(np.where(dataset.bvals == 0, b, dataset.bvals))
    (_, gradients) = take(dataset)[0]
    assert sorted(set(gradients.bvals)) == [b, 800]


def test_several_shells_are_taken(dataset: Dataset) -> None:
    bvals = dataset.bvals
    bvals[-3:] = 2000
    dataset.write_bvals(bvals)
    assert len(take(dataset)) == 1


def write_both_forms(dataset: Dataset, turn_deg: float, qform_code: int) -> None:
    """Let the qform be turned away from the sform."""
    nifti = nib.Nifti1Image(dataset.voxels, dataset.affine)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
    nifti.set_sform(dataset.affine, code=1)
    nifti.set_qform(turn @ dataset.affine, code=qform_code)
    nib.save(nifti, dataset.path())


def test_a_qform_unlike_the_sform_is_told_and_not_used(
    dataset: Dataset, expected: Read, caplog: pytest.LogCaptureFixture
) -> None:
    write_both_forms(dataset, 8, qform_code=1)
    assert_same(take(dataset)[0], expected)
    assert "qform and sform differ by 8 degrees" in caplog.text
    assert "the sform is used" in caplog.text


def test_a_qform_that_is_not_set_does_not_count(
    dataset: Dataset, expected: Read, caplog: pytest.LogCaptureFixture
) -> None:
    write_both_forms(dataset, 90, qform_code=0)
    assert_same(take(dataset)[0], expected)
    assert caplog.text == ""


def test_a_broken_qform_beside_a_good_sform_does_not_count(
    dataset: Dataset, expected: Read
) -> None:
    write_both_forms(dataset, 0, qform_code=1)
    dataset.patch(QUATERNION, 9.0, 9.0, 9.0)
    assert_same(take(dataset)[0], expected)


def test_a_qform_alone_is_used(dataset: Dataset, expected: Read) -> None:
    nifti = nib.Nifti1Image(dataset.voxels, None)
    nifti.set_qform(dataset.affine, code=1)
    nib.save(nifti, dataset.path())
    assert_same(take(dataset)[0], expected)


@pytest.mark.parametrize("n_slices", [1, 2, 3, 200])
def test_any_number_of_slices_is_taken(n_slices: int, dataset: Dataset) -> None:
    dataset.write_image(np.resize(dataset.voxels[:, :, :1], (24, 24, n_slices, 14)))
    assert take(dataset)[0][0].data.shape == (24, 24, n_slices, 14)


def test_an_odd_matrix_is_taken(dataset: Dataset) -> None:
    dataset.write_image(dataset.voxels[:23, :, :])
    assert take(dataset)[0][0].data.shape == (23, 24, 3, 14)


def add_series(dataset: Dataset, *prefixes: str) -> None:
    """Copy the series under other names."""
    for prefix in prefixes:
        folders = [part for part in prefix.split("_") if part[:4] in ("sub-", "ses-")]
        folder = dataset.root.joinpath(*folders, "dwi")
        folder.mkdir(parents=True, exist_ok=True)
        for end in (".nii.gz", ".bval", ".bvec", ".json"):
            shutil.copy(dataset.path(end), folder / f"{prefix}_dwi{end}")


@pytest.mark.parametrize(
    "prefixes",
    [
        ("sub-01_run-1", "sub-01_run-2", "sub-01_run-10"),
        ("sub-02_ses-a", "sub-02_ses-b_run-01", "sub-02_ses-b_run-02"),
        ("sub-01_chunk-1", "sub-01_chunk-2"),
        ("sub-01_dir-AP", "sub-01_dir-PA"),
        ("sub-01_rec-norm",),
        ("sub-01_acq-ax_part-mag",),
        ("sub-1+a",),
        ("sub-001", "sub-0001"),
    ],
    ids=lambda prefixes: prefixes[0],
)
def test_many_series_are_kept_apart(prefixes: tuple[str, ...], dataset: Dataset) -> None:
    add_series(dataset, *prefixes)
    good, bad = check_runs(find_runs(dataset.root), GradientSettings())
    assert bad == {}
    assert {run.prefix for run in good} == {"sub-01", *prefixes}
    assert all(a.output_folder / a.prefix != b.output_folder / b.prefix for a, b in pairwise(good))


LINKS: dict[str, Callable[[Path], object]] = {
    "dataset": lambda root: move_and_link(root, root.parent / "elsewhere"),
    "participant": lambda root: move_and_link(root / "sub-01", root.parent / "elsewhere"),
    "modality": lambda root: move_and_link(root / "sub-01/dwi", root.parent / "elsewhere"),
    "image": lambda root: move_and_link(
        root / "sub-01/dwi/sub-01_dwi.nii.gz", root.parent / "other.nii.gz"
    ),
    "annex": lambda root: move_and_link(
        root / "sub-01/dwi/sub-01_dwi.nii.gz",
        root / ".git/annex/objects/f8/9G/MD5E-s1--0.nii.gz/MD5E-s1--0.nii.gz",
    ),
}


def move_and_link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("name", LINKS)
def test_links_are_followed_wherever_they_lead(name: str, dataset: Dataset, expected: Read) -> None:
    LINKS[name](dataset.root)
    assert_same(take(dataset)[0], expected)


@pytest.mark.parametrize(
    "name", ["a b", "été", "it's $(touch x); \"#?&%20", "a\nb", "x::y", "*[a]"]
)
def test_any_folder_name_will_do(name: str, dataset: Dataset, expected: Read) -> None:
    moved = dataset.root.with_name(name)
    dataset.root.rename(moved)
    assert_same(take(Dataset(moved))[0], expected)


def run_one_slice(dataset: Dataset) -> None:
    dataset.write_image(dataset.voxels[:, :, 1:2])


def run_odd_files(dataset: Dataset) -> None:
    """Do several odd things at once."""
    store(dataset, "PIL")
    dataset.write_image(dataset.voxels.astype(float)[..., None])
    dataset.write_bvecs(dataset.bvecs.T * 3)
    dataset.write_bvals(np.where(dataset.bvals == 0, 5, dataset.bvals))
    shutil.copytree(dataset.root / "sub-01", dataset.root.parent / "el sè where")
    shutil.rmtree(dataset.root / "sub-01")
    (dataset.root / "sub-01").symlink_to(dataset.root.parent / "el sè where")


def run_a_plus(dataset: Dataset) -> None:
    """Use the one sign that labels may hold, in a dataset of sessions and runs."""
    add_series(dataset, "sub-1+a_ses-b_rec-c_run-01_chunk-2")
    shutil.rmtree(dataset.root / "sub-01")


@pytest.mark.parametrize("make_odd", [run_one_slice, run_odd_files, run_a_plus])
def test_the_whole_app_takes_odd_series(
    make_odd: Callable[[Dataset], None],
    dataset: Dataset,
    run_app: Callable[..., tuple[int, str]],
    tmp_path: Path,
) -> None:
    make_odd(dataset)
    moved = dataset.root.with_name("données d'été")
    dataset.root.rename(moved)
    code, said = run_app(Dataset(moved))
    assert code == 0, said
    (table,) = (tmp_path / "out").rglob("*_seg-SCSNet_scalarstats.tsv")
    assert "FA" in table.read_text()


def test_a_sidecar_cannot_speak_to_the_terminal(
    dataset: Dataset, run_app: Callable[..., tuple[int, str]]
) -> None:
    dataset.path(".json").write_text('{"PhaseEncodingDirection": ["\\u001b[2J hello"]}')
    code, said = run_app(dataset, "--dry-run")
    assert code == 0
    assert "\x1b" not in said
    assert "hello" not in said

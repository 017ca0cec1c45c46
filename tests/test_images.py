from __future__ import annotations

import gzip
from contextlib import suppress
from itertools import chain, permutations, product, starmap
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from scsnet_bids.errors import ImageError, OutputError
from scsnet_bids.images import Grid, Image, read_grid, read_image, write_image, write_series

ORIENTATIONS = [
    "".join(signed) for axes in permutations(("RL", "AP", "SI")) for signed in product(*axes)
]
SHAPE = (4, 3, 2)
same_folder = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def oblique_affine(angles_rad: tuple[float, float, float] = (0.1, -0.2, 0.15)) -> np.ndarray:
    """LPS axes with unequal spacing, tilted a little, away from the origin."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        i, j = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        turn = turn @ step
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, -1.1, 5.0])
    affine[:3, 3] = 12.0, -7.0, 30.0
    return affine


def store(path: Path, inner: np.ndarray, affine: np.ndarray, orientation: str) -> Path:
    """Write an LPS array with nibabel alone, in any storage order."""
    to_storage = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(orientation))
    stored = apply_orientation(inner, to_storage)
    nib.save(nib.Nifti1Image(stored, affine @ inv_ornt_aff(to_storage, inner.shape)), path)
    return path


@pytest.fixture
def inner(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_storage_order_is_read_into_the_same_inner_array(
    orientation: str, inner: np.ndarray, tmp_path: Path
) -> None:
    path = store(tmp_path / "x.nii.gz", inner, oblique_affine(), orientation)
    image = read_image(path)
    np.testing.assert_array_equal(image.data, inner)
    np.testing.assert_allclose(image.grid.affine, oblique_affine(), atol=1e-5)
    assert image.grid.shape == SHAPE


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_writing_restores_storage_order_affine_and_voxels(
    orientation: str, inner: np.ndarray, tmp_path: Path
) -> None:
    source = store(tmp_path / "x.nii.gz", inner, oblique_affine(), orientation)
    copy = write_image(tmp_path / "y.nii.gz", read_image(source))
    before, after = nib.load(source), nib.load(copy)
    assert nib.aff2axcodes(after.affine) == tuple(orientation)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    # Real numbers keep 16 significant bits.
    np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), rtol=2**-16)


def lie_on(shape: tuple[int, ...]) -> Grid:
    """Grid of an image with this shape."""
    return Grid(shape[:3], oblique_affine(), ornt_transform(*map(axcodes2ornt, ("LPS", "RAS"))))


def test_what_a_real_number_loses_is_less_than_one_part_in_65000(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    values = (rng.normal(size=(9, 9, 9)) * 10.0 ** rng.integers(-9, 9, (9, 9, 9))).astype("f4")
    values[0, 0, :6] = 0, 1, 0.5, np.nan, np.inf, -np.inf
    path = write_image(tmp_path / "x.nii.gz", Image(values, lie_on(values.shape)))
    read = read_image(path).data
    np.testing.assert_array_equal(read[0, 0, :6], values[0, 0, :6])
    finite = np.isfinite(values)
    np.testing.assert_allclose(read[finite], values[finite], rtol=2**-16, atol=0)
    assert not np.array_equal(read[finite], values[finite])


@pytest.mark.parametrize("scale", [1e-3, 1, 700])
def test_a_series_is_stored_in_16_bits_finer_than_a_thousandth_of_its_signal(
    scale: float, rng: np.random.Generator, tmp_path: Path
) -> None:
    values = (scale * rng.gamma(2, 200, (12, 11, 5, 6))).astype(np.float32)
    values[0, 0, 0] -= scale
    path = write_series(tmp_path / "x.nii.gz", Image(values, lie_on(values.shape)))
    assert nib.load(path).get_data_dtype() == np.int16
    read = read_image(path).data
    assert 0 < np.abs(read - values).max() < 1e-3 * values.mean()


def test_the_whole_numbers_of_a_scanner_are_kept_as_they_are(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    values = rng.integers(0, 4096, (12, 11, 5, 6)).astype(np.float32)
    path = write_series(tmp_path / "x.nii.gz", Image(values, lie_on(values.shape)))
    np.testing.assert_array_equal(read_image(path).data, values)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e7, -1e7])
def test_a_series_that_16_bits_cannot_hold_stays_real(
    odd: float, rng: np.random.Generator, tmp_path: Path
) -> None:
    values = rng.gamma(2, 200, (12, 11, 5, 6)).astype(np.float32)
    values[3, 3, 3, 3] = odd
    path = write_series(tmp_path / "x.nii.gz", Image(values, lie_on(values.shape)))
    np.testing.assert_allclose(read_image(path).data, values, rtol=2**-16)


def test_a_series_without_signal_can_be_written(tmp_path: Path) -> None:
    values = np.zeros((3, 3, 3, 2), np.float32)
    path = write_series(tmp_path / "x.nii.gz", Image(values, lie_on(values.shape)))
    np.testing.assert_array_equal(read_image(path).data, values)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_storage_affine_is_that_of_the_file(
    orientation: str, inner: np.ndarray, tmp_path: Path
) -> None:
    path = store(tmp_path / "x.nii.gz", inner, oblique_affine(), orientation)
    grid, n_volumes = read_grid(path)
    assert n_volumes == 1
    np.testing.assert_allclose(grid.storage_affine, nib.load(path).affine, atol=1e-5)


@same_folder
@given(
    data=arrays(np.int16, st.tuples(*[st.integers(1, 4)] * 3, st.integers(2, 3))),
    orientation=st.sampled_from(ORIENTATIONS),
    angles_rad=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_a_series_survives_writing_and_reading(
    data: np.ndarray, orientation: str, angles_rad: tuple[float, float, float], tmp_path: Path
) -> None:
    path = store(tmp_path / "x.nii.gz", data, oblique_affine(angles_rad), orientation)
    first = read_image(path, dtype=np.int16)
    second = read_image(write_image(tmp_path / "y.nii.gz", first), dtype=np.int16)
    np.testing.assert_array_equal(first.data, data)
    np.testing.assert_array_equal(second.data, data)
    assert second.grid.matches(first.grid)


def test_inner_axes_are_left_posterior_superior(tmp_path: Path) -> None:
    stored = np.zeros((5, 5, 5), np.float32)
    stored[0, 4, 4] = 1  # RAS storage: leftmost, frontmost, topmost
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "x.nii.gz")
    where = np.argwhere(read_image(tmp_path / "x.nii.gz").data == 1)
    assert where.tolist() == [[4, 0, 4]]


def test_repetition_time_and_spacing_are_kept(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), oblique_affine())
    nifti.header["pixdim"][4] = 2.5
    nib.save(nifti, tmp_path / "x.nii.gz")
    image = read_image(tmp_path / "x.nii.gz")
    again, _ = read_grid(write_image(tmp_path / "y.nii.gz", image))
    assert again.repetition_time_s == 2.5
    np.testing.assert_allclose(again.spacing_mm, (0.9, 1.1, 5.0), rtol=1e-5)


def test_scaled_integers_are_read_as_their_values(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(np.full((2, 2, 2), 3, np.int16), np.eye(4))
    nifti.header.set_slope_inter(0.5, 10)
    nib.save(nifti, tmp_path / "x.nii.gz")
    expected = np.asanyarray(nib.load(tmp_path / "x.nii.gz").dataobj).mean()
    assert read_image(tmp_path / "x.nii.gz").data.mean() == pytest.approx(expected)


def test_a_header_can_be_read_without_its_voxels(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 6), np.float32), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:400])
    grid, n_volumes = read_grid(path)
    assert (grid.shape, n_volumes) == ((4, 4, 4), 6)


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.ones((2, 3, 4, 5, 1), np.float32), np.eye(4)), tmp_path / "x.nii.gz"
    )
    assert read_image(tmp_path / "x.nii.gz").data.shape == (2, 3, 4, 5)
    assert read_grid(tmp_path / "x.nii.gz")[1] == 5


@pytest.mark.parametrize("shape", [(4, 4), (2, 2, 2, 2, 3)])
def test_an_image_that_is_not_3d_or_4d_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "flat.nii.gz")
    for read in (read_grid, read_image):
        with pytest.raises(ImageError, match=r"3D or 4D.*flat\.nii\.gz"):
            read(tmp_path / "flat.nii.gz")


@pytest.mark.parametrize("broken", ["singular", "nan"])
def test_an_unusable_affine_is_refused(broken: str, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[2, :3] = 0.0 if broken == "singular" else np.nan
    nifti = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    nifti.header.set_sform(affine, code=1)
    nifti.header["srow_z"] = affine[2]
    raw = bytearray(nifti.to_bytes())
    raw[312:328] = affine[2].astype("<f4").tobytes()
    (tmp_path / "bent.nii").write_bytes(raw)
    with pytest.raises(ImageError, match=r"bent\.nii is singular or not finite"):
        read_grid(tmp_path / "bent.nii")


@pytest.mark.parametrize("kind", ["c8", "RGB"])
def test_an_image_that_holds_no_real_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    dtype = np.dtype([(channel, "u1") for channel in kind]) if kind == "RGB" else np.dtype(kind)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), dtype), np.eye(4)), tmp_path / "odd.nii.gz")
    with pytest.raises(ImageError, match=r"real numbers: .*odd\.nii\.gz"):
        read_image(tmp_path / "odd.nii.gz")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_damaged_header_raises_nothing_but_an_image_error(value: int, tmp_path: Path) -> None:
    path = tmp_path / "worn.nii"
    whole = nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.float32), np.eye(4)).to_bytes()
    shape_type_offset_and_affine = (40, 56), (70, 74), (108, 116), (252, 328)
    for place in chain.from_iterable(starmap(range, shape_type_offset_and_affine)):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        with suppress(ImageError):
            read_image(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.nii\.gz is missing"):
        read_image(tmp_path / "absent.nii.gz")


def test_a_link_to_absent_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "annex" / "gone")
    with pytest.raises(ImageError, match=r"link\.nii\.gz is missing"):
        read_image(tmp_path / "link.nii.gz")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x1f\x8b broken gzip"])
@pytest.mark.parametrize("name", ["bad.nii", "bad.nii.gz"])
def test_a_file_that_is_no_image_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name):
        read_grid(tmp_path / name)


def test_an_image_of_another_format_is_named(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "x.mgz")
    with pytest.raises(ImageError, match="MGHImage"):
        read_grid(tmp_path / "x.mgz")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("name", ["cut.nii", "cut.nii.gz"])
def test_a_truncated_image_is_found(
    kept: float, name: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    path = tmp_path / name
    nib.save(nib.Nifti1Image(rng.normal(size=(16, 16, 8, 4)), np.eye(4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ImageError, match=name):
        read_image(path)


def test_an_image_cut_before_it_was_packed_is_found(tmp_path: Path) -> None:
    whole = nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(whole[:1000]))
    with pytest.raises(ImageError, match=r"cut\.nii\.gz"):
        read_image(tmp_path / "cut.nii.gz")


@same_folder
@given(place=st.floats(0.05, 0.99), flipped=st.integers(1, 255))
def test_a_damaged_packed_image_raises_nothing_but_an_image_error(
    place: float, flipped: int, tmp_path: Path
) -> None:
    voxels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    path = tmp_path / "worn.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= flipped
    path.write_bytes(raw)
    with suppress(ImageError):
        assert read_image(path).data.shape == read_grid(path)[0].shape


def test_a_failed_write_leaves_the_earlier_file(inner: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    grid = Grid(SHAPE, oblique_affine(), np.array([[0, 1], [1, 1], [2, 1]]))
    write_image(path, Image(inner, grid))
    before = path.read_bytes()
    with pytest.raises(Exception, match="bool"):
        write_image(path, Image(inner.astype(bool), grid))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_an_unwritable_place_is_named(inner: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    grid = Grid(SHAPE, oblique_affine(), np.array([[0, 1], [1, 1], [2, 1]]))
    with pytest.raises(OutputError, match=r"x\.nii\.gz cannot be written"):
        write_image(tmp_path / "file" / "x.nii.gz", Image(inner, grid))


def test_grids_match_by_shape_and_place(tmp_path: Path) -> None:
    grid = Grid(SHAPE, oblique_affine(), np.array([[0, 1], [1, 1], [2, 1]]))
    moved = oblique_affine()
    moved[0, 3] += 0.01
    assert grid.matches(grid.resized(SHAPE, oblique_affine()))
    assert not grid.matches(grid.resized(SHAPE, moved))
    assert not grid.matches(grid.resized((4, 3, 3), oblique_affine()))


@pytest.mark.data
@pytest.mark.parametrize("participant", ["01", "02"])
def test_real_series_survive_writing_and_reading(
    participant: str, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / f"ds-cord/sub-{participant}/dwi/sub-{participant}_dwi.nii.gz"
    image = read_image(source)
    copy = read_image(write_image(tmp_path / "copy.nii.gz", image))
    np.testing.assert_array_equal(copy.data, image.data)
    assert copy.grid.matches(image.grid)
    assert nib.aff2axcodes(nib.load(tmp_path / "copy.nii.gz").affine) == ("L", "A", "S")

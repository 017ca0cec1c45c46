from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fsl.data.image import Image as FslImage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.linalg import polar

from scsnet_bids.errors import GradientError
from scsnet_bids.gradient_checks import check_gradients
from scsnet_bids.gradients import (
    Gradients,
    Shell,
    b0_volumes,
    fsl_to_ras_bvecs,
    list_shells,
    ras_to_fsl_bvecs,
    read_gradients,
    tensor_volumes,
    write_gradients,
)
from scsnet_bids.images import Grid, read_grid
from scsnet_bids.settings import GradientSettings

ReadWritten = Callable[..., Gradients]
IMAGE = Path("sub-01_dwi.nii.gz")
SETTINGS = GradientSettings()
SQUARE = 1 / np.sqrt(2)
SIX = np.array(
    [
        [SQUARE, SQUARE, 0],
        [SQUARE, -SQUARE, 0],
        [SQUARE, 0, SQUARE],
        [SQUARE, 0, -SQUARE],
        [0, SQUARE, SQUARE],
        [0, SQUARE, -SQUARE],
    ]
)
BVALS = np.array([0.0] + [800.0] * 6)
BVECS = np.vstack([np.zeros(3), SIX])
ORIENTATIONS = ["LPS", "RAS", "LAS", "RPI", "ASR", "PIL", "SRP", "ILA"]


def stored_as(orientation: str, turn: np.ndarray | None = None) -> Grid:
    """Grid of an LPS image of unequal spacing, turned, stored in another order."""
    storage = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(orientation))
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag([-0.9, -0.9, 5.0])
    return Grid((4, 5, 6), affine, storage)


def rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation by Rodrigues' formula; the vector is axis times angle."""
    angle = np.linalg.norm(vector) + 1e-12
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.fixture
def write(tmp_path: Path) -> ReadWritten:
    """Write gradient files from text and read them for an image of n volumes."""

    def write_and_read(bval: str | bytes, bvec: str | bytes, n: int = 3) -> Gradients:
        for name, content in (("x.bval", bval), ("x.bvec", bvec)):
            raw = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(raw)
        return read_gradients(tmp_path / "x.bval", tmp_path / "x.bvec", stored_as("LAS"), n, IMAGE)

    return write_and_read


def test_fsl_sign_rule_by_hand() -> None:
    # LAS: determinant negative, no sign change. File axes run left, anterior, superior.
    np.testing.assert_allclose(
        fsl_to_ras_bvecs(np.array([[0.6, 0.8, 0.0]]), stored_as("LAS")), [[-0.6, 0.8, 0.0]]
    )
    # RAS: determinant positive, first component negated. File axes run right, anterior, superior.
    np.testing.assert_allclose(
        fsl_to_ras_bvecs(np.array([[0.6, 0.8, 0.0]]), stored_as("RAS")), [[-0.6, 0.8, 0.0]]
    )
    # LPS: determinant positive; first component negated, then left is -x and posterior is -y.
    np.testing.assert_allclose(
        fsl_to_ras_bvecs(np.array([[0.6, 0.8, 0.0]]), stored_as("LPS")), [[0.6, -0.8, 0.0]]
    )
    # SRP: determinant negative; the first file axis runs up, the second right, the third back.
    np.testing.assert_allclose(
        fsl_to_ras_bvecs(np.array([[0.6, 0.8, 0.0]]), stored_as("SRP")), [[0.8, 0.0, 0.6]]
    )


def test_las_and_ras_files_of_one_scan_hold_the_same_bvecs() -> None:
    directions = SIX @ rotation(np.array([0.3, -0.2, 0.5])).T
    np.testing.assert_allclose(
        ras_to_fsl_bvecs(directions, stored_as("LAS")),
        ras_to_fsl_bvecs(directions, stored_as("RAS")),
        atol=1e-12,
    )


def test_bvecs_turn_with_an_oblique_scan() -> None:
    # A quarter turn about the head axis: what was right becomes anterior.
    quarter = rotation(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(
        fsl_to_ras_bvecs(np.array([[-1.0, 0, 0]]), stored_as("LAS", quarter)),
        [[0.0, 1.0, 0.0]],
        atol=1e-12,
    )


def test_voxel_size_does_not_bend_bvecs() -> None:
    oblique = stored_as("LAS", rotation(np.array([0.2, 0.1, -0.4])))
    turned = fsl_to_ras_bvecs(SIX, oblique)
    np.testing.assert_allclose(turned @ turned.T, SIX @ SIX.T, atol=1e-12)


def test_a_sheared_affine_gives_the_nearest_rotation_of_its_axes() -> None:
    sheared = stored_as("LAS")
    sheared.affine[:3, :3] = sheared.affine[:3, :3] @ [[1, 0.1, 0], [0, 1, 0.3], [0, 0, 1]]
    axes = sheared.storage_affine[:3, :3] / np.linalg.norm(sheared.storage_affine[:3, :3], axis=0)
    turned = fsl_to_ras_bvecs(np.eye(3), sheared)
    np.testing.assert_allclose(turned, polar(axes)[0].T, atol=1e-12)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    turn=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    seed=st.integers(0, 1000),
)
def test_gradients_survive_writing_and_reading(
    orientation: str, turn: tuple[float, float, float], seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    bvecs = rng.normal(size=(9, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs[0] = 0
    gradients = Gradients(np.r_[0, rng.uniform(5, 3000, 8)], bvecs)
    grid = stored_as(orientation, rotation(np.array(turn)))
    paths = tmp_path / "y.bval", tmp_path / "y.bvec"
    write_gradients(*paths, gradients, grid)
    again = read_gradients(*paths, grid, 9, IMAGE)
    np.testing.assert_allclose(again.bvecs, gradients.bvecs, atol=1e-6)
    np.testing.assert_allclose(again.bvals, gradients.bvals, rtol=1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_fsl_and_ras_bvecs_are_inverse(orientation: str) -> None:
    grid = stored_as(orientation, rotation(np.array([0.2, 0.3, 0.1])))
    np.testing.assert_allclose(fsl_to_ras_bvecs(ras_to_fsl_bvecs(SIX, grid), grid), SIX, atol=1e-12)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_bvecs_point_where_fslpy_says_fsl_coordinates_point(orientation: str) -> None:
    grid = stored_as(orientation, rotation(np.array([0.2, 0.3, 0.1])))
    fsl_to_world = FslImage(np.zeros((4, 5, 6)), xform=grid.storage_affine).getAffine(
        "fsl", "world"
    )
    np.testing.assert_allclose(fsl_to_ras_bvecs(SIX, grid), SIX @ fsl_to_world[:3, :3].T, atol=1e-6)


def test_storage_order_of_the_inner_axes_is_respected() -> None:
    for orientation in ORIENTATIONS:
        affine = stored_as(orientation).storage_affine
        expected = stored_as("LPS").affine @ inv_ornt_aff(
            ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(orientation)), (4, 5, 6)
        )
        np.testing.assert_allclose(affine, expected)


def test_written_files_have_three_rows_and_single_blanks(tmp_path: Path) -> None:
    paths = tmp_path / "y.bval", tmp_path / "y.bvec"
    write_gradients(*paths, Gradients(BVALS, -BVECS), stored_as("LAS"))
    assert paths[0].read_text() == "0 800 800 800 800 800 800\n"
    rows = paths[1].read_text().splitlines()
    assert [len(row.split(" ")) for row in rows] == [7, 7, 7]
    assert "-0 " not in paths[1].read_text()


@pytest.mark.parametrize(
    "bvec",
    [
        "0 1 0\n0 0 1\n0 0 0\n",
        "  0\t1   0 \r\n\r\n0 0 1\r\n0 0 0\r\n\r\n",
        "0,1,0\n0, 0, 1\n0 ,0 ,0",
        b"\xef\xbb\xbf0 1 0\n0 0 1\n0 0 0\n",
        "0 1 0\n0 0 1\n0 0 0\n".encode("utf-16"),
        "nan 1 0\nnan 0 1\nnan 0 0\n",
        "4e-9 1 0\n0 0 1\n0 0 0\n",
        "0 2 0\n0 0 2\n0 0 0\n",
        "0 0.2 0\n0 0 0.2\n0 0 0\n",
        "0 0.98 0\n0 0 1.01\n0 0 0\n",
    ],
    ids=[
        "plain",
        "blanks",
        "commas",
        "bom",
        "utf16",
        "nan_at_b0",
        "tiny_at_b0",
        "scaled",
        "short",
        "rounded",
    ],
)
def test_odd_but_clear_bvec_files_are_read(bvec: str | bytes, write: ReadWritten) -> None:
    expected = [[0, 0, 0], [-1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(write("0 1000 1000", bvec).bvecs, expected, atol=1e-12)


def test_at_b0_the_length_of_a_vector_says_nothing(write: ReadWritten) -> None:
    bvecs = write("0 1000 1000", "0 1 0\n0.5 0 1\n0 0 0\n").bvecs
    np.testing.assert_allclose(bvecs, [[0, 1, 0], [-1, 0, 0], [0, 1, 0]], atol=1e-12)


def test_three_rows_win_where_rows_and_columns_are_three(write: ReadWritten) -> None:
    bvecs = write("0 1000 1000", "0 0 0\n0 1 0\n0 0 1\n").bvecs
    np.testing.assert_allclose(bvecs, [[0, 0, 0], [0, 1, 0], [0, 0, 1]], atol=1e-12)


def test_transposed_files_are_read_the_same(write: ReadWritten) -> None:
    rows = "\n".join(" ".join(map(str, row)) for row in BVECS.T)
    columns = "\n".join(" ".join(map(str, row)) for row in BVECS)
    one = write(" ".join(map(str, BVALS)), rows, 7)
    other = write("\n".join(map(str, BVALS)), columns, 7)
    np.testing.assert_array_equal(one.bvecs, other.bvecs)
    np.testing.assert_array_equal(one.bvals, other.bvals)


@pytest.mark.parametrize(
    ("bval", "bvec", "expected"),
    [
        ("0 1 1", "0 1\n0 0\n0 0\n", "3 volumes, x.bval 3 b-values, x.bvec 2 b-vectors"),
        ("0 1", "0 1 1\n0 0 0\n0 0 0\n", "3 volumes, x.bval 2 b-values, x.bvec 3 b-vectors"),
        ("", "0 1 1\n0 0 0\n0 0 0\n", "x.bval 0 b-values"),
        ("0 1 1", "", "rows of no numbers"),
        ("0 1 1", "0 1 1\n0 0\n0 0 0\n", "rows of 2 or 3 numbers"),
        ("0 1 1", "0 1 1\n0 0 0\n", "2 rows of 3 numbers|3 volumes"),
        ("0 1 1", "0 1 1\n0 x 0\n0 0 0\n", r"numbers only: .*x\.bvec"),
        ("0 one 1", "0 1 1\n0 0 0\n0 0 0\n", r"numbers only: .*x\.bval"),
        ("0 -5 1", "0 1 1\n0 0 0\n0 0 0\n", r"x\.bval has -5 in volume 1 "),
        ("0 nan inf", "0 1 1\n0 0 0\n0 0 0\n", r"x\.bval has nan, inf in volumes 1, 2 "),
        ("0 2e5 1", "0 1 1\n0 0 0\n0 0 0\n", r"x\.bval has 200000 in volume 1 "),
        ("0 1 1", "0 1 0\n0 0 0.85\n0 0 0\n", r"share one length: in .*x\.bvec .*0\.85 to 1"),
    ],
)
def test_unusable_files_are_named_with_what_is_wrong(
    bval: str,
    bvec: str,
    expected: str,
    write: ReadWritten,
) -> None:
    with pytest.raises(GradientError, match=expected) as caught:
        write(bval, bvec)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("missing", ["x.bval", "x.bvec"])
def test_a_missing_file_is_named(missing: str, write: ReadWritten, tmp_path: Path) -> None:
    write("0 1 1", "0 1 0\n0 0 1\n0 0 0\n")
    (tmp_path / missing).unlink()
    with pytest.raises(GradientError, match=f"{missing} is missing.*sub-01_dwi.nii.gz"):
        read_gradients(tmp_path / "x.bval", tmp_path / "x.bvec", stored_as("LAS"), 3, IMAGE)


@pytest.mark.parametrize(
    ("bvals", "bvecs"),
    [
        ([0, 1], np.zeros((3, 3))),
        ([[0, 1]], np.zeros((2, 3))),
        ([0, -1], np.zeros((2, 3))),
        ([0, np.nan], np.zeros((2, 3))),
        ([0, 1], np.array([[0, 0, 0], [0.5, 0, 0]])),
        ([0, 1], np.array([[0, 0, 0], [np.nan, 0, 0]])),
    ],
)
def test_gradients_cannot_be_invalid(bvals: list[float], bvecs: np.ndarray) -> None:
    with pytest.raises(GradientError):
        Gradients(np.array(bvals), bvecs)


def test_gradients_do_not_change_with_the_arrays_they_came_from() -> None:
    bvals = BVALS.copy()
    gradients = Gradients(bvals, BVECS)
    bvals[0] = 7
    assert gradients.bvals[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        gradients.bvals[0] = 7


def test_selecting_volumes_keeps_pairs_together() -> None:
    some = Gradients(BVALS, BVECS).select(np.array([0, 3]))
    np.testing.assert_array_equal(some.bvals, [0, 800])
    np.testing.assert_allclose(some.bvecs, BVECS[[0, 3]])


def test_b0_limit_is_inclusive() -> None:
    assert b0_volumes(np.array([0, 50, 50.5]), 50).tolist() == [True, True, False]


def test_the_tensor_takes_b0_and_low_shells_with_jitter() -> None:
    bvals = np.array([0, 5, 700, 1195, 1215, 2000])
    assert tensor_volumes(bvals, SETTINGS).tolist() == [True] * 5 + [False]
    low = GradientSettings(b0_max=100, tensor_b_max=50)
    assert tensor_volumes(np.array([0, 100, 101]), low).tolist() == [True, True, False]


def test_shells_are_listed_with_their_sizes() -> None:
    bvals = np.array([0, 10, 995, 1000, 1005, 1990, 2010, 750])
    assert list_shells(bvals, 50) == [Shell(0, 2), Shell(750, 1), Shell(1000, 3), Shell(2000, 2)]
    assert list_shells(np.array([1000.0, 1010.0]), 50) == [Shell(1000, 2)]
    assert list_shells(np.array([40.0, 60.0]), 50) == [Shell(0, 1), Shell(60, 1)]
    assert list_shells(np.array([0.0, 30.0]), 20) == [Shell(0, 1), Shell(30, 1)]


def test_six_directions_and_a_b0_suffice() -> None:
    check_gradients(Gradients(BVALS, BVECS), IMAGE, SETTINGS)


def test_a_low_b_value_without_direction_counts_as_b0() -> None:
    bvals = np.r_[1.29, [800.0] * 6]
    check_gradients(Gradients(bvals, BVECS), IMAGE, SETTINGS)


@pytest.mark.parametrize(
    ("bvals", "bvecs", "expected"),
    [
        (BVALS + 60, BVECS, r"b <= 50: .*has b=60 \(1 volume\), b=860 \(6 volumes\)"),
        (BVALS, np.vstack([np.zeros((2, 3)), SIX[1:]]), "for volume 1 "),
        (BVALS[:-1], BVECS[:-1], "6 different directions .* has 5 there"),
        (BVALS, np.vstack([BVECS[:-1], -SIX[:1]]), "has 5 there"),
        (BVALS, np.vstack([BVECS[:-1], SIX[4:5]]), "has 5 there"),
        (np.r_[0.0, [2000.0] * 6], BVECS, r"b <= 1200: .* has 0 there.*b=2000 \(6 volumes\)"),
    ],
    ids=[
        "no_b0",
        "no_direction",
        "five_directions",
        "opposite_twice",
        "neighbours_alike",
        "high_shell_only",
    ],
)
def test_a_series_that_cannot_give_a_tensor_is_refused(
    bvals: np.ndarray, bvecs: np.ndarray, expected: str
) -> None:
    with pytest.raises(GradientError, match=expected) as caught:
        check_gradients(Gradients(bvals, bvecs), IMAGE, SETTINGS)
    assert "sub-01_dwi.nii.gz" in str(caught.value)


def test_directions_in_one_plane_are_refused() -> None:
    angles = np.linspace(0, np.pi, 12, endpoint=False)
    flat = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    gradients = Gradients(np.r_[0, [800] * 12], np.vstack([np.zeros(3), flat]))
    with pytest.raises(GradientError, match="spread over the sphere"):
        check_gradients(gradients, IMAGE, SETTINGS)


@pytest.mark.data
@pytest.mark.parametrize(("participant", "n_b0", "n_weighted"), [("01", 5, 30), ("02", 4, 48)])
def test_real_series_have_usable_gradients(
    participant: str, n_b0: int, n_weighted: int, shared_data: Path
) -> None:
    stem = shared_data / f"ds-cord/sub-{participant}/dwi/sub-{participant}_dwi"
    image = stem.with_suffix(".nii.gz")
    grid, n_volumes = read_grid(image)
    gradients = read_gradients(
        stem.with_suffix(".bval"), stem.with_suffix(".bvec"), grid, n_volumes, image
    )
    check_gradients(gradients, image, SETTINGS)
    is_b0 = b0_volumes(gradients.bvals, SETTINGS.b0_max)
    assert (is_b0.sum(), (~is_b0).sum()) == (n_b0, n_weighted)


@pytest.mark.data
def test_gradient_files_of_many_scanners_are_read(shared_data: Path) -> None:
    files = sorted(shared_data.glob("spine-generic-sidecars/sub-*/dwi/*.bvec"))
    assert len(files) >= 15
    for bvec in files:
        n_volumes = len(bvec.read_text().splitlines()[0].split())
        gradients = read_gradients(
            bvec.with_suffix(".bval"), bvec, stored_as("LAS"), n_volumes, bvec
        )
        check_gradients(gradients, bvec, SETTINGS)

"""Whatever a header or a gradient file holds: a valid result, or our own error with its name."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scsnet_bids.errors import GradientError, ImageError, InputDataError
from scsnet_bids.files import read_json
from scsnet_bids.gradient_checks import check_gradients
from scsnet_bids.gradients import list_shells, read_gradients
from scsnet_bids.images import Grid, read_grid, read_image
from scsnet_bids.nifti import find_affine_conflict
from scsnet_bids.run_checks import check_run
from scsnet_bids.runs import DwiRun, read_metadata
from scsnet_bids.settings import GradientSettings

SETTINGS = GradientSettings()
GRID = Grid((24, 24, 3), np.diag([-0.9, -0.9, 5.0, 1.0]), np.array([[0.0, 1], [1, 1], [2, 1]]))
LENGTH = 7
thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

words = st.one_of(
    st.floats().map(str),
    st.integers(-10, 10_000).map(str),
    st.sampled_from(["0", "800", "1e308", "-1e308", "1e999", "nan", "-nan", "5e-324", "1_0", "٣"]),
    st.text(max_size=4),
)
separators = st.sampled_from([" ", "\t", ",", " , ", "  "])
line_ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r", "\x0b"])
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])


@st.composite
def tables(draw: st.DrawFn, rows: st.SearchStrategy[int]) -> bytes:
    """Write rows of numbers, most of them of one length, in some encoding."""
    n_rows, n_columns = draw(rows), draw(st.sampled_from([LENGTH] * 6 + [3, 1, 0]))
    number = draw(st.sampled_from([words, st.floats(-2, 3000, width=32).map(str)]))
    lines = [
        draw(separators).join(draw(st.lists(number, min_size=n_columns, max_size=n_columns)))
        for _ in range(n_rows)
    ]
    return draw(line_ends).join(lines).encode(draw(encodings), errors="replace")


gradient_files = st.one_of(
    tables(st.sampled_from([1, 3, 3, 3, LENGTH, 0, 4])), st.binary(max_size=200)
)


@thorough
@given(bval=st.one_of(tables(st.just(1)), gradient_files), bvec=gradient_files)
def test_gradient_files_give_valid_gradients_or_an_error_that_names_them(
    bval: bytes, bvec: bytes, tmp_path: Path
) -> None:
    paths = tmp_path / "x.bval", tmp_path / "x.bvec"
    for path, content in zip(paths, (bval, bvec), strict=True):
        path.write_bytes(content)
    image = tmp_path / "x_dwi.nii.gz"
    complaint = ""
    try:
        gradients = read_gradients(*paths, GRID, LENGTH, image)
        list_shells(gradients.bvals, SETTINGS.b0_max)
        check_gradients(gradients, image, SETTINGS)
    except GradientError as error:
        complaint = str(error)
    if complaint:
        assert any(name in complaint for name in ("x.bval", "x.bvec", "x_dwi.nii.gz"))
        assert len(complaint) < 1000 + 4 * len(str(tmp_path))
    else:
        assert np.isfinite(gradients.bvals).all()
        assert gradients.bvecs.shape == (LENGTH, 3)


FLOATS = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, 1e38, np.inf, np.nan]))
SHORTS = st.one_of(st.integers(-(2**15), 2**15 - 1), st.sampled_from([0, 1, 2, 3, 4, 7, 255]))
FIELDS: dict[str, tuple[int, int, str, st.SearchStrategy[float]]] = {
    "dimensions": (40, 8, "<i2", SHORTS),
    "type": (70, 1, "<i2", st.one_of(SHORTS, st.sampled_from([2, 4, 8, 16, 32, 64, 128, 1536]))),
    "bits": (72, 1, "<i2", SHORTS),
    "spacing": (76, 8, "<f4", FLOATS),
    "offset": (108, 1, "<f4", FLOATS),
    "scale": (112, 2, "<f4", FLOATS),
    "units": (123, 1, "u1", st.integers(0, 255)),
    "codes": (252, 2, "<i2", SHORTS),
    "qform": (256, 6, "<f4", FLOATS),
    "sform": (280, 12, "<f4", FLOATS),
    "magic": (344, 8, "u1", st.integers(0, 255)),
    "anything": (0, 352, "u1", st.integers(0, 255)),
}


@st.composite
def worn_headers(draw: st.DrawFn) -> bytes:
    """Spoil a few numbers of a good header."""
    whole = bytearray(nib.Nifti1Image(np.ones((2, 2, 2, LENGTH), np.int16), GRID.affine).to_bytes())
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3)):
        place, length, kind, values = FIELDS[name]
        size = np.dtype(kind).itemsize
        for number in draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=4)):
            start = place + number * size
            whole[start : start + size] = np.array(draw(values)).astype(kind).tobytes()
    return bytes(whole)


@thorough
@given(content=worn_headers(), packed=st.booleans())
def test_a_header_gives_a_valid_image_or_an_error_that_names_it(
    content: bytes, packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("worn.nii.gz" if packed else "worn.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    complaint = ""
    try:
        grid, n_volumes = read_grid(path)
        find_affine_conflict(path)
        image = read_image(path)
    except ImageError as error:
        complaint = str(error)
    if complaint:
        assert path.name in complaint
    else:
        assert image.data.shape[:3] == grid.shape == image.grid.shape
        assert image.data.size == np.prod(grid.shape) * n_volumes
        assert np.isfinite(grid.affine).all()
        assert grid.repetition_time_s >= 0
        assert all(spacing > 0 for spacing in grid.spacing_mm)


@thorough
@given(content=worn_headers())
def test_a_run_with_a_worn_header_is_checked_without_a_crash(
    content: bytes, tmp_path: Path
) -> None:
    image = tmp_path / "sub-01_dwi.nii"
    image.write_bytes(content)
    for extension, numbers in ((".bval", [0, *[800] * 6]), (".bvec", np.eye(3, LENGTH))):
        np.savetxt(image.with_suffix(extension), np.atleast_2d(numbers))
    run = DwiRun(
        image, image.with_suffix(".bval"), image.with_suffix(".bvec"), (), (("sub", "01"),)
    )
    errors = check_run(run, SETTINGS)
    assert errors  # six directions are too few
    assert all("sub-01_dwi" in str(error) for error in errors)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@thorough
@given(content=st.one_of(st.binary(max_size=60), json_values.map(repr).map(str.encode)))
def test_a_sidecar_gives_metadata_or_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    complaint = ""
    try:
        metadata = read_metadata(DwiRun(path, path, path, (path,), ()))
    except InputDataError as error:
        complaint = str(error)
    if complaint:
        assert "x.json" in complaint
    else:
        assert isinstance(metadata, dict)
        assert None not in metadata.values()


def test_numbers_that_are_none_are_read_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": NaN, "b": -Infinity, "c": 1e999, "d": [1e999, 2.5], "e": null}')
    assert read_json(path) == {"a": None, "b": None, "c": None, "d": [None, 2.5], "e": None}
    assert read_metadata(DwiRun(path, path, path, (path,), ())) == {"d": [None, 2.5]}


def test_a_repetition_time_in_milliseconds_is_read_in_seconds(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((9, 9, 3, 2), np.int16), GRID.affine)
    image.header["pixdim"][4] = 4000
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, tmp_path / "x.nii.gz")
    assert read_grid(tmp_path / "x.nii.gz")[0].repetition_time_s == pytest.approx(4.0)

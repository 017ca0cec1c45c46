"""Series whose gradients cannot be used: each is refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.datasets import Dataset, Fault

SPREAD = "Check that the b-vectors belong to this series"


def write(extension: str, content: bytes | str) -> Callable[[Dataset], object]:
    """Write something else into a gradient file."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda d: d.path(extension).write_bytes(raw)


def change_bvals(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], object]:
    return lambda d: d.write_bvals(change(d.bvals))


def change_bvecs(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], object]:
    return lambda d: d.write_bvecs(change(d.bvecs))


def put(place: int | tuple[object, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Put a value into an array."""

    def change(values: np.ndarray) -> np.ndarray:
        spoiled = values.copy()
        spoiled[place] = value
        return spoiled

    return change


def scale_one(bvecs: np.ndarray) -> np.ndarray:
    """Let one b-vector be shorter, as Siemens does for intermediate b-values."""
    scaled = bvecs.copy()
    scaled[:, 3] *= 0.5
    return scaled


def name_a_set_of_five(dataset: Dataset) -> None:
    """Leave five weighted volumes, the others b=0."""
    bvals = dataset.bvals
    bvals[np.flatnonzero(bvals)[5:]] = 0
    dataset.write_bvals(bvals)


def flatten(bvecs: np.ndarray) -> np.ndarray:
    """Turn all directions into one plane."""
    angles = np.linspace(0, np.pi, bvecs.shape[1], endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles])


def swap_files(dataset: Dataset) -> None:
    bval, bvec = dataset.path(".bval"), dataset.path(".bvec")
    held = bval.read_bytes()
    bval.write_bytes(bvec.read_bytes())
    bvec.write_bytes(held)


def make_huge(dataset: Dataset) -> None:
    os.truncate(dataset.path(".bval"), 2**30)


def remove(*extensions: str) -> Callable[[Dataset], object]:
    return lambda d: [d.path(extension).unlink() for extension in extensions]


FAULTS = {
    # files
    "no_bval": Fault(remove(".bval"), 65, ("sub-01_dwi.bval is missing", "there is no such file")),
    "no_bvec": Fault(remove(".bvec"), 65, ("sub-01_dwi.bvec is missing", "there is no such file")),
    "neither": Fault(remove(".bval", ".bvec"), 65, ("sub-01_dwi.bval is missing",)),
    "annex_bval": Fault(
        lambda d: d.replace_by_link(d.path(".bval"), "../../.git/annex/objects/a/b/MD5E-s52--c"),
        65,
        ("its content is not fetched yet: run datalad get", "sub-01_dwi.bval"),
    ),
    "annex_pointer_bvec": Fault(
        write(".bvec", "/annex/objects/MD5E-s52--c\n"),
        65,
        ("its content is not fetched yet: run datalad get", "sub-01_dwi.bvec"),
    ),
    "device_bvec": Fault(
        lambda d: d.replace_by_link(d.path(".bvec"), "/dev/random"),
        65,
        ("sub-01_dwi.bvec is missing or unreadable (it is a folder, a pipe or a device)",),
    ),
    "gigabyte": Fault(make_huge, 65, ("sub-01_dwi.bval does not (it is larger than 16 MiB)",)),
    "empty_bval": Fault(write(".bval", ""), 65, ("sub-01_dwi.bval 0 b-values",)),
    "blank_bvec": Fault(write(".bvec", " \n\n"), 65, ("sub-01_dwi.bvec has 0 rows of no numbers",)),
    "words": Fault(write(".bval", "b0 800 800"), 65, ("sub-01_dwi.bval does not ('b0' is none)",)),
    "units": Fault(
        write(".bval", "0s/mm2 800s/mm2"), 65, ("sub-01_dwi.bval does not ('0s/mm2' is none)",)
    ),
    "binary": Fault(write(".bvec", bytes(range(256))), 65, ("sub-01_dwi.bvec does not (",)),
    "half_of_utf16": Fault(write(".bval", b"\xff\xfe0\x00 \x00x"), 65, ("sub-01_dwi.bval does",)),
    "swapped": Fault(swap_files, 65, ("sub-01_dwi.bvec has 1 rows of 14 numbers",)),
    # counts
    "bval_short": Fault(
        change_bvals(lambda b: b[:-1]),
        65,
        ("14 volumes, sub-01_dwi.bval 13 b-values, sub-01_dwi.bvec 14 b-vectors",),
    ),
    "bval_long": Fault(
        change_bvals(lambda b: np.append(b, 0)), 65, ("sub-01_dwi.bval 15 b-values",)
    ),
    "bvec_short": Fault(change_bvecs(lambda v: v[:, 1:]), 65, ("sub-01_dwi.bvec 13 b-vectors",)),
    "four_rows": Fault(
        change_bvecs(lambda v: np.vstack([v, v[:1]])), 65, ("4 rows of 14 numbers",)
    ),
    "ragged": Fault(write(".bvec", "1 0 0\n0 1\n0 0 1\n"), 65, ("3 rows of 2 or 3 numbers",)),
    "image_short": Fault(
        lambda d: d.write_image(d.voxels[..., :-2]), 65, ("12 volumes, sub-01_dwi.bval 14",)
    ),
    # values
    "nan_bval": Fault(change_bvals(put(3, np.nan)), 65, ("has nan in volume 3",)),
    "negative_bval": Fault(change_bvals(put(3, -800)), 65, ("has -800 in volume 3",)),
    "infinite_bval": Fault(change_bvals(put(3, np.inf)), 65, ("has inf in volume 3",)),
    "per_square_metre": Fault(
        change_bvals(lambda b: b * 1e6), 65, ("between 0 and 100000 s/mm2", "has 8e+08, 8e+08")
    ),
    "per_square_micrometre": Fault(
        change_bvals(lambda b: b / 1000),
        65,
        ("largest b-value of", "is 0.8. Lower", "or multiply the bval file by 1000"),
    ),
    "no_b0": Fault(
        change_bvals(lambda b: np.full_like(b, 800)), 65, ("b <= 50", "has b=800 (14 volumes)")
    ),
    "high_shell_only": Fault(
        change_bvals(lambda b: b * 3.75), 65, ("with b <= 1200", "has 0 there", "b=3000")
    ),
    "five_directions": Fault(name_a_set_of_five, 65, ("6 different directions", "has 5 there")),
    "one_direction": Fault(
        change_bvecs(lambda v: v[:, [1] * 14]), 65, ("6 different directions", "has 1 there")
    ),
    "flat": Fault(change_bvecs(flatten), 65, ("spread over the sphere", SPREAD)),
    "zero_direction": Fault(
        change_bvecs(put((slice(None), 5), 0)), 65, ("zero or not a number for volume 5",)
    ),
    "nan_direction": Fault(
        change_bvecs(put((slice(None), 5), np.nan)), 65, ("zero or not a number for volume 5",)
    ),
    "infinite_direction": Fault(
        change_bvecs(put((0, 5), 1e300)), 65, ("zero or not a number for volume 5",)
    ),
    "lengths_scale_b": Fault(change_bvecs(scale_one), 65, ("must share one length", "0.5 to 1")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_unusable_gradients_are_refused_in_a_sentence(
    name: str, expect_refusal: Callable[[Fault], None]
) -> None:
    expect_refusal(FAULTS[name])


def test_what_a_link_leads_to_is_hardly_repeated(
    dataset: Dataset, run_app: Callable[..., tuple[int, str]]
) -> None:
    secret = dataset.root.parent / "secret"
    secret.write_text("root:x:0:0:a-long-secret-word\n")
    dataset.replace_by_link(dataset.path(".bval"), secret)
    code, said = run_app(dataset)
    assert code == 65
    assert "'root:x:0:0:a' is none" in said
    assert "long-secret" not in said


def test_markup_in_a_file_does_not_reach_the_page(
    dataset: Dataset, run_app: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    dataset.path(".bval").write_text("<b>x</b> 800")
    code, said = run_app(dataset)
    assert code == 65
    assert "'<b>x</b>' is none" in said
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page

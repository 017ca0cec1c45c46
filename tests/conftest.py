"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from scsnet_bids.training.atlas import Atlas

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def font_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep matplotlib's cache out of the first work folder of a test, which may be moved away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data, which do not ship with the package."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {SHARED_DATA} does not exist, so this test proves nothing")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    """Return the same random numbers for every test."""
    return np.random.default_rng(20250628)


@pytest.fixture(scope="session")
def toy_atlas() -> Atlas:
    """96 slices of an elliptic cord: gray block, dorsal wedge behind, ventral in front, lateral."""
    import torch

    from scsnet_bids.training.atlas import Atlas

    place = (np.arange(48) - 23.5) / 2
    y, x = np.meshgrid(place, place, indexing="ij")
    cord = (x / 6) ** 2 + (y / 4) ** 2 < 1
    gray = cord & (abs(x) < 2.5) & (abs(y) < 1.5)
    dorsal = cord & ~gray & (y > 0) & (abs(x) < 3)
    ventral = cord & ~gray & (y < 0) & (abs(x) < 3)
    lateral = cord & ~(gray | dorsal | ventral)
    maps = torch.from_numpy(np.stack([lateral, dorsal, ventral, gray]).astype(np.float32))
    return Atlas.of_maps(maps.repeat(96, 1, 1, 1), 0.5)


@pytest.fixture(scope="session")
def phantom_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the app on a participant with a good series and one with too few b-vectors."""
    from scsnet_bids import phantom
    from scsnet_bids.cli import main

    root = tmp_path_factory.mktemp("phantom_run")
    data = root / "data"
    assert phantom.main([str(data), "--participants", "1", "--tiny"]) == 0
    folder = data / "sub-01" / "dwi"
    for end in ("nii.gz", "bval"):
        shutil.copy(folder / f"sub-01_dwi.{end}", folder / f"sub-01_acq-bare_dwi.{end}")
    (folder / "sub-01_acq-bare_dwi.bvec").write_text("1 0\n0 1\n0 0\n")
    (root / "levels.tsv").write_text("slice\tlevel\n0-1\tC6\n2\tC5\n")
    arguments = [str(data), str(root / "out"), "participant", "-w", str(root / "work")]
    arguments += ["--levels", str(root / "levels.tsv")]
    return {"out": root / "out", "code": main(arguments), "arguments": arguments}

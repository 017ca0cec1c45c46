"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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

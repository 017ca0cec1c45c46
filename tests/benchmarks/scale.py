"""Measure how the app scales: a thousand participants, their plan and their group tables.

    python tests/benchmarks/scale.py SIDECARS [--participants 1000] [--keep FOLDER]

SIDECARS is a dataset with real ``dwi`` sidecars and gradient files; its participants are repeated
under new names, with one tiny series for all of them (hard links). The group level reads the
tables of one run, repeated in the same way. Prints seconds and the largest memory of each command.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

APP = str(Path(sys.executable).with_name("scsnet-bids"))
LIMITS_S = {"plan of one participant": 10, "plan of all": 60, "group": 30}


def main(words: Sequence[str] | None = None) -> int:
    """Make the dataset, run the three commands, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sidecars", type=Path)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder to work in (default: a temporary one)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        data, out = root / "data", root / "out"
        labels = make_dataset(data, options.sidecars, options.participants)
        make_outputs(out, root, labels)
        plan = [APP, str(data), str(root / "plan"), "participant", "--dry-run"]
        plan += ["-w", str(root / "work")]
        commands = {
            "plan of one participant": [*plan, "--participant-label", labels[len(labels) // 2]],
            "plan of all": plan,
            "group": [APP, str(data), str(out), "group", "-w", str(root / "work")],
        }
        for name, command in commands.items():
            code, seconds, busy_s, megabytes = measure(command, root / f"{name}.log")
            print(
                f"{name:<24} exit {code}  {seconds:6.1f} s (at most {LIMITS_S[name]}), "
                f"{busy_s:.1f} s of them computing, {megabytes:.0f} MB",
                flush=True,
            )
    return 0


def make_dataset(data: Path, sidecars: Path, n_participants: int) -> list[str]:
    """Repeat the participants of a dataset under new names; return the labels."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    description = {"Name": "repeated", "BIDSVersion": "1.10.0"}
    (data / "dataset_description.json").write_text(json.dumps(description))
    sources = [bval for bval in sorted(sidecars.glob("sub-*/dwi/*_dwi.bval"))]
    images: dict[int, Path] = {}
    labels = [f"{number:04d}" for number in range(1, n_participants + 1)]
    for number, label in enumerate(labels):
        bval = sources[number % len(sources)]
        stem = data / f"sub-{label}/dwi/sub-{label}_dwi"
        stem.parent.mkdir(parents=True)
        n_volumes = len(bval.read_text().split())
        if n_volumes not in images:
            images[n_volumes] = write_series(data.parent / f"{n_volumes}.nii.gz", n_volumes)
        os.link(images[n_volumes], f"{stem}.nii.gz")
        for end in (".bval", ".bvec", ".json"):
            if bval.with_suffix(end).exists():
                shutil.copyfile(bval.with_suffix(end), f"{stem}{end}")
    return labels


def write_series(path: Path, n_volumes: int) -> Path:
    """Write a tiny series of noise."""
    voxels = np.random.default_rng(0).integers(1, 1000, (24, 24, 3, n_volumes)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.9, -0.9, 5.0, 1.0])), path)
    return path


def make_outputs(out: Path, root: Path, labels: Sequence[str]) -> None:
    """Run one phantom participant, and repeat what it gives under every label."""
    shutil.rmtree(out, ignore_errors=True)
    phantom, one = root / "phantom", root / "one"
    generator = str(Path(APP).with_name("scsnet-bids-phantom"))
    subprocess.run([generator, str(phantom), "--tiny", "--participants", "1"], check=True)
    subprocess.run(
        [APP, str(phantom), str(one), "participant", "-w", str(root / "work")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for path in sorted(one.rglob("*")):
        if path.is_file() and path.suffix not in (".gz", ".lock"):
            repeat(path, one, out, labels if "sub-01" in path.name else ["01"])


def repeat(path: Path, one: Path, out: Path, labels: Sequence[str]) -> None:
    """Link a file under every label."""
    first = None
    for label in labels:
        copy = out / re.sub("sub-01", f"sub-{label}", str(path.relative_to(one)))
        copy.parent.mkdir(parents=True, exist_ok=True)
        if first is None:
            first = shutil.copyfile(path, copy)
        else:
            os.link(first, copy)


def measure(command: Sequence[str], log: Path) -> tuple[int, float, float, float]:
    """Run a command; return its exit code, seconds, seconds of computing, and megabytes."""
    started = time.monotonic()
    with log.open("w") as file:
        job = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(job.pid, 0)
    seconds, busy_s = time.monotonic() - started, used.ru_utime + used.ru_stime
    return os.waitstatus_to_exitcode(status), seconds, busy_s, used.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())

"""Programs under FSL's names that record how they were called and write files as FSL does.

FSL cannot be had here. So this proves what the package gives to FSL and what it does with the
answer, and nothing about FSL itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = """#!{python}
import json, sys
from pathlib import Path

import nibabel as nib
import numpy as np

given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
(Path({folder!r}) / "calls.jsonl").open("a").write(json.dumps(sys.argv) + "\\n")
image = nib.load(given["imain"])
data = np.asarray(image.dataobj)


def save(name, array):
    nib.Nifti1Image(array, image.affine).to_filename(name)


{body}
"""

EDDY = """
n = data.shape[3]
# Volume 1 lies a voxel farther to the left and the front than it should; so do FSL's axes run.
data[..., 1] = np.roll(data[..., 1], (-1, -1), axis=(0, 1))
save(given["out"] + ".nii.gz", data)
parameters = np.zeros((n, 16))
parameters[1, :2] = {sign} * np.array(image.header.get_zooms()[:2])
np.savetxt(given["out"] + ".eddy_parameters", parameters)
outliers = np.zeros((n, data.shape[2]), dtype=int)
outliers[2, 0] = 1
text = "One row per scan, one column per slice.\\n"
text += "\\n".join(" ".join(map(str, row)) for row in outliers)
Path(given["out"] + ".eddy_outlier_map").write_text(text + "\\n")
bvecs = np.loadtxt(given["bvecs"])
np.savetxt(given["out"] + ".eddy_rotated_bvecs", bvecs[[1, 0, 2]])
"""

TOPUP = """
save(given["fout"], np.full(data.shape[:3], 10.0, dtype=np.float32))
save(given["out"] + "_fieldcoef.nii.gz", np.zeros((3, 3, 3), dtype=np.float32))
Path(given["out"] + "_movpar.txt").write_text("0 0 0 0 0 0\\n" * data.shape[3])
"""

FAILURE = """
print("reading")
print("EDDY::: cannot do this", file=sys.stderr)
sys.exit(3)
"""


def install(folder: Path, programs: dict[str, str]) -> Path:
    """Write programs into ``folder/bin`` and return the folder, to be named by ``FSLDIR``."""
    (folder / "bin").mkdir(parents=True)
    for name, body in programs.items():
        path = folder / "bin" / name
        filled = body.replace("{sign}", "1")
        text = PROGRAM.replace("{python}", sys.executable).replace("{folder!r}", repr(str(folder)))
        path.write_text(text.replace("{body}", filled))
        path.chmod(0o755)
    return folder

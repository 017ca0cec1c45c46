"""What all interfaces share: files of the working directory, a series with its gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    Bunch,
    File,
    InterfaceResult,
    traits,
)

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.derivatives import read_table
from scsnet_bids.gradients import Gradients, b0_volumes, read_gradients, weighted_volumes
from scsnet_bids.images import read_grid
from scsnet_bids.interruption import heed_interruption
from scsnet_bids.settings import GradientSettings
from scsnet_bids.shift_table import shifts_from_table


class InterruptibleInterface(BaseInterface):  # type: ignore[misc]
    """A step that ends with the command; Nipype takes an interruption for a failure of the step."""

    def run(self, *arguments: Any, **words: Any) -> InterfaceResult:
        """Run as Nipype does, and raise an interruption again."""
        try:
            result = super().run(*arguments, **words)
        finally:
            heed_interruption()
        if getattr(result.runtime, "traceback", "").endswith("\nKeyboardInterrupt\n"):
            raise KeyboardInterrupt
        return result


class StageInterface(InterruptibleInterface):
    """Base of the package's interfaces: every output is a file of the working directory.

    A subclass maps each output field to a file name in ``_files`` and writes them in ``_write``.
    """

    _files: ClassVar[dict[str, str]] = {}

    def _run_interface(self, runtime: Bunch) -> Bunch:
        """Run the stage in its working directory."""
        folder = Path(runtime.cwd)
        self._write(**{field: folder / name for field, name in self._files.items()})
        self._written = {field: str(folder / name) for field, name in self._files.items()}
        return runtime

    def _list_outputs(self) -> dict[str, str]:
        """Name the files that the run has written."""
        return self._written

    def _write(self, **paths: Path) -> None:
        """Compute the stage and write its files."""
        raise NotImplementedError


class SeriesInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """A diffusion series with its gradients, and which volumes count as what."""

    dwi = File(exists=True, mandatory=True, desc="diffusion series")
    bval = File(exists=True, mandatory=True, desc="b-values, s/mm2")
    bvec = File(exists=True, mandatory=True, desc="b-vectors, FSL convention")
    gradient_settings = traits.Instance(GradientSettings, mandatory=True)


class CountedSeriesInputSpec(SeriesInputSpec):
    """A corrected diffusion series, and how much every slice of its volumes counts."""

    outliers = File(exists=True, mandatory=True, desc="weight per volume and slice (table)")


class SeriesInterface(StageInterface):
    """A stage that starts from a diffusion series."""

    input_spec = SeriesInputSpec

    def _read_gradients(self) -> Gradients:
        """Read the gradients of the series in scanner RAS+."""
        grid, n_volumes = read_grid(Path(self.inputs.dwi))
        bval, bvec = Path(self.inputs.bval), Path(self.inputs.bvec)
        return read_gradients(bval, bvec, grid, n_volumes, Path(self.inputs.dwi))

    def _b0_volumes(self, bvals: FloatArray) -> BoolArray:
        """Tell which volumes count as b=0."""
        return b0_volumes(bvals, self.inputs.gradient_settings.b0_max)

    def _weighted_volumes(self, bvals: FloatArray) -> BoolArray:
        """Tell which volumes are weighted and enter the tensor."""
        return weighted_volumes(bvals, self.inputs.gradient_settings)


def read_shifts(path: str) -> FloatArray:
    """Read displacements, or positions of the cord, from a table.

    Parameters
    ----------
    path : as :func:`tabulate_shifts` of ``shift_table`` writes it

    Returns
    -------
    (k, 2) or (n, k, 2) float array, (left, posterior) in mm
    """
    return shifts_from_table(read_table(Path(path)))


class NetworkInputSpec(BaseInterfaceInputSpec):  # type: ignore[misc]
    """What every stage that runs the network needs."""

    device = traits.Str(mandatory=True, desc="where the network runs")
    weights = traits.Str(mandatory=True, desc="file of the weights")
    weights_sha256 = traits.Str(
        mandatory=True, desc="checksum of the weights, so that new weights recompute the stage"
    )

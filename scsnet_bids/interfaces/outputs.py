"""Outputs: products copied to their BIDS names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    Bunch,
    DynamicTraitedSpec,
    File,
    TraitedSpec,
    traits,
)

from scsnet_bids.derivatives import Derivative, save_derivative
from scsnet_bids.interfaces.base import InterruptibleInterface


class SaveDerivativesInputSpec(DynamicTraitedSpec):  # type: ignore[misc]
    """One file field per derivative, made from the list that the node is built with."""

    derivatives = traits.List(traits.Instance(Derivative), mandatory=True)


class SaveDerivativesOutputSpec(TraitedSpec):  # type: ignore[misc]
    """Outputs of :class:`SaveDerivatives`."""

    saved = traits.List(File(exists=True), desc="files in the output folder")


class SaveDerivatives(InterruptibleInterface):
    """Copy a run's products to their BIDS names, each with its sidecar, whole or not at all."""

    input_spec = SaveDerivativesInputSpec
    output_spec = SaveDerivativesOutputSpec
    # Someone may have deleted the output folder: copy again even where nothing has changed.
    _always_run = True

    def __init__(self, derivatives: list[Derivative], **inputs: Any) -> None:
        super().__init__(derivatives=derivatives, **inputs)
        for derivative in derivatives:
            self.inputs.add_trait(derivative.field, File(exists=True, mandatory=True))

    def _run_interface(self, runtime: Bunch) -> Bunch:
        for derivative in self.inputs.derivatives:
            save_derivative(derivative, Path(getattr(self.inputs, derivative.field)))
        return runtime

    def _list_outputs(self) -> dict[str, list[str]]:
        return {"saved": [str(derivative.path) for derivative in self.inputs.derivatives]}

"""The trained weights: where they lie, what they are, and that they are what they should be."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from scsnet_bids.errors import UsageError, WeightsError
from scsnet_bids.files import read_json, write_text, written_whole
from scsnet_bids.network.model import ScsNet, count_images
from scsnet_bids.settings import B0, B0_AND_DWI, SegmentationSettings

SHIPPED = Path(__file__).with_name("scsnet.pt")
"""The weights of this release for B0; the record of their training lies beside them."""

UNLOADABLE = (RuntimeError, TypeError, LookupError, ValueError, EOFError, pickle.UnpicklingError)
"""What torch raises for files that hold no weights, or those of another network."""


def shipped_weights(sees: str) -> Path:
    """Find the weights of this release for an input, one of ``settings.INPUTS``."""
    return {B0: SHIPPED, B0_AND_DWI: SHIPPED.with_name("scsnet_dwi.pt")}[sees]


def weights_path(settings: SegmentationSettings, sees: str = B0) -> Path:
    """Find the weights of a run for an input: its own, or the shipped ones."""
    own = {B0: settings.weights, B0_AND_DWI: settings.dwi_weights}[sees]
    return Path(own).expanduser() if own else shipped_weights(sees)


def weights_sha256(path: Path = SHIPPED) -> str:
    """Read the checksum that the record promises, without touching the weights.

    Parameters
    ----------
    path : weights

    Returns
    -------
    str, 64 hexadecimal digits

    Raises
    ------
    WeightsError
        If the record is missing or damaged.
    """
    return str(read_record(path)["sha256"])


def read_record(path: Path = SHIPPED) -> dict[str, Any]:
    """Read what is recorded about weights: version, data, training command, validation figures.

    Parameters
    ----------
    path : weights

    Returns
    -------
    dict, the content of the JSON file beside the weights

    Raises
    ------
    WeightsError
        If the record is missing or damaged.
    """
    record_path = path.with_suffix(".json")
    try:
        record = read_json(record_path)
        return {"sha256": record["sha256"], **record}  # without a checksum it is damaged
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"Weights need a record with their checksum: {record_path} is missing or damaged "
            f"({error!r}). Put the .json there that was written with the weights, train again, or "
            "install the package again."
        ) from error


def input_of(path: Path) -> str:
    """Read what the network of some weights sees, one of ``settings.INPUTS``.

    Raises
    ------
    WeightsError
        If the record is missing or damaged.
    """
    return str(read_record(path).get("input", B0))


def load_network(device: str = "auto", path: Path = SHIPPED, sees: str = B0) -> ScsNet:
    """Load the network, ready to segment.

    Parameters
    ----------
    device : ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for a GPU if there is one
    path : weights
    sees : what the network is to see, one of ``settings.INPUTS``

    Returns
    -------
    ScsNet in evaluation mode; the same object for the same arguments

    Raises
    ------
    WeightsError
        If the weights are missing, do not match their checksum, or belong to another network or
        another input.
    UsageError
        If the device is not one that torch can use here.
    """
    return _load(device, path, sees)  # the cache tells a default from the same value given


@lru_cache(maxsize=4)
def _load(device: str, path: Path, sees: str) -> ScsNet:
    """Load a network once."""
    place = choose_device(device)
    _check(path)
    if input_of(path) != sees:
        raise WeightsError(
            f"Weights must belong to a network that sees {sees}: that of {path} sees "
            f"{input_of(path)}. --weights is for {B0}, --dwi-weights for {B0_AND_DWI}."
        )
    network = ScsNet(count_images(sees))
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except UNLOADABLE as error:
        raise WeightsError(
            f"Weights must fit the network of this version: {path} does not ({error}). "
            "Install the package again, or train again."
        ) from error
    return network.eval().requires_grad_(requires_grad=False).to(place)


def save_network(network: ScsNet, path: Path, record: dict[str, Any]) -> None:
    """Write weights, and beside them a record with their checksum.

    Parameters
    ----------
    network : to keep
    path : weights, ``.pt``; the record has the same name with ``.json``
    record : what is known about the training
    """
    buffer = BytesIO()  # a file's name would enter its content, and the checksum
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, buffer)
    with written_whole(path) as partial:
        partial.write_bytes(buffer.getvalue())
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    record = {**record, "parameters": n_parameters, "sha256": _sha256(path)}
    write_text(path.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


def choose_device(name: str) -> torch.device:
    """Find a device by its name, or say that it cannot be used.

    Parameters
    ----------
    name : ``cpu``, ``cuda``, ``cuda:N``, or ``auto`` for a GPU if there is one

    Returns
    -------
    torch.device

    Raises
    ------
    UsageError
        If torch cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = "it is none of these"
    if re.fullmatch(r"cpu|cuda(:\d+)?", name):
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            problem = str(error).splitlines()[0]
    raise UsageError(
        f"The device must be auto, cpu, cuda or cuda:N and be present: {name} cannot be used "
        f"({problem}). Choose auto."
    )


def _check(path: Path) -> None:
    """Raise if the weights are not those that the record describes."""
    expected = weights_sha256(path)
    if not path.exists():
        raise WeightsError(f"The weights must exist: {path} is missing. Install the package again.")
    found = _sha256(path)
    if found != expected:
        raise WeightsError(
            f"The weights must be those they claim to be: {path} has the SHA-256 {found}, its "
            f"record says {expected}. Install the package again."
        )


def _sha256(path: Path) -> str:
    """Checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""The shipped weights: the right file, the right network."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from scsnet_bids.errors import UsageError, WeightsError
from scsnet_bids.network.model import ScsNet, count_images
from scsnet_bids.network.weights import (
    SHIPPED,
    load_network,
    read_record,
    save_network,
    shipped_weights,
    weights_sha256,
)
from scsnet_bids.settings import B0, B0_AND_DWI

KINDS = [(SHIPPED, B0), (shipped_weights(B0_AND_DWI), B0_AND_DWI)]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy of the shipped weights and their record, free to be damaged."""
    for suffix in (".pt", ".json"):
        shutil.copy(SHIPPED.with_suffix(suffix), tmp_path)
    return tmp_path / SHIPPED.name


@pytest.mark.parametrize(("path", "sees"), KINDS)
def test_the_shipped_network_loads_in_evaluation_mode(path: Path, sees: str):
    network = load_network("cpu", path, sees)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network(torch.zeros(1, count_images(sees), 96, 96)).shape == (1, 9, 96, 96)


@pytest.mark.parametrize(("path", "sees"), KINDS)
def test_weights_of_another_input_are_refused_with_what_to_do(path: Path, sees: str):
    other = B0_AND_DWI if sees == B0 else B0
    with pytest.raises(WeightsError, match=f"{re.escape(other)}: that of .* sees .*--dwi-weights"):
        load_network("cpu", path, other)


def test_the_network_is_loaded_only_once():
    assert load_network("cpu") is load_network("cpu", SHIPPED, B0)


@pytest.mark.parametrize("path", [path for path, _ in KINDS])
def test_the_weights_are_small(path: Path):
    assert path.stat().st_size < 4e6


@pytest.mark.parametrize(("path", "sees"), KINDS)
def test_the_record_tells_where_the_weights_come_from(path: Path, sees: str):
    record = read_record(path)
    assert {"name", "version", "data", "licence", "command", "validation"} <= record.keys()
    network = load_network("cpu", path, sees)
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    assert weights_sha256(path) == record["sha256"]


def test_a_single_changed_byte_is_refused_with_both_checksums(copied: Path):
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(WeightsError, match=f"{found}.*{weights_sha256(copied)}"):
        load_network("cpu", copied)


def test_missing_weights_are_refused(copied: Path):
    copied.unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_network("cpu", copied)


@pytest.mark.parametrize("damage", ["", "{}", "[]", "not json"])
def test_a_damaged_record_is_refused(copied: Path, damage: str):
    copied.with_suffix(".json").write_text(damage)
    with pytest.raises(WeightsError, match="record"):
        weights_sha256(copied)


def test_weights_of_another_network_are_refused(copied: Path):
    state = torch.load(copied, weights_only=True)
    state.pop(next(iter(state)))
    torch.save(state, copied)
    checksum = hashlib.sha256(copied.read_bytes()).hexdigest()
    copied.with_suffix(".json").write_text(json.dumps({"sha256": checksum}))
    with pytest.raises(WeightsError, match="fit the network"):
        load_network("cpu", copied)


def test_weights_that_hold_code_are_refused_and_it_does_not_run(tmp_path: Path):
    class Command:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "evil.pt"
    torch.save({"weight": Command()}, path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": checksum}))
    with pytest.raises(WeightsError, match="fit the network"):
        load_network("cpu", path)
    assert not (tmp_path / "ran").exists()


def test_the_checksum_does_not_depend_on_the_name_of_the_file(tmp_path: Path):
    for name in ("one.pt", "other.pt"):
        save_network(load_network("cpu"), tmp_path / name, {})
    assert weights_sha256(tmp_path / "one.pt") == weights_sha256(tmp_path / "other.pt")


@pytest.mark.parametrize("device", ["quantum", "gpu", "meta", "hpu", "cuda:-1", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str):
    with pytest.raises(UsageError, match=device):
        load_network(device)


def test_without_a_gpu_the_processor_is_taken():
    if torch.cuda.is_available():
        pytest.skip("GPU PRESENT: what happens without one cannot be seen here")
    assert next(load_network("auto").parameters()).device.type == "cpu"


def test_saved_weights_load_again_and_give_the_same_answer(tmp_path: Path):
    torch.manual_seed(0)
    network = ScsNet().eval()
    save_network(network, tmp_path / "new.pt", {"name": "test"})
    again = load_network("cpu", tmp_path / "new.pt")
    images = torch.randn(1, 1, 32, 48)
    torch.testing.assert_close(again(images), network(images))

"""Limits come from the job, not from the machine; memory is never guessed from a bare number."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scsnet_bids import cli, resources
from scsnet_bids.errors import UsageError
from scsnet_bids.options import parse_options
from scsnet_bids.resources import available_cpus, available_memory_gb, parse_memory

HALF_GB = str(2**29)


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write the files by which a machine of 64 GB tells its limits."""
    for name, text in {"proc/meminfo": "MemTotal:       67108864 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("word", "gb"),
    [
        ("16G", 16),
        ("16GB", 16),
        ("16gib", 16),
        ("1.5g", 1.5),
        ("16000M", 15.625),
        ("2 TB", 2048),
        (".5G", 0.5),
        ("1048576k", 1),
    ],
)
def test_memory_is_read_with_any_usual_unit(word, gb):
    assert parse_memory(word) == pytest.approx(gb)


@pytest.mark.parametrize("word", ["16", "16000", "1.5"])
def test_memory_without_a_unit_is_refused_with_what_to_write(word):
    with pytest.raises(UsageError, match=f"{word}G for gigabytes"):
        parse_memory(word)


@pytest.mark.parametrize("word", ["", "G", "lots", "-1G", "0G", "1e3G", "16X", "16 G B"])
def test_what_is_no_memory_is_refused(word):
    with pytest.raises(UsageError, match="must look like 16G"):
        parse_memory(word)


def test_without_limits_the_machine_counts(tmp_path):
    assert available_memory_gb({}, machine(tmp_path, {})) == 64


def test_where_nothing_is_known_memory_is_unlimited(tmp_path):
    assert available_memory_gb({}, tmp_path) == math.inf


def test_unknown_memory_keeps_no_run_waiting(monkeypatch):
    monkeypatch.setattr(resources, "available_memory_gb", lambda: math.inf)
    monkeypatch.setattr(resources, "available_cpus", lambda: 8)
    options = parse_options(["/data", "/out", "participant"])
    assert cli._choose_limits(options, n_runs=4, most_gb=1.0).n_processors == 4


def test_a_version_2_group_limits_memory_and_processors(tmp_path):
    group = "sys/fs/cgroup/slurm/job_7/step_0"
    files = {
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        f"{group}/memory.max": "max\n",
        "sys/fs/cgroup/slurm/job_7/memory.max": str(8 * 2**30) + "\n",
        f"{group}/cpu.max": "100000 100000\n",
    }
    root = machine(tmp_path, files)
    assert available_memory_gb({}, root) == 8
    assert available_cpus({}, root) == 1


def test_a_version_1_group_limits_memory_and_processors(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/job_7\n3:cpu,cpuacct:/job_7\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/job_7/memory.limit_in_bytes": HALF_GB,
        "sys/fs/cgroup/cpu/job_7/cpu.cfs_quota_us": "50000",
        "sys/fs/cgroup/cpu/job_7/cpu.cfs_period_us": "100000",
    }
    root = machine(tmp_path, files)
    assert available_memory_gb({}, root) == 0.5
    assert available_cpus({}, root) == 1


def test_a_container_that_sees_its_group_as_the_top_is_limited(tmp_path):
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": HALF_GB}
    assert available_memory_gb({}, machine(tmp_path, files)) == 0.5


def test_unlimited_groups_limit_nothing(tmp_path):
    files = {
        "proc/self/cgroup": "4:memory:/\n3:cpu:/\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    root = machine(tmp_path, files)
    assert available_memory_gb({}, root) == 64
    assert available_cpus({}, root) == available_cpus({}, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("environment", "gb"),
    [
        ({"SLURM_MEM_PER_NODE": "12288"}, 12),
        ({"SLURM_MEM_PER_NODE": "0"}, 64),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_PER_TASK": "4"}, 8),
        ({"SLURM_MEM_PER_NODE": "what"}, 64),
        ({"SLURM_MEM_PER_NODE": "999999999"}, 64),
    ],
)
def test_the_smaller_of_slurm_and_machine_counts(environment, gb, tmp_path):
    assert available_memory_gb(environment, machine(tmp_path, {})) == gb


def test_slurm_limits_the_processors(tmp_path):
    assert available_cpus({"SLURM_CPUS_PER_TASK": "1"}, tmp_path) == 1

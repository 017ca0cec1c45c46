"""A plugin file is understood, or refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scsnet_bids.errors import UsageError
from scsnet_bids.plugin_files import PluginChoice, read_plugin_file


def write(folder: Path, content: object) -> Path:
    """Write a plugin file as JSON."""
    path = folder / "plugin.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "choice"),
    [
        ({"plugin": "Linear"}, PluginChoice("Linear")),
        ({"plugin": "MultiProc", "plugin_args": None}, PluginChoice()),
        (
            {"plugin": "LegacyMultiProc", "plugin_args": {"n_procs": 4, "maxtasksperchild": 1}},
            PluginChoice("MultiProc", {"n_procs": 4, "maxtasksperchild": 1}),
        ),
        (
            {"plugin": "SLURM", "plugin_args": {"sbatch_args": "--time 10", "max_jobs": 3}},
            PluginChoice("SLURM", {"sbatch_args": "--time 10", "max_jobs": 3}),
        ),
    ],
)
def test_what_other_apps_take_is_understood(content, choice, tmp_path):
    assert read_plugin_file(write(tmp_path, content)) == choice


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"plugin": "SGE"}, "must be one of Linear, MultiProc, SLURM"),
        ({"plugin": ["SLURM"]}, "must be one of"),
        ({"plugin": "SLURM", "plugin_args": {"qsub_args": ""}}, "says qsub_args"),
        ({"plugin": "MultiProc", "plugin_args": {"n_procs": 0}}, "says n_procs: 0"),
        ({"plugin": "MultiProc", "plugin_args": {"memory_gb": "8"}}, "says memory_gb: '8'"),
        ({"plugin": "Linear", "plugin_args": [1]}, "list of names"),
        ({"plugins": "Linear"}, "has plugins"),
        (["Linear"], "must name a plugin"),
    ],
)
def test_what_there_is_not_is_refused(content, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        read_plugin_file(write(tmp_path, content))


def test_yaml_is_read_without_running_what_it_holds(tmp_path):
    pytest.importorskip("yaml", reason="PYYAML IS ABSENT, so this test proves nothing")
    path = tmp_path / "plugin.yml"
    path.write_text("plugin: SLURM\nplugin_args:\n  max_jobs: 5\n")
    assert read_plugin_file(path) == PluginChoice("SLURM", {"max_jobs": 5})
    for hostile in ("plugin: !!python/object/apply:os.getcwd []", "plugin: [", "\x00"):
        path.write_text(hostile)
        with pytest.raises(UsageError, match="must be JSON or YAML"):
            read_plugin_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.json is not"):
        read_plugin_file(tmp_path / "absent.json")

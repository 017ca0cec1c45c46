"""The array job: what it would do, and what its scripts do when they run.

Where SLURM is absent a small ``sbatch`` on the path runs every task at once, in turn;
``tests/containers/slurm.sh`` runs the same on a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from scsnet_bids import phantom, slurm_scripts
from scsnet_bids.report import record
from scsnet_bids.slurm import main
from scsnet_bids.tasks import Task, choose_tasks, find_tasks, is_complete

SBATCH = r"""#!/bin/bash
number=$(($(cat "$ROOT/number" 2>/dev/null || echo 100) + 1))
echo "$number" >"$ROOT/number"
echo "$@" >>"$ROOT/calls"
tasks=
while [[ $1 == --* ]]; do
    if [[ $1 == --array=* ]]; then tasks=${1#--array=}; fi
    shift
done
script=$1; shift
tasks=${tasks%%\%*}
export SLURM_JOB_ID=$number
if [ -z "$tasks" ]; then
    bash "$script" "$@" >"group_$number.txt" 2>&1
else
    for ((i = ${tasks%-*}; i <= ${tasks#*-}; i++)); do
        SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$i bash "$script" "$@" \
            >"${number}_$i.txt" 2>&1
    done
fi
echo "$number"
"""
TABLES = [ending for ending, _ in record.TABLES.values()]
FAIL_ON_SECOND = "bash -c '[ \"$4\" != sub-02 ] || exit 7'"
"""Stands for the app; $4 is the participant."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an awkward name, and put the small ``sbatch`` on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(SBATCH)
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ROOT", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / 'it\'s $HOME, "odd"'
    folder.mkdir()
    return folder


def make_dataset(folder: Path, *series: str) -> Path:
    """Make a dataset of series, such as ``sub-01/dwi/sub-01``, that hold nothing."""
    for name in series:
        path = folder / "data" / f"{name}_dwi.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    description = {"Name": "names only", "BIDSVersion": "1.9.0"}
    (folder / "data" / "dataset_description.json").write_text(json.dumps(description))
    return folder / "data"


def add_tables(out: Path, series: str, kinds: Sequence[str] = TABLES) -> None:
    """Write tables of a series, as an earlier run would."""
    for kind in kinds:
        path = out / f"{series}_{kind}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("slice\n0\n")
    described = json.dumps({"GeneratedBy": [{"Name": "scsnet-bids"}]})
    (out / "dataset_description.json").write_text(described)


def three(folder: Path) -> Path:
    """Make a dataset of three participants."""
    return make_dataset(folder, *(f"sub-{n}/dwi/sub-{n}" for n in ("01", "02", "03")))


def prepare(folder: Path, *words: str) -> tuple[int, Path]:
    """Run the command on ``folder/data``; return its exit code and the folder of the submission."""
    code = main([str(folder / "data"), str(folder / "out"), *words])
    return code, max((folder / "out/logs/slurm").glob("2*"), key=lambda path: path.stat().st_mtime)


def outcome(folder: Path, name: str) -> dict[str, str]:
    """Read exit codes by participant from ``outcomes.tsv`` or ``failed.tsv``."""
    path = folder / "out/logs/slurm" / name
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return dict(zip(table["participant_id"], table["exit_code"], strict=True))


def test_tasks_are_participants_or_their_sessions(tmp_path):
    data = make_dataset(
        tmp_path,
        "sub-2/ses-a/dwi/sub-2_ses-a_run-1",
        "sub-2/ses-b/dwi/sub-2_ses-b",
        "sub-1/dwi/sub-1",
        "sub-1/dwi/sub-1_part-phase",
        "sub-1/dwi/sub-x y",
    )
    assert find_tasks(data) == {
        Task("sub-1"): ["sub-1"],
        Task("sub-2"): ["sub-2_ses-a_run-1", "sub-2_ses-b"],
    }
    by_session = find_tasks(data, by_session=True)
    assert [task.name for task in by_session] == ["sub-1", "sub-2_ses-a", "sub-2_ses-b"]
    assert list(find_tasks(data, True, ["2"], ["ses-b"])) == [Task("sub-2", "ses-b")]


def test_a_task_is_complete_when_every_series_has_every_table(tmp_path):
    out, task, runs = tmp_path, Task("sub-1"), ["sub-1_run-1", "sub-1_run-2"]
    assert not is_complete(out, task, runs)
    add_tables(out, "sub-1/dwi/sub-1_run-1")
    add_tables(out, "sub-1/dwi/sub-1_run-2", TABLES[:2])
    assert not is_complete(out, task, runs)
    add_tables(out, "sub-1/dwi/sub-1_run-2", TABLES[2:])
    assert is_complete(out, task, runs)


@pytest.mark.parametrize(("status", "complete"), [("skipped", True), ("failed", False)])
def test_a_skipped_series_is_complete_and_one_that_failed_later_is_not(tmp_path, status, complete):
    add_tables(tmp_path, "sub-1/dwi/sub-1_run-1")
    if status == "failed":
        add_tables(tmp_path, "sub-1/dwi/sub-1_run-2")
    (tmp_path / "logs").mkdir()
    record = f"run\tstatus\treason\nsub-1_run-2\t{status}\twhy\n"
    (tmp_path / "logs/sub-1_runs.tsv").write_text(record)
    runs = ["sub-1_run-1", "sub-1_run-2"]
    assert is_complete(tmp_path, Task("sub-1"), runs) == complete


@pytest.mark.parametrize("content", [b"", b"run\xff"])
def test_who_has_a_damaged_list_of_outcomes_is_processed_again(tmp_path, content):
    add_tables(tmp_path, "sub-1/dwi/sub-1_run-1")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/sub-1_runs.tsv").write_bytes(content)
    assert not is_complete(tmp_path, Task("sub-1"), ["sub-1_run-1"])


def test_a_filter_leaves_series_without_tables(tmp_path):
    add_tables(tmp_path, "sub-1/dwi/sub-1_run-1")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/sub-1_runs.tsv").write_text("run\tstatus\treason\nsub-1_run-1\tdone\t\n")
    runs = ["sub-1_run-1", "sub-1_run-2"]
    assert not is_complete(tmp_path, Task("sub-1"), runs)
    assert is_complete(tmp_path, Task("sub-1"), runs, recorded_only=True)


def test_whom_a_filter_leaves_without_series_gets_no_task(place, capsys):
    axial = [f"sub-0{n}/dwi/sub-0{n}_acq-axial" for n in (1, 2)]
    make_dataset(place, *axial, "sub-01/dwi/sub-01_acq-sag", "sub-03/dwi/sub-03_acq-sag")
    add_tables(place / "out", axial[0])
    (place / "filter.json").write_text('{"dwi": {"acquisition": "axial"}}')
    filtered = ("--", "--bids-filter-file", str(place / "filter.json"))
    _, folder = prepare(place, *filtered)
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-02", "n/a"]
    assert "1 task to do, 1 of 2 complete" in capsys.readouterr().out
    (place / "filter.json").write_text('{"dwi": {"acquisition": "coronal"}}')
    assert prepare(place, *filtered)[0] == 18
    assert "The filters must choose a diffusion series" in capsys.readouterr().err


def test_labels_are_written_as_for_the_app(place):
    three(place)
    _, folder = prepare(place, "--participant-label", "01,02", "--participant-label", "sub-03")
    assert len((folder / "tasks.tsv").read_text().splitlines()) == 4


def test_what_is_complete_is_left_out_unless_asked_for(place, capsys):
    three(place)
    add_tables(place / "out", "sub-02/dwi/sub-02")
    _, folder = prepare(place)
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-01", "n/a", "sub-03", "n/a"]
    assert "2 tasks to do, 1 of 3 complete" in capsys.readouterr().out
    _, folder = prepare(place, "--again")
    assert len((folder / "tasks.tsv").read_text().splitlines()) == 4


@pytest.mark.parametrize("how", [(), ("--image", "app.sif"), ("--setup", "module load x")])
def test_the_scripts_are_sound_shell(place, how, monkeypatch):
    monkeypatch.chdir(place)
    (place / "app.sif").touch()
    if "--image" in how:  # such folders are refused with an image
        place = place.parent / "plain folder"
    three(place)
    _, folder = prepare(place, *how)
    scripts = [str(folder / name) for name in ("participant.sbatch", "group.sbatch", "submit.sh")]
    for script in scripts:
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    if shutil.which("shellcheck"):
        # SC2016: a $ between single quotes is part of the folder's name.
        found = subprocess.run(
            ["shellcheck", "--exclude", "SC2016", *scripts], capture_output=True, check=False
        )
        assert found.returncode == 0, found.stdout.decode()


def test_limits_reach_the_scheduler_and_the_app(place):
    three(place)
    limits = ("--mem", "1.5G", "--cpus", "2", "--time", "01:00:00", "--at-a-time", "5")
    where = ("--partition", "short", "--account", "lab", "--sbatch=--qos=low")
    _, folder = prepare(place, *limits, *where, "--", "--b0-threshold", "60")
    script = (folder / "participant.sbatch").read_text()
    for word in ("array=1-3%5", "mem=1536M", "cpus-per-task=2", "time=01:00:00", "qos=low"):
        assert f"#SBATCH --{word}\n" in script
    assert "#SBATCH --partition=short\n#SBATCH --account=lab\n" in script
    assert "limits=(--nprocs 2 --mem 1536M)" in script
    assert "app_words=(--b0-threshold 60)" in script


def test_the_image_sees_its_folders_and_nothing_of_the_host(place, monkeypatch):
    programs, plain = Path(os.environ["PATH"].split(":")[0]), place.parent / "plain"
    (programs / "apptainer").write_text('#!/bin/bash\nprintf "%s\\n" "$@" >"$ROOT/words"\n')
    (programs / "apptainer").chmod(0o755)
    three(plain)
    (plain / "app.sif").touch()
    monkeypatch.chdir(plain)
    prepare(plain, "--image", "app.sif", "--participant-label", "02", "--submit")
    words = (place.parent / "words").read_text().splitlines()  # those of the last call, group
    assert words[:2] == ["run", "--cleanenv"]
    assert words[3] == f"{plain}/data:/data:ro"
    assert words[8:12] == [str(plain / "app.sif"), "/data", "/out", "group"]
    assert words[12:] == ["--work-dir", "/work"]


def test_a_failure_is_listed_and_only_it_is_run_again(place):
    three(place)
    code, _ = prepare(place, "--command", FAIL_ON_SECOND, "--submit")
    assert code == 0
    assert outcome(place, "outcomes.tsv") == {"sub-01": "0", "sub-02": "7", "sub-03": "0"}
    assert outcome(place, "failed.tsv") == {"sub-02": "7"}
    _, folder = prepare(place, "--only-failed", "--command", "true", "--submit")
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-02", "n/a"]
    assert set(outcome(place, "outcomes.tsv").values()) == {"0"}
    assert outcome(place, "failed.tsv") == {}


def test_labels_choose_among_what_has_failed(place, capsys):
    three(place)
    prepare(place, "--command", "false", "--submit")
    assert len(outcome(place, "failed.tsv")) == 3
    _, folder = prepare(place, "--only-failed", "--participant-label", "sub-02,03")
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-02", "n/a", "sub-03", "n/a"]
    left_out = ("--", "--exclude-participant-label", "01", "02")
    _, folder = prepare(place, "--only-failed", *left_out)
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-03", "n/a"]
    code, _ = prepare(place, "--only-failed", "--participant-label", "04")
    assert code == 18
    assert "these have, sub-01, sub-02, sub-03" in capsys.readouterr().err


def test_tasks_are_chosen_by_their_session():
    tasks = [Task("sub-1", "ses-a"), Task("sub-1", "ses-b"), Task("sub-2")]
    assert choose_tasks(tasks, session_labels=["b"]) == tasks[1:]
    assert choose_tasks(tasks, ["1"], ["ses-a"]) == tasks[:1]
    assert choose_tasks(tasks) == tasks


@pytest.mark.parametrize("option", ["--participant-label", "--session-label"])
def test_an_empty_label_does_not_choose_everybody(place, option, capsys):
    three(place)
    with pytest.raises(SystemExit) as stopped:
        main([str(place / "data"), str(place / "out"), option, ""])
    assert stopped.value.code == 2
    assert "a label is needed" in capsys.readouterr().err


def test_a_task_that_left_no_exit_code_has_failed(place):
    three(place)
    prepare(place, "--command", "true", "--submit")
    # The app, and the shell around it, are killed: nothing is written.
    killed = "bash -c '[ \"$4\" != sub-03 ] || kill -9 $PPID'"
    _, folder = prepare(place, "--again", "--command", killed, "--submit")
    assert outcome(place, "failed.tsv") == {"sub-03": "n/a"}
    said = next(folder.glob("group_*.txt")).read_text()
    assert "2 of 3 tasks done" in said
    assert "sub-03: n/a" in said
    assert "--only-failed --submit" in said


def test_a_job_that_is_stopped_says_so_and_clears_its_folder(place):
    three(place)
    ready = place.parent / "ready"
    _, folder = prepare(place, "--command", f"bash -c 'touch {ready}; sleep 60 & wait'")
    task = subprocess.Popen(
        ["bash", str(folder / "participant.sbatch")],
        env=os.environ | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "9"},
        start_new_session=True,
    )
    while not ready.exists() and task.poll() is None:
        pass
    task.terminate()
    assert task.wait(timeout=30) == 143
    row = (place / "out/logs/slurm/codes/sub-01.tsv").read_text().split("\t")
    assert row[:3] == ["sub-01", "n/a", "143"]
    assert not list(place.parent.glob("scsnet-bids.*"))


def test_more_tasks_than_an_array_may_have_become_several(place, monkeypatch):
    monkeypatch.setattr(slurm_scripts, "MOST_TASKS", 2)
    three(place)
    prepare(place, "--command", "true", "--at-a-time", "1", "--submit")
    calls = (place.parent / "calls").read_text().splitlines()
    assert calls[0] == "--parsable --array=1-2%1 participant.sbatch 0"
    assert calls[1] == "--parsable --array=1-1%1 --dependency=afterany:101 participant.sbatch 2"
    assert calls[2] == "--parsable --dependency=afterany:101:102 group.sbatch 101 102"
    assert outcome(place, "outcomes.tsv") == {"sub-01": "0", "sub-02": "0", "sub-03": "0"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--participant-label", "09"], 18, "sub-09"),
        (["--only-failed"], 18, "group job"),
        (["--mem", "4000"], 2, "unit"),
        (["--time", "soon"], 2, "00:30:00"),
        (["--image", "absent.sif"], 2, "absent.sif"),
        (["--", "--participant-label", "01"], 2, "before --"),
        (["--", "--nprocs", "4"], 2, "before --"),
        (["--", "--device", "gpu"], 2, "'gpu'"),
        (["--", "--weights", "nope.pt"], 2, "nope.pt, which"),
        (["--", "--segment-from", "b0+dwi", "--dwi-weights", "nope.pt"], 2, "nope.pt, which"),
        (["--", "--bids-filter-file", "nope.json"], 2, "nope.json is not"),
        (["--", "--dry-run"], 2, "--dry-run after --"),
        (["--", "--reports-only"], 2, "--reports-only after --"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(place, capsys, words, code, said):
    three(place)
    assert main([str(place / "data"), str(place / "out"), *words]) == code
    assert said in capsys.readouterr().err
    assert not (place / "out" / "logs").exists()


def test_the_folder_of_somebody_else_is_refused(place, capsys):
    data = three(place)
    (place / "out").mkdir()
    (place / "out" / "README.md").write_text("mine")
    assert main([str(data), str(place / "out")]) == 73
    assert "holds README.md" in capsys.readouterr().err
    assert not (place / "out" / "logs").exists()


def test_what_only_the_image_holds_is_not_looked_for(place, monkeypatch):
    plain = place.parent / "plain"
    three(plain)
    (plain / "app.sif").touch()
    monkeypatch.chdir(plain)
    words = ("--weights", "/in/image.pt", "--bids-filter-file", "/in/image.json")
    assert prepare(plain, "--image", "app.sif", "--", *words)[0] == 0


def test_options_that_the_app_does_not_know_are_refused(place, capsys):
    three(place)
    with pytest.raises(SystemExit) as stopped:
        main([str(place / "data"), str(place / "out"), "--", "--no-such-option"])
    assert stopped.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_is_refused(place, capsys):
    assert main([str(place), str(place / "out")]) == 16
    assert "dataset_description.json" in capsys.readouterr().err


def test_the_command_needs_neither_torch_nor_nipype():
    heavy = "{'torch', 'nipype', 'bids', 'dipy', 'matplotlib'}"
    code = f"import sys, scsnet_bids.slurm; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_array_processes_a_phantom_and_names_the_broken_participant(place):
    data = place / "data"
    assert phantom.main([str(data), "--participants", "3", "--tiny"]) == 0
    (data / "sub-02/dwi/sub-02_dwi.bvec").unlink()
    prepare(place, "--mem", "2G", "--submit")
    assert outcome(place, "outcomes.tsv") == {"sub-01": "0", "sub-02": "65", "sub-03": "0"}
    wide = pd.read_csv(place / "out/group_wide_scalarstats.tsv", sep="\t")
    assert list(wide["participant_id"]) == ["sub-01", "sub-03"]
    _, folder = prepare(place)
    assert (folder / "tasks.tsv").read_text().split()[2:] == ["sub-02", "n/a"]

"""The words of the command line mean what users of other BIDS Apps expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scsnet_bids.errors import UnknownLevelError, UsageError
from scsnet_bids.options import Options, parse_options
from scsnet_bids.settings import Settings, list_settings


def parse(*words: str) -> Options:
    """Parse options after the usual three words."""
    return parse_options(["/data", "/out", "participant", *words])


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what is said about words that are not understood."""
    with pytest.raises(SystemExit) as stopped:
        parse_options(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the help."""
    with pytest.raises(SystemExit) as stopped:
        parse_options(["--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_without_options_everything_has_its_default():
    options = parse()
    assert (options.bids_dir, options.output_dir) == (Path("/data"), Path("/out"))
    assert options.work_dir == Path.cwd() / "work"
    assert options.settings == Settings()
    assert (options.nprocs, options.mem_gb, options.omp_nthreads) == (None, None, 1)


@pytest.mark.parametrize(
    "words",
    [
        ["--participant-label", "01", "02", "sub-03"],
        ["--participant_label", "01,02,sub-03"],
        ["--participant-label=01,02", "--participant-label", "sub-03"],
        ["--participant-label", "01,", "02 sub-03"],
    ],
)
def test_labels_may_be_given_in_any_usual_way(words):
    assert parse(*words).participant_label == ["01", "02", "sub-03"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["--session-label", "a"], ["--session_id", "a"]),
        (["--nprocs", "3"], ["--n_cpus", "3"]),
        (["--nprocs", "3"], ["--nthreads=3"]),
        (["--omp-nthreads", "3"], ["--omp_nthreads", "3"]),
        (["--skip-bids-validation"], ["--skip_bids_validator"]),
        (["--mem", "16G"], ["--mem=16384MB"]),
        (["--b0-threshold", "10"], ["--b0_threshold=10.0"]),
        (["-w", "/scratch/my_work"], ["--work_dir=/scratch/my_work"]),
    ],
)
def test_other_spellings_mean_the_same(one, other):
    command = {"command": ""}
    assert vars(parse(*one)) | command == vars(parse(*other)) | command


def test_the_command_line_wins_over_the_file(tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text('[gradients]\nb0_max = 10\ntensor_b_max = 900\n[motion]\nmethod = "fsl"\n')
    settings = parse(
        "--config-file", str(config), "--b0-threshold", "20", "--motion", "none"
    ).settings
    assert (settings.gradients.b0_max, settings.gradients.tensor_b_max) == (20, 900)
    assert settings.motion.method == "none"


def test_a_settings_file_may_come_from_windows(tmp_path):
    config = tmp_path / "settings.toml"
    config.write_bytes(b"\xef\xbb\xbf[gradients]\r\nb0_max = 10\r\n")
    assert parse("--config-file", str(config)).settings.gradients.b0_max == 10


@pytest.mark.parametrize(
    "text", ["[motion", "[movement]\nspeed = 3", '[gradients]\nb0_max = "50"', "b0_max = 3"]
)
def test_a_settings_file_with_a_mistake_is_named(tmp_path, text):
    config = tmp_path / "settings.toml"
    config.write_text(text)
    with pytest.raises(UsageError, match=f"The settings file is {config}[.]$"):
        parse("--config-file", str(config))


def test_weights_of_ones_own_are_named_for_steps_that_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse_options(["/data", "/out", "participant", "--weights", "ours.pt"])
    assert options.settings.segmentation.weights == str(tmp_path / "ours.pt")
    assert parse_options(["/data", "/out", "participant"]).settings.segmentation.weights == ""


def test_folders_of_other_tools_are_named_for_steps_that_run_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["/data", "/out", "participant", "--derivatives", "a/qsiprep", "sct=b", "/c=d"]
    folders = parse_options(words).settings.derivatives.folders
    assert folders == (str(tmp_path / "a/qsiprep"), f"sct={tmp_path / 'b'}", "/c=d")


def test_a_sloppy_run_says_in_its_settings_what_it_leaves_out():
    settings = parse("--sloppy").settings
    assert (settings.motion.method, settings.alignment.enabled) == ("none", False)


def test_levels_run_in_their_order_and_once():
    assert parse_options(["/data", "/out", "group", "participant"]).levels == (
        "participant",
        "group",
    )
    assert parse_options(["/data", "/out", "group", "group"]).levels == ("group",)


@pytest.mark.parametrize("word", ["--dry-run", "--boilerplate-only"])
def test_where_nothing_is_to_be_computed_there_is_no_group_level(word):
    with pytest.raises(UsageError, match=f"{word} is for the participant level alone"):
        parse_options(["/data", "/out", "participant", "group", word])


def test_an_unknown_level_is_named():
    with pytest.raises(UnknownLevelError, match="'particpant'"):
        parse_options(["/data", "/out", "particpant"])


def test_options_for_scripts_change_nothing():
    words = ["--notrack", "--skip-bids-validation", "--random-seed", "1"]
    words += ["--bids-database-dir", "/x", "--bids-database-wipe"]
    assert vars(parse(*words)) | {"command": ""} == vars(parse()) | {"command": ""}


def test_the_command_is_kept_as_it_was_typed():
    assert parse("--work-dir", "/my work").command == (
        "scsnet-bids /data /out participant --work-dir '/my work'"
    )


def test_options_before_the_folders_are_explained(capsys):
    said = complaint(capsys, "--participant-label", "01", "/data", "/out", "participant")
    assert "options after them" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nprocs", "0"), "1 or more"),
        (("--nprocs", "many"), "1 or more"),
        (("--omp-nthreads", "1.5"), "1 or more"),
        (("--participant-label", ""), "--participant-label: a label is needed, not ''"),
        (("--session-label", ","), "--session-label/--session-id: a label is needed, not ','"),
        (("--exclude-participant-label= ",), "a label is needed"),
        (("--participant-lable", "01"), "--participant-lable"),
        (("--seed", "1"), "--seed"),
        (("--b0-threshold", "low"), "--b0-threshold"),
        (("--motion", "best"), "'slicewise', 'fsl', 'none'"),
        (("--motion-correction",), "--motion-correction"),
        (("--dry-run", "--boilerplate-only"), "not allowed with"),
        (("--reports-only", "--dry-run"), "not allowed with"),
    ],
)
def test_words_that_mean_nothing_are_refused(words, message, capsys):
    assert message in complaint(capsys, "/data", "/out", "participant", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mem", "16"), "16G for gigabytes"),
        (("--b0-threshold", "-5"), "0 or more"),
        (("--config-file", "/does/not/exist.toml"), "must be readable"),
        (("--config-file", "~nobody-has-this-name/x.toml"), "must be readable"),
    ],
)
def test_impossible_values_get_a_sentence(words, message):
    with pytest.raises(UsageError, match=message):
        parse(*words)


def test_the_help_states_every_setting_with_its_default_and_unit(capsys):
    text = " ".join(help_text(capsys).split())
    assert "Volumes up to this b-value count as b=0 (default: 50 s/mm2)" in text
    for known in list_settings():
        if known.option:
            assert f"{known.option} " in text or f"{known.option}," in text
            assert known.text.rstrip(".") in text


def test_the_help_fits_a_terminal(capsys):
    assert max(map(len, help_text(capsys).splitlines())) <= 100


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_load_no_heavy_library(word):
    code = f"""
import sys
from scsnet_bids.cli import main
try:
    main(["{word}"])
except SystemExit:
    pass
heavy = {{"torch", "nipype", "pandas", "numpy", "scipy", "nibabel", "bids", "matplotlib", "dipy"}}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

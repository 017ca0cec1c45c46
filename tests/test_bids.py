from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from scsnet_bids.bids import find_runs, read_filters
from scsnet_bids.errors import (
    EmptySelectionError,
    InvalidDatasetError,
    NoDwiError,
    ScsnetError,
    UsageError,
)
from scsnet_bids.runs import DwiRun, read_metadata

MakeDataset = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path) -> MakeDataset:
    """Make a dataset of empty files: finding runs never opens an image."""

    def make(*names: str, root: Path = tmp_path / "data") -> Path:
        for name in ("dataset_description.json", *names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        return root

    return make


def series(prefix: str) -> tuple[str, ...]:
    """Name the files of a complete series, in the folder that its entities ask for."""
    levels = [part for part in prefix.split("_") if part[:4] in ("sub-", "ses-")]
    folder = "/".join([*levels, "dwi"])
    return tuple(f"{folder}/{prefix}_dwi.{end}" for end in ("nii.gz", "bval", "bvec", "json"))


def prefixes(runs: list[DwiRun]) -> list[str]:
    return [run.prefix for run in runs]


def test_every_entity_is_kept_as_it_is_written(dataset: MakeDataset) -> None:
    prefix = "sub-01_ses-pre_acq-ax_rec-norm_dir-AP_run-01_part-mag_chunk-2"
    (run,) = find_runs(dataset(*series(prefix)))
    assert run.prefix == prefix
    assert (run.participant, run.session) == ("01", "pre")
    assert run.output_folder == Path("sub-01/ses-pre/dwi")
    assert dict(run.entities)["run"] == "01"


def test_entities_take_the_order_of_the_standard(dataset: MakeDataset) -> None:
    (run,) = find_runs(dataset(*series("sub-01_run-1_dir-AP_acq-ax")))
    assert run.prefix == "sub-01_acq-ax_dir-AP_run-1"


def test_a_dataset_without_sessions_has_none(dataset: MakeDataset) -> None:
    (run,) = find_runs(dataset(*series("sub-01")))
    assert run.session is None
    assert run.output_folder == Path("sub-01/dwi")


def test_runs_are_sorted_as_numbers(dataset: MakeDataset) -> None:
    root = dataset(*(name for n in (10, 2, 1) for name in series(f"sub-01_run-{n}")))
    assert prefixes(find_runs(root)) == ["sub-01_run-1", "sub-01_run-2", "sub-01_run-10"]


def test_only_magnitude_series_of_raw_data_are_runs(dataset: MakeDataset) -> None:
    root = dataset(
        *series("sub-01_part-mag"),
        *series("sub-01_part-phase"),
        *series("sub-01_part-real"),
        "sub-01/dwi/sub-01_sbref.nii.gz",
        "sub-01/dwi/sub-01_desc-preproc_dwi.nii.gz",
        "sub-01/dwi/dwi.nii.gz",
        "sub-01/anat/sub-01_dwi.nii.gz",
        "derivatives/x/sub-01/dwi/sub-01_dwi.nii.gz",
        "sourcedata/sub-01/dwi/sub-01_acq-x_dwi.nii.gz",
    )
    assert prefixes(find_runs(root)) == ["sub-01_part-mag"]


def test_an_unpacked_image_is_found(dataset: MakeDataset) -> None:
    (run,) = find_runs(dataset("sub-01/dwi/sub-01_dwi.nii"))
    assert run.image.name == "sub-01_dwi.nii"


def test_gradients_are_inherited_from_every_level(dataset: MakeDataset) -> None:
    root = dataset(
        "sub-01/ses-a/dwi/sub-01_ses-a_run-1_dwi.nii.gz",
        "sub-01/ses-a/dwi/sub-01_ses-a_run-2_dwi.nii.gz",
        "sub-01/ses-b/dwi/sub-01_ses-b_dwi.nii.gz",
        "sub-02/dwi/sub-02_dwi.nii.gz",
        "dwi.bval",
        "dwi.bvec",
        "sub-01/sub-01_dwi.bvec",
        "sub-01/ses-a/dwi/sub-01_ses-a_dwi.bvec",
        "sub-01/ses-a/dwi/sub-01_ses-a_run-2_dwi.bvec",
    )
    bvecs = {run.prefix: run.bvec.relative_to(root).as_posix() for run in find_runs(root)}
    assert bvecs == {
        "sub-01_ses-a_run-1": "sub-01/ses-a/dwi/sub-01_ses-a_dwi.bvec",
        "sub-01_ses-a_run-2": "sub-01/ses-a/dwi/sub-01_ses-a_run-2_dwi.bvec",
        "sub-01_ses-b": "sub-01/sub-01_dwi.bvec",
        "sub-02": "dwi.bvec",
    }
    assert {run.bval.relative_to(root).as_posix() for run in find_runs(root)} == {"dwi.bval"}


def test_gradients_of_another_series_are_never_taken(dataset: MakeDataset) -> None:
    root = dataset(
        "sub-01/dwi/sub-01_dwi.nii.gz",
        "sub-01/dwi/sub-01_run-2_dwi.bval",
        "sub-01/dwi/sub-01_dir-AP_dwi.bval",
        "sub-01/sub-01_dir-PA_dwi.bval",
        "dir-AP_dwi.bval",
    )
    (run,) = find_runs(root)
    assert run.bval == root / "sub-01/dwi/sub-01_dwi.bval"
    assert not run.bval.exists()


def test_sidecars_are_merged_the_nearest_winning(dataset: MakeDataset) -> None:
    root = dataset(*series("sub-01_acq-ax"), "dwi.json", "acq-ax_dwi.json", "acq-sag_dwi.json")
    (root / "dwi.json").write_text('{"EchoTime": 1, "FlipAngle": 90, "BodyPart": "BRAIN"}')
    (root / "acq-ax_dwi.json").write_text('{"EchoTime": 2, "BodyPart": "CSPINE"}')
    (root / "acq-sag_dwi.json").write_text('{"EchoTime": 9}')
    (root / "sub-01/dwi/sub-01_acq-ax_dwi.json").write_text('{"EchoTime": 3}')
    (run,) = find_runs(root)
    assert read_metadata(run) == {"EchoTime": 3, "FlipAngle": 90, "BodyPart": "CSPINE"}


def test_a_missing_sidecar_is_no_obstacle(dataset: MakeDataset) -> None:
    (run,) = find_runs(dataset(*series("sub-01")[:3]))
    assert run.sidecars == ()
    assert read_metadata(run) == {}


@pytest.mark.parametrize("labels", [["02"], ["sub-02"], ["02", "sub-02"]])
def test_participants_are_chosen_with_or_without_prefix(
    labels: list[str], dataset: MakeDataset
) -> None:
    root = dataset(*series("sub-01"), *series("sub-02"), *series("sub-020"))
    assert prefixes(find_runs(root, labels)) == ["sub-02"]


def test_sessions_are_chosen_with_or_without_prefix(dataset: MakeDataset) -> None:
    root = dataset(*(n for s in "abc" for n in series(f"sub-01_ses-{s}")), *series("sub-02_ses-a"))
    assert prefixes(find_runs(root, ["01"], ["ses-a", "c"])) == ["sub-01_ses-a", "sub-01_ses-c"]
    assert prefixes(find_runs(root, [], ["a"])) == ["sub-01_ses-a", "sub-02_ses-a"]


def test_only_chosen_folders_are_walked(dataset: MakeDataset) -> None:
    root = dataset(*series("sub-01_ses-a"), *series("sub-02"), *series("sub-01_ses-b"))
    for closed in ("sub-02", "sub-01/ses-b"):
        # Following this link to itself for ever, or failing on it, would mean it was looked into.
        (root / closed / "dwi" / "loop").symlink_to(root)
    (root / "sub-01/anat").mkdir()
    (root / "sub-01/anat/loop").symlink_to(root)
    assert prefixes(find_runs(root, ["01"], ["a"])) == ["sub-01_ses-a"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"run": 1}, ["sub-01_acq-ax_run-01"]),
        ({"run": "01"}, ["sub-01_acq-ax_run-01"]),
        ({"run": [1, 2]}, ["sub-01_acq-ax_run-01", "sub-01_acq-ax_run-02"]),
        ({"acquisition": None}, ["sub-01_dir-AP"]),
        ({"acquisition": "*"}, ["sub-01_acq-ax_run-01", "sub-01_acq-ax_run-02"]),
        ({"acquisition": "ax", "run": 2}, ["sub-01_acq-ax_run-02"]),
        ({"direction": "AP"}, ["sub-01_dir-AP"]),
        ({"direction": [None, "AP"], "run": None}, ["sub-01_dir-AP"]),
    ],
)
def test_filters_choose_by_entity(
    filters: dict[str, object], expected: list[str], dataset: MakeDataset
) -> None:
    root = dataset(
        *series("sub-01_acq-ax_run-01"), *series("sub-01_acq-ax_run-02"), *series("sub-01_dir-AP")
    )
    assert prefixes(find_runs(root, filters=filters)) == expected


@pytest.mark.parametrize("above", ["anat", "func/x", "perf", "sub-cohort", "ses-9", "run-7_acq-z"])
def test_folders_above_a_dataset_do_not_matter(
    above: str, dataset: MakeDataset, tmp_path: Path
) -> None:
    root = dataset(
        *series("sub-01_ses-1"), *series("sub-01_ses-2_run-2"), root=tmp_path / above / "ds"
    )
    assert prefixes(find_runs(root)) == ["sub-01_ses-1", "sub-01_ses-2_run-2"]
    assert prefixes(find_runs(root, filters={"session": "1", "run": None})) == ["sub-01_ses-1"]
    chosen = find_runs(root, filters={"subject": "01", "acquisition": None, "run": 2})
    assert prefixes(chosen) == ["sub-01_ses-2_run-2"]


def test_a_filter_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "filters.json"
    path.write_text('{"dwi": {"acquisition": "ax", "run": [1, 2], "direction": null}}')
    assert read_filters(path) == {"acquisition": "ax", "run": [1, 2], "direction": None}


def test_a_filter_file_of_another_app_will_do(tmp_path: Path, caplog) -> None:
    path = tmp_path / "filters.json"
    path.write_text(
        '{"bold": {"task": "rest"}, "dwi": {"datatype": "dwi", "suffix": "dwi", "run": 1, '
        '"extension": [".nii.gz", ".nii"], "echo": null, "space": null, "part": null}}'
    )
    assert read_filters(path) == {"run": 1, "part": None}
    assert "not bold" in caplog.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('{"dwi": "ax"}', "must look like"),
        ('{"DWI": {"run": 1}}', "names DWI, which is none"),
        ('{"dwi": {}, "t1x": {}}', "names t1x, which is none"),
        ('{"dwi": {"suffix": "bold"}}', "suffix is none"),
        ('{"dwi": {"echo": 1}}', "echo is none"),
        ('{"dwi": {"acq": null}}', "acq is none"),
        ('{"dwi": {"acq": "ax"}}', "acq is none; known are subject, session, acquisition"),
    ],
)
def test_an_unclear_filter_file_is_refused(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "filters.json").write_text(content)
    with pytest.raises(UsageError, match=expected):
        read_filters(tmp_path / "filters.json")


@pytest.mark.parametrize(
    ("arguments", "error", "exit_code", "expected"),
    [
        ({"participant_labels": ["9"]}, EmptySelectionError, 18, "sub-9 .* are sub-01, sub-02"),
        ({"session_labels": ["z"]}, EmptySelectionError, 18, "ses-z .* are ses-a, ses-b"),
        ({"filters": {"run": 7}}, EmptySelectionError, 18, "leaves none of sub-01_ses-a_dwi"),
        ({"filters": {"echo": 1}}, UsageError, 2, "echo is none; known are subject"),
    ],
)
def test_a_selection_that_cannot_be_met_says_what_there_is(
    arguments: dict[str, object],
    error: type[ScsnetError],
    exit_code: int,
    expected: str,
    dataset: MakeDataset,
) -> None:
    root = dataset(*series("sub-01_ses-a"), *series("sub-01_ses-b"), *series("sub-02_ses-a"))
    with pytest.raises(error, match=expected) as caught:
        find_runs(root, **arguments)  # type: ignore[arg-type]
    assert caught.value.exit_code == exit_code


def test_of_many_participants_only_some_are_named(dataset: MakeDataset) -> None:
    root = dataset(*(name for n in range(20) for name in series(f"sub-{n:02d}")))
    with pytest.raises(EmptySelectionError, match=r"sub-06, sub-07, \.\.\.\."):
        find_runs(root, ["99"])


def test_a_folder_without_description_is_no_dataset(dataset: MakeDataset) -> None:
    root = dataset(*series("sub-01"))
    (root / "dataset_description.json").unlink()
    with pytest.raises(
        InvalidDatasetError, match=r"dataset_description\.json is missing"
    ) as caught:
        find_runs(root)
    assert caught.value.exit_code == 16
    assert '{"Name": "...", "BIDSVersion": "1.10.0"}' in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_description_is_named(content: str, dataset: MakeDataset) -> None:
    root = dataset(*series("sub-01"))
    (root / "dataset_description.json").write_text(content)
    with pytest.raises(InvalidDatasetError, match="JSON"):
        find_runs(root)


def test_a_folder_that_does_not_exist_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="Check the input folder"):
        find_runs(tmp_path / "absent")


@pytest.mark.parametrize("names", [(), ("sub-01/anat/sub-01_T2w.nii.gz",)])
def test_a_dataset_without_diffusion_series_says_so(
    names: tuple[str, ...], dataset: MakeDataset
) -> None:
    with pytest.raises(NoDwiError, match="no dwi/\\*_dwi") as caught:
        find_runs(dataset(*names))
    assert caught.value.exit_code == 66


def test_a_participant_without_series_is_told_but_stops_nobody(
    dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    root = dataset(*series("sub-01"), "sub-02/anat/sub-02_T2w.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert prefixes(find_runs(root)) == ["sub-01"]
    assert f"No diffusion series in {root / 'sub-02'}." in caplog.text


def test_two_images_of_one_name_are_refused(dataset: MakeDataset) -> None:
    root = dataset("sub-01/dwi/sub-01_dwi.nii", "sub-01/dwi/sub-01_dwi.nii.gz")
    with pytest.raises(InvalidDatasetError, match=r"sub-01_dwi\.nii and .*sub-01_dwi\.nii\.gz"):
        find_runs(root)


def test_a_dataset_behind_a_link_is_found(dataset: MakeDataset, tmp_path: Path) -> None:
    dataset(*series("sub-01_ses-a"), root=tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (run,) = find_runs(tmp_path / "link", ["01"])
    assert run.image == tmp_path / "link" / series("sub-01_ses-a")[0]


def test_a_relative_path_will_do(
    dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(*series("sub-01"))
    monkeypatch.chdir(tmp_path)
    (run,) = find_runs(Path("data"))
    assert run.image.is_absolute()


def test_a_run_can_be_a_key(dataset: MakeDataset) -> None:
    root = dataset(*series("sub-01"))
    assert {find_runs(root)[0]: 1}[find_runs(root)[0]] == 1


@pytest.mark.data
def test_the_real_dataset_has_two_runs(shared_data: Path) -> None:
    runs = find_runs(shared_data / "ds-cord")
    assert prefixes(runs) == ["sub-01", "sub-02"]
    assert all(run.image.exists() and run.bval.exists() and run.bvec.exists() for run in runs)
    assert read_metadata(runs[0]) == {}


@pytest.mark.data
def test_sidecars_of_many_scanners_are_read(shared_data: Path, dataset: MakeDataset) -> None:
    source = shared_data / "spine-generic-sidecars"
    for bval in sorted(source.glob("sub-*/dwi/*_dwi.bval")):
        # The images are not part of the collection: only their names are made up here.
        relative = bval.relative_to(source).with_suffix("")
        root = dataset(f"{relative}.nii.gz")
        for end in (".bval", ".bvec", ".json"):
            if (source / f"{relative}{end}").exists():
                (root / f"{relative}{end}").symlink_to(source / f"{relative}{end}")
    runs = find_runs(root)
    assert len(runs) >= 15
    assert all(run.bval.exists() and run.bvec.exists() for run in runs)
    assert {"Siemens", "Philips", "GE"} <= {read_metadata(run).get("Manufacturer") for run in runs}
    assert json.dumps([read_metadata(run) for run in runs])

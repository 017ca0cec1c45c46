"""Datasets, sidecars, names and commands that cannot be: each ends with its code and sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.datasets import Dataset, Fault

DEEP = "[" * 100_000
DESCRIPTION = "dataset_description.json"
NOT_NAMED = "the standard names a diffusion series"
NO_SERIES = "there is no dwi/*_dwi.nii.gz"


def write(name: str, content: bytes | str) -> Callable[[Dataset], object]:
    """Write a file of the dataset."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda d: (d.root / name).write_bytes(raw)


def stretch(name: str) -> Callable[[Dataset], object]:
    """Make a gigabyte of a file, with hardly anything on disk."""
    return lambda d: os.truncate(d.root / name, 2**30)


def link(name: str, target: str) -> Callable[[Dataset], object]:
    return lambda d: d.replace_by_link(d.root / name, target)


def rename(old: str, new: str) -> Callable[[Dataset], object]:
    """Give the files of the series another name, or move a folder."""

    def spoil(dataset: Dataset) -> None:
        for path in sorted(dataset.root.glob(old)):
            path.rename(path.with_name(path.name.replace("sub-01", new)))

    return spoil


def replace_by_pipe(dataset: Dataset) -> None:
    dataset.path(".json").unlink()
    os.mkfifo(dataset.path(".json"))


def copy_series(new_stem: str) -> Callable[[Dataset], object]:
    """Add a copy of the image under another name."""
    return lambda d: shutil.copy(d.path(), d.path().with_name(new_stem))


def remove_dataset(dataset: Dataset) -> None:
    shutil.rmtree(dataset.root)


def replace_by_file(dataset: Dataset) -> None:
    shutil.rmtree(dataset.root)
    dataset.root.write_text("not a folder")


def beside(name: str, content: str) -> Callable[[Dataset], object]:
    """Write a file beside the dataset."""
    return lambda d: (d.root.parent / name).write_text(content)


def make_output(content: str) -> Callable[[Dataset], object]:
    """Let the output folder hold another dataset."""

    def spoil(dataset: Dataset) -> None:
        (dataset.root.parent / "out").mkdir()
        (dataset.root.parent / "out" / DESCRIPTION).write_text(content)

    return spoil


def link_output_into_input(dataset: Dataset) -> None:
    (dataset.root.parent / "out").mkdir()
    (dataset.root.parent / "out" / "sub-01").symlink_to(dataset.root / "sub-01")


def leave(_: Dataset) -> None:
    """Spoil nothing: the command is wrong."""


SIDECAR = "sub-01/dwi/sub-01_dwi.json"
SIDECARS = {
    "broken": Fault(write(SIDECAR, "{"), 65, ("sub-01_dwi.json is not (Expecting",)),
    "empty": Fault(write(SIDECAR, ""), 65, ("sub-01_dwi.json is not (Expecting value",)),
    "list": Fault(write(SIDECAR, "[1]"), 65, ("sub-01_dwi.json is not (it holds no object",)),
    "latin1": Fault(
        write(SIDECAR, '{"Name": "é"}'.encode("latin-1")), 65, ("is not ('utf-8' codec",)
    ),
    "endless": Fault(
        write(SIDECAR, '{"a": ' + DEEP), 65, ("sub-01_dwi.json is not (it is nested too deeply)",)
    ),
    "gigabyte": Fault(stretch(SIDECAR), 65, ("sub-01_dwi.json is not (it is larger than 16 MiB)",)),
    "half_character": Fault(
        write(SIDECAR, r'{"Manufacturer": "\ud800"}'), 65, ("surrogates not allowed",)
    ),
    "huge_number": Fault(
        write(SIDECAR, '{"EchoTime": 1' + "0" * 5000 + "}"), 65, ("sub-01_dwi.json is not",)
    ),
    "annex": Fault(
        link(SIDECAR, "../../.git/annex/objects/a/b/MD5E-s52--c"),
        65,
        ("its content is not fetched yet: run datalad get", "sub-01_dwi.json"),
    ),
    "pipe": Fault(replace_by_pipe, 65, ("(it is a folder, a pipe or a device)",)),
    "inherited": Fault(write("dwi.json", "{"), 65, ("dwi.json is not (Expecting",)),
    "two_faults": Fault(
        lambda d: (d.path(".json").write_text("{"), d.path(".bvec").unlink()),
        65,
        ("sub-01_dwi.json is not (Expecting", "sub-01_dwi.bvec is missing"),
    ),
}
DATASETS = {
    "no_description": Fault(
        lambda d: (d.root / DESCRIPTION).unlink(), 16, (f"{DESCRIPTION} is missing or not",)
    ),
    "broken_description": Fault(write(DESCRIPTION, '{"Name": '), 16, ("(Expecting value",)),
    "list_for_description": Fault(write(DESCRIPTION, "[]"), 16, ("(it holds no object",)),
    "endless_description": Fault(write(DESCRIPTION, DEEP), 16, ("(it is nested too deeply)",)),
    "gigabyte_of_description": Fault(stretch(DESCRIPTION), 16, ("(it is larger than 16 MiB)",)),
    "absent_description": Fault(
        link(DESCRIPTION, ".git/annex/objects/a/b/MD5E-s52--c"),
        16,
        ("its content is not fetched yet: run datalad get",),
    ),
    "no_folder": Fault(remove_dataset, 16, ("Check the input folder",)),
    "file_for_folder": Fault(replace_by_file, 16, ("Check the input folder",)),
    "no_participants": Fault(
        lambda d: shutil.rmtree(d.root / "sub-01"), 66, (f"{NO_SERIES} in any sub-* folder",)
    ),
    "participant_is_a_file": Fault(
        lambda d: (shutil.rmtree(d.root / "sub-01"), (d.root / "sub-01").write_text("")),
        66,
        (f"{NO_SERIES} in any sub-* folder",),
    ),
    "no_series": Fault(lambda d: d.path().unlink(), 66, (NO_SERIES, "/data/sub-01.")),
    "other_modality": Fault(
        lambda d: (d.root / "sub-01/dwi").rename(d.root / "sub-01/anat"), 66, (NO_SERIES,)
    ),
    "phase_only": Fault(rename("sub-01/dwi/*.nii.gz", "sub-01_part-phase"), 66, (NO_SERIES,)),
    "name_in_capitals": Fault(
        lambda d: d.path().rename(d.path().with_name("sub-01_dwi.NII.GZ")), 66, (NO_SERIES,)
    ),
    "two_images_of_one_name": Fault(
        copy_series("sub-01_dwi.nii"), 16, ("Every series needs a name of its own",)
    ),
    "another_participants_name": Fault(
        rename("sub-01/dwi/*", "sub-02"), 66, (NOT_NAMED, "sub-02_dwi.nii.gz", NO_SERIES)
    ),
    "blank_in_label": Fault(
        lambda d: (rename("sub-01/dwi/*", "sub-01 b")(d), rename("sub-*", "sub-01 b")(d)),
        66,
        (NOT_NAMED, "sub-01 b_dwi.nii.gz"),
    ),
    "accent_in_label": Fault(
        lambda d: (rename("sub-01/dwi/*", "sub-é")(d), rename("sub-*", "sub-é")(d)),
        66,
        (NOT_NAMED, "sub-é_dwi.nii.gz"),
    ),
    "command_in_label": Fault(
        lambda d: (rename("sub-01/dwi/*", "sub-$(id)")(d), rename("sub-*", "sub-$(id)")(d)),
        66,
        (NOT_NAMED, "sub-$(id)_dwi.nii.gz"),
    ),
    "control_characters_in_label": Fault(
        lambda d: (rename("sub-01/dwi/*", "sub-\x1b[2J")(d), rename("sub-*", "sub-\x1b[2J")(d)),
        66,
        (NOT_NAMED, r"sub-\x1b[2J_dwi.nii.gz"),
    ),
    "an_entity_twice": Fault(
        rename("sub-01/dwi/*.nii.gz", "sub-01_run-1_run-2"), 66, (NOT_NAMED, "run-1_run-2")
    ),
    "unknown_entity": Fault(
        rename("sub-01/dwi/*.nii.gz", "sub-01_mood-good"), 66, (NOT_NAMED, "sub-01_mood-good")
    ),
}
FILTERS = ("--bids-filter-file", "filters.json")
CONFIG = ("--config-file", "settings.toml")
COMMANDS = {
    "unknown_participant": Fault(
        leave, 18, ("sub-07 does not; there are sub-01",), ("--participant-label", "07")
    ),
    "path_for_participant": Fault(
        leave, 18, ("sub-../sub-01 does not",), ("--participant-label", "../sub-01")
    ),
    "unknown_session": Fault(
        leave, 18, ("ses-a does not; there are none",), ("--session-label", "a")
    ),
    "filter_for_none": Fault(
        beside("filters.json", '{"dwi": {"run": 3}}'), 18, ("The filters must choose",), FILTERS
    ),
    "filter_is_absent": Fault(leave, 2, ("filters.json is not (there is no such file",), FILTERS),
    "filter_is_broken": Fault(beside("filters.json", "{"), 2, ("(Expecting",), FILTERS),
    "filter_is_endless": Fault(beside("filters.json", DEEP), 2, ("nested too deeply",), FILTERS),
    "filter_of_unknown_name": Fault(
        beside("filters.json", '{"dwi": {"mood": 3}}'), 2, ("mood is none; known are",), FILTERS
    ),
    "filter_of_odd_value": Fault(
        beside("filters.json", '{"dwi": {"run": [[1]]}}'), 2, ("run is [[1]]",), FILTERS
    ),
    "settings_absent": Fault(leave, 2, ("settings.toml is not",), CONFIG),
    "settings_broken": Fault(beside("settings.toml", "[motion"), 2, ("must be TOML",), CONFIG),
    "settings_unknown": Fault(beside("settings.toml", "[magic]\na = 1"), 2, ("magic",), CONFIG),
    "no_processors": Fault(leave, 2, ("'0'",), ("--nprocs", "0")),
    "work_in_input": Fault(
        leave, 2, ("The input dataset is never written to",), ("-w", "{data}/sub-01")
    ),
    "output_of_another": Fault(
        make_output('{"Name": "x", "GeneratedBy": [{"Name": "other"}]}'),
        73,
        ("belongs to another dataset",),
    ),
    "output_of_nobody": Fault(
        make_output('{"Name": "x", "GeneratedBy": ["other"]}'), 73, ("belongs to another dataset",)
    ),
    "output_is_a_file": Fault(beside("out", "x"), 73, ("must be writable",)),
    "output_leads_into_input": Fault(
        link_output_into_input, 2, ("The input dataset is never written to",)
    ),
}


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_that_is_none_is_refused(
    name: str, expect_refusal: Callable[[Fault], None]
) -> None:
    expect_refusal(SIDECARS[name])


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_no_dataset_of_diffusion_series_is_refused(
    name: str, expect_refusal: Callable[[Fault], None]
) -> None:
    expect_refusal(DATASETS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_cannot_be_is_refused(
    name: str,
    run_app: Callable[..., tuple[int, str]],
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    fault = COMMANDS[name]
    fault.spoil(dataset)
    code, said = run_app(dataset, *fault.arguments)
    assert code == fault.exit_code, said
    for sentence in fault.said:
        assert sentence in said
    assert not list((tmp_path / "work").glob("**/*.nii.gz"))

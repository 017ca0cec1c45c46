"""The methods text says what was run, and cites only works that are in its list."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.jobs import Job
from scsnet_bids.methods import describe_methods
from scsnet_bids.methods_text import MethodsText, read_references, write_citation
from scsnet_bids.protocol import Protocol, ShellFacts, describe_shells
from scsnet_bids.settings import (
    AlignmentSettings,
    DenoisingSettings,
    GradientSettings,
    MotionSettings,
    SegmentationSettings,
    Settings,
)

WEIGHTS = {"version": "9.8.7", "sha256": "abcdef0123456789"}
BOTH = {**WEIGHTS, "dwi": {"version": "0.2", "sha256": "fedcba9876543210"}}
PROTOCOL = Protocol((100, 90, 15), (0.9, 0.9, 5.0), (ShellFacts(0, 5, 0), ShellFacts(800, 30, 15)))


def text_of(methods: MethodsText) -> str:
    return " ".join(text for _, text in methods.paragraphs)


def described(**stages: object) -> str:
    return text_of(
        describe_methods([(Job(replace(Settings(), **stages), WEIGHTS), {"sub-1": PROTOCOL})])
    )


def test_the_text_names_the_weights_and_what_was_acquired():
    text = described()
    assert "weights of version 9.8.7" in text
    assert "15 slices of 0.90 x 0.90 x 5.00 mm voxels" in text
    assert "5 volumes of b=0 and 30 volumes of b=800 s/mm2 in 15 directions" in text


def test_the_text_follows_the_settings():
    assert "b = 900 s/mm2" in described(gradients=GradientSettings(tensor_b_max=900.0))
    assert "above 2.5 mm" in described(motion=MotionSettings(max_shift_mm=2.5))
    assert "at most 0.7 mm" in described(alignment=AlignmentSettings(max_shift_mm=0.7))


def test_a_stage_that_was_switched_off_is_said_to_be_off():
    text = described(
        motion=MotionSettings(method="none"), alignment=AlignmentSettings(enabled=False)
    )
    assert "Motion was not corrected." in text
    assert "cubic interpolation" not in text
    assert "No displacement between" in text


@pytest.mark.parametrize(
    ("settings", "said", "not_said"),
    [
        ({}, "No noise was removed from the series. Gibbs ringing was not removed.", "Veraart"),
        ({"denoising": DenoisingSettings(method="mppca")}, "uncertainty does not know", "No noise"),
        ({"denoising": DenoisingSettings(method="patch2self")}, "Patch2Self", "No noise"),
        ({"denoising": DenoisingSettings(degibbs=True)}, "subvoxel shifts", "ringing was not"),
        ({"motion": MotionSettings(method="fsl")}, "FSL eddy", "for every slice of every volume"),
    ],
)
def test_what_was_asked_of_other_tools_is_said(settings, said, not_said):
    text = described(**settings)
    assert said in text
    assert not_said not in text


def test_weights_of_ones_own_are_said_to_be_such():
    own = described(segmentation=SegmentationSettings(weights="/ours.pt"))
    assert "not those of the package" in own
    assert "PAM50" not in own
    assert "not those of the package" not in described()


def test_a_second_look_is_said_with_the_weights_that_took_it():
    both = SegmentationSettings(input="b0+dwi")
    text = text_of(
        describe_methods([(Job(Settings(segmentation=both), BOTH), {"sub-1": PROTOCOL})])
    )
    assert "b=0 image and the mean diffusion-weighted image together" in text
    assert "version 0.2 (SHA-256 fedcba987654)" in text
    own = replace(both, dwi_weights="/ours.pt")
    text = text_of(describe_methods([(Job(Settings(segmentation=own), BOTH), {"sub-1": PROTOCOL})]))
    assert "second network of the same kind, with weights that are not those" in text
    assert "The network saw no other image" in described()


def test_jobs_that_differ_are_told_apart_where_they_do():
    other = Settings(motion=MotionSettings(method="none"))
    works = [
        (Job(Settings(), WEIGHTS), {"sub-1": PROTOCOL, "sub-3": PROTOCOL}),
        (Job(other, WEIGHTS), {"sub-2": PROTOCOL}),
    ]
    texts = dict(describe_methods(works).paragraphs)
    assert texts["Motion (sub-2)"].startswith("Motion was not corrected.")
    assert "cubic interpolation" in texts["Motion (sub-1 and sub-3)"]
    assert texts["Data and software"].count("diffusion series had") == 1
    assert {"Segmentation", "Diffusion tensor", "Region values"} < set(texts)


def test_each_version_speaks_of_its_own_series():
    works = [
        (Job(Settings(), WEIGHTS, version), {f"sub-{version}": PROTOCOL})
        for version in ("1.0", "1.1")
    ]
    texts = dict(describe_methods(works).paragraphs)
    for version in ("1.0", "1.1"):
        text = texts[f"Data and software (sub-{version})"]
        assert f"scsnet-bids {version}" in text
        assert "One diffusion series had" in text


def test_a_title_counts_many_series():
    none = Settings(motion=MotionSettings(method="none"))
    works = [
        (Job(settings, WEIGHTS), {f"sub-{kind}{n}": PROTOCOL for n in range(20)})
        for kind, settings in (("a", Settings()), ("b", none))
    ]
    titles = [title for title, _ in describe_methods(works).paragraphs]
    assert {"Motion (sub-a0 and 19 more)", "Motion (sub-b0 and 19 more)"} < set(titles)


def test_no_placeholder_is_left():
    assert not re.search(r"\$|\[@|##", described())


def test_series_of_one_protocol_share_a_sentence_and_others_are_named():
    other = replace(PROTOCOL, shells=(ShellFacts(0, 1, 0), ShellFacts(1000, 6, 6)))
    series = {"sub-1": PROTOCOL, "sub-2": PROTOCOL, "sub-3": other}
    text = text_of(describe_methods([(Job(Settings(), WEIGHTS), series)]))
    assert "2 diffusion series (sub-1 and sub-2) had 15 slices" in text
    assert "One diffusion series (sub-3) had 15 slices" in text
    assert "1 volume of b=0" in text


def test_works_are_numbered_as_they_come_and_all_of_them_are_listed():
    methods = describe_methods([(Job(Settings(), WEIGHTS), {"sub-1": PROTOCOL})])
    cited = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text_of(methods)) for n in
             group.split(", ")]  # fmt: skip
    assert list(dict.fromkeys(cited)) == list(range(1, len(methods.references) + 1))
    assert len(re.findall(r"^@", methods.bibtex, re.MULTILINE)) == len(methods.references)


def test_a_reference_reads_as_in_a_list():
    methods = describe_methods([(Job(Settings(), WEIGHTS), {})])
    assert methods.references[0] == (
        "The scsnet-bids authors. scsnet-bids: region-wise diffusion metrics of the cervical "
        "spinal cord. BIDS App, 2026."
    )
    assert methods.references[1] == (
        "Yang S., Fei N., Li J., Li G., Hu Y. Deep Learning Spinal Cord Segmentation Based on B0 "
        "Reference for Diffusion Tensor Imaging Analysis in Cervical Spondylotic Myelopathy. "
        "Bioengineering 2025;12(7):709. doi:10.3390/bioengineering12070709"
    )


def test_every_work_of_the_list_can_be_read():
    for entry, fields in read_references().values():
        assert {"author", "title", "year"} <= set(fields)
        if entry.startswith("@article"):
            assert {"journal", "volume", "pages"} <= set(fields)
        else:
            assert {"publisher", "howpublished"} & set(fields)


def test_opposite_directions_count_as_one():
    bvecs = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0]], dtype=float)
    table = pd.DataFrame(bvecs, columns=["grad_x", "grad_y", "grad_z"])
    table["bval"] = [0.0, 800.0, 805.0, 800.0]
    assert describe_shells(table, 50.0) == (ShellFacts(0, 1, 0), ShellFacts(800, 3, 2))


def test_shells_keep_their_own_directions():
    bvecs = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=float)
    table = pd.DataFrame(bvecs, columns=["grad_x", "grad_y", "grad_z"])
    table["bval"] = [0.0, 500.0, 500.0, 1000.0]
    shells = describe_shells(table, 50.0)
    assert shells[1:] == (ShellFacts(500, 2, 2), ShellFacts(1000, 1, 1))


def test_the_citation_is_written_as_text_and_as_bibtex(tmp_path):
    methods = describe_methods([(Job(Settings(), WEIGHTS), {"sub-1": PROTOCOL})])
    write_citation(tmp_path / "logs", methods)
    text = (tmp_path / "logs/CITATION.md").read_text(encoding="utf-8")
    assert all(work in text for work in methods.references)
    assert "@article{yang2025," in (tmp_path / "logs/CITATION.bib").read_text(encoding="utf-8")


@pytest.mark.parametrize("n", [0, 1])
def test_few_series_make_a_sentence_too(n):
    series = dict.fromkeys([f"sub-{i}" for i in range(n)], PROTOCOL)
    expected = ["No diffusion series was processed.", "One diffusion series had 15 slices"]
    assert expected[n] in text_of(describe_methods([(Job(Settings(), WEIGHTS), series)]))

"""The group level finds what differs, says how surely, and invents nothing without controls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cohorts import draw_person, flat_template, write_cohort, write_person
from scipy import stats

from scsnet_bids.cli import main
from scsnet_bids.errors import InputDataError, UsageError
from scsnet_bids.group.changes import tabulate_changes
from scsnet_bids.group.collect import collect_group
from scsnet_bids.group.differences import compare_groups
from scsnet_bids.group.norms import FEWEST_FREEDOM, score_people
from scsnet_bids.group.outliers import LIMIT, find_outliers, limit_of, robust_z
from scsnet_bids.group.people import (
    Covariates,
    add_people,
    choose_controls,
    choose_covariates,
    read_people,
)
from scsnet_bids.group.tables import analyse_group, write_group
from scsnet_bids.group.text import describe_analysis
from scsnet_bids.group.values import list_unusable_runs, tabulate_values

DROP = {("C5", "lateral_column"): 0.15}
CELL = {"scope": "level", "level": "C5", "region": "lateral_column", "side": "left", "metric": "FA"}


def row(table: pd.DataFrame, **wanted: str) -> pd.Series:
    (found,) = np.flatnonzero((table[list(wanted)] == pd.Series(wanted)).all(axis=1))
    return table.iloc[found]


def one_cell(values: dict[str, float], uncertainty: float = 0.01) -> pd.DataFrame:
    """Values of one cell, as the values of people; names may hold a session after a slash."""
    people, sessions = zip(*((f"{name}/".split("/")[:2]) for name in values), strict=True)
    table = pd.DataFrame({"participant_id": people, "session": sessions, **CELL})
    return table.assign(value=list(values.values()), uncertainty=uncertainty)


def people_of(**columns: list[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"participant_id": [f"sub-{k}" for k in range(n)], **columns})


def grouped(n_controls: int, n_patients: int, **columns: list[object]) -> pd.DataFrame:
    return people_of(group=["control"] * n_controls + ["patient"] * n_patients, **columns)


def compared(value: np.ndarray, people: pd.DataFrame) -> pd.Series:
    """Compare the groups of people in one cell."""
    controls = choose_controls("group==control", people)
    values = one_cell(dict(zip(people["participant_id"], value, strict=True)))
    covariates = choose_covariates(people, controls.members)
    return compare_groups(values, controls, covariates).iloc[0]


def scored(value: np.ndarray, people: pd.DataFrame) -> pd.DataFrame:
    controls = choose_controls("group==control", people)
    values = one_cell(dict(zip(people["participant_id"], value, strict=True)))
    return score_people(values, controls, choose_covariates(people, controls.members))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people in two sessions, twenty of them with less FA in the lateral columns at C5."""
    out_dir = tmp_path_factory.mktemp("cohort")
    write_cohort(out_dir, 20, 20, DROP, seed=1, sessions=("a", "b"))
    return out_dir


# The whole.


def test_a_known_drop_is_found_where_it_is_and_nowhere_else(cohort):
    analysis = analyse_group(collect_group(cohort), "group==control")
    rows = analysis.differences
    assert rows is not None
    found = rows[(rows["q"] < 0.05) & (rows["scope"] == "level")]
    lateral = found[found["region"] == "lateral_column"]
    assert sorted(lateral["side"]) == ["both", "left", "right"]
    assert set(found["level"]) == {"C5"}
    assert set(found["region"]) <= {"lateral_column", "white_matter", "cord"}
    for _, own in lateral.iterrows():
        assert own["difference_low"] <= -0.15 * 0.7 <= own["difference_high"]
    assert analysis.covariates is not None
    assert analysis.covariates.names == ("age", "sex")


def test_patients_have_low_scores_there_and_controls_none(cohort):
    scores = analyse_group(collect_group(cohort), "group==control").scores
    assert scores is not None
    own = scores[
        (scores[list(CELL)] == pd.Series(CELL)).all(axis=1) & (scores["session"] == "ses-a")
    ]
    number = own["participant_id"].str[-3:].astype(int)
    assert own["z"][number > 20].mean() < -1.5
    assert abs(own["z"][number <= 20].mean()) < 0.3
    assert own["z"][number <= 20].std() == pytest.approx(1, abs=0.3)
    assert (own["n_controls"] == np.where(number > 20, 20, 19)).all()


def test_every_table_is_written_with_its_columns_described(cohort):
    write_group(cohort, analyse_group(collect_group(cohort), "group==control"))
    names = {path.name for path in cohort.glob("group_*.tsv")}
    assert names == {
        f"group_{name}.tsv"
        for name in (
            *("scalarstats", "wide_scalarstats", "shape_scalarstats", "qc", "missing"),
            *("outliers", "changes", "zscores", "differences", "excluded"),
        )
    }
    for path in cohort.glob("group_*.tsv"):
        columns = pd.read_csv(path, sep="\t", nrows=1).columns
        described = json.loads(path.with_suffix(".json").read_text())
        assert set(columns) <= set(described), path.name
        assert all(entry["Description"] for entry in described.values())
    wide = pd.read_csv(cohort / "group_wide_scalarstats.tsv", sep="\t")
    assert wide.columns[3:6].tolist() == ["group", "age", "sex"]
    quality = pd.read_csv(cohort / "group_qc.tsv", sep="\t")
    assert quality["group"].value_counts().to_dict() == {"control": 40, "patient": 40}


def test_without_controls_no_score_is_invented(cohort):
    write_group(cohort, analyse_group(collect_group(cohort), "group==control"))
    analysis = analyse_group(collect_group(cohort))
    assert (analysis.scores, analysis.differences) == (None, None)
    write_group(cohort, analysis)
    left = {path.stem for path in cohort.glob("group_*")}
    assert not left & {"group_zscores", "group_differences"}


def test_the_command_line_takes_controls_and_refuses_what_is_none(cohort, capsys):
    arguments = [str(cohort / "nothing"), str(cohort), "group", "--controls"]
    assert main([*arguments, "group==healthy"]) == 2
    assert "values are control, patient" in capsys.readouterr().err
    assert main([*arguments, "group==control"]) == 0
    assert (cohort / "group_differences.tsv").exists()


def test_a_group_that_is_itself_called_controls_keeps_its_place():
    people = people_of(group=["healthy"] * 3 + ["controls"] * 2)
    groups = choose_controls("group==healthy", people).groups
    assert {name: len(members) for name, members in groups.items()} == {
        "group==healthy": 3,
        "controls": 2,
    }


# Differences.


def test_a_difference_is_welch_like_and_its_size_is_hedges_g(rng):
    people = grouped(30, 12)
    value = np.concatenate([rng.normal(0.7, 0.03, 30), rng.normal(0.6, 0.09, 12)])
    found = compared(value, people)
    welch = stats.ttest_ind(value[30:], value[:30], equal_var=False)
    assert found["difference"] == pytest.approx(value[30:].mean() - value[:30].mean())
    interval = welch.confidence_interval()
    assert [found["difference_low"], found["difference_high"]] == pytest.approx(
        [interval.low, interval.high], abs=0.012
    )
    pooled = np.sqrt((29 * value[:30].var(ddof=1) + 11 * value[30:].var(ddof=1)) / 40)
    correction = 1 - 3 / (4 * 40 - 1)
    assert found["hedges_g"] == pytest.approx(found["difference"] / pooled * correction, rel=1e-3)
    assert (found["n_group"], found["n_controls"]) == (12, 30)


@pytest.mark.parametrize(("n_controls", "n_group"), [(20, 20), (50, 5)])
def test_groups_without_a_difference_seem_to_differ_no_more_often_than_stated(n_controls, n_group):
    rng = np.random.default_rng(n_controls)
    people = grouped(n_controls, n_group)
    names, draws = people["participant_id"], 1500
    values = pd.concat(
        [
            one_cell(dict(zip(names, column, strict=True))).assign(level=f"C{n}")
            for n, column in enumerate(rng.normal(0.7, 0.05, (draws, len(names))))
        ]
    )
    controls = choose_controls("group==control", people)
    found = compare_groups(values, controls, choose_covariates(people, controls.members))
    assert len(found) == draws
    for stated, allowed in ((0.05, 0.06), (0.01, 0.015)):
        assert (found["p"] < stated).mean() <= allowed
    covered = (found["difference_low"] < 0) & (found["difference_high"] > 0)
    assert 0.94 <= covered.mean() <= 0.985


def test_g_is_by_the_spread_within_groups_whatever_the_age(rng):
    age = np.concatenate([rng.uniform(20, 80, 40), rng.uniform(20, 80, 40)])
    people = grouped(40, 40, age=list(age))
    value = 0.9 - 0.004 * age + rng.normal(0, 0.01, 80)
    found = compared(value, people)
    within = np.sqrt((value[:40].var(ddof=1) + value[40:].var(ddof=1)) / 2)
    assert found["hedges_g"] == pytest.approx(found["difference"] / within, rel=0.02)


def test_the_interval_of_g_holds_0_where_that_of_the_difference_does(rng):
    people = grouped(8, 8)
    for _ in range(100):
        found = compared(rng.normal(0, 1, 16), people)
        low, high = found["hedges_g_low"], found["hedges_g_high"]
        assert low < found["hedges_g"] < high
        assert (low > 0 or high < 0) == (found["p"] < 0.05)
        assert (found["difference_low"] > 0 or found["difference_high"] < 0) == (found["p"] < 0.05)


def test_the_interval_of_g_is_that_of_the_noncentral_t_distribution(rng):
    value = rng.normal(0, 1, 24) + np.repeat([0, 1.2], 12)
    found = compared(value, grouped(12, 12))
    # With groups of one size, HC3 and the spread within groups differ by a constant.
    t = found["difference"] / (
        (found["difference_high"] - found["difference"]) / stats.t.ppf(0.975, 22)
    )
    for name, tail in (("hedges_g_low", 0.975), ("hedges_g_high", 0.025)):
        noncentral = found[name] / found["hedges_g"] * t
        assert stats.nct.cdf(t, 22, noncentral) == pytest.approx(tail, abs=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_the_only_woman_tells_nothing_of_the_groups(seed):
    rng = np.random.default_rng(seed)
    age = list(rng.uniform(30, 70, 20))
    people = grouped(12, 8, sex=["f"] * 2 + ["m"] * 18, age=age)
    value = rng.normal(0.7, 0.02, 20)
    value[0] = np.nan
    controls = choose_controls("group==control", people)
    covariates = choose_covariates(people, controls.members)
    assert covariates.names == ("age", "sex")
    with_her, without = (
        compare_groups(one_cell(dict(zip(names, own, strict=True))), controls, model).iloc[0]
        for names, own, model in (
            (people["participant_id"], value, covariates),
            (people["participant_id"][2:], value[2:], Covariates(("age",), covariates.table)),
        )
    )
    assert with_her["n_controls"] == without["n_controls"] + 1
    for name in ("difference", "difference_low", "p"):
        assert with_her[name] == pytest.approx(without[name])


def test_the_only_woman_among_the_controls_has_no_score(rng):
    sex = ["f"] * 2 + ["m"] * 10 + ["f", "m"] * 4
    value = rng.normal(0.7, 0.02, 20)
    value[1] = np.nan
    people = grouped(12, 8, sex=sex, age=list(rng.uniform(30, 70, 20)))
    z = scored(value, people).set_index("participant_id")["z"]
    assert z.index[z.isna()].tolist() == ["sub-0"]
    assert z.dropna().between(-6, 6).all()


def test_values_that_do_not_differ_are_not_compared():
    people = grouped(12, 8)
    values = one_cell(dict.fromkeys(people["participant_id"], 0.5))
    controls = choose_controls("group==control", people)
    assert compare_groups(values, controls, choose_covariates(people, controls.members)).empty


def test_age_is_taken_into_account(rng):
    age = np.concatenate([rng.uniform(20, 60, 40), rng.uniform(50, 80, 40)])
    people = grouped(40, 40, age=list(age))
    value = 0.9 - 0.004 * age + rng.normal(0, 0.01, 80)
    found = compared(value, people)
    assert found["covariates"] == "age"
    assert found["mean_group"] - found["mean_controls"] < -0.08
    assert abs(found["difference"]) < 0.02


def test_too_few_people_are_not_compared():
    people = grouped(10, 4)
    controls = choose_controls("group==control", people)
    values = one_cell({name: 0.5 + n / 100 for n, name in enumerate(people["participant_id"])})
    assert compare_groups(values, controls, Covariates((), people)).empty


def test_probabilities_are_corrected_within_a_group_and_scope(cohort):
    rows = analyse_group(collect_group(cohort), "group==control").differences
    assert rows is not None
    for _, own in rows.groupby("scope"):
        expected = stats.false_discovery_control(own["p"].to_numpy())
        assert own["q"].to_numpy() == pytest.approx(expected)


# Scores.


def test_a_score_without_covariates_is_that_of_crawford_and_howell(rng):
    value = rng.normal(0.7, 0.05, 21)
    table = scored(value, grouped(20, 1))
    t = (value[20] - value[:20].mean()) / (value[:20].std(ddof=1) * np.sqrt(21 / 20))
    patient = table[table["participant_id"] == "sub-20"].iloc[0]
    assert patient["percentile"] == pytest.approx(100 * stats.t.cdf(t, 19))
    assert patient["z"] == pytest.approx(stats.norm.ppf(stats.t.cdf(t, 19)))
    assert patient["expected"] == pytest.approx(value[:20].mean())


def test_scores_far_above_the_controls_are_as_finite_as_those_far_below(rng):
    value = np.append(rng.normal(0, 1, 20), [500.0, -500.0])
    value[:20] -= value[:20].mean()
    high, low = scored(value, grouped(20, 2))["z"].tail(2)
    assert high == pytest.approx(-low)
    assert 5 < high < 30


def test_a_control_is_compared_with_the_others(rng):
    age = rng.uniform(20, 70, 15)
    value = 0.7 + 0.002 * age + rng.normal(0, 0.05, 15)
    own = scored(value, grouped(15, 0, age=list(age)).assign(group="control"))
    # The same person as a patient among the other fourteen.
    groups = ["patient"] + ["control"] * 14
    other = scored(value, people_of(group=groups, age=list(age)))
    for name in ("z", "percentile", "z_uncertainty"):
        assert own[name][0] == pytest.approx(other[name][0])
    assert (own["covariates"] == "age").all()


def test_a_control_is_compared_with_the_others_in_later_sessions_too(rng):
    people = grouped(12, 1)
    first = one_cell(dict(zip(people["participant_id"], rng.normal(0.7, 0.02, 13), strict=True)))
    again = first.assign(session="ses-2")
    values = pd.concat([first.assign(session="ses-1"), again], ignore_index=True)
    controls = choose_controls("group==control", people)
    found = score_people(values, controls, choose_covariates(people, controls.members))
    one, two = (found[found["session"] == f"ses-{n}"] for n in (1, 2))
    for name in ("expected", "z", "z_uncertainty", "n_controls"):
        np.testing.assert_allclose(one[name], two[name])
    others = first["value"][1:12]
    assert one["expected"].iloc[0] == pytest.approx(others.mean())
    t = (first["value"][0] - others.mean()) / (others.std() * np.sqrt(1 + 1 / 11))
    assert one["percentile"].iloc[0] == pytest.approx(100 * stats.t.cdf(t, 10))


def test_controls_that_do_not_differ_give_no_score():
    people = grouped(12, 2)
    assert scored(np.r_[np.full(12, 0.7), 0.7, 0.5], people)["z"].isna().all()


def test_scores_of_new_healthy_people_are_standard_normal(rng):
    z = []
    for _ in range(200):
        value = rng.normal(0, 1, 30)
        table = scored(value, grouped(12, 18))
        z += table["z"].tolist()
    z_all = np.array(z)
    assert z_all.mean() == pytest.approx(0, abs=0.05)
    assert z_all.std() == pytest.approx(1, abs=0.05)
    assert np.mean(np.abs(z_all) > 1.96) == pytest.approx(0.05, abs=0.01)


def test_an_error_of_the_value_becomes_one_of_z():
    value = np.append(np.tile([0.68, 0.72], 20), 0.6)
    table = scored(value, grouped(40, 1))
    nearby = value.copy()
    nearby[-1] += 0.001
    moved = scored(nearby, grouped(40, 1))
    slope = (moved["z"].iloc[-1] - table["z"].iloc[-1]) / 0.001
    assert table["z_uncertainty"].iloc[-1] == pytest.approx(0.01 * slope, rel=0.02)


def test_with_too_few_controls_there_is_no_score(rng):
    n = FEWEST_FREEDOM
    assert scored(rng.normal(0, 1, n + 3), grouped(n, 3))["z"].isna().all()
    assert scored(rng.normal(0, 1, n + 4), grouped(n + 1, 3))["z"].notna().all()


def test_who_has_no_age_has_no_score_where_age_counts(rng):
    age = [*rng.uniform(20, 70, 20), np.nan, 50.0]
    table = scored(rng.normal(0, 1, 22), grouped(20, 2, age=age))
    assert table["z"].isna().tolist() == [False] * 20 + [True, False]


# People.


def test_age_and_sex_count_where_enough_controls_have_them():
    n = 10
    sexes: list[object] = ["M", "f"] * 5
    people = grouped(n, 0, age=[float(30 + k) for k in range(n)], sex=sexes).assign(group="control")
    assert choose_covariates(people, people["participant_id"]).names == ("age", "sex")
    few = people.assign(age=[30.0, 40.0, *[np.nan] * 8], sex="M")
    assert choose_covariates(few, few["participant_id"]).names == ()
    one = people.assign(sex=["F", *["M"] * 9], age=40)
    assert choose_covariates(one, one["participant_id"]).names == ()


@pytest.mark.parametrize(
    "expression", ["group==control", " group == 'control' ", 'group=="control"']
)
def test_controls_are_named_by_column_and_value(expression):
    controls = choose_controls(expression, grouped(2, 1))
    assert controls.members == {"sub-0", "sub-1"}
    assert controls.others == {"patient": {"sub-2"}}


def test_numbers_name_controls_however_they_are_written():
    people = people_of(mjoa=[18.0, 12.0, np.nan])
    controls = choose_controls("mjoa==18", people)
    assert (controls.members, controls.others) == ({"sub-0"}, {"12": {"sub-1"}})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("group", "must look like"),
        ("group==", "must look like"),
        ("group=control", "must look like"),
        ("diagnosis==control", "there are group"),
        ("participant_id==sub-0", "must name a column"),
        ("group==nobody", "values are control, patient"),
        ("__import__('os')==1", "must name a column"),
    ],
)
def test_an_expression_that_names_nobody_is_wrong_usage(expression, message):
    with pytest.raises(UsageError, match=message):
        choose_controls(expression, grouped(1, 1))


def test_participants_are_read_with_or_without_prefix(tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n01\t30\nsub-02\tn/a\n")
    people = read_people(tmp_path)
    assert people["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert people["age"].isna().tolist() == [False, True]
    assert read_people(tmp_path / "elsewhere").empty


@pytest.mark.parametrize("rows", ["01\t30\n\t\n02\t40\n", "01\t30\t\n02\t40\t\n"])
def test_tabs_that_a_spreadsheet_leaves_move_nothing(tmp_path, rows):
    (tmp_path / "participants.tsv").write_text(f"participant_id\tage\n{rows}")
    people = read_people(tmp_path)
    assert people["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert people["age"].tolist() == ["30", "40"]


@pytest.mark.parametrize("heading", ["", " "])
def test_a_column_without_heading_is_left_out(tmp_path, heading):
    rows = f"participant_id\tage\t{heading}\tsex\n01\t30\tx\tF\n02\t40\t\tM\n"
    (tmp_path / "participants.tsv").write_text(rows)
    assert read_people(tmp_path).columns.tolist() == ["participant_id", "age", "sex"]


def test_a_lone_quote_swallows_nobody(tmp_path):
    rows = 'participant_id\tnote\n01\t"tall\n02\tx\n03\t71"\n04\t"a" or "b"\n'
    (tmp_path / "participants.tsv").write_text(rows)
    people = read_people(tmp_path)
    assert people["participant_id"].tolist() == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert people["note"].tolist() == ['"tall', "x", '71"', '"a" or "b"']


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_around_every_word_are_dropped(tmp_path, end):
    rows = ['"participant_id"\t"group"\t"age"', '"sub-01"\t"control"\t30', '"02"\t""\t"n/a"', ""]
    (tmp_path / "participants.tsv").write_bytes(end.join(rows).encode())
    people = read_people(tmp_path)
    assert people["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert people["group"].dropna().tolist() == ["control"]
    assert people["age"].dropna().tolist() == ["30"]


@pytest.mark.parametrize(
    "content",
    [
        "name\n01\n",
        "participant_id\n01\nsub-01\n",
        "",
        "\xff\x00",
        "participant_id\tage\n01\t30\tx\n02\t40\ty\n",
        "participant_id\tage\n01\t30\nn/a\t40\n",
    ],
)
def test_participants_that_cannot_be_read_are_an_error(tmp_path, content):
    (tmp_path / "participants.tsv").write_text(content, encoding="latin-1")
    with pytest.raises(InputDataError, match=r"participants\.tsv"):
        read_people(tmp_path)


def test_participants_that_may_not_be_read_are_no_bad_table(tmp_path):
    (tmp_path / "participants.tsv").symlink_to(".git/annex/objects/a")
    with pytest.raises(InputDataError, match=r"must be readable: .*run datalad get"):
        read_people(tmp_path)


def test_blanks_around_words_part_nobody(tmp_path):
    rows = "participant_id\tgroup\n01\tcontrol\nsub-02 \tcontrol \n03\tTrue\n"
    (tmp_path / "participants.tsv").write_text(rows)
    people = read_people(tmp_path)
    assert choose_controls("group==control", people).members == {"sub-01", "sub-02"}
    assert choose_controls("group==True", people).members == {"sub-03"}


def test_words_that_differ_in_case_alone_are_refused():
    people = people_of(group=["control", "Control", "patient"])
    with pytest.raises(UsageError, match="Control and control"):
        choose_controls("group==control", people)


def test_a_column_of_both_tables_keeps_both():
    table = pd.DataFrame({"participant_id": ["sub-0"], "run": ["r"], "flag": ["x"]})
    joined = add_people(table, people_of(flag=[1], age=[30]), 2)
    assert joined.columns.tolist() == ["participant_id", "run", "participant_flag", "age", "flag"]


def test_no_column_of_the_files_is_there_twice(tmp_path):
    write_cohort(tmp_path, 3, 3, DROP, seed=3, sessions=("1",))
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    people.assign(session_id="x", run_id=1, verdict="mine").to_csv(
        tmp_path / "participants.tsv", sep="\t", index=False
    )
    write_group(tmp_path, analyse_group(collect_group(tmp_path)))
    for path in tmp_path.glob("group_*.tsv"):
        header = path.read_text().splitlines()[0].split("\t")
        assert len(header) == len(set(header)), path.name
        described = json.loads(path.with_suffix(".json").read_text())
        assert "participants.tsv" not in described.get("session_id", {}).get("Description", "")


# Values, outliers, changes.


def test_runs_of_a_session_are_averaged_and_doubtful_ones_left_out(tmp_path):
    template, rng = flat_template(), np.random.default_rng(0)
    tables = [draw_person(template, rng) for _ in range(4)]
    tables[2]["unmixed_flag"] = "implausible;uncertain"
    for n, table in enumerate(tables):
        flag = "low_snr;no_contrast" if n == 3 else "low_snr"
        write_person(tmp_path, f"sub-1_run-{n}", table, flag=flag)
    group = collect_group(tmp_path)
    unusable = list_unusable_runs(group.quality, group.scalarstats["run"])
    assert unusable == {"sub-1_run-3"}
    found = row(tabulate_values(group.scalarstats, unusable), **CELL)
    pair = [row(table, **CELL) for table in tables[:2]]
    assert found["value"] == pytest.approx(np.mean([p["unmixed"] for p in pair]))
    expected = sum(p["unmixed_uncertainty"] for p in pair) / 2
    assert found["uncertainty"] == pytest.approx(expected)


def test_a_first_session_that_failed_does_not_make_a_later_one_the_first(tmp_path):
    write_cohort(tmp_path, 10, 6, DROP, seed=3, sessions=("1", "2"))
    for path in tmp_path.glob("sub-0[01][0-9]/ses-1/dwi/*_qc.tsv"):
        if int(path.name[4:7]) in (15, 16):
            path.write_text(path.read_text().replace("n/a", "no_contrast", 1))
    analysis = analyse_group(collect_group(tmp_path), "group==control")
    assert len(analysis.unusable) == 2
    assert analysis.differences is not None
    assert set(analysis.differences["n_group"]) <= set(range(5))


def test_a_cohort_without_a_usable_value_gets_its_tables(tmp_path, capsys):
    write_cohort(tmp_path, 10, 6, DROP, seed=3, sessions=("1",))
    for path in tmp_path.glob("sub-*/ses-1/dwi/*_qc.tsv"):
        path.write_text(path.read_text().replace("n/a", "no_contrast", 1))
    assert main([str(tmp_path), str(tmp_path), "group", "--controls", "group==control"]) == 0
    assert "16 fail" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "group_zscores.tsv", sep="\t").empty
    assert "16" in (tmp_path / "group.html").read_text()


def test_a_run_that_nobody_could_judge_is_listed_and_not_compared(tmp_path):
    write_cohort(tmp_path, 3, 3, DROP, seed=3, sessions=("1",))
    next(tmp_path.glob("sub-001/ses-1/dwi/*_qc.tsv")).unlink()
    analysis = analyse_group(collect_group(tmp_path))
    assert analysis.unusable == {"sub-001_ses-1"}
    verdicts = analysis.verdicts.set_index("run")
    assert verdicts.loc["sub-001_ses-1", "verdict"] == "look"
    assert "no quality table" in verdicts.loc["sub-001_ses-1", "reasons"]
    assert "sub-001" not in analysis.measured


def test_a_far_value_is_an_outlier_and_constant_ones_are_none():
    quality = pd.DataFrame(
        {
            "participant_id": [f"sub-{n}" for n in range(9)],
            "session": None,
            "run": [f"sub-{n}" for n in range(9)],
            "snr_b0": [8.0, 8.1, 7.9, 8.2, 7.8, 8.05, 7.95, 8.0, 2.0],
            "n_slices": 15,
            "compressed_slice": [4, 4, 4, 4, 5, 5, 5, 5, 90],
        }
    )
    cell = {"scope": "cord", "metric": "FA", "region": "cord", "side": "both", "unmixed": 0.7}
    scalars = pd.DataFrame([{**cell, "run": "sub-0"}])
    found = find_outliers(quality, scalars)
    assert found[["participant_id", "measure"]].to_numpy().tolist() == [["sub-8", "snr_b0"]]
    assert found["robust_z"][0] < -LIMIT
    assert find_outliers(quality.head(4), scalars).empty


@pytest.mark.parametrize(("deviations", "listed"), [(8.9, []), (9.1, [9.1]), (-9.1, [-9.1])])
def test_nine_deviations_make_an_outlier_of_nine_runs(deviations, listed):
    # The median is 0 and the median distance from it 1, wherever the last one lies.
    last = deviations / stats.norm.ppf(0.75)
    snr = [-1.0, -1, -1, 0, 1, 1, 1, last, -np.sign(last)]
    names = [f"sub-{n}" for n in range(9)]
    quality = pd.DataFrame({"participant_id": names, "session": None, "run": names, "snr_b0": snr})
    scalars = pd.DataFrame([{**CELL, "run": "sub-0", "unmixed": 0.7}])
    found = find_outliers(quality, scalars)
    assert found["robust_z"].tolist() == pytest.approx(listed)


@pytest.mark.parametrize("n", [8, 12, 20, 50])
def test_one_in_two_thousand_healthy_values_is_an_outlier(n):
    values = np.random.default_rng(n).normal(0, 1, (n, 400_000 // n))
    found = (np.abs(robust_z(values)) >= limit_of(np.array(n))).mean()
    assert found == pytest.approx(1 / 2000, rel=0.4)


def test_missing_values_are_no_outliers(rng):
    values = rng.normal(0, 1, (20, 3))
    values[:17, 1] = np.nan
    values[0, 2] = np.nan
    distance = robust_z(values)
    assert np.isnan(distance[:, 1]).all()
    assert np.isnan(distance[0, 2])
    assert np.isfinite(distance[1:, 2]).all()


def test_a_change_is_later_minus_first_with_both_errors():
    values = one_cell({"sub-1/ses-2": 0.6, "sub-1/ses-1": 0.7, "sub-2/ses-1": 0.5})
    (found,) = tabulate_changes(values.assign(uncertainty=[0.03, 0.04, 0.1])).to_dict("records")
    assert (found["participant_id"], found["first_session"], found["session"]) == (
        "sub-1", "ses-1", "ses-2",
    )  # fmt: skip
    assert found["change"] == pytest.approx(-0.1)
    assert found["change_uncertainty"] == pytest.approx(0.05)
    assert found["change_by_uncertainty"] == pytest.approx(-2)
    ends = [found["change_low"], found["change_high"]]
    assert ends == pytest.approx([-0.1 - 1.96 * 0.05, -0.1 + 1.96 * 0.05])


def test_a_session_without_a_value_or_an_error_has_no_change_that_is_sure():
    values = one_cell({"sub-1/ses-pre": 0.7, "sub-1/ses-late": 0.6, "sub-2/ses-pre": 0.5})
    other = values.iloc[:1].assign(region="cord", session="ses-late")
    found = tabulate_changes(
        pd.concat([values, other], ignore_index=True).assign(uncertainty=np.nan)
    )
    assert found["participant_id"].tolist() == ["sub-1", "sub-1"]
    assert found["change"].isna().tolist() == [False, True]
    assert (
        found[["change_uncertainty", "change_low", "change_by_uncertainty"]].isna().all(axis=None)
    )


def test_a_mean_of_runs_has_no_error_if_one_of_them_has_none(tmp_path):
    template, rng = flat_template(), np.random.default_rng(0)
    for n in range(2):
        table = draw_person(template, rng)
        if n == 0:
            table.loc[table["metric"] == "FA", "unmixed_uncertainty"] = np.nan
        write_person(tmp_path, f"sub-1_run-{n}", table)
    values = tabulate_values(collect_group(tmp_path).scalarstats)
    known = values.groupby("metric")["uncertainty"].agg(lambda own: own.notna().all())
    assert known.to_dict() == {"FA": False, "MD": True}
    assert values["value"].notna().all()


def test_a_baseline_is_the_first_session_whatever_the_others_are_called():
    values = one_cell(
        {"sub-1/ses-post": 0.6, "sub-1/ses-pre": 0.7, "sub-2/ses-10": 1, "sub-2/ses-9": 2}
    )
    found = tabulate_changes(values.assign(uncertainty=0.1)).set_index("participant_id")
    assert found["first_session"].to_dict() == {"sub-1": "ses-pre", "sub-2": "ses-9"}
    assert found.loc["sub-1", "change"] == pytest.approx(-0.1)


def test_the_methods_of_the_group_are_told_with_their_references(cohort):
    text = describe_analysis(analyse_group(collect_group(cohort), "group==control"))
    ((_, words),) = text.paragraphs
    assert "Controls are those with group==control (20 with values)" in words
    assert "linear model of group, age, sex" in words
    assert "$" not in words
    assert any("Hedges L. V." in work for work in text.references)
    without = describe_analysis(analyse_group(collect_group(cohort)))
    assert "No controls were named" in without.paragraphs[0][1]
    assert len(without.references) < len(text.references)

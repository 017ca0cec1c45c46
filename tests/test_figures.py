"""Pictures show what is there, where it is, the right way round, and always the same."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from itertools import combinations
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from scsnet_bids.figures.carpet import plot_carpet
from scsnet_bids.figures.group import draw_changes, draw_sessions
from scsnet_bids.figures.plots import (
    INK,
    asymmetry,
    figure_to_svg,
    plot_asymmetry,
    plot_displacement,
    plot_profiles,
    plot_shape,
)
from scsnet_bids.figures.sheets import draw_directions, draw_mean, draw_regions, draw_volumes
from scsnet_bids.figures.tiles import FIELD_MM, direction_colors, encode_png, window_around
from scsnet_bids.regions import REGION_GROUPS, REGIONS, Side, Tissue

SPACING_MM = (1.0, 1.0, 5.0)
LEFT_LATERAL = REGIONS[0]
N = int(FIELD_MM)


def one_region(n_slices: int = 1) -> np.ndarray:
    """Make shares of an image whose only region fills voxels 20-23 by 24-26."""
    share = np.zeros((60, 50, n_slices, 9))
    share[20:24, 24:27, :, LEFT_LATERAL.label] = 1.0
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    return share


def tiles_of(sheet: str) -> dict[int, ET.Element]:
    """Take a sheet apart; it must be XML."""
    root = ET.fromstring(sheet)
    found = [e for e in root.iter("{http://www.w3.org/2000/svg}svg") if e.get("class") == "tile"]
    return {int(e.get("data-slice", "")): e for e in found}


def pixels_of(tile: ET.Element) -> np.ndarray:
    """Decode the picture of a tile."""
    (picture,) = tile.iter("{http://www.w3.org/2000/svg}image")
    data = base64.b64decode(picture.get("href", "").partition(",")[2])
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    packed = data[data.index(b"IDAT") + 4 :]
    rows = np.frombuffer(zlib.decompressobj().decompress(packed), np.uint8).reshape(height, -1)
    return rows[:, 1:].reshape((height, width) if kind == 0 else (height, width, 3))


def border_of(tile: ET.Element, color: str) -> np.ndarray:
    """Find the corners of the lines of a colour, mm from the tile's corner."""
    lines = [e for e in tile.iter("{http://www.w3.org/2000/svg}path") if e.get("stroke") == color]
    numbers = re.findall(r"[\d.]+", "".join(e.get("d", "") for e in lines))
    points = np.array(numbers, dtype=float).reshape(-1, 2)
    return np.array([points.min(axis=0), points.max(axis=0)])


def test_every_slice_has_a_tile_and_the_highest_comes_first():
    image = np.zeros((60, 50, 3))
    sheet = draw_regions(image, one_region(3), SPACING_MM, "sub-01")
    assert list(tiles_of(sheet)) == [2, 1, 0]
    assert list(tiles_of(draw_regions(image, one_region(3), SPACING_MM, "", slices=[1]))) == [1]


def test_the_border_lies_around_the_region_on_the_picture():
    share = one_region()
    image = share[..., LEFT_LATERAL.label]
    (tile,) = tiles_of(draw_regions(image, share, SPACING_MM, "sub-01", (0, 1))).values()
    rows, columns = np.nonzero(pixels_of(tile))
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    assert border_of(tile, LEFT_LATERAL.color) == pytest.approx(corners, abs=0.01)


def test_the_border_can_be_moved_to_the_image():
    share, image = one_region(), np.zeros((60, 50, 1))
    still, moved = (
        border_of(
            tiles_of(draw_regions(image, share, SPACING_MM, "", dwi_to_image_mm=shift))[0],
            LEFT_LATERAL.color,
        )
        for shift in (np.zeros((1, 2)), np.array([[1.0, -2.0]]))
    )
    assert moved - still == pytest.approx(np.array([[1, -2], [1, -2]]), abs=0.01)


def test_the_front_is_at_the_top_and_the_right_side_on_the_left():
    image = np.add.outer(np.arange(60.0), 100 * np.arange(50))[..., None]
    (tile,) = tiles_of(draw_regions(image, one_region(), SPACING_MM, "sub-01")).values()
    shown = pixels_of(tile).astype(int)
    assert shown[10, 0] <= shown[10, -1]  # columns run toward the patient's left
    assert shown[0, 10] < shown[-1, 10]  # rows run toward the back
    marks = {e.text: float(e.get("x", "")) for e in tile.iter("{http://www.w3.org/2000/svg}text")}
    assert marks["R"] < N / 2 < marks["L"]
    assert "0" in marks


def test_a_window_beyond_the_image_is_black_there():
    share = np.roll(one_region(), 33, axis=0)  # the region now ends 3 voxels from the edge
    (tile,) = tiles_of(draw_regions(np.ones((60, 50, 1)), share, SPACING_MM, "", (0, 1))).values()
    shown = pixels_of(tile)
    assert shown.shape == (N, N)
    assert (shown[:, 0] == 255).all()
    assert (shown[:, -1] == 0).all()
    assert border_of(tile, LEFT_LATERAL.color)[1, 0] < N - 5


def test_a_slice_without_a_cord_is_shown_where_its_neighbours_have_theirs():
    cord = 1 - one_region(3)[..., 0]
    cord[..., 1] = 0
    first = window_around(cord, SPACING_MM).first
    assert (first[1] == first[0]).all()
    middle = window_around(np.zeros((60, 50, 2)), SPACING_MM).first + (N - 1) / 2
    assert middle == pytest.approx(np.array([[29.5, 24.5]] * 2), abs=0.5)


@pytest.mark.parametrize("spacing_mm", [(0.5, 1.3, 5.0), (2.0, 2.0, 3.0)])
def test_a_tile_keeps_its_shape_in_mm(spacing_mm):
    sheet = draw_regions(np.zeros((60, 50, 1)), one_region(), spacing_mm, "")
    _, _, width, height = map(float, tiles_of(sheet)[0].get("viewBox", "").split())
    assert (width, height) == pytest.approx((FIELD_MM, FIELD_MM), abs=max(spacing_mm[:2]))


def test_before_and_after_share_their_grey_levels_and_the_edge_of_the_cord():
    share = one_region()
    after = np.zeros((60, 50, 1))
    after[20:24, 24:27] = 100.0
    drawn = [
        tiles_of(draw_mean(mean, after, share, SPACING_MM, ""))[0] for mean in (after, after / 2)
    ]
    assert pixels_of(drawn[0]).max() == 255
    assert pixels_of(drawn[1]).max() == pytest.approx(128, abs=1)
    assert border_of(drawn[0], "#FFFFFF").tolist() == border_of(drawn[1], "#FFFFFF").tolist()


def test_a_moving_cord_makes_a_wave_in_the_lines():
    series = np.zeros((60, 50, 1, 4))
    for volume, moved in enumerate((0, 2, -2, 0)):
        series[:, 24 + moved : 27 + moved, 0, volume] = 1.0 + volume
    shown = pixels_of(tiles_of(draw_volumes(series, one_region(), SPACING_MM, ""))[0])
    place = np.nonzero(shown.T)[1].reshape(4, -1).mean(axis=1)
    assert np.diff(place).tolist() == [2, -4, 2]
    assert set(shown.ravel()) == {0, 255}


def test_directions_have_the_colours_of_radiology():
    colors = direction_colors(np.eye(3), np.array([1.0, 0.5, np.nan]))
    assert colors.tolist() == [[255, 0, 0], [0, 128, 0], [0, 0, 0]]
    direction = np.zeros((60, 50, 1, 3))
    direction[..., 2] = -1
    sheet = draw_directions(direction, np.ones((60, 50, 1)), one_region(), SPACING_MM, "")
    assert set(map(tuple, pixels_of(tiles_of(sheet)[0]).reshape(-1, 3))) == {(0, 0, 255)}


def test_a_title_with_markup_stays_text():
    sheet = draw_regions(np.zeros((60, 50, 1)), one_region(), SPACING_MM, "<script>&")
    title = ET.fromstring(sheet).find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "<script>&"


def test_a_png_can_be_read_back(tmp_path):
    from matplotlib.image import imread

    for shape in ((3, 5), (3, 5, 3)):
        levels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        (tmp_path / "x.png").write_bytes(encode_png(levels))
        assert np.round(imread(tmp_path / "x.png") * 255).astype(int).tolist() == levels.tolist()


def region_table(n_slices: int = 4) -> pd.DataFrame:
    """Make unmixed values of all regions: left 0.8, right 0.6; the last slice has none."""
    rows = [
        {
            "scope": "slice", "slice": k, "region": group.region, "side": str(group.side),
            "metric": metric,
            "unmixed": np.nan if k == n_slices - 1 else value,
            "unmixed_uncertainty": 0.01,
            "unmixed_flag": "uncertain" if k == 0 else None,
            "level": "C6" if k < 2 else None,
            "flag": None,
        }
        for k in range(n_slices)
        for group in REGION_GROUPS
        for metric in ("FA", "MD")
        for value in [0.8 if group.side is Side.LEFT else 0.6]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_asymmetry_compares_left_with_right():
    slices, value, deviation = asymmetry(region_table(), "gray_matter", "FA")
    assert slices.tolist() == [0, 1, 2, 3]
    assert value[:3] == pytest.approx(0.2 / 1.4)
    assert np.isnan(value[3])
    assert deviation[0] == pytest.approx(2 * np.hypot(0.6 * 0.01, 0.8 * 0.01) / 1.4**2)


def test_profiles_show_both_sides_of_every_tissue_with_their_colours():
    figure = plot_profiles(region_table(), "FA")
    shown = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "Lateral column",
        "Dorsal column",
        "Ventral column",
        "Gray matter",
    ]
    lines = [line for line in shown[0].lines if line.get_linestyle() in ("-", "--")]
    assert [line.get_color() for line in lines] == [REGIONS[0].color, REGIONS[1].color]
    assert lines[0].get_ydata()[:3].tolist() == [0.8] * 3
    assert len(shown[0].collections) == 2
    hollow = [line for line in shown[0].lines if line.get_markerfacecolor() == "w"]
    assert [line.get_xdata().tolist() for line in hollow] == [[0], [0]]


def test_displacements_are_drawn_by_slice_and_volume():
    shift_mm = np.zeros((5, 3, 2))
    shift_mm[2, 1] = 3.0, 4.0
    trusted = np.ones((5, 3), dtype=bool)
    trusted[4, 0] = False
    upper, lower = plot_displacement(shift_mm, trusted).axes[:2]
    assert np.asarray(upper.images[0].get_array())[1, 2] == 5
    assert upper.lines[0].get_xydata().tolist() == [[4, 0]]
    assert lower.lines[0].get_ydata().tolist() == pytest.approx([0, 0, 5 / 3, 0, 0])


def test_the_same_figure_makes_the_same_file():
    shape = pd.DataFrame(
        {
            "slice": [0, 1, 2],
            "area_mm2": [70.0, np.nan, 80.0],
            "ap_diameter_mm": [7.0, np.nan, 8.0],
            "rl_diameter_mm": [12.0, np.nan, 12.0],
            "compression_ratio": [0.6, np.nan, 0.7],
            "flag": [None, "no_cord", "cut_off"],
            "level": ["C6", None, "$C_5$"],
        }
    )
    for draw in (lambda: plot_shape(shape), lambda: plot_asymmetry(region_table(), "MD")):
        first, second = (figure_to_svg(draw(), "a < b") for _ in range(2))
        assert first == second
        ET.fromstring(first)


DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])


def lab_color(color: str, vision: np.ndarray) -> np.ndarray:
    """Turn a hex colour into CIE Lab as it is seen with a kind of colour vision."""
    level = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(vision @ linear, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_the_colours_of_the_regions_differ_with_any_common_colour_vision(vision):
    seen = [lab_color(region.color, vision) for region in REGIONS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_a_carpet_marks_what_was_found():
    signal = np.tile(np.array([[100.0, 50.0]]), (6, 1))
    expected = signal.copy()
    expected[5, 0] = np.nan
    kind, outlier = np.full((6, 2), "kept"), np.zeros((6, 2), dtype=bool)
    signal[1, 0], kind[1, 0], outlier[1, 0] = 10.0, "lost", True
    signal[2, 1], kind[2, 1] = 45.0, "weak"
    figure = plot_carpet(signal, expected, kind, outlier)
    upper, lower = figure.axes[:2]
    marks = {
        (line.get_marker(), line.get_markerfacecolor()): np.transpose(line.get_data()).tolist()
        for line in lower.lines
        if len(line.get_xdata())
    }
    assert marks == {("x", INK): [[1, 0]], ("v", "none"): [[2, 1]]}
    above, below = (axes.images[0].get_array() for axes in (upper, lower))
    assert below.shape == (2, 6)  # volumes to the right
    assert below[0, 1] == pytest.approx(0.1)
    assert np.ma.is_masked(below[0, 5])
    assert above[1, 0] == pytest.approx(1)


def test_a_carpet_of_nothing_is_drawn():
    nothing = np.zeros((4, 2))
    kept, none = np.full((4, 2), "unjudged"), np.zeros((4, 2), dtype=bool)
    figure_to_svg(plot_carpet(nothing, nothing * np.nan, kept, none), "nothing")


def test_levels_and_the_flattest_slice_are_written_into_the_plots():
    texts = [
        text.get_text() for axes in plot_profiles(region_table(), "FA").axes for text in axes.texts
    ]
    assert texts == ["C6"] * 4


def test_an_excluded_slice_is_not_drawn():
    table = region_table()
    table.loc[table["slice"] == 1, "flag"] = "few_voxels;excluded_by_reader"
    slices, _, _ = asymmetry(table, "gray_matter", "FA")
    assert slices.tolist() == [0, 2, 3]


def test_sessions_are_drawn_side_by_side_with_names_or_in_order_of_size():
    for n_people in (3, 50):
        rows = [
            {
                "participant_id": f"sub-{n}", "region": str(tissue), "metric": "FA",
                "first_session": "ses-pre", "session": session, "first_value": 0.6,
                "first_uncertainty": 0.01, "value": 0.5 + 0.01 * n, "uncertainty": 0.02,
                "change": 0.01 * n, "change_low": 0.01 * n - 0.04, "change_high": 0.01 * n + 0.04,
            }
            for n in range(n_people)
            for tissue in Tissue
            for session in ("ses-mid", "ses-late")
        ]  # fmt: skip
        changes = pd.DataFrame(rows)
        changes.loc[0, ["value", "change", "change_low", "change_high"]] = np.nan
        words = draw_changes(changes, "FA")
        assert ("sub-2" in words) == (n_people == 3)
        assert "ses-late" in words
        assert "ses-pre" in draw_sessions(changes, "FA")

"""The picture shows the borders where the regions are, the right way round."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from scsnet_bids.figures import draw_regions
from scsnet_bids.regions import REGIONS

SPACING_MM = (1.0, 1.0, 5.0)
LEFT_LATERAL = REGIONS[0]


def picture(b0_to_dwi_mm: tuple[float, float] = (0.0, 0.0)) -> list[Axes]:
    """Draw one slice whose only region fills voxels 20-23 by 14-16."""
    share = np.zeros((40, 30, 1, 9))
    share[20:24, 14:17, 0, LEFT_LATERAL.label] = 1.0
    share[..., 0] = 1 - share[..., 1:].sum(axis=-1)
    image = np.arange(40.0 * 30).reshape(40, 30, 1)
    figure = draw_regions(
        image, image / image.max(), share, np.array([b0_to_dwi_mm]), SPACING_MM, "sub-01"
    )
    return [axes for axes in figure.axes if axes.collections]


def border(axes: Axes) -> np.ndarray:
    """Corners of the only region's border relative to the image's first voxel."""
    (drawn,) = (lines for lines in axes.collections if lines.get_paths())
    assert isinstance(drawn, LineCollection)
    assert to_hex(drawn.get_color()[0]).upper() == LEFT_LATERAL.color
    points = drawn.get_paths()[0].vertices
    return np.array([points.min(axis=0), points.max(axis=0)])


def test_each_slice_is_drawn_on_b0_and_on_fa():
    assert [axes.get_title() for axes in picture()] == ["slice 0: b = 0 image", "slice 0: FA"]


def test_the_border_runs_half_way_to_the_neighbouring_voxels():
    _, fa = picture()
    extent = border(fa)
    assert extent[1] - extent[0] == pytest.approx([4, 3])


def test_on_the_b0_image_the_border_is_moved_back():
    b0, fa = picture(b0_to_dwi_mm=(1.0, -2.0))
    assert border(b0) - border(fa) == pytest.approx(np.array([[-1, 2], [-1, 2]]))


def test_the_front_is_at_the_top_and_the_right_side_on_the_left():
    axes = picture()[0]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    shown = axes.images[0].get_array()
    assert shown[0, 0] < shown[0, -1]  # columns run toward the patient's left
    assert shown[0, 0] < shown[-1, 0]  # rows run toward the back
    marks = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert marks["R"] < 0.5 < marks["L"]

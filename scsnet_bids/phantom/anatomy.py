"""A parametric cervical cord with its surroundings: the anatomy of the phantom.

A cross-section is described in its own frame, in mm: ``left`` toward the patient's left, ``back``
toward the patient's back, from the middle of the cord's front-to-back extent. It is symmetric, and
a handful of curves make the eight regions: an outline with a blunter front than back, the two
horns of the gray matter, the line from the commissure along the dorsal horn, and the line of the
ventral roots. A ``Neck`` says how these sections are stacked, sized, turned and compressed.

>>> section = cross_section(level=5.0)
>>> label_points(np.array([0.5, -0.5, 4.5]), np.array([2.0, 2.0, 0.0]), section)
array([3, 4, 1], dtype=int8)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from numpy.polynomial.polynomial import polyder, polyval

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.phantom.drawn import DrawnCord
from scsnet_bids.regions import LABELS, Side, Tissue

LabelArray = npt.NDArray[np.int8]

LEVELS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
"""Vertebral levels of the columns of ``SHAPE``; 5.0 is the middle of C5."""

SHAPE: dict[str, tuple[float, ...]] = {
    "half_width": (5.81, 6.01, 6.27, 6.19, 6.00, 5.29),
    "depth": (7.23, 7.29, 7.33, 7.38, 6.90, 6.20),
    "widest": (-0.02, -0.05, -0.02, 0.19, 0.34, 0.28),
    "front_exponent": (2.10, 2.25, 2.68, 2.66, 2.43, 2.28),
    "back_exponent": (1.62, 1.60, 1.61, 1.52, 1.48, 1.58),
    "commissure": (-1.13, -1.23, -1.23, -1.08, -0.88, -0.87),
    "horn_slope": (1.09, 1.12, 1.03, 0.96, 1.00, 1.05),
    "front_middle": (-1.57, -1.59, -1.57, -1.41, -1.16, -1.06),
    "front_horn": (-2.54, -2.55, -2.72, -2.60, -2.24, -1.86),
    "width_front": (1.98, 2.45, 3.53, 3.49, 3.05, 1.92),
    "width_belly": (2.35, 2.85, 3.44, 3.38, 3.27, 2.74),
    "width_waist": (2.58, 2.65, 2.58, 2.51, 2.48, 2.19),
    "width_tip": (3.47, 3.45, 3.52, 3.44, 3.40, 3.06),
    "tip": (1.90, 1.91, 1.61, 1.61, 1.79, 1.55),
    "root_line": (-1.69, -1.63, -1.48, -1.34, -1.16, -1.12),
    "root_slope": (-0.19, -0.20, -0.22, -0.23, -0.21, -0.19),
}
"""Least-squares fit of these curves to the mean cross-section of the PAM50 tract atlas at each
vertebral level (tracts 0-3 dorsal, 4-13 lateral, 14-29 ventral, 30-35 gray; deleener2018). Region
Dice 0.88 to 0.99, region areas within 4 %."""

TYPICAL_WIDTH, TYPICAL_DEPTH = 1.04, 1.10
"""Size of a living cord (about 12.8 x 8 mm, 80 mm2 at C4) relative to the atlas."""
LEVEL_HEIGHT_MM = 16.0
MIDDLE_LEVEL = 4.6
COURSE_MM = 37.5
"""Height over which the course of the cord is described."""
COMPRESSION_LEVEL = 5.5
COMPRESSION_SD_MM = 5.0
INDENTATION_MM = 2.0


@dataclass(frozen=True)
class CrossSection:
    """The curves of one cross-section, in mm in its own frame.

    Attributes
    ----------
    half_width, depth : of the outline; ``widest`` is where it is widest
    front_exponent, back_exponent : bluntness of its two halves (2 is an ellipse)
    commissure, horn_slope : line from the midline along the dorsal horn
    front_middle, front_horn : front of the gray matter at the midline and at the ventral horns
    width_front, width_belly, width_waist, width_tip : half-width of the gray matter, front to back
    tip : back end of the dorsal horns
    root_line, root_slope : line from the midline to the ventral roots
    """

    half_width: float
    depth: float
    widest: float
    front_exponent: float
    back_exponent: float
    commissure: float
    horn_slope: float
    front_middle: float
    front_horn: float
    width_front: float
    width_belly: float
    width_waist: float
    width_tip: float
    tip: float
    root_line: float
    root_slope: float


@dataclass(frozen=True)
class Pose:
    """Where and how a cross-section lies in the image at one height.

    Attributes
    ----------
    centre_mm : (left, posterior) position in the image plane
    rotation_rad : turns the patient's left toward the back
    level : vertebral level, 5.0 in the middle of C5
    width_scale, depth_scale : size relative to ``SHAPE``
    indentation_mm : how far the front is pushed in at the midline
    drawn : cross-sections to take in the place of ``SHAPE``
    """

    centre_mm: tuple[float, float]
    rotation_rad: float
    level: float
    width_scale: float = 1.0
    depth_scale: float = 1.0
    indentation_mm: float = 0.0
    drawn: DrawnCord | None = None


@dataclass(frozen=True, eq=False)
class Neck:
    """One person's cord: size, course, level and compression.

    Heights are mm above the middle of the image. Courses are polynomials, constant term first, of
    the height divided by ``COURSE_MM``.

    Attributes
    ----------
    width_scale, depth_scale : size relative to ``SHAPE``
    middle_level, level_height_mm : level at height 0 and length of one level
    centre_mm : (n, 2) course of the (left, posterior) position in the image plane
    rotation_rad : (m,) course of the rotation
    compression : loss of depth in the middle of ``COMPRESSION_LEVEL``, 0 to 0.6
    drawn : cross-sections to take in the place of ``SHAPE``; the sizes stay relative to it
    """

    width_scale: float
    depth_scale: float
    middle_level: float
    level_height_mm: float
    centre_mm: FloatArray
    rotation_rad: FloatArray
    compression: float = 0.0
    drawn: DrawnCord | None = None

    def level_at(self, height_mm: FloatArray) -> FloatArray:
        """Tell the vertebral level at each height (lower slices have higher levels)."""
        return np.asarray(self.middle_level - height_mm / self.level_height_mm)

    def pose_at(self, height_mm: float) -> Pose:
        """Place the cross-section of one height."""
        level = float(self.level_at(np.array(height_mm)))
        below_mm = (level - COMPRESSION_LEVEL) * self.level_height_mm
        squeeze = self.compression * float(np.exp(-0.5 * (below_mm / COMPRESSION_SD_MM) ** 2))
        left_mm, posterior_mm = np.asarray(polyval(height_mm / COURSE_MM, self.centre_mm))
        return Pose(
            (float(left_mm), float(posterior_mm)),
            float(polyval(height_mm / COURSE_MM, self.rotation_rad)),
            level,
            self.width_scale * (1 + 0.25 * squeeze),
            self.depth_scale * (1 - squeeze),
            INDENTATION_MM * squeeze,
            self.drawn,
        )

    def direction_at(self, height_mm: FloatArray) -> FloatArray:
        """Give the course of the fibres at each height, (k, 3) unit vectors on the inner axes."""
        slope = polyder(self.centre_mm) / COURSE_MM
        across = polyval(height_mm / COURSE_MM, slope)  # (2, k)
        along = np.concatenate([across, np.ones((1, height_mm.size))]).T
        return np.asarray(along / np.linalg.norm(along, axis=1, keepdims=True))


def random_neck(
    rng: np.random.Generator,
    centre_mm: tuple[float, float],
    compression: float,
    drawn: DrawnCord | None = None,
) -> Neck:
    """Draw a person: 4 % of size and of flatness, some degrees of rotation, a slow bend.

    Parameters
    ----------
    rng : source of the person's randomness
    centre_mm : (left, posterior) middle of the image plane; the cord lies within 3 mm of it
    compression : loss of depth where the cord is compressed, 0 to 0.6
    drawn : the person's cross-sections, if somebody drew them

    Returns
    -------
    Neck
    """
    size, flatness = 1 + rng.normal(0, 0.04), 1 + rng.normal(0, 0.04)
    course = rng.normal(0, 1, (4, 2)) * [[1.5, 1.5], [0.8, 1.0], [0.4, 1.2], [0.2, 0.3]]
    course[0] = np.clip(course[0], -3, 3) + centre_mm
    return Neck(
        width_scale=TYPICAL_WIDTH * size * flatness,
        depth_scale=TYPICAL_DEPTH * size / flatness,
        middle_level=MIDDLE_LEVEL + rng.normal(0, 0.1),
        level_height_mm=LEVEL_HEIGHT_MM * (1 + rng.normal(0, 0.05)),
        centre_mm=course,
        rotation_rad=np.deg2rad(rng.normal(0, [3.0, 1.5])),
        compression=compression,
        drawn=drawn,
    )


def cross_section(level: float) -> CrossSection:
    """Interpolate the cross-section at a vertebral level.

    Parameters
    ----------
    level : 5.0 in the middle of C5; beyond C2 and C7 the shape stays as it is there

    Returns
    -------
    CrossSection
    """
    return CrossSection(
        *(float(np.interp(level, LEVELS, SHAPE[f.name])) for f in fields(CrossSection))
    )


def label_points(left: FloatArray, back: FloatArray, section: CrossSection) -> LabelArray:
    """Tell the region of each point of a cross-section.

    Parameters
    ----------
    left, back : (...) float arrays, mm in the section's frame
    section : its curves

    Returns
    -------
    (...) int8 array of region labels, 0 outside the cord
    """
    s, side = section, np.abs(left)
    knots = np.linspace(s.front_horn, s.tip, 4)
    horn_width = np.interp(back, knots, [s.width_front, s.width_belly, s.width_waist, s.width_tip])
    front = np.interp(side, [0.0, s.width_front], [s.front_middle, s.front_horn])
    dorsal = (side < horn_width) & (back > s.commissure + s.horn_slope * side)
    gray = (side < horn_width) & (back > front) & (back < s.tip)
    ventral = back < s.root_line + s.root_slope * side
    tissues = [Tissue.DORSAL_COLUMN, Tissue.GRAY_MATTER, Tissue.VENTRAL_COLUMN]
    conditions = [dorsal, gray, ventral]
    label = {
        half: np.select(
            conditions, [LABELS[t, half] for t in tissues], LABELS[Tissue.LATERAL_COLUMN, half]
        )
        for half in (Side.LEFT, Side.RIGHT)
    }
    sided = np.where(left > 0, label[Side.LEFT], label[Side.RIGHT])
    return np.where(_is_inside(side, back, s), sided, 0).astype(np.int8)


def label_cord(left_mm: FloatArray, posterior_mm: FloatArray, pose: Pose) -> LabelArray:
    """Tell the region of each point of an image plane.

    Parameters
    ----------
    left_mm, posterior_mm : (...) float arrays, positions in the image plane
    pose : of the cord in that plane

    Returns
    -------
    (...) int8 array of region labels, 0 outside the cord
    """
    section = cross_section(pose.level)
    left, back = to_neck_frame(left_mm, posterior_mm, pose)
    left = left / pose.width_scale
    # The indentation moves the front by its full depth and the back not at all, so along each
    # line from front to back it is a shift and a scaling, and can be undone exactly.
    push = pose.indentation_mm * np.exp(-0.5 * (left / (0.4 * section.half_width)) ** 2)
    back = (back - push / 2) / (pose.depth_scale - push / section.depth)
    if pose.drawn is not None:
        drawn_at = left * TYPICAL_WIDTH, back * TYPICAL_DEPTH  # drawings have a living cord's size
        return pose.drawn.label_points(*drawn_at, pose.level)
    return label_points(left, back, section)


def to_neck_frame(
    left_mm: FloatArray, posterior_mm: FloatArray, pose: Pose
) -> tuple[FloatArray, FloatArray]:
    """Turn image-plane positions into mm left of and behind the cord's middle, unrotated.

    Parameters
    ----------
    left_mm, posterior_mm : (...) float arrays
    pose : of the cord in that plane

    Returns
    -------
    (...) float arrays left and back, mm
    """
    left, back = left_mm - pose.centre_mm[0], posterior_mm - pose.centre_mm[1]
    cosine, sine = np.cos(pose.rotation_rad), np.sin(pose.rotation_rad)
    return np.asarray(cosine * left + sine * back), np.asarray(cosine * back - sine * left)


def _is_inside(side: FloatArray, back: FloatArray, s: CrossSection) -> BoolArray:
    """Tell whether points lie within the outline, two half superellipses."""
    behind = back > s.widest
    reach = np.where(behind, s.depth / 2 - s.widest, s.depth / 2 + s.widest)
    exponent = np.where(behind, s.back_exponent, s.front_exponent)
    across = (side / s.half_width) ** exponent
    return np.asarray(across + (np.abs(back - s.widest) / reach) ** exponent < 1)

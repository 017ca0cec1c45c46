"""What lies around the phantom's cord: fluid in the canal, bone, muscle and nerve roots.

Brightness is the b=0 signal relative to white matter, and follows what b=0 images of the neck look
like: dark bone, a canal that is wide and very bright at C2 and tight and hardly brighter than the
cord at C7, roots and veins that leave its corners toward the front at the height of the discs. No
truth depends on these shapes; they are drawn by eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scsnet_bids.arrays import BoolArray, FloatArray
from scsnet_bids.phantom.anatomy import Pose, cross_section, to_neck_frame

LEVELS = (2.0, 3.0, 4.0, 5.5, 7.0)
"""Vertebral levels of the values below, which are interpolated between them."""
FLUID_BRIGHTNESS = (2.4, 1.9, 1.5, 1.2, 1.05)
PULSATION = (0.08, 0.15, 0.25, 0.3, 0.3)
CANAL_HALF_WIDTH_MM = (13.0, 12.5, 11.5, 11.0, 11.0)
CANAL_FRONT_GAP_MM = (3.5, 2.5, 1.6, 1.2, 1.0)
CANAL_BACK_GAP_MM = (4.5, 3.5, 2.8, 2.6, 2.6)
CANAL_BACK_EXPONENT = (2.2, 1.8, 1.5, 1.35, 1.3)
"""The back of the canal is round at C2 and a V further down."""

BONE, MUSCLE, JOINT_RIM, ROOT_FLUID, ROOT_NERVE = 0.05, 0.28, 0.7, 0.6, 0.6
EDGE_WOBBLE_MM = 0.5


@dataclass(frozen=True, eq=False)
class Surroundings:
    """b=0 signal of the tissues around the cord, relative to white matter.

    Attributes
    ----------
    fluid : (rows, columns) float array, cerebrospinal fluid and veins; also beneath the cord
    muscle : (rows, columns) float array, muscle and bone
    nerve : (rows, columns) float array, roots
    """

    fluid: FloatArray
    muscle: FloatArray
    nerve: FloatArray


def pulsation_at(level: float) -> float:
    """Tell how unsteady the fluid is at a vertebral level.

    Parameters
    ----------
    level : 5.0 in the middle of C5

    Returns
    -------
    float, relative SD of its signal between volumes
    """
    return _at_level(PULSATION, level)


def draw_surroundings(
    left_mm: FloatArray, posterior_mm: FloatArray, pose: Pose, texture: FloatArray
) -> Surroundings:
    """Draw canal, bone, muscle and roots of one slice.

    Parameters
    ----------
    left_mm, posterior_mm : (rows, columns) float arrays, positions in the image plane
    pose : of the cord in that plane
    texture : (2, rows, columns) float array, smooth noise of mean 0 and SD 1

    Returns
    -------
    Surroundings
    """
    grain, wobble = texture
    left, back = to_neck_frame(left_mm, posterior_mm, pose)
    side = np.abs(left + EDGE_WOBBLE_MM * grain)
    back = back + EDGE_WOBBLE_MM * wobble
    canal = _is_canal(side, back, pose)
    root = _is_root(side, back) & ~canal & (np.cos(np.pi * pose.level) ** 2 < 0.6)  # near a disc
    joint_mm = np.hypot(side - 17, back + 1)
    rim = (np.abs(joint_mm - 6.5) < 0.7) & (wobble > 0) & ~canal & ~root
    bone = _is_bone(side, back) | (joint_mm < 6)
    muscle = np.where(bone, BONE, MUSCLE * np.clip(1 + 0.2 * grain, 0.2, None))
    rootlets = 1 - 0.4 * np.clip(wobble, 0, 1) * (back < 0)
    fluid = canal * rootlets * _at_level(FLUID_BRIGHTNESS, pose.level)
    strand = root * np.clip(1 + 0.4 * grain, 0.2, None)
    return Surroundings(
        fluid + strand * ROOT_FLUID + rim * JOINT_RIM,
        muscle * ~(canal | root | rim),
        strand * ROOT_NERVE,
    )


def _at_level(values: tuple[float, ...], level: float) -> float:
    """Interpolate a value between ``LEVELS``."""
    return float(np.interp(level, LEVELS, values))


def _is_canal(side: FloatArray, back: FloatArray, pose: Pose) -> BoolArray:
    """Tell which points lie in the spinal canal, cord included; compression tightens it."""
    half_depth = cross_section(pose.level).depth / 2 * pose.depth_scale
    room = 1 / (1 + 2 * pose.indentation_mm)
    wall = -half_depth - room * _at_level(CANAL_FRONT_GAP_MM, pose.level)
    wall = wall + pose.indentation_mm * np.exp(-0.1 * side**2)
    apex = half_depth + room * _at_level(CANAL_BACK_GAP_MM, pose.level)
    depth = np.clip(back + half_depth / 2, 0, None) / (apex + half_depth / 2)
    width = side / _at_level(CANAL_HALF_WIDTH_MM, pose.level)
    exponent = _at_level(CANAL_BACK_EXPONENT, pose.level)
    return np.asarray((width**exponent + depth**exponent < 1) & (back > wall))


def _is_root(side: FloatArray, back: FloatArray) -> BoolArray:
    """Tell which points lie on the roots and veins that run outward and to the front."""
    along = (side - 8.5) * 0.75 - (back + 2.5) * 0.66
    across = (side - 8.5) * 0.66 + (back + 2.5) * 0.75
    return np.asarray((np.abs(across) < 1.7 - 0.05 * along) & (along > 0) & (along < 15))


def _is_bone(side: FloatArray, back: FloatArray) -> BoolArray:
    """Tell which points lie in the vertebral body, the laminae or the spinous process."""
    body = (side / 14) ** 2.5 + (np.abs(back + 14.5) / 10) ** 2.5 < 1
    lamina = (np.abs(back + 0.85 * side - 12) < 3.2) & (side < 17)
    process = (side < 2) & (back > 9)
    return np.asarray(body | lamina | process)

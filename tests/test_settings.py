"""Settings survive the way to a file and back, and bad ones are named."""

from __future__ import annotations

import dataclasses

import pytest

from scsnet_bids.errors import UsageError
from scsnet_bids.setting_values import change_settings, settings_from_toml, settings_to_toml
from scsnet_bids.settings import GradientSettings, MotionSettings, Settings, list_settings


def test_settings_come_back_from_their_file():
    settings = Settings(
        gradients=GradientSettings(b0_max=12.5), motion=MotionSettings(method="none")
    )
    assert settings_from_toml(settings_to_toml(settings)) == settings


def test_every_setting_is_in_the_file_with_its_unit():
    text = settings_to_toml(Settings())
    n_settings = sum(len(dataclasses.fields(part)) for part in vars(Settings()).values())
    assert sum(" = " in line and line[0] != "#" for line in text.splitlines()) == n_settings
    assert "# Radius of the window around the cord. (mm)\nwindow_radius_mm = 11.0\n" in text


def test_a_file_may_give_a_few_settings():
    given = settings_from_toml("[gradients]\nb0_max = 10\n")
    assert given == Settings(gradients=GradientSettings(b0_max=10.0))


def test_every_option_belongs_to_one_setting():
    options = [known.option for known in list_settings() if known.option]
    assert len(options) == len(set(options)) >= 5
    assert all(option.startswith("--") for option in options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[motion", "must be TOML"),
        ("b0_max = 3", "lie in a table such as .derivatives.: b0_max does not"),
        ("[movement]\nspeed = 3", "stage must be known: found movement; known are derivatives"),
        ("[motion]\nspeed = 3", "found speed; known are method"),
        ('[gradients]\nb0_max = "50"', "b0_max in .gradients. must be a number.*found '50'"),
        ("[gradients]\nb0_max = true", "must be a number.*found True"),
        ("[alignment]\nenabled = 1", "must be true or false.*found 1"),
        ('[motion]\nmethod = "best"', "must be one of slicewise, fsl, none: found 'best'"),
        ("[denoising]\nmethod = false", "must be a word.*found False"),
        ("[gradients]\nb0_max = -1", "must be 0 or more: found -1"),
        ("[gradients]\nb0_max = nan", "must be 0 or more: found nan"),
        ("[segmentation]\ndevice = 0", "must be a word.*found 0"),
    ],
)
def test_bad_settings_are_named(text, message):
    with pytest.raises(UsageError, match=message):
        settings_from_toml(text)


def test_a_change_leaves_the_original_alone():
    settings = Settings()
    changed = change_settings(settings, {("motion", "method"): "none"})
    assert settings == Settings()
    assert changed.motion == MotionSettings(method="none")
    assert changed.gradients is settings.gradients

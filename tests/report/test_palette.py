"""Colours: even steps, and categories that stay apart for every eye."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from attnlens.report import palette

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# Ottosson 2020: linear RGB -> cone responses -> OKLab.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(colour: str, sight: str = "all cones") -> np.ndarray:
    seen = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    return TO_LAB @ np.cbrt(TO_LMS @ seen)


def distance(first: str, second: str, sight: str = "all cones") -> float:
    return float(np.linalg.norm(oklab(first, sight) - oklab(second, sight)))


@pytest.mark.parametrize("theme", palette.THEMES.values(), ids=lambda theme: theme.name)
def test_the_scale_goes_in_equal_steps_from_the_page_to_the_strongest_contrast(theme):
    steps = [distance(a, b) for a, b in zip(theme.sequential, theme.sequential[1:], strict=False)]
    lightness = [oklab(colour)[0] for colour in theme.sequential]

    assert max(steps) / min(steps) < 1.1
    assert np.all(np.diff(lightness) < 0) or np.all(np.diff(lightness) > 0)
    assert distance(theme.sequential[0], theme.surface) < 0.03
    assert abs(lightness[-1] - lightness[0]) > 0.7


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", palette.THEMES.values(), ids=lambda theme: theme.name)
def test_categories_differ_from_each_other_and_from_the_page_for_every_eye(theme, sight):
    colours = [*theme.categories.values(), theme.paper]

    nearest = min(distance(a, b, sight) for a, b in combinations(colours, 2))

    assert nearest >= 0.10


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", palette.THEMES.values(), ids=lambda theme: theme.name)
def test_sixteen_heads_differ_from_each_other_and_from_the_card_for_every_eye(theme, sight):
    colours = [*theme.heads, theme.surface]

    nearest = min(distance(a, b, sight) for a, b in combinations(colours, 2))

    assert len(theme.heads) == 16
    assert nearest >= (0.10 if sight == "all cones" else 0.08)


@pytest.mark.parametrize("theme", palette.THEMES.values(), ids=lambda theme: theme.name)
def test_a_hidden_cell_is_not_the_colour_of_weight_zero(theme):
    assert distance(theme.not_visible, theme.sequential[0]) > 0.03
    assert distance(theme.hatch, theme.not_visible) > 0.05


def contrast(first: str, second: str) -> float:
    light, dark = sorted((float(np.dot([0.2126, 0.7152, 0.0722], linear(c))) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", palette.THEMES.values(), ids=lambda theme: theme.name)
def test_text_is_readable(theme):
    for background in (theme.paper, theme.surface, theme.sunken):
        assert contrast(theme.ink, background) >= 7
        assert contrast(theme.muted, background) >= 4.5
        assert contrast(theme.accent, background) >= 4.5
    for colour in (*theme.categories.values(), *theme.sequential):
        assert contrast(palette.ink_on(colour), colour) >= 4.5


def test_css_names_every_category_in_both_themes():
    css = palette.css()

    for theme in palette.THEMES.values():
        for name, colour in theme.categories.items():
            assert f"--al-cat-{name}: {colour};" in css
    assert set(palette.THEMES["light"].categories) == set(palette.THEMES["dark"].categories) == set(palette.CATEGORIES)


@pytest.mark.parametrize(
    ("label", "family", "category"),
    [
        ("previous-token", "positional", "position"),
        ("first-token", "positional", "sink"),
        ("delimiter", "positional", "sink"),
        ("broad", "positional", "broad"),
        ("nsubj", "syntax", "syntax"),
        ("antecedent", "coreference", "coreference"),
        ("anything", "a plug-in", "other"),
    ],
)
def test_labels_have_a_category(label, family, category):
    assert palette.category_of(label, family) == category

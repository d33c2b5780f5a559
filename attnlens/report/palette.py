"""One visual language for figures, reports and pages: colours of both themes, type, spacing; Python and CSS.

The sequential scales run through equal steps of lightness and of OKLab distance (Ottosson 2020), from the
colour of the page (weight 0) to the strongest contrast with it (weight 1). The category colours keep a
distance of at least 0.10 in OKLab from each other and from the page, also as seen with deuteranopia,
protanopia and tritanopia (Machado et al. 2009, severity 1); the sixteen colours of heads keep at least 0.08 so.
`tests/report/test_palette.py` computes all of it.
Colour is never the only sign: labels carry text too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = [
    "CATEGORIES",
    "FONT_MONO",
    "FONT_SANS",
    "SPACE",
    "THEMES",
    "TYPE",
    "Theme",
    "ThemeName",
    "category_of",
    "colorscale",
    "css",
    "diverging",
    "ink_on",
    "theme_of",
]

ThemeName = Literal["light", "dark"]

FONT_SANS = (
    'Inter, "Segoe UI Variable Text", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", '
    '"Noto Sans", Arial, sans-serif'
)
FONT_MONO = 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace'

# Sizes in rem, a step of about 1.2; spaces in rem, doubling.
TYPE: Mapping[str, float] = {
    "small": 0.8125,
    "note": 0.875,
    "body": 1.0,
    "lead": 1.175,
    "h3": 1.2,
    "h2": 1.5,
    "h1": 2.1,
}
SPACE: Mapping[str, float] = {"1": 0.25, "2": 0.5, "3": 1.0, "4": 1.5, "5": 2.5, "6": 4.0}

# Category -> name for a legend, in the order in which a legend lists them.
CATEGORIES: Mapping[str, str] = {
    "position": "fixed position",
    "syntax": "syntax",
    "coreference": "coreference",
    "induction": "induction and copies",
    "other": "other",
    "sink": "sink or delimiter",
    "broad": "broad",
}


@dataclass(frozen=True)
class Theme:
    """The colours of one theme, as `#rrggbb`.

    Attributes:
        name: "light" or "dark".
        paper: the page.
        surface: a card or panel on the page.
        sunken: code, table heads, inputs.
        ink, muted, faint: text, secondary text, and marks that only help (ticks, placeholder).
        line: borders and rules.
        accent: links, the selected head, the highlighted query.
        on_accent: text on the accent colour.
        warn: what needs attention; never the only sign.
        sequential: weight 0 to 1 in ten equal steps.
        not_visible: a cell that the query cannot see; differs from weight 0.
        hatch: strokes over `not_visible`.
        unlabelled: a head without a label.
        categories: category -> colour.
        heads: of several heads drawn over each other, in this order.
    """

    name: ThemeName
    paper: str
    surface: str
    sunken: str
    ink: str
    muted: str
    faint: str
    line: str
    accent: str
    on_accent: str
    warn: str
    sequential: tuple[str, ...]
    not_visible: str
    hatch: str
    unlabelled: str
    categories: Mapping[str, str]
    heads: tuple[str, ...]


THEMES: Mapping[ThemeName, Theme] = {
    "light": Theme(
        name="light",
        paper="#ffffff",
        surface="#ffffff",
        sunken="#f4f6f8",
        ink="#171b22",
        muted="#535c69",
        faint="#7b8491",
        line="#dfe3e8",
        accent="#c2410c",
        on_accent="#ffffff",
        warn="#9a3412",
        sequential=tuple(
            "#f7fbfc #c6eaf7 #98d6ee #6cc0e6 #4da6dc #398bd2 #376fc2 #3853ad #343991 #2c266e #1f174a".split()
        ),
        not_visible="#eceae6",
        hatch="#cfcbc4",
        unlabelled="#eef0f3",
        categories={
            "position": "#064e8b",
            "sink": "#0a869a",
            "broad": "#9889fe",
            "syntax": "#7f3202",
            "coreference": "#f895b1",
            "induction": "#6c7b33",
            "other": "#afa506",
        },
        heads=tuple(
            "#e77800 #147b97 #8f78ff #e314bd #03a574 #971527 #5aaffe #4709bd "
            "#d680bf #e00018 #00127a #634a6b #2400ff #4c142d #000040 #050200".split()
        ),
    ),
    "dark": Theme(
        name="dark",
        paper="#14161b",
        surface="#1a1d23",
        sunken="#21252d",
        ink="#e8eaee",
        muted="#a6aeba",
        faint="#7d8592",
        line="#30353e",
        accent="#fb9d5b",
        on_accent="#14161b",
        warn="#fdba74",
        sequential=tuple(
            "#181b20 #222946 #31366c #364a93 #2e64af #1781c2 #249dc8 #42b7ce #63d2d4 #97e8db #c7fce8".split()
        ),
        not_visible="#2b2926",
        hatch="#45413c",
        unlabelled="#262a31",
        categories={
            "position": "#4d7fb8",
            "sink": "#5cb8a6",
            "broad": "#b496ff",
            "syntax": "#dd8b12",
            "coreference": "#c4504f",
            "induction": "#b4e6c2",
            "other": "#e8cf48",
        },
        heads=tuple(
            "#ff761e #2489fd #60e593 #fce722 #a91d1a #6ab5ff #c1867e #692dd0 "
            "#44ffff #883c67 #ffb920 #15659b #c5b1c4 #847ab7 #d3ffc1 #c25206".split()
        ),
    ),
}

_PLAIN = ("paper", "surface", "sunken", "ink", "muted", "faint", "line", "accent", "on_accent", "warn")
_SINK_WORDS = ("sink", "first", "delimiter", "cls", "sep", "bos", "punct")


def theme_of(name: str) -> Theme:
    """The theme called `name`: "light", "dark", or "page" for the colours of the page that a picture stands in.

    Anything else is light, since a page may not know yet. The colours of "page" are the custom properties of `css`.
    """
    if name == "page":
        return _of_page()
    return THEMES["dark" if name == "dark" else "light"]


def _of_page() -> Theme:
    """Custom properties in place of colours."""
    light = THEMES["light"]
    names = (*_PLAIN, "not_visible", "hatch", "unlabelled")
    plain: dict[str, Any] = {name: f"var(--al-{name.replace('_', '-')})" for name in names}
    return replace(
        light,
        **plain,
        sequential=tuple(f"var(--al-seq-{step})" for step in range(len(light.sequential))),
        categories={name: f"var(--al-cat-{name})" for name in light.categories},
        heads=tuple(f"var(--al-head-{place})" for place in range(len(light.heads))),
    )


def category_of(label: str, family: str) -> str:
    """The category, a key of `CATEGORIES`, that colours a label of a probe family.

    >>> [category_of(*pair) for pair in [("broad", "positional"), ("nsubj", "syntax"), ("x", "mine")]]
    ['broad', 'syntax', 'other']
    """
    name = label.lower()
    if family == "positional":
        if name.startswith("broad"):
            return "broad"
        return "sink" if any(word in name for word in _SINK_WORDS) else "position"
    if family in {"syntax", "agreement"}:
        return "syntax"
    if family in {"coreference", "induction"}:
        return family
    return "other"


def colorscale(theme: Theme) -> list[list[float | str]]:
    """The sequential scale as plotly's `[[0.0, colour], ..., [1.0, colour]]`."""
    last = len(theme.sequential) - 1
    return [[step / last, colour] for step, colour in enumerate(theme.sequential)]


def diverging(theme: Theme) -> list[list[float | str]]:
    """A scale for differences, -1 to 1: blue, the surface at 0, orange; told apart by colour-blind eyes too."""
    return [[0.0, theme.sequential[6]], [0.5, theme.surface], [1.0, theme.accent]]


def ink_on(colour: str) -> str:
    """Black or white, whichever contrasts more with `colour` (WCAG 2.2 relative luminance)."""
    return "#ffffff" if luminance(colour) < 0.1791 else "#000000"


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance of `#rrggbb`, 0 (black) to 1 (white)."""
    red, green, blue = (_linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def css() -> str:
    """Custom properties for both themes as CSS text: `var(--al-ink)`, `var(--al-cat-syntax)`, ...

    The system's preference decides; `data-theme="light"` or `"dark"` on the root element (also Mantine's
    `data-mantine-color-scheme`) overrides it.
    """
    light, dark = (_declarations(THEMES[name]) for name in ("light", "dark"))
    shared = [f"--al-font: {FONT_SANS};", f"--al-mono: {FONT_MONO};"]
    shared += [f"--al-text-{name}: {size}rem;" for name, size in TYPE.items()]
    shared += [f"--al-space-{name}: {size}rem;" for name, size in SPACE.items()]
    forced_dark = ':root[data-theme="dark"], :root[data-mantine-color-scheme="dark"]'
    not_forced = ':root:not([data-theme="light"]):not([data-mantine-color-scheme="light"])'
    return (
        f":root {{ color-scheme: light; {' '.join(shared)} {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {not_forced} {{ color-scheme: dark; {dark} }} }}\n"
        f"{forced_dark} {{ color-scheme: dark; {dark} }}\n"
    )


def _declarations(theme: Theme) -> str:
    names = [*_PLAIN, "not_visible", "hatch", "unlabelled"]
    parts = [f"--al-{name.replace('_', '-')}: {getattr(theme, name)};" for name in names]
    parts += [f"--al-cat-{name}: {colour};" for name, colour in theme.categories.items()]
    parts += [f"--al-on-cat-{name}: {ink_on(colour)};" for name, colour in theme.categories.items()]
    parts += [f"--al-seq-{step}: {colour};" for step, colour in enumerate(theme.sequential)]
    parts += [f"--al-head-{place}: {colour};" for place, colour in enumerate(theme.heads)]
    return " ".join(parts)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)

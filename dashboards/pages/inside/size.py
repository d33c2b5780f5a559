"""The page `/inside/size`: what the opened model is made of and what it costs, beside a published one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html
from transformers import PreTrainedModel

from attnlens.errors import AttnlensError, UnsupportedModelError
from attnlens.models.sizing import LENGTHS, ModelSize, model_size
from attnlens.report.inside import size_figure as figures
from attnlens.report.inside import size_view as views
from attnlens.sizes.presets import PRESETS, find_preset
from dashboards import ids
from dashboards.desk import Desk
from dashboards.pages.drawing import Run, need
from dashboards.pages.inside.sections import HOME, framed
from dashboards.pages.page import Control, Page
from dashboards.pages.parts import aria, card, data_table, folded, note, picture, refusal, with_loading
from dashboards.state import ViewState

__all__ = ["PAGE", "draw", "layout", "register"]


def layout(desk: Desk, view: ViewState) -> html.Div:
    """The choice on top, then the cards."""
    controls = html.Div(
        [_preset_select(view), _length_select(view), note(_HINT)], className="question", **aria(label="What to compare")
    )
    return framed(
        html.Section(controls, className="card question-card", **aria(label="Beside which model")),
        with_loading(html.Div(id=ids.SIZES, className="inside-cards")),
    )


_HINT = (
    "All of it follows from the configuration, for models that are too large to open here as well: "
    "attnlens size MODEL, or attnlens size --preset gpt3, prints the same."
)


def _preset_select(view: ViewState) -> dmc.Select:
    return dmc.Select(
        id=ids.PRESET,
        label="Beside",
        data=[{"value": each.name, "label": each.title} for each in PRESETS.values()],
        value=view.preset if view.preset in PRESETS else ViewState.preset,
        searchable=True,
        allowDeselect=False,
        size="xs",
        w=190,
        comboboxProps={"shadow": "md"},
        **aria(label="Published model to compare with"),
    )


def _length_select(view: ViewState) -> dmc.Select:
    return dmc.Select(
        id=ids.REACH,
        label="Training text",
        data=[{"value": str(n), "label": f"{n:,} tokens"} for n in LENGTHS],
        value=view.reach if view.reach in map(str, LENGTHS) else ViewState.reach,
        allowDeselect=False,
        size="xs",
        w=140,
        comboboxProps={"shadow": "md"},
        **aria(label="Length of the text that is trained on"),
    )


def register(app: Dash, desk: Desk) -> None:
    """Connect the page."""

    @app.callback(
        Output(ids.SIZES, "children"),
        Input(ids.RUN, "data"),
        Input(ids.PRESET, "value"),
        Input(ids.REACH, "value"),
        Input(ids.THEME, "data"),
    )
    def on_sizes(run: Run, preset: str, reach: str, theme: str) -> Any:
        need(run, preset, reach, theme)
        return draw(desk, run, preset, reach, theme)


def draw(desk: Desk, run: Run, preset: str, reach: str, theme: str) -> list[Any]:
    """The cards: parts, operations, memory, cache, bytes moved; where the model has no such size, the preset's."""
    models: list[views.Named] = []
    said: list[Any] = []
    try:
        models.append((_short(str(run["model"])), _opened(desk, run)))
    except AttnlensError as error:
        said.append(refusal(error))
    models.append((find_preset(preset).title, _preset(preset)))
    place = list(map(str, LENGTHS)).index(reach) if reach in map(str, LENGTHS) else 2
    parts, memory = views.parameters_view(models), views.memory_view(models, place)
    growing = [views.operations_view(models), views.cache_view(models), views.moved_view(models)]
    return [
        *said,
        _card(parts, figures.shares_of_wholes(parts, theme=theme)),
        _card(memory, figures.shares_of_wholes(memory, theme=theme)),
        *(_card(view, figures.growth_lines(view, theme=theme)) for view in growing if view is not None),
        card("Published configurations", note(_PRESETS), data_table(views.presets_table())),
    ]


_PRESETS = "Every size is computed from a published configuration; nothing of these models is downloaded."


def _card(view: Any, figure: Any) -> html.Section:
    table = folded("The numbers as a table", data_table(view.table()))
    return card(view.title, note(view.caption), picture(figure, view.title), table)


def _opened(desk: Desk, run: Run) -> ModelSize:
    """Of the model of the run; an uploaded run's model is opened only if it may be."""
    lens = desk.runs.lens(str(run["model"]))

    def make() -> ModelSize:
        if not isinstance(lens.model, PreTrainedModel):
            raise UnsupportedModelError(f"{lens.anatomy.model} has no config of transformers that tells its sizes")
        config = type(lens.model.config).from_dict(lens.model.config.to_dict())
        config.architectures = [type(lens.model).__name__]
        return model_size(config, dtype=next(lens.model.parameters()).dtype)

    return desk.memo.get(("size", *desk.stamp(run)), make)


@lru_cache(maxsize=32)
def _preset(name: str) -> ModelSize:
    return model_size(find_preset(name).config())


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1] or name


PAGE = Page(
    path=f"{HOME}/size",
    name="",
    under=HOME,
    layout=layout,
    register=register,
    controls=(Control("preset", ids.PRESET), Control("reach", ids.REACH)),
)

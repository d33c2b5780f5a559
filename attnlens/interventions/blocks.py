"""The block in which interventions hold, for every forward pass of the model in this context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from attnlens.capture.edits import AttentionEdit, HeadEdit, editing
from attnlens.capture.replacements import PlainRecorder
from attnlens.capture.sites import SiteCounter
from attnlens.capture.tap import recording, runs_eagerly
from attnlens.errors import CaptureError
from attnlens.models.opening import Opened
from attnlens.models.point_edits import PointEdit, editing_points, restarting

__all__ = ["Edit", "intervening"]


@dataclass(frozen=True, eq=False)
class Edit:
    """An intervention, ready to hold for one model.

    Attributes:
        label: what it does, for people and for the settings of a run.
        attention: changes of heads' outputs, edges and patterns.
        points: changes of the residual stream.
        by_position: it names positions, or draws for each; a cache, which brings one position at a time, is refused.
    """

    label: str
    attention: tuple[AttentionEdit, ...] = ()
    points: tuple[PointEdit, ...] = ()
    by_position: bool = False

    def __add__(self, other: Edit) -> Edit:
        """Both, this one first."""
        return Edit(
            f"{self.label}; {other.label}",
            self.attention + other.attention,
            self.points + other.points,
            self.by_position or other.by_position,
        )


@contextmanager
def intervening(opened: Opened, edit: Edit) -> Iterator[None]:
    """Let `edit` hold for every forward pass of the model while the block runs, in this context (thread, task) only.

    Blocks may be nested: the outer interventions hold in the inner block as well, and come first. Nothing is left
    behind, after an exception either.

    Raises:
        CaptureError: the model is in training mode, or a point that it does not give; and in the block, a forward
            pass with a key-value cache under an intervention that names positions.
    """
    model = opened.tap.model
    by_hooks = [change for change in edit.attention if isinstance(change, HeadEdit)]
    counter = SiteCounter(opened.tap.sites)
    with ExitStack() as stack:
        stack.enter_context(editing(model, edit.attention, edit.label))
        restart = stack.enter_context(
            editing_points(
                opened.stacks, opened.wirings, edit.points, by_hooks if opened.anatomy.route == "softmax" else ()
            )
        )

        def begin(has_past: bool) -> None:
            restart()
            counter.restart()
            if has_past and edit.by_position:
                raise CaptureError(
                    f"an intervention by position ({edit.label}) cannot hold while a cache brings the text one "
                    "position at a time; take use_cache=False."
                )

        stack.enter_context(restarting(model, opened.stacks, begin))
        stack.enter_context(recording(opened.tap, PlainRecorder(runs_eagerly(opened.tap)), counter))
        yield

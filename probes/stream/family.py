"""What a probe of the residual stream offers, beside the families that read attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from probes.corpora.data import Corpus
from probes.split import Split
from probes.stream.result import LayerResults
from probes.stream.settings import StreamSettings
from probes.stream.states import Progress

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["StreamProbe"]


@runtime_checkable
class StreamProbe(Protocol):
    """A family that says what each layer's residual stream holds; it labels no head.

    Registered in `attnlens.probes` like the others, as a class that takes `seed`.

    Attributes:
        name: as in `attnlens probe NAME`.
        reads: "stream" tells it from the families that read attention.
    """

    name: str
    reads: Literal["stream"]

    def refusal(self, corpus: Corpus) -> str | None:
        """Why this corpus cannot serve (what is missing), or None."""
        ...

    def run(
        self,
        lens: Lens,
        corpus: Corpus,
        *,
        split: Split,
        settings: StreamSettings,
        progress: Progress | None = None,
    ) -> LayerResults:
        """Everything found, by layer."""
        ...

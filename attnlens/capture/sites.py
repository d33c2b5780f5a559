"""Which attention of a model a call belongs to: the stack, the layer, and whether it reads the other stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from attnlens.errors import CaptureError

__all__ = ["CROSS", "DECODER", "ENCODER", "ONLY", "STACKS", "Site", "SiteCounter", "Sites"]

# The stacks by the letter in front of a head's address; a model of one stack has none.
ONLY, ENCODER, DECODER, CROSS = "", "E", "D", "X"
STACKS = (ONLY, ENCODER, DECODER, CROSS)


@dataclass(frozen=True, order=True)
class Site:
    """One layer's attention: prints `L3`, or `EL3`, `DL3`, `XL3` in an encoder-decoder (X is cross-attention)."""

    stack: str
    layer: int

    def __str__(self) -> str:
        return f"{self.stack}L{self.layer}"


@dataclass(frozen=True)
class Sites:
    """Attention module -> the sites that its calls of one forward pass serve, in order.

    Nearly always one site each; ALBERT runs one module once per layer.
    """

    of_module: Mapping[nn.Module, tuple[Site, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Site]:
        return iter(sorted({site for sites in self.of_module.values() for site in sites}))

    def __len__(self) -> int:
        return len({site for sites in self.of_module.values() for site in sites})

    def layers(self, stack: str) -> tuple[int, ...]:
        """Layers of `stack` that have attention, in order."""
        return tuple(site.layer for site in self if site.stack == stack)

    @property
    def stacks(self) -> tuple[str, ...]:
        """Letters of the stacks that have attention."""
        found = {site.stack for site in self}
        return tuple(stack for stack in STACKS if stack in found)


class SiteCounter:
    """Names the site of each call of a running block; a module that is called again starts over after its last site."""

    def __init__(self, sites: Sites) -> None:
        """`sites`: of the model that runs."""
        self._sites = sites
        self._calls: Counter[int] = Counter()

    def restart(self) -> None:
        """Begin a forward pass, the one before having failed perhaps."""
        self._calls.clear()

    def next(self, module: nn.Module) -> Site:
        """The site of the call that `module` makes now.

        Raises:
            CaptureError: the module made no call when the model was opened.
        """
        sites = self._sites.of_module.get(module)
        if sites is None:
            raise CaptureError(
                f"{type(module).__name__} attends, but did not when the model was opened; open the model again "
                "if it was changed since."
            )
        call = self._calls[id(module)]
        self._calls[id(module)] += 1
        return sites[call % len(sites)]

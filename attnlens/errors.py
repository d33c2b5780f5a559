"""What a user can get wrong, one class per kind of mistake.

Each message says in one line what is wrong, what was expected and what to do; the command line prints that line
and exits with the class's `exit_code`: 1 where something was refused or failed, 2 where the call itself was wrong.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ActivationNameError",
    "AttnlensError",
    "BundleError",
    "BusyError",
    "CaptureError",
    "CorpusError",
    "EngineError",
    "HeadAddressError",
    "MeasureError",
    "ModelNotFoundError",
    "OutputError",
    "PluginError",
    "ProbeDataError",
    "ResultsError",
    "SelfCheckError",
    "ServerError",
    "TextError",
    "UnsafeWeightsError",
    "UnsupportedModelError",
    "UsageError",
]


class AttnlensError(Exception):
    """Base of every error that attnlens raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(AttnlensError):
    """The call itself was wrong: an option, an argument or a combination of them."""

    exit_code = 2


class HeadAddressError(UsageError):
    """Not a head address, or a head that the model does not have."""


class MeasureError(AttnlensError):
    """A measure that does not exist for this model or run."""


class ModelNotFoundError(AttnlensError):
    """No model by this name: not embedded, not a folder with a config, not on the hub (or no network)."""


class UnsafeWeightsError(AttnlensError):
    """The checkpoint could run code when loaded (a pickle, or remote code) and nobody allowed it."""


class UnsupportedModelError(AttnlensError):
    """The model was found, but its attention cannot be captured exactly."""


class SelfCheckError(UnsupportedModelError):
    """The capture did not reproduce the model's own output, so nothing is shown."""


class TextError(AttnlensError):
    """A text that cannot be run: empty, or longer than the model's context."""


class CaptureError(AttnlensError):
    """A run does not hold what was asked of it: a point, a layer, a kind of attention."""


class ActivationNameError(CaptureError, KeyError):
    """A name that a cache of activations does not have; a KeyError too, as mappings raise it."""

    def __str__(self) -> str:
        return str(self.args[0])


class BundleError(AttnlensError):
    """A file that is not a readable `.attn` run."""


class BusyError(AttnlensError):
    """The server has more runs to make than it takes at a time; nothing is lost, ask again."""


class CorpusError(AttnlensError):
    """A corpus file that cannot be read, or lacks what the probe needs."""


class EngineError(AttnlensError):
    """Workers that cannot be had, or that die again and again."""


class ProbeDataError(AttnlensError):
    """Too little data, or data of the wrong kind, for a probe."""


class ResultsError(AttnlensError):
    """A folder or file that does not hold probe results."""


class OutputError(AttnlensError):
    """A result that cannot be written where it was asked for."""


class ServerError(AttnlensError):
    """The dashboard cannot be served: the port is taken, or the address may not be bound."""


class PluginError(AttnlensError):
    """An entry point names something that cannot be loaded, or is not installed."""

"""Which families run: those that are installed, loaded by name, and suited to the corpus and to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.errors import AttnlensError, CorpusError, PluginError, ProbeDataError, UsageError
from attnlens.plugins import installed, load_plugin
from probes.corpora.data import Corpus
from probes.corpora.sources import EMBEDDED
from probes.family import Probe
from probes.inspecting import unsuited
from probes.preparing import omissions, prepared
from probes.run_settings import FamilyOptions
from probes.stream.family import StreamProbe

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["ALL", "GROUP", "choose_families", "load_family", "separate", "suited"]

ALL = "all"
GROUP = "attnlens.probes"


def suited(chosen: Sequence[Probe | StreamProbe], lens: Lens) -> tuple[list[Probe | StreamProbe], dict[str, str]]:
    """The families that this model can be asked, and the others with the reason.

    Raises:
        ProbeDataError: none is left.
    """
    reasons = unsuited(chosen, lens.anatomy)
    left = [probe for probe in chosen if probe.name not in reasons]
    if reasons and not left:
        raise ProbeDataError(f"{next(iter(reasons.values()))}; run another family, or 'all'.")
    return left, reasons


def separate(families: Sequence[Probe | StreamProbe]) -> tuple[list[Probe], list[StreamProbe]]:
    """Families that read attention, and those that read the residual stream."""
    stream = [family for family in families if isinstance(family, StreamProbe)]
    return [family for family in families if not isinstance(family, StreamProbe)], stream


def choose_families(
    families: str | Sequence[str],
    corpus: Corpus,
    seed: int = 0,
    *,
    with_stream: bool = False,
    options: FamilyOptions | None = None,
) -> tuple[list[Probe | StreamProbe], dict[str, str]]:
    """The probes to run, and those that "all" leaves out with the reason; also parts of families that it leaves out.

    "all" has the probes of the residual stream only `with_stream`.

    Raises:
        PluginError: an unknown family, or one that cannot be loaded.
        CorpusError: a family was named whose annotation the corpus lacks, or nothing is left of "all".
    """
    asked = [families] if isinstance(families, str) else list(families)
    everything = ALL in asked
    names = list(installed(GROUP)) if everything else list(dict.fromkeys(asked))
    if not names:
        raise UsageError("no probe family was named; name one, or 'all'.")
    _check_options(options or {}, names)
    loaded = [load_family(name, seed, (options or {}).get(name, {})) for name in names]
    if everything and not with_stream:
        loaded = [probe for probe in loaded if not isinstance(probe, StreamProbe) or probe.name in asked]
    loaded = [prepared(probe, corpus) for probe in loaded]
    refusals = {probe.name: reason for probe in loaded if (reason := probe.refusal(corpus))}
    usable = [probe for probe in loaded if probe.name not in refusals]
    if refusals and (not everything or not usable):
        raise CorpusError(f"{next(iter(refusals.values()))}; {_way_out(corpus, refusals)}.")
    return usable, refusals | omissions(usable, corpus)


def _check_options(options: FamilyOptions, names: Sequence[str]) -> None:
    if unused := sorted(options.keys() - set(names)):
        raise UsageError(f"options of {unused[0]!r}, which is not run; name it, or leave them out.")


def load_family(name: str, seed: int = 0, options: Mapping[str, Any] | None = None) -> Probe | StreamProbe:
    """The probe registered as `name`.

    Raises:
        PluginError: nothing by that name, or it cannot be loaded, or does not keep the contract of a probe.
    """
    made = load_plugin(GROUP, name)
    try:
        probe = made(seed=seed, **(options or {}))
    except AttnlensError:
        raise
    except Exception as error:
        raise PluginError(
            f"the probe {name!r} cannot be made with seed={seed}: {type(error).__name__}: {error}."
        ) from error
    if not isinstance(probe, Probe | StreamProbe):
        missing = [part for part in (*Probe.__annotations__, "ask", "pointer") if not hasattr(probe, part)]
        raise PluginError(f"{name!r} is no probe: it lacks {', '.join(missing) or 'methods'}; see probes.family.Probe.")
    return probe


def _way_out(corpus: Corpus, refusals: dict[str, str]) -> str:
    """What can be run on this corpus instead."""
    others = []
    for name in installed(GROUP):
        if name not in refusals and not prepared(load_family(name), corpus).refusal(corpus):
            others.append(f"`{name}`")
    return f"run {' or '.join(others)}, or use the corpus {EMBEDDED}" if others else f"use the corpus {EMBEDDED}"

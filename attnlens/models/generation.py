"""How a text is to be generated: what users may ask for, and what transformers is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnlens.errors import UsageError

__all__ = ["Generation"]

# Options of `generate` that would run the model otherwise than once per token, or are set by arguments of ours.
_REFUSED = {
    "assistant_model": "an assistant's proposals run through the model and are dropped",
    "prompt_lookup_num_tokens": "proposals run through the model and are dropped",
    "assistant_early_exit": "proposals run through the model and are dropped",
    "custom_generate": "what it runs is not known",
    "guidance_scale": "the model runs twice per token",
    "num_return_sequences": "a run holds one text; call generate again with another seed",
    "max_length": "write max_new_tokens",
    "cache_implementation": "write cache=...",
    "past_key_values": "the tokens in it were not recorded",
    "inputs_embeds": "a run is made of tokens",
    "return_dict_in_generate": "the run is what comes out",
}


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How a text is to be made; what is None is the model's own default.

    Attributes:
        max_new_tokens: the most to write; an end-of-text token ends it earlier.
        do_sample: draw the next token; else take the likeliest.
        temperature, top_k, top_p: of the drawing.
        num_beams: texts that are followed at a time; the best one is returned.
        seed: of the drawing; None draws from torch's own state.
        cache: transformers' name ("dynamic", "static", "offloaded", ...).
        use_cache: whether keys and values are cached at all.
        options: further arguments of transformers' `generate`.
    """

    max_new_tokens: int
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int = 1
    seed: int | None = None
    cache: str | None = None
    use_cache: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, or could not be stitched."""
        for name, value in (("max_new_tokens", self.max_new_tokens), ("num_beams", self.num_beams)):
            if value < 1:
                raise UsageError(f"{name} is {value}; expected at least 1.")
        for name, reason in _REFUSED.items():
            if self.options.get(name) is not None:
                raise UsageError(f"lens.generate does not take {name}: {reason}.")
        drawn = [name for name in ("temperature", "top_k", "top_p") if getattr(self, name) is not None]
        if drawn and not self.do_sample:
            raise UsageError(f"{drawn[0]} has no effect where nothing is drawn; add do_sample=True.")
        if self.cache is not None and not self.use_cache:
            raise UsageError(f"cache={self.cache!r} contradicts use_cache=False; give one of them.")
        if self.cache in ("quantized", "paged"):
            raise UsageError(
                f"a {self.cache} cache gives other keys back than it was given, or none at all, so its steps are no "
                "one map; take cache='dynamic', 'static' or 'offloaded'."
            )

    def arguments(self) -> dict[str, Any]:
        """For transformers' `generate`."""
        drawing = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
        return {
            **self.options,
            **{name: value for name, value in drawing.items() if value is not None},
            "max_new_tokens": self.max_new_tokens,
            "do_sample": self.do_sample,
            "num_beams": self.num_beams,
            "num_return_sequences": 1,
            "use_cache": self.use_cache,
            "return_dict_in_generate": True,
            "disable_compile": True,  # a compiled step could not be listened to
            **({} if self.cache is None else {"cache_implementation": self.cache}),
        }

    def to_json(self) -> dict[str, Any]:
        """How the text was made, for `run.settings`."""
        own = (
            "max_new_tokens",
            "do_sample",
            "temperature",
            "top_k",
            "top_p",
            "num_beams",
            "seed",
            "cache",
            "use_cache",
        )
        plain = (bool, int, float, str, type(None))
        options = {name: v if isinstance(v, plain) else type(v).__name__ for name, v in sorted(self.options.items())}
        return {name: getattr(self, name) for name in own} | {"options": options}

"""What a model is made of, and the figures that prove that its capture is exact; plain data, no tensor in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from attnlens.errors import HeadAddressError
from attnlens.heads import Head

__all__ = ["Anatomy", "Check", "SelfCheck", "Stack"]


@dataclass(frozen=True)
class Check:
    """One figure of the self-check.

    Attributes:
        name: a short key, stable across versions.
        value: what was measured.
        limit: what it was held against; `meaning` says whether from above or below.
        passed: the verdict.
        meaning: the question that the figure answers, for a reader.
    """

    name: str
    value: float
    limit: float
    passed: bool
    meaning: str


@dataclass(frozen=True)
class SelfCheck:
    """The checks that were run when the model was opened."""

    checks: tuple[Check, ...] = ()

    @property
    def passed(self) -> bool:
        """True where something was checked and nothing failed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SelfCheck:
        """The inverse of `to_json`."""
        return cls(tuple(Check(**check) for check in document["checks"]))


@dataclass(frozen=True)
class Stack:
    """One stack's attention: of an encoder, of a decoder, or from the decoder to the encoder.

    Attributes:
        letter: in front of a head's address: empty for a model of one stack, else `E`, `D` or `X` (cross-attention).
        causal: no query sees a later key (measured).
        n_layers, n_heads, n_kv_heads, d_head: sizes, as in `Anatomy`.
        attention_layers: layers that have attention; fewer than all in hybrid models.
        layout: how a block adds to the stream: "pre-LN", "post-LN", "parallel", "post-norm" or "unknown".
        position: the position scheme.
        max_length: longest text in tokens that it takes; None where nothing limits it.
        residual_points: what `run.residual(..., stack=letter)` can give.
        absent: what cannot be given, and why.
    """

    letter: str
    causal: bool
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    attention_layers: tuple[int, ...]
    layout: str
    position: str
    max_length: int | None
    residual_points: tuple[str, ...]
    absent: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        return document | {
            "attention_layers": list(self.attention_layers),
            "residual_points": list(self.residual_points),
            "absent": dict(self.absent),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Stack:
        """The inverse of `to_json`; unknown keys of a later version are left out.

        Raises:
            ValueError: a letter that no head address has.
        """
        known = {field.name: document[field.name] for field in fields(cls)}
        if document["letter"] not in ("", "E", "D", "X"):
            raise ValueError("the letter of a stack")
        tuples = {name: tuple(document[name]) for name in ("attention_layers", "residual_points")}
        return cls(**known | tuples | {"absent": dict(document["absent"])})

    def heads(self) -> tuple[Head, ...]:
        """Every head's address, layer by layer."""
        return tuple(Head(layer, head, self.letter) for layer in self.attention_layers for head in range(self.n_heads))


@dataclass(frozen=True)
class Anatomy:
    """Sizes and wiring of one model; those of the decoder, where there are an encoder and a decoder.

    Attributes:
        model: the name under which it was loaded.
        family: transformers' `model_type` ("bert", "gpt2", "llama").
        architecture: the class that holds it.
        causal: True where no query sees a later key (measured, not read from the config).
        n_layers, n_heads, n_kv_heads: layers, query heads and different key-value heads per layer.
        d_model, d_head: width of the residual stream and of one head.
        vocab_size: rows of the token embedding.
        max_length: longest text in tokens that the position scheme takes; None where nothing limits it.
        position: the position scheme: "sinusoidal", "learned", "rope", "alibi", "relative bias", "none" or "unknown".
        n_parameters: number of weights, shared ones counted once.
        dtype: of the weights.
        weights_sha256: hash of the weight files; None for hub models (`revision` names them), above 2 GiB, and for a
            model handed over as an object.
        revision: the hub commit, where there is one.
        backend: the attention implementation that the model came with.
        residual_points: what `run.residual` can give, proven by numbers.
        absent: what cannot be given, and why.
        self_check: the figures of the check at load.
        route: how the attention is reached: "interface" (of transformers), "softmax" (of the family's own),
            "sdpa" or "multi-head" (PyTorch's functions).
        stacks: every kind of attention of the model, in the order in which it runs.
    """

    model: str
    family: str
    architecture: str
    causal: bool
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    vocab_size: int
    max_length: int | None
    position: str
    n_parameters: int
    dtype: str
    weights_sha256: str | None
    revision: str | None
    backend: str
    residual_points: tuple[str, ...]
    absent: Mapping[str, str]
    self_check: SelfCheck
    route: str = "interface"
    stacks: tuple[Stack, ...] = ()

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model reads a source with one stack and writes a target with another."""
        return len(self.stacks) > 1

    @property
    def main_stack(self) -> str:
        """The letter of the stack that the sizes here describe: `D` in an encoder-decoder, else empty."""
        return "D" if self.is_encoder_decoder else ""

    def stack(self, letter: str) -> Stack:
        """The stack with this letter.

        Raises:
            HeadAddressError: the model has none.
        """
        for stack in self.stacks:
            if stack.letter == letter:
                return stack
        listed = ", ".join(f"{stack.letter}L0H0" for stack in self.stacks)
        raise HeadAddressError(f"{self.model} has no stack {letter or 'without a letter'!r}; its heads are {listed}.")

    def heads(self) -> tuple[Head, ...]:
        """Every head's address in the main stack, layer by layer."""
        return tuple(
            Head(layer, head, self.main_stack) for layer in range(self.n_layers) for head in range(self.n_heads)
        )

    def to_json(self) -> dict[str, Any]:
        """A mapping that `json.dumps` takes."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        return document | {
            "residual_points": list(self.residual_points),
            "absent": dict(self.absent),
            "self_check": self.self_check.to_json(),
            "stacks": [stack.to_json() for stack in self.stacks],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Anatomy:
        """The inverse of `to_json`; unknown keys of a later version are left out."""
        known = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        return cls(
            **known
            | {
                "residual_points": tuple(document["residual_points"]),
                "absent": dict(document["absent"]),
                "self_check": SelfCheck.from_json(document["self_check"]),
                "stacks": tuple(Stack.from_json(stack) for stack in document.get("stacks", ())),
            }
        )

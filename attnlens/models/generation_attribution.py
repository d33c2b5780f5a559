"""What each token of a prompt adds to the log probability of each token written after it (captum's LLM attribution)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from attnlens.capture.run import Capture
from attnlens.capture.tokens import Token
from attnlens.errors import CaptureError, UsageError
from attnlens.measures.attribution import METHODS, GenerationAttribution, attribute_to_vectors, check_steps
from attnlens.models.attributing import ZERO, baseline_token
from attnlens.models.generating import check_generation
from attnlens.models.made_up import without_cache
from attnlens.models.opening import Opened
from attnlens.models.targets import shown_token

__all__ = ["explain_generation"]

_ORDERS = 25


def explain_generation(
    opened: Opened,
    tokenizer: PreTrainedTokenizerBase,
    run: Capture,
    method: str = METHODS[1],
    baseline: object = None,
    steps: int | None = None,
    seed: int = 0,
) -> GenerationAttribution:
    """Attribute the written tokens of a generation to the tokens of its prompt.

    Sources: Miglani et al. 2023, "Using Captum to Explain Generative Language Models" (arXiv:2312.05491); the methods
    are those of `attnlens.measures.attribution.attribute_to_gates`, with a token of the prompt in place of a gate.

    Args:
        opened: a decoder with a language-model head.
        tokenizer: of the model.
        run: of prompt and written text; `n_prompt` says where this begins.
        method: one of `METHODS`.
        baseline: the token that stands in place of each one of the prompt; see `baseline_token`, without "zero".
        steps: points of each integral, None takes as many as it needs, up to 1,024; or random orders, 25 for None.
        seed: of the random orders.

    Raises:
        CaptureError: the model writes nothing, or is an encoder-decoder, which captum's LLM attribution does not take.
        UsageError: nothing was written, an unknown method or baseline, or a prompt without a token to take away.
    """
    from captum.attr import FeatureAblation, ShapleyValueSampling  # slow to import, and few runs need it

    check_generation(opened)
    if opened.anatomy.is_encoder_decoder:
        raise CaptureError(
            f"{opened.anatomy.model} is an encoder-decoder, for which captum has no attribution of a whole generation; "
            "take attribute_tokens(stack='E') for each written token."
        )
    if method not in METHODS:
        raise UsageError(f"method {method!r} does not exist; expected one of {', '.join(METHODS)}.")
    check_steps(steps)
    empty = baseline_token(tokenizer, baseline)
    if empty is None:
        raise UsageError(f"a prompt is compared with tokens, not with {ZERO!r}; name a token as baseline.")
    prompt, written = _parts(run)
    moving = [place for place, token in enumerate(prompt) if not token.special]
    scored = _Scored(opened.tap.model)
    target = torch.tensor([token.id for token in written], device=scored.device)

    values, used = torch.zeros(len(written), len(prompt)), 0
    if method == "gradients":
        found, used = _by_gradients(scored, prompt, moving, empty, target, steps)
        values[:] = found.float().cpu()
    else:
        used = (steps or _ORDERS) if method == "shapley" else 0
        kind = FeatureAblation if method == "ablation" else ShapleyValueSampling
        settings = {"n_samples": used} if used else {}
        tokens = _Ids(prompt, written)
        given = _input(tokens, prompt, moving, empty)
        values[:, moving] = _by_taking_away(kind(scored), tokens, given, target, settings, seed).float().cpu()
    changed = [empty if place in moving else token.id for place, token in enumerate(prompt)]
    total = scored.log_probabilities([token.id for token in prompt], target) - scored.log_probabilities(changed, target)
    return GenerationAttribution(
        values=values,
        total=total,
        gap=values.sum(-1) - total,
        score="log probability of each written token",
        prompt=tuple(token.label for token in prompt),
        written=tuple(token.label for token in written),
        baseline=f"{shown_token(tokenizer, empty)} in place of each token "
        f"({len(prompt) - len(moving)} special ones kept)",
        method=method,
        steps=used,
    )


def _parts(run: Capture) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
    """Tokens of the prompt, and those written after it.

    Raises:
        UsageError: nothing was written, or there is nothing that could be taken away.
    """
    n_prompt = run.n_prompt
    if n_prompt is None or n_prompt >= len(run.tokens):
        raise UsageError("nothing was written in this run; take a run of lens.generate, or give the written text.")
    prompt = run.tokens[:n_prompt]
    if all(token.special for token in prompt):
        raise UsageError("the prompt has no token of its own to attribute to; give it some text.")
    return prompt, run.tokens[n_prompt:]


class _Scored(nn.Module):
    """The model as captum calls it: by ids, without a key-value cache."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that the model does not become a part of this module
        table = model.get_input_embeddings().weight
        self.device: torch.device = table.device

    def forward(
        self,
        input_ids: Int[Tensor, "row token"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "row token d_model"] | None = None,
        **_: Any,
    ) -> Any:
        """The model's output for ids or vectors; every token is a real one."""
        model = self._model[0]
        given = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        shape = next(iter(given.values())).shape[:2]  # type: ignore[union-attr]
        mask = torch.ones(shape, dtype=torch.long, device=self.device)
        return model(**given, attention_mask=mask, **without_cache(model))

    def vectors(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What the model makes of ids first."""
        with torch.no_grad():
            found: Tensor = self._model[0].get_input_embeddings()(ids[None])[0]
        return found

    def log_probabilities(self, prompt: Sequence[int], target: Int[Tensor, " written"]) -> Float[Tensor, " written"]:
        """Of each written token after `prompt` and those before it; on the CPU."""
        ids = torch.cat([torch.tensor(list(prompt), device=self.device), target])
        with torch.no_grad():
            logits: Tensor = self(ids[None]).logits[0, len(prompt) - 1 : -1]
        return logits.float().log_softmax(-1).gather(-1, target[:, None])[:, 0].cpu()


class _Ids:
    """As much of a tokenizer as captum asks for, for ids that exist already.

    Captum spells the written ids out and reads them in again to label them, which fails where a character is several
    tokens; our labels are made already, so that one letter per token is enough.
    """

    def __init__(self, prompt: Sequence[Token], written: Sequence[Token]) -> None:
        self._prompt, self._written = ([token.id for token in part] for part in (prompt, written))

    def encode(self, _text: str, return_tensors: str | None = None) -> Int[Tensor, "row token"]:
        return torch.tensor([self._prompt])

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [str(token) for token in ids]

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        return "x" * len(ids)

    def __call__(self, _text: str, **_options: Any) -> dict[str, list[Any]]:
        places = [(place, place + 1) for place in range(len(self._written))]
        return {"input_ids": self._written, "offset_mapping": places}


def _input(tokens: _Ids, prompt: Sequence[Token], moving: Sequence[int], empty: int) -> Any:
    """The prompt for captum; tokens that stay are named by place, since captum's own way, by id, takes others along."""
    from captum.attr import TextTokenInput

    given = TextTokenInput("", tokens, baselines=empty)
    if len(moving) < len(prompt):
        mask = torch.zeros_like(given.inp_tensor, dtype=torch.bool)
        mask[0, list(moving)] = True
        given.itp_mask, given.itp_tensor = mask, given.inp_tensor[mask][None]
        given.values = [given.values[place] for place in moving]
        given.n_itp_features = len(moving)
    return given


def _by_gradients(
    scored: _Scored,
    prompt: Sequence[Token],
    moving: Sequence[int],
    empty: int,
    target: Int[Tensor, " written"],
    steps: int | None,
) -> tuple[Float[Tensor, "written prompt"], int]:
    """Integrated gradients of each written token, and the most steps that one took.

    Captum's own class for this takes the same number of steps everywhere; `attribute_to_vectors` takes more where
    the sum says so.
    """
    ids = torch.tensor([token.id for token in prompt], device=scored.device)
    changed = ids.clone()
    changed[list(moving)] = empty
    vectors, begin, written = (scored.vectors(part) for part in (ids, changed, target))
    rows, used = [], 0
    for step, token in enumerate(target.tolist()):

        def score(given: Tensor, step: int = step, token: int = token) -> Tensor:
            before = written[:step].expand(len(given), -1, -1)
            logits: Tensor = scored(inputs_embeds=torch.cat([given, before], 1)).logits[:, -1]
            return logits.float().log_softmax(-1)[:, token]

        values, _, n_steps = attribute_to_vectors(score, vectors, begin, steps)
        rows.append(values)
        used = max(used, n_steps)
    return torch.stack(rows), used


def _by_taking_away(
    method: Any, tokens: _Ids, given: Any, target: Int[Tensor, " written"], settings: dict[str, Any], seed: int
) -> Float[Tensor, "written moving"]:
    from captum.attr import LLMAttribution

    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        found: Tensor = (
            LLMAttribution(method, tokens)
            .attribute(given, target=target, use_cached_outputs=False, forward_in_tokens=False, **settings)
            .token_attr
        )
    return found

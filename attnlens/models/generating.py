"""Text that a model writes, with one map over all of it: transformers' `generate`, listened to step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList

from attnlens.capture.patterns import Pattern
from attnlens.capture.recorders import Extents
from attnlens.capture.run import Capture, Patterns
from attnlens.capture.sites import CROSS, Site
from attnlens.capture.stitching import StepRecorder
from attnlens.capture.tap import needs_eager, recording
from attnlens.capture.tokens import EncodedText, printable
from attnlens.errors import CaptureError, TextError, UsageError
from attnlens.models.decoding import continued
from attnlens.models.generation import Generation
from attnlens.models.inputs import Batch
from attnlens.models.opening import Opened
from attnlens.models.running import Plan, run_batch
from attnlens.models.selfcheck import tolerance_of

__all__ = ["check_generation", "generate_run", "prompt_arguments", "whole_batch", "written_text"]

Progress = Callable[[int, int], None]


def check_generation(opened: Opened) -> None:
    """Refuse models that write no text.

    Raises:
        CaptureError: no language-model head, or tokens that see later ones.
    """
    model, anatomy = opened.tap.model, opened.anatomy
    if not isinstance(model, PreTrainedModel):
        raise CaptureError(f"{type(model).__name__} is no model of transformers, so it has no generate().")
    if not model.can_generate():
        raise CaptureError(
            f"{type(model).__name__} writes no text: it has no head that predicts the next token. Open a decoder or "
            "an encoder-decoder with its language-model head (a class ...ForCausalLM, ...LMHeadModel or "
            "...ForConditionalGeneration)."
        )
    if not anatomy.stack(anatomy.main_stack).causal:
        raise CaptureError(
            f"in {type(model).__name__} tokens see later ones, so that what a token attends to changes with each new "
            "one and a generation has no one map; set is_decoder=True in its config if it is to write."
        )


def generate_run(
    opened: Opened,
    tokenizer: PreTrainedTokenizerBase | None,
    prompt: Batch,
    generation: Generation,
    plan: Plan,
    versions: Mapping[str, str],
    progress: Progress | None = None,
) -> Capture:
    """Let the model write, and return the run of prompt and written text as one.

    The last token is never a query while a text is made. The whole text therefore runs once more, without a cache:
    its last row, the encoder's patterns, the points of the stream and the logits come from that run; every other row
    is what the model computed as it wrote. The two are held against each other; `settings["generation"]["gap"]` says
    how far apart their weights are.

    Args:
        opened: the model, which passed `check_generation`.
        tokenizer: labels and decodes what was written; None labels by number.
        prompt: one row without padding. In an encoder-decoder: what it reads, and how its text begins, if given.
        generation: how.
        plan: what the run keeps.
        versions: of the libraries.
        progress: called with (tokens written, tokens at most) after each.

    Raises:
        UsageError: more rows than one, or padding.
        TextError: the text could become longer than the model's context.
        CaptureError: the steps do not add up to one text, or are not what one run over it computes.
    """
    model: Any = opened.tap.model
    arguments = prompt_arguments(model, prompt)
    _check_length(opened, arguments, generation)
    recorder = StepRecorder(eager=needs_eager(model), cached=generation.use_cache, wanted=plan.wanted)
    with _seeded(generation, model), recording(opened.tap, recorder):
        output = _generate(model, arguments, generation, recorder, progress)
    ids, path = _chosen(output, recorder.n_prompt)
    text = written_text(tokenizer, prompt.texts[0], ids)
    whole = next(run_batch(opened, whole_batch(prompt, arguments, ids, text, opened), plan, versions))
    return _stitched(whole, recorder, path, generation, opened)


def prompt_arguments(model: PreTrainedModel, prompt: Batch) -> dict[str, Any]:
    """What `generate` is called with; a lone tensor gets the name of the model's main input.

    Raises:
        UsageError: more than one row, or padding.
    """
    arguments = {name or str(model.main_input_name): value for name, value in prompt.arguments.items()}
    if len(prompt.texts) != 1:
        raise UsageError(f"inputs has {len(prompt.texts)} rows; lens.generate takes one prompt at a time.")
    for name in ("attention_mask", "decoder_attention_mask"):
        mask = arguments.get(name)
        if isinstance(mask, Tensor) and (mask.ndim != 2 or not bool((mask != 0).all())):
            raise UsageError(f"{name} hides a part of the prompt; lens.generate takes one prompt without padding.")
    return arguments


def _check_length(opened: Opened, arguments: Mapping[str, Any], generation: Generation) -> None:
    anatomy = opened.anatomy
    given = arguments.get("decoder_input_ids" if anatomy.is_encoder_decoder else "input_ids")
    n_prompt = given.shape[1] if isinstance(given, Tensor) else 1
    limit = anatomy.max_length
    if limit is not None and n_prompt + generation.max_new_tokens > limit:
        raise TextError(
            f"the prompt's {n_prompt} tokens and max_new_tokens={generation.max_new_tokens} make "
            f"{n_prompt + generation.max_new_tokens}, {anatomy.model} takes at most {limit}; shorten the prompt or "
            f"write at most {max(0, limit - n_prompt)} tokens."
        )


@contextmanager
def _seeded(generation: Generation, model: PreTrainedModel) -> Iterator[None]:
    """Draw from a seed of the run's own and leave torch's random state as it was; without a seed, draw from that."""
    if generation.seed is None:
        yield
        return
    kind = model.device.type
    devices = list(range(torch.cuda.device_count())) if kind == "cuda" else []
    with torch.random.fork_rng(devices=devices, device_type="cuda" if kind in ("cpu", "cuda") else kind):
        torch.manual_seed(generation.seed)
        yield


def _generate(
    model: Any,
    arguments: Mapping[str, Any],
    generation: Generation,
    recorder: StepRecorder,
    progress: Progress | None,
) -> Any:
    """Run transformers' `generate`; the common one, since Whisper's own cuts sound into pieces, each a run of its own.

    Raises:
        UsageError: it refuses an option.
    """
    options = _with_progress(generation.arguments(), recorder, generation.max_new_tokens, progress)
    try:
        return GenerationMixin.generate(model, **arguments, **options)
    except ValueError as error:
        if recorder.n_prompt:  # it had begun, so this is no matter of options
            raise
        reason = printable(" ".join(str(error).split()))[:300]
        raise UsageError(f"transformers' generate refuses this: {reason}") from error


class _Watcher(StoppingCriteria):
    """Never stops anything; tells how far a generation is."""

    def __init__(self, recorder: StepRecorder, total: int, progress: Progress) -> None:
        self._recorder, self._total, self._progress = recorder, total, progress

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        self._progress(input_ids.shape[1] - self._recorder.n_prompt, self._total)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _with_progress(
    arguments: dict[str, Any], recorder: StepRecorder, total: int, progress: Progress | None
) -> dict[str, Any]:
    if progress is None:
        return arguments
    criteria = StoppingCriteriaList([*(arguments.get("stopping_criteria") or ()), _Watcher(recorder, total, progress)])
    return arguments | {"stopping_criteria": criteria}


def _chosen(output: Any, n_prompt: int) -> tuple[list[int], list[int]]:
    """The ids of the text that was chosen, and for each token but the last the row that it ran in."""
    ids = output.sequences[0].tolist()
    beams = getattr(output, "beam_indices", None)
    if beams is None:
        return ids, [0] * (len(ids) - 1)
    chosen_from = [row for row in beams[0].tolist() if row >= 0]  # at each step, the row whose scores were followed
    ids = ids[: n_prompt + len(chosen_from)]
    return ids, [chosen_from[0]] * n_prompt + chosen_from[1:]


def written_text(tokenizer: PreTrainedTokenizerBase | None, prompt: EncodedText | None, ids: list[int]) -> EncodedText:
    """Prompt and written text as one; a prompt that was given as ids is spelled out like what follows it."""
    known = prompt is not None and prompt.text and list(prompt.ids) == ids[: len(prompt.ids)]
    before = prompt if known and prompt is not None else EncodedText("", (), (), (), False)
    return continued(tokenizer, before, ids[len(before.ids) :])


def whole_batch(prompt: Batch, arguments: dict[str, Any], ids: list[int], text: EncodedText, opened: Opened) -> Batch:
    """One row with the whole text, for one forward pass."""
    two_stacks = opened.anatomy.is_encoder_decoder
    kept = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    given: Tensor = arguments["decoder_input_ids" if "decoder_input_ids" in arguments else next(iter(kept))]
    row = torch.tensor([ids], device=given.device)
    own = (slice(0, len(ids)),)
    if two_stacks:
        kept = {name: value for name, value in kept.items() if not name.startswith("decoder_")}
        return Batch(kept | {"decoder_input_ids": row}, Extents(own, prompt.extents.source), (text,), prompt.sources)
    more = len(ids) - arguments["input_ids"].shape[1]
    if "token_type_ids" in kept:
        last = kept["token_type_ids"][:, -1:]
        kept["token_type_ids"] = torch.cat([kept["token_type_ids"], last.expand(-1, more)], 1)
    if "position_ids" in kept:
        last = kept["position_ids"][:, -1:]
        kept["position_ids"] = torch.cat([kept["position_ids"], last + torch.arange(1, more + 1, device=row.device)], 1)
    return Batch(kept | {"input_ids": row, "attention_mask": torch.ones_like(row)}, Extents(own), (text,))


def _stitched(
    whole: Capture, recorder: StepRecorder, path: list[int], generation: Generation, opened: Opened
) -> Capture:
    """The run of the whole text, with the rows that were recorded while it was made."""
    main = opened.anatomy.main_stack
    stacks: dict[str, Patterns] = {main: whole.patterns, CROSS: whole.cross}
    last: dict[Site, Pattern] = {
        Site(letter, layer): pattern
        for letter, patterns in stacks.items()
        for layer, pattern in enumerate(patterns)
        if pattern is not None
    }
    found = recorder.stitched(path, last)
    gap = _gap(found, last, (recorder.n_prompt - 1, len(path) - 1))
    if not gap <= (limit := max(1e-3, 5 * tolerance_of(opened.tap.model))):
        raise CaptureError(
            f"while {opened.anatomy.model} writes, its weights differ by {gap:.2g} from those of one run over the same "
            f"text (limit {limit:.2g}): with this cache it computes something else; take another, or use_cache=False."
        )
    patterns, cross = (
        tuple(found.get(Site(letter, layer)) for layer in range(len(stacks[letter]))) for letter in (main, CROSS)
    )
    settings = {**whole.settings, "generation": generation.to_json() | {"gap": gap}}
    return replace(whole, patterns=patterns, cross=cross, n_prompt=recorder.n_prompt, settings=settings)


def _gap(found: Mapping[Site, Pattern], last: Mapping[Site, Pattern], rows: tuple[int, ...]) -> float:
    """Largest difference between the steps' weights and those of one run, in the rows given."""
    gap = 0.0
    for site, pattern in found.items():
        for row in rows:
            steps, once = (each.weights(queries=slice(row, row + 1)).nan_to_num() for each in (pattern, last[site]))
            gap = max(gap, float((steps - once).abs().max()))
    return gap

"""One embedded model's training run: tokenizer, batches, optimiser, weights on disk."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlens.files import whole_file, write_text
from attnlens.zoo.architectures import new_model
from attnlens.zoo.batches import IGNORED, Batch, masked, repeated_blocks, text_batches
from attnlens.zoo.recipes import Recipe
from attnlens.zoo.text import agreeing_forms, training_texts
from attnlens.zoo.vocabularies import build_tokenizer, save_tokenizer

__all__ = ["TrainingRun", "train_model"]

# Share of tokens that BERT has to guess: more of the words that agree with others, which carry the grammar.
_MASKED_SHARE = 0.25
_MASKED_SHARE_AGREEING = 0.45
_TOKENIZER_TEXTS = 6_000


@dataclass(frozen=True)
class TrainingRun:
    """What a training run cost and reached; losses are nats per predicted token, means over the last 200 steps.

    A loss is None where there was no such step.
    """

    n_texts: int
    n_tokens: int
    loss: float | None
    induction_loss: float | None
    wall_time_s: float
    cpu_time_s: float


def train_model(recipe: Recipe, folder: Path, report: Callable[[str], None]) -> TrainingRun:
    """Train one model from nothing and write it to `folder` as a transformers checkpoint (safetensors).

    One torch thread: the weights are the same on every run with the same versions of torch and tokenizers.
    """
    from transformers import AutoTokenizer

    started, cpu_started = time.perf_counter(), time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    texts = list(training_texts(recipe))
    report(f"{recipe.name}: {len(texts)} texts")
    save_tokenizer(
        build_tokenizer(recipe.family, texts[:_TOKENIZER_TEXTS], recipe.vocab_size),
        recipe.family, folder, recipe.max_length,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, truncation=True, max_length=recipe.max_length)["input_ids"]
    model = new_model(recipe, tokenizer)
    losses = _fit(model, recipe, _batches(recipe, encoded, tokenizer), report)
    save_model(model, folder)
    plain, blocks = ([loss for kind, loss in losses if kind == name][-200:] for name in ("text", "blocks"))
    return TrainingRun(
        n_texts=len(encoded),
        n_tokens=sum(map(len, encoded)),
        loss=_mean(plain),
        induction_loss=_mean(blocks),
        wall_time_s=time.perf_counter() - started,
        cpu_time_s=time.process_time() - cpu_started,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def save_model(model: Any, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` (nothing else: no pickle, no generation settings)."""
    from safetensors.torch import save_file

    shared: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in shared:  # tied weights are stored once
            shared.add(tensor.data_ptr())
            tensors[name] = tensor.contiguous()
    with whole_file(folder / "model.safetensors") as part:
        save_file(tensors, part, metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")


def _batches(recipe: Recipe, encoded: Sequence[Sequence[int]], tokenizer: Any) -> Iterator[tuple[str, Batch]]:
    """Endless ("text" or "blocks", batch), in the proportion that the recipe asks for."""
    rng = random.Random(recipe.seed + 1)  # noqa: S311 - reproducible order, not secrets
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    specials = tokenizer.all_special_ids
    ordinary = [token for token in range(len(tokenizer)) if token not in specials]
    shares = _masked_shares(tokenizer)
    n_blocks = 0
    for batch in text_batches(encoded, batch_size=recipe.batch_size, pad=tokenizer.pad_token_id, rng=rng):
        while n_blocks < recipe.induction_first or rng.random() < recipe.induction_share:
            n_blocks += 1
            yield "blocks", repeated_blocks(
                rows=recipe.batch_size // 2, length=64, start=tokenizer.bos_token_id, ordinary=ordinary,
                shortest=5, longest=24, generator=generator,
            )  # fmt: skip
        if recipe.family == "bert":
            batch = masked(batch, mask_id=tokenizer.mask_token_id, shares=shares, generator=generator)
        yield "text", batch


def _masked_shares(tokenizer: Any) -> Float[Tensor, " vocab"]:
    """For each token id the probability of being masked: 0 for specials."""
    shares = torch.full((len(tokenizer),), _MASKED_SHARE)
    vocabulary = tokenizer.get_vocab()
    for form in agreeing_forms():
        for written in (form, form.capitalize()):
            if written in vocabulary:
                shares[vocabulary[written]] = _MASKED_SHARE_AGREEING
    shares[tokenizer.all_special_ids] = 0.0
    return shares


def _fit(
    model: Any, recipe: Recipe, batches: Iterator[tuple[str, Batch]], report: Callable[[str], None]
) -> list[tuple[str, float]]:
    """Run the optimiser; returns the loss of every step with the kind of its batch."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    warmup = min(200, recipe.steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimiser,
        [
            torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=0.05, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(1, recipe.steps - warmup)),
        ],
        milestones=[warmup],
    )
    losses: list[tuple[str, float]] = []
    model.train()
    for step in range(1, recipe.steps + 1):
        kind, batch = next(batches)
        loss = _loss(model, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append((kind, loss.item()))
        if step % 200 == 0 or step == recipe.steps:
            report(f"{recipe.name}: step {step}/{recipe.steps}, {_recent(losses)}")
    model.eval()
    return losses


def _loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy over the positions that have a target; only those go through the output layer."""
    body = model.base_model
    hidden = body(input_ids=batch.ids, attention_mask=batch.keep.long()).last_hidden_state
    wanted = batch.targets != IGNORED
    head = model.cls if hasattr(model, "cls") else model.lm_head
    return torch.nn.functional.cross_entropy(head(hidden[wanted]), batch.targets[wanted])


def _recent(losses: list[tuple[str, float]]) -> str:
    parts = []
    for kind in ("text", "blocks"):
        values = [loss for name, loss in losses[-200:] if name == kind]
        if values:
            parts.append(f"{kind} loss {sum(values) / len(values):.3f}")
    return ", ".join(parts)

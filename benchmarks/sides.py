"""What is measured beside the bare forward pass: attnlens in three ways, and the other tools where they are installed.

Each side is made once per model and batch, and returns what is then run and timed.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sizes
import torch
from torch import Tensor
from transformers import PreTrainedModel

import attnlens

Run = Callable[[], object]
Inputs = dict[str, Tensor]

_MOST_VIEWED = 128 * 128 * 144  # numbers in a BertViz page: beyond, it takes longer than anyone would wait


@dataclass(frozen=True)
class Bench:
    """A model and a batch; sides share the opened model."""

    model: PreTrainedModel
    lens: attnlens.Lens
    inputs: Inputs

    @property
    def options(self) -> dict[str, bool]:
        """Arguments of every forward pass: no cache of keys and values is built where nothing is generated."""
        return {"use_cache": False} if self.model.config.model_type != "bert" else {}

    @property
    def n_weights(self) -> int:
        """How many attention weights the batch has."""
        config, (n_texts, n_tokens) = self.model.config, self.inputs["input_ids"].shape
        return int(config.num_hidden_layers * config.num_attention_heads * n_texts * n_tokens**2)


def open_bench(name: str, batch: tuple[int, int]) -> Bench:
    """The model, opened, and a batch of the size wanted."""
    model = sizes.build(name)
    return Bench(model, attnlens.load(model=model, tokenizer=sizes.tokenizer()), sizes.inputs(*batch))


def forward(bench: Bench) -> Run:
    """The model's own forward pass on SDPA, with its head."""
    return lambda: _call(bench.model, bench)


def body(bench: Bench) -> Run:
    """The same without the language-model head, which a reduction does not run either."""
    return lambda: _call(bench.model.base_model, bench)


def lazy(bench: Bench) -> Run:
    """Every layer's attention and the residual stream."""
    return lambda: list(bench.lens.captures(inputs=bench.inputs, points=("embed", "resid_post", "final"), logits=True))


def weights(bench: Bench) -> Run:
    """Every weight of every layer built and kept, and the residual stream."""
    points = ("embed", "resid_post", "final")
    return lambda: list(bench.lens.captures(inputs=bench.inputs, weights=True, points=points, logits=True))


def reduce(bench: Bench) -> Run:
    """Entropy, distance, previous-token and first-token weight of every head."""
    return lambda: bench.lens.reduce(inputs=bench.inputs)[0].value()


def output_attentions(bench: Bench) -> Run:
    """What transformers offers: its eager attention, every weight kept."""
    eager = _eager_copy(bench.model)
    return lambda: _call(eager, bench, output_attentions=True)


def transformer_lens(bench: Bench) -> Run:
    """`run_with_cache`: every activation of every layer."""
    from transformer_lens import TransformerBridge

    known = {
        "bert": "google-bert/bert-base-uncased",
        "gpt2": "openai-community/gpt2",
        "llama": "meta-llama/Llama-3.2-1B",
    }  # the name tells the bridge which architecture it gets; nothing is downloaded
    model = bench.model if bench.model.config.model_type != "bert" else _with_masked_head(bench.model)
    bridge = TransformerBridge.boot_transformers(
        known[bench.model.config.model_type], hf_model=copy.deepcopy(model), tokenizer=sizes.tokenizer(), device="cpu"
    )

    def run() -> object:
        with torch.no_grad():
            return bridge.run_with_cache(bench.inputs["input_ids"])

    return run


def nnsight(bench: Bench) -> Run:
    """A trace that saves the weights which eager attention returns."""
    from nnsight import NNsight

    eager = _eager_copy(bench.model)
    traced = NNsight(eager)

    def run() -> object:
        with torch.no_grad(), traced.trace(**bench.inputs, output_attentions=True, **bench.options):
            saved = traced.output.attentions.save()
        return saved

    return run


def bertviz(bench: Bench) -> Run:
    """`output_attentions`, and the page of `head_view` made from it."""
    from bertviz import head_view

    if bench.n_weights > _MOST_VIEWED or len(bench.inputs["input_ids"]) > 1:
        raise ValueError(f"a page of {bench.n_weights:,} weights")
    eager, tokens = output_attentions(bench), [f"w{number}" for number in bench.inputs["input_ids"][0].tolist()]

    def run() -> object:
        found: Any = eager()
        return head_view(found.attentions, tokens, html_action="return")

    return run


REFERENCES = {"forward": forward, "body": body}

SIDES: dict[str, tuple[Callable[[Bench], Run], str]] = {
    "lazy": (lazy, "forward"),
    "all weights": (weights, "forward"),
    "reduce": (reduce, "body"),
    "output_attentions": (output_attentions, "forward"),
    "TransformerLens": (transformer_lens, "forward"),
    "nnsight": (nnsight, "forward"),
    "BertViz": (bertviz, "forward"),
}
"""Name -> what makes it, and which reference its time is divided by: one that runs the same parts of the model."""

_PACKAGES = {"TransformerLens": "transformer_lens", "nnsight": "nnsight", "BertViz": "bertviz"}


def missing(side: str) -> str | None:
    """Why a side cannot be measured here; None where it can."""
    package = _PACKAGES.get(side)
    return f"{package} is not installed" if package and importlib.util.find_spec(package) is None else None


def _call(model: Any, bench: Bench, **options: bool) -> object:
    with torch.no_grad():
        return model(**bench.inputs, **bench.options, **options)


def _eager_copy(model: PreTrainedModel) -> PreTrainedModel:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    return eager


def _with_masked_head(model: PreTrainedModel) -> PreTrainedModel:
    """TransformerLens takes BERT with a head only."""
    from transformers import BertForMaskedLM

    headed = BertForMaskedLM(model.config).eval()
    headed.bert = model
    return headed

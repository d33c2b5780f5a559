"""A model opened for looking into: loaded, taken apart, checked; texts go in, runs come out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens._version import __version__
from attnlens.capture.cache_names import ActivationCache, ActivationNames, NamesFilter
from attnlens.capture.recorders import Wanted
from attnlens.capture.run import Capture
from attnlens.capture.sites import Site
from attnlens.errors import CaptureError, TextError, UsageError
from attnlens.heads import Head
from attnlens.interventions.blocks import Edit, intervening
from attnlens.interventions.edits import Positions, ablation, knock_out, patching, steering
from attnlens.interventions.sources import Source
from attnlens.measures.attribution import HeadAttribution
from attnlens.measures.registry import Measure, Measured
from attnlens.measures.running import Reducer, head_summary
from attnlens.models.anatomy import Anatomy
from attnlens.models.contributions import explain_logit
from attnlens.models.encode import Text
from attnlens.models.families import Family
from attnlens.models.generating import check_generation, generate_run
from attnlens.models.generation import Generation
from attnlens.models.inputs import Batch, numbered
from attnlens.models.loading import LoadedModel, load_pretrained
from attnlens.models.measuring import measure_text
from attnlens.models.memory import MemoryEstimate, Request, available_bytes, longest_that_fits, parse_bytes
from attnlens.models.opening import Opened, open_model
from attnlens.models.reader import Reader
from attnlens.models.running import Plan, check_points, reduce_batch, run_batch

__all__ = ["Lens", "load"]

_DEFAULT_POINTS = ("embed", "resid_post", "final")
_MODES = ("lazy", "exact")
# Share of the memory that is free which a run may plan with, where the caller sets no limit.
_SHARE = 0.8
# Below this nobody has to be asked how much is free.
_UNCHECKED_BYTES = 64 << 20

Progress = Callable[[int, int], None]


def load(
    name: str | None = None,
    *,
    model: nn.Module | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    quantization_config: Any = None,
    family: Family | None = None,
    example: Any = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Lens:
    """Open a model and prove that its attention is captured exactly.

    Args:
        name: `attnlens/tiny-bert` and the like, a local folder, or a hub id.
        model: your own model instead of a name, of transformers or any module that attends; it is put into evaluation
            mode.
        tokenizer: the fast tokenizer of `model`; without it only tensors can be captured (`inputs=`).
        device: where to run ("cpu", "cuda", "mps"); None leaves the model where loading puts it.
        dtype: precision of the weights; None keeps the checkpoint's.
        device_map, quantization_config: handed to transformers, which places or quantises the model while loading.
        family: an adapter for a model that attnlens cannot find its way in by itself.
        example: what to call `model` with while it is checked, where that cannot be guessed: a mapping of arguments,
            or a lone positional one, for two rows of at least eight positions.
        allow_pickle: load pickled weights (with torch's `weights_only`) where there are no safetensors.
        trust_remote_code: run code that the checkpoint brings along.

    Raises:
        UsageError: neither a name nor a model, or both.
        ModelNotFoundError, UnsafeWeightsError: see `attnlens.models.loading`.
        UnsupportedModelError: the architecture's attention cannot be captured.
        SelfCheckError: the capture does not reproduce the model's own output.
    """
    if (name is None) == (model is None):
        raise UsageError("give either a model's name or model=..., tokenizer=....")
    if name is not None:
        loaded = load_pretrained(
            name, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code,
            device_map=device_map, quantization_config=quantization_config,
        )  # fmt: skip
        return Lens(loaded, family=family, example=example)
    if tokenizer is None and isinstance(model, PreTrainedModel) and model.main_input_name == "input_ids":
        raise UsageError("model=... needs tokenizer=... as well.")
    assert model is not None
    moved: Any = model if device is None else model.to(device)
    config = getattr(model, "config", None)
    label = str(getattr(config, "_name_or_path", "") or type(model).__name__)
    loaded = LoadedModel(label, moved.eval(), tokenizer, None, getattr(config, "_commit_hash", None))
    return Lens(loaded, family=family, example=example)


class Lens:
    """An opened model.

    Attributes:
        anatomy: sizes, wiring and self-check figures.
        model: the model, in evaluation mode, unchanged.
        tokenizer: its tokenizer; None where there is none.
    """

    def __init__(self, loaded: LoadedModel, *, family: Family | None = None, example: Any = None) -> None:
        """Take `loaded` apart and check it; `attnlens.load` is the usual way here."""
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer
        self._versions = library_versions()
        self._opened = open_model(loaded, family, example)
        self.anatomy: Anatomy = self._opened.anatomy
        self._reader = Reader(self.model, self.tokenizer, self.anatomy, self._opened.batch_axis)

    def __repr__(self) -> str:
        a = self.anatomy
        return f"Lens({a.model!r}: {a.architecture}, {a.n_layers} layers x {a.n_heads} heads, self-check passed)"

    def capture(
        self,
        text: Text | None = None,
        *,
        source: str | None = None,
        target: str | None = None,
        inputs: Any = None,
        mode: str | None = None,
        weights: bool = False,
        layers: Iterable[int] | None = None,
        heads: Iterable[object] | None = None,
        points: Sequence[str] = _DEFAULT_POINTS,
        logits: bool = True,
        bos: bool | None = None,
        word_spans: Sequence[tuple[int, int]] | None = None,
        max_memory: int | str | None = None,
    ) -> Capture:
        """Run one text, or a pair, and keep what its heads attend to.

        Args:
            text: the text; a pair `(a, b)` runs as two segments.
            source, target: what an encoder-decoder reads, and what it writes.
            inputs: tensors to call the model with instead of a text: a mapping of arguments, or a lone positional one
                (pixels, sound, ids of one row); `target` may go with it.
            mode: "lazy" keeps queries and keys and recomputes weights on demand (SDPA runs); "exact" runs the family's
                eager code and keeps its weights. None takes lazy where the family allows it.
            weights: build every weight while the model runs, in one pass, for callers that will read them all anyway.
            layers: the layers to keep; None for all.
            heads: the heads to keep ("L3H1", ...), of the layers that they name; None for all.
            points: points to keep, of the residual stream `embed resid_pre attn_out resid_mid mlp_out resid_post final`
                (with cross-attention also `cross_out resid_cross`), of the heads `q k v z write`, of the MLP `mlp_act`,
                of mixed experts `router_logits router_weights router_experts`; `anatomy.residual_points` lists them.
            logits: keep logits; without them the language-model head is not run.
            bos: True puts the beginning-of-sequence token in front where the tokenizer has one and does not by itself.
            word_spans: the caller's words, as characters of `text`.
            max_memory: bytes ("2G") that the run may take above the model; None takes 80 % of what is free now.

        Raises:
            TextError: an empty text, one beyond the model's context, or one that takes more than `max_memory`.
            UsageError, CaptureError: an unknown mode, layer, head or point.
        """
        if inputs is None:
            batch = self._reader.batch([self._reader.item(text, source, target, bos, word_spans)])
        elif text is None and source is None:
            batch = self._reader.tensors(inputs, target)
        else:
            raise UsageError("give either a text (source=, target=) or inputs=..., not both.")
        if len(batch.texts) != 1:
            raise UsageError(f"inputs has {len(batch.texts)} rows; expected one, or use lens.captures(inputs=...).")
        plan = self._plan(mode, weights, layers, heads, points, logits)
        self._check_memory(batch, plan, max_memory)
        return next(run_batch(self._opened, batch, plan, self._versions))

    def captures(
        self,
        texts: Sequence[Text] | None = None,
        *,
        inputs: Any = None,
        batch_size: int = 16,
        word_spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        mode: str | None = None,
        weights: bool = False,
        layers: Iterable[int] | None = None,
        heads: Iterable[object] | None = None,
        points: Sequence[str] = (),
        bos: bool | None = None,
        logits: bool = False,
        max_memory: int | str | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Capture]:
        """Run many texts in padded batches of similar length; runs come in the order of `texts`, padding cut away.

        Args:
            texts: the texts; pairs `(source, target)` for an encoder-decoder.
            inputs: one batch of tensors instead, padded on either side; its rows come out as runs.
            batch_size: texts per forward pass.
            word_spans: per text, the caller's words.
            mode, weights, layers, heads, points, bos, max_memory: as in `capture`.
            logits: keep logits; without them the language-model head is not run.
            progress: called with (texts done, texts in all) after each batch.

        Raises:
            As `capture`; the message of a text's error tells which text it is.
        """
        plan = self._plan(mode, weights, layers, heads, points, logits)
        if texts is not None and inputs is not None:
            raise UsageError("give either texts or inputs=..., not both.")
        if inputs is not None:
            batch = self._reader.tensors(inputs)
            self._check_memory(batch, plan, max_memory)
            yield from run_batch(self._opened, batch, plan, self._versions)
            return
        if texts is None:
            raise UsageError("give texts, or inputs=....")
        done = 0
        for items in self._reader.windows(texts, batch_size, word_spans, bos):
            runs: dict[int, Capture] = {}
            for numbers, batch in self._reader.by_length(items, batch_size):
                self._check_memory(batch, plan, max_memory)
                runs.update(zip(numbers, run_batch(self._opened, batch, plan, self._versions), strict=True))
                done += len(numbers)
                if progress is not None:
                    progress(done, len(texts))
            yield from (runs.pop(i) for i in range(len(items)))

    def reduce(
        self,
        texts: Sequence[Text] | None = None,
        *reducers: Reducer,
        inputs: Any = None,
        batch_size: int = 16,
        layers: Iterable[int] | None = None,
        bos: bool | None = None,
        progress: Progress | None = None,
    ) -> tuple[Reducer, ...]:
        """Let the weights of many texts pass by reducers, layer by layer, and keep nothing but their sums.

        Args:
            texts: the texts; pairs `(source, target)` for an encoder-decoder.
            reducers: what adds the weights up; `attnlens.measures.running.head_summary()` (entropy, distance, weight on
                the previous and on the first token, of every head) where there is none.
            inputs: one batch of tensors instead of texts.
            batch_size: texts per forward pass.
            layers: the layers to reduce; None for all.
            bos: as in `capture`.
            progress: called with (texts done, texts in all) after each batch.

        Returns:
            The reducers, for `value()`; their sites are `attnlens.capture.sites.Site`.

        Raises:
            As `captures`.
        """
        chosen = reducers or (head_summary(),)
        wanted = self._plan(None, False, layers, None, (), False).wanted
        if texts is not None and inputs is not None:
            raise UsageError("give either texts or inputs=..., not both.")
        if inputs is not None:
            reduce_batch(self._opened, self._reader.tensors(inputs), chosen, wanted)
            return chosen
        if texts is None:
            raise UsageError("give texts, or inputs=....")
        done = 0
        for items in self._reader.windows(texts, batch_size, None, bos):
            for numbers, batch in self._reader.by_length(items, batch_size):
                reduce_batch(self._opened, batch, chosen, wanted)
                done += len(numbers)
                if progress is not None:
                    progress(done, len(texts))
        return chosen

    def estimate(
        self,
        n_tokens: int,
        *,
        n_source: int = 0,
        mode: str | None = None,
        weights: bool = False,
        points: Sequence[str] = _DEFAULT_POINTS,
        logits: bool = True,
        batch_size: int = 1,
    ) -> MemoryEstimate:
        """Bytes that a run of `n_tokens` will keep, and the most that it needs while it runs, above the model.

        Args:
            n_tokens: tokens of each text.
            n_source: tokens of what an encoder-decoder reads.
            mode, weights, points, logits: as in `capture`.
            batch_size: texts per forward pass.
        """
        plan = self._plan(mode, weights, None, None, points, logits)
        return MemoryEstimate.of(self.anatomy, n_tokens, self._request(plan, batch_size), self._itemsize, n_source)

    def generate(
        self,
        text: str | None = None,
        *,
        max_new_tokens: int = 20,
        source: str | None = None,
        inputs: Any = None,
        do_sample: bool = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        num_beams: int = 1,
        seed: int | None = None,
        cache: str | None = None,
        use_cache: bool = True,
        layers: Iterable[int] | None = None,
        heads: Iterable[object] | None = None,
        points: Sequence[str] = (),
        logits: bool = True,
        bos: bool | None = None,
        max_memory: int | str | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Capture:
        """Let the model write, and keep what its heads attend to while it does: one map over prompt and written text.

        The rows are those that the model computed step by step, with its cache. The last token is never a query then,
        so the whole text runs once more for its row; points and logits come from that run too.

        Args:
            text: the prompt. An encoder-decoder reads it; beside `source` it is how the text it writes begins.
            max_new_tokens: the most to write; an end-of-text token ends it earlier.
            source: what an encoder-decoder reads.
            inputs: tensors instead of a text, of one row without padding: a mapping of arguments, or a lone one.
            do_sample: draw each token; else the likeliest is taken.
            temperature: of the drawing: below 1 likely tokens come more often; None takes the model's own, as below.
            top_k: draw among that many tokens.
            top_p: draw among the likeliest tokens that have this probability together.
            num_beams: texts that are followed at a time; the best one is the run.
            seed: draw from this seed and leave torch's random state alone; None draws from that state.
            cache: transformers' name of a key-value cache ("dynamic", "static", "offloaded"); None takes the default.
            use_cache: False runs the whole text at every step.
            layers: the layers to keep, as in `capture`.
            heads: the heads to keep.
            points: points to keep, as in `capture`.
            logits: keep logits.
            bos: as in `capture`.
            max_memory: as in `capture`, for prompt and written text together.
            progress: called with (tokens written, tokens at most) after each.
            options: further arguments of transformers' `generate`.

        Returns:
            A run whose tokens are the prompt's and the written ones; `n_prompt` says where these begin.

        Raises:
            CaptureError: the model has no language-model head, or its tokens see later ones.
            TextError: prompt and `max_new_tokens` together are beyond the model's context, or take too much memory.
            UsageError: an option that cannot be stitched to one map, more than one row, padding.
        """
        check_generation(self._opened)
        generation = Generation(
            max_new_tokens=max_new_tokens, do_sample=do_sample, temperature=temperature, top_k=top_k, top_p=top_p,
            num_beams=num_beams, seed=seed, cache=cache, use_cache=use_cache, options=options,
        )  # fmt: skip
        plan = self._plan(None, False, layers, heads, points, logits)
        prompt = self._reader.prompt(text, source, inputs, bos)
        n_prompt = max((len(given.tokens) for given in prompt.texts if given), default=1)
        longest = (numbered(n_prompt + max_new_tokens),)
        self._check_memory(replace(prompt, texts=longest), plan, max_memory)
        return generate_run(self._opened, self.tokenizer, prompt, generation, plan, self._versions, progress)

    @property
    def opened(self) -> Opened:
        """What was found on opening: the tap, the layers and their wiring; for code that runs the model itself."""
        return self._opened

    @property
    def reader(self) -> Reader:
        """What makes batches of texts for this model."""
        return self._reader

    def intervene(self, edit: Edit) -> AbstractContextManager[None]:
        """A block in which `edit` holds for every forward pass of the model, in this context (thread, task) only.

        Captures in the block keep the attention of the changed model, and say so in `run.settings["interventions"]`.
        Blocks can be nested, of any kind; nothing is left behind, after an exception either.

        Args:
            edit: made by the functions of `attnlens.interventions.edits`; edits can be added (`one + other`).

        Raises:
            CaptureError: in the block, a forward pass with a key-value cache under an edit that names positions.
        """
        return intervening(self._opened, edit)

    def ablate(
        self,
        *heads: object,
        how: str = "zero",
        source: Source = "corpus",
        positions: int | Sequence[int] | None = None,
        seed: int = 0,
    ) -> AbstractContextManager[None]:
        """A block in which heads are ablated; `attnlens.interventions.edits.ablation` tells what the arguments mean.

        `with lens.ablate("L3H1", how="resample"): run = lens.capture(text)`
        """
        return self.intervene(ablation(self, heads, how=how, source=source, positions=positions, seed=seed))

    def knock_out(self, edges: Iterable[tuple[int, int]], *heads: object) -> AbstractContextManager[None]:
        """A block in which edges (query, key) of heads are cut, of every head of the main stack where none is named.

        The weights that are left in a row grow to sum to 1, as if a mask had hidden the key.
        """
        return self.intervene(knock_out(self, edges, heads))

    def patch(
        self,
        run: Capture,
        *heads: object,
        point: str = "resid_post",
        layers: int | Iterable[int] | None = None,
        positions: Positions | None = None,
        stack: str | None = None,
    ) -> AbstractContextManager[None]:
        """A block in which a point has the values of another run; see `attnlens.interventions.edits.patching`."""
        edit = patching(self, run, point=point, layers=layers, positions=positions, heads=heads, stack=stack)
        return self.intervene(edit)

    def steer(self, pattern: torch.Tensor | Capture, *heads: object) -> AbstractContextManager[None]:
        """A block in which heads attend as `pattern` (`[query key]`, or a run's own) says."""
        return self.intervene(steering(self, pattern, heads))

    def measure(
        self,
        name: str | Measure,
        text: Text | Capture,
        head: object = None,
        *,
        mode: str | None = None,
        **options: Any,
    ) -> Measured:
        """Take a measure of a text: what every head, or one of them, does there.

        Args:
            name: of an installed measure (`attnlens measures` lists them), an alias that another tool has for it, or a
                `Measure`.
            text: the text; a pair, which is (source, target) for an encoder-decoder; or a run that was captured before
                and holds what the measure needs.
            head: one head ("L3H1"); None for all.
            mode: as in `capture`; a measure that needs gradients runs in "exact".
            options: settings of the measure, such as `offset=-2`.

        Returns:
            The values with their axes, the measure and the run.

        Raises:
            MeasureError: the model, or the run, does not have what the measure needs; the message says what to take.
            UsageError: no such measure or option, or a run of another model.
            HeadAddressError: no such head; the message says which there are.
            As `capture`.
        """
        return measure_text(self, name, text, head, mode, options)

    def attribute_heads(
        self,
        text: Text,
        target: str | None = None,
        *,
        against: str | None = None,
        position: int = -1,
        steps: int = 64,
    ) -> HeadAttribution:
        """How much each head contributes to the logit of a token, by integrated gradients over gates (captum).

        Args:
            text: the text.
            target: the token to explain, spelled as in running text; None takes the first choice of the model.
            against: explain the difference to this token's logit instead ("is" against "are").
            position: token whose output is read, from the end if negative.
            steps: points of the integration.

        Raises:
            CaptureError: the model has no language-model head.
            UsageError: a position outside the text, or a target that is not one token.
        """
        batch = self._reader.batch([self._reader.item(text, None, None, None, None)])
        return explain_logit(self._opened, self.tokenizer, batch, target, against, position, steps)

    def run_with_cache(
        self,
        text: Text | None = None,
        names_filter: NamesFilter = None,
        *,
        remove_batch_dim: bool = False,
        **options: Any,
    ) -> tuple[torch.Tensor | None, ActivationCache]:
        """Run one text, and give logits and activations under the names that TransformerLens has for them.

        Args:
            text: as in `capture`. No beginning-of-sequence token is put in front unless `bos=True`, other than there.
            names_filter: a name, several, or a function of a name that says whether to keep it; None keeps all but
                `hook_result`. Only what is needed for these names is captured.
            remove_batch_dim: leave the axis of the batch, of length 1, out of the activations.
            options: further arguments of `capture` (`source`, `target`, `inputs`, `bos`, `max_memory`).

        Returns:
            The logits `[1 pos vocab]` (None where the model has no language-model head), and a mapping from names to
            tensors; see `attnlens.capture.cache_names` for what the names mean here.

        Raises:
            ActivationNameError: a name in the filter does not exist; the message lists those that do.
            As `capture`.
        """
        normed = {letter for letter, wiring in self._opened.wirings.items() if wiring.final_norm is not None}
        names = ActivationNames(self.anatomy, normed, self._token_embeddings())
        kept = names.select(names_filter)
        points, layers = names.needs(kept)
        run = self.capture(text, points=points, layers=layers, **options)
        cache = ActivationCache(run, names, kept, batch=not remove_batch_dim)
        return None if run.logits is None else run.logits[None], cache

    def _token_embeddings(self) -> Callable[[Capture], torch.Tensor] | None:
        """What gives the token embeddings of a run (of the source, in an encoder-decoder); None where none do."""
        table = self.model.get_input_embeddings() if isinstance(self.model, PreTrainedModel) else None
        if not isinstance(table, nn.Embedding) or self.model.main_input_name != "input_ids":
            return None

        def embed(run: Capture) -> torch.Tensor:
            tokens = run.tokens if run.source is None else run.source.tokens
            with torch.no_grad():
                embedded: torch.Tensor = table(torch.tensor([token.id for token in tokens], device=table.weight.device))
            return embedded.cpu()

        return embed

    def n_tokens(self, text: Text, *, bos: bool | None = None) -> int:
        """How many tokens `text` becomes, special ones included."""
        return self._reader.n_tokens(text, bos)

    def probe(self, family: str | Sequence[str], corpus: Any = None, **options: Any) -> Any:
        """Classify every head against an annotated corpus; see `attnlens probe --help` and the probes package.

        Args:
            family: "positional", "syntax", "coreference", another installed family, several of them, or "all".
            corpus: a CoNLL-U file; None takes the embedded corpus.
            options: passed on to the engine (`seed`, `limit`, `batch_size`, `progress`).

        Returns:
            A `probes.report.HeadReport`.
        """
        from attnlens.plugins import load_plugin

        return load_plugin("attnlens.engines", "local")(self, family, corpus, **options)

    def _plan(
        self,
        mode: str | None,
        weights: bool,
        layers: Iterable[int] | None,
        heads: Iterable[object] | None,
        points: Sequence[str],
        logits: bool,
    ) -> Plan:
        """What a run keeps, proven possible.

        Raises:
            UsageError: no such mode, layer or point.
            HeadAddressError: no such head.
            CaptureError: lazy, for a family that builds its weights itself; a point that the model does not give.
        """
        recorders = self._opened.recorders
        chosen = next(name for name in _MODES if name in recorders) if mode is None else mode
        if chosen not in _MODES:
            raise UsageError(f"mode {mode!r} does not exist; expected one of {', '.join(_MODES)}.")
        if chosen not in recorders:
            raise CaptureError(
                f"{self.anatomy.architecture} runs in mode='exact' only, since it builds its weights with code of its "
                "own and hands over no queries and keys."
            )
        if weights and chosen == "lazy":
            chosen = "dense"
        if points is _DEFAULT_POINTS:  # a module of the user's own may have none of them
            points = [point for point in points if any(point in stack.residual_points for stack in self.anatomy.stacks)]
        check_points(self.anatomy, points)
        kept = None if layers is None else self._layers(layers)
        wanted = Wanted() if heads is None and kept is None else self._wanted(kept, heads)
        if heads is not None:
            kept = tuple(sorted({site.layer for site in wanted.heads or ()}))
        return Plan(chosen, wanted, kept, tuple(points), logits)

    def _layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        n_layers = max(stack.n_layers for stack in self.anatomy.stacks)
        kept = tuple(sorted({int(layer) for layer in layers}))
        if not kept or kept[0] < 0 or kept[-1] >= n_layers:
            raise UsageError(f"layers={list(kept)} is not within the model's layers, 0 to {n_layers - 1}.")
        return kept

    def _wanted(self, layers: tuple[int, ...] | None, heads: Iterable[object] | None) -> Wanted:
        if heads is None:
            sites = [Site(stack.letter, at) for stack in self.anatomy.stacks for at in stack.attention_layers]
            return Wanted({site: None for site in sites if layers is None or site.layer in layers})
        chosen: dict[Site, list[int]] = {}
        for given in heads:
            head = Head.parse(given)
            letter = head.stack or self.anatomy.main_stack
            stack = self.anatomy.stack(letter)
            head = head.within(stack.n_layers, stack.n_heads)
            if layers is None or head.layer in layers:
                chosen.setdefault(Site(letter, head.layer), []).append(head.head)
        if not chosen:
            raise UsageError("heads names no head of the layers asked for.")
        return Wanted({site: tuple(sorted(set(numbers))) for site, numbers in chosen.items()})

    @property
    def _itemsize(self) -> int:
        return int(getattr(torch, self.anatomy.dtype).itemsize)

    def _request(self, plan: Plan, n_texts: int) -> Request:
        return Request(plan.mode != "lazy", self._shares(plan), plan.points, plan.logits, n_texts)

    def _shares(self, plan: Plan) -> dict[str, float] | None:
        """The share of each stack's heads that is kept."""
        if plan.wanted.heads is None:
            return None
        shares = {}
        for stack in self.anatomy.stacks:
            kept = [heads for site, heads in plan.wanted.heads.items() if site.stack == stack.letter]
            n_kept = sum(stack.n_heads if heads is None else len(heads) for heads in kept)
            shares[stack.letter] = n_kept / (stack.n_heads * len(stack.attention_layers))
        return shares

    def _check_memory(self, batch: Batch, plan: Plan, max_memory: int | str | None) -> None:
        """Refuse a run that would not fit, with the length that would.

        Raises:
            TextError: the run takes more than `max_memory`, or than the system has left.
        """
        n_tokens, n_source = (
            max((len(t.tokens) for t in side if t), default=0) for side in (batch.texts, batch.sources)
        )
        request = self._request(plan, len(batch.texts))

        def peak(n: int) -> int:
            return MemoryEstimate.of(self.anatomy, n, request, self._itemsize, n_source).peak

        needed = peak(n_tokens)
        if max_memory is None and needed < _UNCHECKED_BYTES:
            return
        free = available_bytes() if max_memory is None else None
        limit = parse_bytes(max_memory) if max_memory is not None else None if free is None else int(_SHARE * free)
        if limit is None or needed <= limit:
            return
        fits = longest_that_fits(peak, limit, n_tokens)
        how = "" if plan.mode == "lazy" else ", take mode='lazy'" * ("lazy" in self._opened.recorders)
        raise TextError(
            f"{n_tokens} tokens would take about {needed / 2**20:,.0f} MiB, and {limit / 2**20:,.0f} MiB are allowed; "
            f"about {fits} tokens would fit. Shorten the text, keep fewer layers or heads{how}, or raise max_memory."
        )


def library_versions() -> dict[str, str]:
    """Versions of what computed a result."""
    return {
        "attnlens": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }

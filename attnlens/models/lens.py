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
from attnlens.capture.tokens import EncodedText
from attnlens.errors import UsageError
from attnlens.interventions.blocks import Edit, intervening
from attnlens.interventions.edits import Positions, ablation, knock_out, patching, steering
from attnlens.interventions.sources import Source
from attnlens.measures.attribution import GenerationAttribution, HeadAttribution, LayerAttribution, TokenAttribution
from attnlens.measures.registry import Measure, Measured
from attnlens.measures.running import Reducer, head_summary
from attnlens.models.anatomy import Anatomy
from attnlens.models.attributing import Question, ask, explain_layers, explain_tokens
from attnlens.models.contributions import explain_heads
from attnlens.models.direct import DIRECT_POINTS, DirectAttribution, attribute_directly
from attnlens.models.encode import Text
from attnlens.models.families import Family
from attnlens.models.generating import check_generation, generate_run
from attnlens.models.generation import Generation
from attnlens.models.generation_attribution import explain_generation
from attnlens.models.inputs import numbered
from attnlens.models.loading import LoadedModel, load_pretrained
from attnlens.models.logit_lens import LogitLens, read_logit_lens
from attnlens.models.measuring import measure_text
from attnlens.models.memory import MemoryEstimate
from attnlens.models.opening import Opened, open_model
from attnlens.models.planning import DEFAULT_POINTS, Planner
from attnlens.models.reader import Reader
from attnlens.models.reruns import batch_of_run
from attnlens.models.running import reduce_batch, run_batch
from attnlens.models.stepping import Written, write_tokens
from attnlens.models.targets import choose_target

__all__ = ["Lens", "load"]

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
        device_map: handed to transformers, which places the model over devices while loading (needs accelerate).
        quantization_config: handed to transformers, which quantises the model while loading.
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
        self._planner = Planner(self._opened)

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
        points: Sequence[str] = DEFAULT_POINTS,
        logits: bool = True,
        bos: bool | None = None,
        word_spans: Sequence[tuple[int, int]] | None = None,
        max_memory: int | str | None = None,
    ) -> Capture:
        """Run one text, or a pair, and keep what its heads attend to.

        Args:
            text: the text; a pair `(a, b)` runs as two segments.
            source: what an encoder-decoder reads.
            target: what it writes.
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
        plan = self._planner.plan(mode, weights, layers, heads, points, logits)
        self._planner.check_memory(batch, plan, max_memory)
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
            mode: as in `capture`, like the next four, `bos` and `max_memory`.
            weights: build every weight while the model runs.
            layers: the layers to keep.
            heads: the heads to keep.
            points: points to keep; none by default.
            bos: put the beginning-of-sequence token in front.
            max_memory: what one batch may take above the model.
            logits: keep logits; without them the language-model head is not run.
            progress: called with (texts done, texts in all) after each batch.

        Raises:
            As `capture`; the message of a text's error tells which text it is.
        """
        plan = self._planner.plan(mode, weights, layers, heads, points, logits)
        if texts is not None and inputs is not None:
            raise UsageError("give either texts or inputs=..., not both.")
        if inputs is not None:
            batch = self._reader.tensors(inputs)
            self._planner.check_memory(batch, plan, max_memory)
            yield from run_batch(self._opened, batch, plan, self._versions)
            return
        if texts is None:
            raise UsageError("give texts, or inputs=....")
        done = 0
        for items in self._reader.windows(texts, batch_size, word_spans, bos):
            runs: dict[int, Capture] = {}
            for numbers, batch in self._reader.by_length(items, batch_size):
                self._planner.check_memory(batch, plan, max_memory)
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
        wanted = self._planner.plan(None, False, layers, None, (), False).wanted
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

    def encode(
        self,
        texts: Sequence[str],
        word_spans: Sequence[Sequence[tuple[int, int]]],
        *,
        bos: bool | None = None,
    ) -> list[EncodedText | None]:
        """Texts as the model would see them, all tokenized in one call and none run; None where no token comes out.

        Args:
            texts: single texts.
            word_spans: per text, the caller's words.
            bos: as in `capture`.
        """
        return self._reader.encoded(texts, word_spans, bos)

    def reduce_encoded(
        self, texts: Sequence[EncodedText], *reducers: Reducer, layers: Iterable[int] | None = None
    ) -> None:
        """Let the weights of one batch pass by reducers, layer by layer: `reduce` for texts that are encoded already.

        Args:
            texts: what runs as one batch, padded on the right.
            reducers: as in `reduce`.
            layers: the layers to reduce; None for all.

        Raises:
            TextError: a text beyond the model's context.
            UsageError: no such layer.
        """
        wanted = Wanted() if layers is None else self._planner.plan(None, False, layers, None, (), False).wanted
        reduce_batch(self._opened, self._reader.encoded_batch(texts), reducers, wanted)

    def estimate(
        self,
        n_tokens: int,
        *,
        n_source: int = 0,
        mode: str | None = None,
        weights: bool = False,
        points: Sequence[str] = DEFAULT_POINTS,
        logits: bool = True,
        batch_size: int = 1,
    ) -> MemoryEstimate:
        """Bytes that a run of `n_tokens` will keep, and the most that it needs while it runs, above the model.

        Args:
            n_tokens: tokens of each text.
            n_source: tokens of what an encoder-decoder reads.
            mode: as in `capture`, like the next three.
            weights: whether every weight is built.
            points: points that are kept.
            logits: whether logits are kept.
            batch_size: texts per forward pass.
        """
        plan = self._planner.plan(mode, weights, None, None, points, logits)
        return self._planner.estimate(plan, n_tokens, n_source, batch_size)

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
        plan = self._planner.plan(None, False, layers, heads, points, logits)
        prompt = self._reader.prompt(text, source, inputs, bos)
        n_prompt = max((len(given.tokens) for given in prompt.texts if given), default=1)
        longest = (numbered(n_prompt + max_new_tokens),)
        self._planner.check_memory(replace(prompt, texts=longest), plan, max_memory)
        return generate_run(self._opened, self.tokenizer, prompt, generation, plan, self._versions, progress)

    def write(self, text: str, tokens: Sequence[int] = (), *, source: str | None = None) -> Written:
        """Give the model a prompt and tokens of your choice after it, one step at a time with its key-value cache.

        Args:
            text: the prompt; what an encoder-decoder reads, or with `source` how the text that it writes begins.
            tokens: numbers in the vocabulary, whatever the model would have chosen.
            source: what an encoder-decoder reads.

        Returns:
            Logits of the token that would come next, the bytes of the cache after each step, and the run of the whole.

        Raises:
            CaptureError: the model writes no text.
            UsageError, TextError: a number that is no token; more tokens than the model takes.
        """
        check_generation(self._opened)
        plan = self._planner.plan(None, False, None, None, (), True)
        prompt = self._reader.prompt(text, source, None, None)
        return write_tokens(self._opened, self.tokenizer, prompt, tokens, plan, self._versions)

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
        text: Text | Capture,
        target: str | int | None = None,
        *,
        against: str | int | None = None,
        position: int | str | None = None,
        stack: str | None = None,
        method: str = "gradients",
        steps: int | None = None,
        seed: int = 0,
    ) -> HeadAttribution:
        """How much each head contributes to the logit of a token or class, by gates on the heads' outputs (captum).

        Args:
            text: the text; (source, target) for an encoder-decoder; or a run of tokens.
            target: the token to explain, spelled as in running text, or the class of a classifier; None takes the first
                choice of the model.
            against: explain the difference to this one's logit instead ("is" against "are").
            position: token whose output is read, from the end if negative; "mask" for the one masked token. None takes
                the masked token where there is one, else the last.
            stack: E, D or X: whose heads, in an encoder-decoder; None for the decoder's own.
            method: "gradients" (integrated over the gates, sums to what all heads do together), "ablation" (each head
                closed by itself), "shapley" (the mean effect of closing it after a random set of others).
            steps: points of the integral; None takes as many as bring the sum within 1e-4, up to 1,024. Of "shapley"
                the number of random orders, 25 for None.
            seed: of the random orders.

        Raises:
            CaptureError: the model has no language-model head and sorts into no classes.
            UsageError: a position outside the text, or a target that is not one token.
        """
        return explain_heads(self._question(text, target, against, position), stack, method, steps, seed)

    def attribute_tokens(
        self,
        text: Text | Capture,
        target: str | int | None = None,
        *,
        against: str | int | None = None,
        position: int | str | None = None,
        baseline: str | int | None = None,
        stack: str | None = None,
        steps: int | None = None,
        method: str = "gradients",
        seed: int = 0,
    ) -> TokenAttribution:
        """How much each input token contributes to the logit of a token or class (captum).

        Args:
            text: as in `attribute_heads`, and so are the next three.
            target: the token or class to explain.
            against: what it is compared with.
            position: token whose output is read.
            baseline: the token that stands in place of every one that the template did not add (special ones stay), by
                its spelling or number; "zero" for zero vectors. None takes the tokenizer's token for mask, padding, the
                unknown, the end or the beginning, the first that there is.
            stack: E or D: whose tokens, in an encoder-decoder; None for the decoder's.
            steps: points of the integral, or random orders, as in `attribute_heads`.
            method: "gradients" (integrated), "ablation" (each token replaced by itself) or "shapley", as there.
            seed: of the random orders.

        Raises:
            CaptureError: as `attribute_heads`; or the stack reads no tokens, or takes no vectors in their place.
            UsageError: as `attribute_heads`; or no such baseline.
        """
        question = self._question(text, target, against, position)
        return explain_tokens(question, self.tokenizer, stack, baseline, steps, method, seed)

    def logit_lens(self, text: Text | Capture, count: int = 5) -> LogitLens:
        """The likeliest tokens at each position if the model stopped after each layer.

        Args:
            text: the text; or a run of it that holds the point `resid_post`.
            count: tokens per layer and position.

        Raises:
            CaptureError: the model has no language-model head, or does not give `resid_post`.
        """
        run = text if isinstance(text, Capture) else self.capture(text, points=("resid_post",))
        return read_logit_lens(self._opened, self.tokenizer, run, count)

    def attribute_directly(
        self,
        text: Text | Capture,
        target: str | int | None = None,
        *,
        against: str | int | None = None,
        position: int | str | None = None,
    ) -> DirectAttribution:
        """A logit as the sum of what embeddings, heads, feed-forward networks and biases wrote into the stream.

        Args:
            text: the text; or a run of it that holds the points `embed`, `z`, `mlp_out`, `resid_post` and `final`.
            target: as in `attribute_heads`, and so are the next two.
            against: a token whose logit is taken away.
            position: token whose output is read.

        Raises:
            CaptureError: the stream is no plain sum (post-LN), or the model has no linear language-model head.
            UsageError: as `attribute_heads`.
        """
        run = text if isinstance(text, Capture) else self.capture(text, points=DIRECT_POINTS)
        chosen = choose_target(run, self.tokenizer, {"target": target, "against": against, "position": position})
        return attribute_directly(self._opened, run, chosen)

    def attribute_layers(
        self,
        text: Text | Capture,
        target: str | int | None = None,
        *,
        against: str | int | None = None,
        position: int | str | None = None,
        baseline: str | int | None = None,
        stack: str | None = None,
        steps: int | None = None,
    ) -> LayerAttribution:
        """At which positions a logit's difference to a baseline flows through each layer: conductance (captum).

        Args:
            text: as in `attribute_heads`, and so are the next three.
            target: the token or class to explain.
            against: what it is compared with.
            position: token whose output is read.
            baseline: as in `attribute_tokens`.
            stack: E or D: whose layers and tokens, in an encoder-decoder; None for the decoder's.
            steps: points of each layer's integral; None takes as many as bring its sum within 1e-4, up to 256.

        Raises:
            As `attribute_tokens`; CaptureError: where the stream leaves a layer was not found.
        """
        question = self._question(text, target, against, position)
        return explain_layers(question, self.tokenizer, stack, baseline, steps)

    def attribute_generation(
        self,
        text: str | Capture,
        written: str | None = None,
        *,
        method: str = "ablation",
        baseline: str | int | None = None,
        steps: int | None = None,
        seed: int = 0,
        max_new_tokens: int = 20,
    ) -> GenerationAttribution:
        """How much each token of a prompt contributes to each token written after it (captum's LLM attribution).

        Args:
            text: the prompt; or a run of `generate`, whose written tokens are explained.
            written: explain this continuation; None lets the model write, the likeliest token each time.
            method: "ablation", "shapley" or "gradients", as in `attribute_heads`.
            baseline: as in `attribute_tokens`, a token.
            steps: points of each integral, or random orders, as in `attribute_heads`.
            seed: of the random orders.
            max_new_tokens: the most that the model writes.

        Raises:
            CaptureError: the model writes no text, or is an encoder-decoder.
            UsageError: nothing written, an unknown method or baseline, or a prompt of special tokens only.
        """
        check_generation(self._opened)
        if isinstance(text, Capture):
            run = text
        elif written is None:
            run = self.generate(text, max_new_tokens=max_new_tokens, logits=False)
        else:
            run = self._continued(text, written)
        return explain_generation(self._opened, self.tokenizer, run, method, baseline, steps, seed)

    def _continued(self, prompt: str, written: str) -> Capture:
        """A run of a prompt and a continuation, each spelled in tokens by itself."""
        own = self._reader.item(prompt, None, None, None, None).text
        more = self.tokenizer(written, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*own.ids, *more]])
        run = self.capture(inputs=ids, points=(), logits=False, layers=[0])
        tokens = (*own.tokens, *run.tokens[len(own.tokens) :])
        return replace(run, text=prompt + written, tokens=tokens, n_prompt=len(own.tokens))

    def _question(
        self, text: Text | Capture, target: str | int | None, against: str | int | None, position: int | str | None
    ) -> Question:
        """The score that is asked about: a logit, or the difference of two, of one text."""
        if isinstance(text, Capture):
            batch = batch_of_run(self._opened, text)
        else:
            batch = self._reader.batch([self._reader.item(text, None, None, None, None)])
        options = {"target": target, "against": against, "position": position}
        return ask(self._opened, self.tokenizer, batch, options)

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

    def probe(self, family: str | Sequence[str], corpus: Any = None, *, engine: str = "local", **options: Any) -> Any:
        """Classify every head against an annotated corpus; see `attnlens probe --help` and the probes package.

        Args:
            family: "positional", "syntax", "coreference", another installed family, several of them, or "all".
            corpus: a file or several (CoNLL-U, GAP, ...; see docs/probes.md); None takes the embedded corpus.
            engine: what runs the corpus: "local", "ray" (workers on this machine or on a cluster), or another one.
            options: passed on to the engine (`seed`, `limit`, `progress`, ...; `workers` and `address` of Ray).

        Returns:
            A `probes.report.HeadReport`.
        """
        from attnlens.plugins import load_plugin

        return load_plugin("attnlens.engines", engine)(self, family, corpus, **options)


def library_versions() -> dict[str, str]:
    """Versions of what computed a result."""
    return {
        "attnlens": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }

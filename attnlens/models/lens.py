"""A model opened for looking into: loaded, taken apart, checked; texts go in, runs come out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attnlens._version import __version__
from attnlens.capture.recorders import ExactRecorder, LazyRecorder, PatternRecorder
from attnlens.capture.residual import ONCE, PER_LAYER, recording_residuals
from attnlens.capture.run import Capture
from attnlens.capture.tap import needs_eager, recording
from attnlens.errors import CaptureError, TextError, UnsupportedModelError, UsageError
from attnlens.measures.attribution import HeadAttribution
from attnlens.models.anatomy import Anatomy
from attnlens.models.contributions import explain_logit
from attnlens.models.encode import EncodedText, Text, encode, pad
from attnlens.models.families import attention_layers, longest_text, position_scheme, vocabulary_size, wiring_of
from attnlens.models.loading import LoadedModel, load_pretrained
from attnlens.models.selfcheck import check_model, without_cache

__all__ = ["Lens", "load"]

_RECORDERS: dict[str, type[PatternRecorder]] = {"lazy": LazyRecorder, "exact": ExactRecorder}
_DEFAULT_POINTS = ("embed", "resid_post", "final")
# How many batches of texts are sorted by length together: less padding, the same order outside.
_SORTED_BATCHES = 8

Progress = Callable[[int, int], None]


def load(
    name: str | None = None,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Lens:
    """Open a model and prove that its attention is captured exactly.

    Args:
        name: `attnlens/tiny-bert` and the like, a local folder, or a hub id.
        model: your own model instead of a name; it is put into evaluation mode.
        tokenizer: the fast tokenizer of `model`.
        device: where to run ("cpu", "cuda", "mps"); None leaves the model where loading puts it.
        dtype: precision of the weights; None keeps the checkpoint's.
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
            name, device=device, dtype=dtype, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
        return Lens(loaded)
    if tokenizer is None:
        raise UsageError("model=... needs tokenizer=... as well.")
    assert model is not None
    moved: Any = model if device is None else model.to(device)  # type: ignore[arg-type]
    label = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    return Lens(LoadedModel(label, moved.eval(), tokenizer, None, getattr(model.config, "_commit_hash", None)))


class Lens:
    """An opened model.

    Attributes:
        anatomy: sizes, wiring and self-check figures.
        model: the transformers model, in evaluation mode, unchanged.
        tokenizer: its tokenizer.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """Take `loaded` apart and check it; `attnlens.load` is the usual way here."""
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self._versions = library_versions()
        self._layers = attention_layers(loaded.model)
        self._wiring = wiring_of(loaded.model)
        self._recorder: type[PatternRecorder] = ExactRecorder if needs_eager(loaded.model) else LazyRecorder
        self.anatomy = self._examine(loaded)

    def __repr__(self) -> str:
        a = self.anatomy
        return f"Lens({a.model!r}: {a.architecture}, {a.n_layers} layers x {a.n_heads} heads, self-check passed)"

    def capture(
        self,
        text: Text,
        *,
        mode: str | None = None,
        points: Sequence[str] = _DEFAULT_POINTS,
        bos: bool | None = None,
        word_spans: Sequence[tuple[int, int]] | None = None,
    ) -> Capture:
        """Run one text, or a pair, and keep what its heads attend to.

        Args:
            text: the text; a pair `(a, b)` runs as two segments.
            mode: "lazy" keeps queries and keys and recomputes weights on demand (SDPA runs); "exact" runs the family's
                eager code and keeps its weights. None takes lazy where the family allows it.
            points: residual points to keep, out of `embed resid_pre attn_out resid_mid mlp_out resid_post final`.
            bos: True puts the beginning-of-sequence token in front where the tokenizer has one and does not by itself.
            word_spans: the caller's words, as characters of `text`.

        Raises:
            TextError: an empty text, or one beyond the model's context.
            UsageError, CaptureError: an unknown mode or point.
        """
        encoded = encode(self.tokenizer, text, bos=bos, word_spans=word_spans)
        return next(iter(self._run([encoded], self._mode(mode), points, logits=True)))

    def captures(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 16,
        word_spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        mode: str | None = None,
        points: Sequence[str] = (),
        bos: bool | None = None,
        logits: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Capture]:
        """Run many texts in padded batches of similar length; runs come in the order of `texts`, padding cut away.

        Args:
            texts: the texts.
            batch_size: texts per forward pass.
            word_spans: per text, the caller's words.
            mode: as in `capture`.
            points: as in `capture`.
            bos: as in `capture`.
            logits: keep logits; without them the language-model head is not run.
            progress: called with (texts done, texts in all) after each batch.

        Raises:
            As `capture`; the message of a text's error tells which text it is.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; expected at least 1.")
        if word_spans is not None and len(word_spans) != len(texts):
            raise UsageError(f"word_spans has {len(word_spans)} entries for {len(texts)} texts; expected one each.")
        chosen = self._mode(mode)
        window = batch_size * _SORTED_BATCHES
        done = 0
        for start in range(0, len(texts), window):
            encoded = [
                self._encode_nth(i, texts[i], bos, None if word_spans is None else word_spans[i])
                for i in range(start, min(start + window, len(texts)))
            ]
            order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].tokens))
            runs: dict[int, Capture] = {}
            for batch in (order[i : i + batch_size] for i in range(0, len(order), batch_size)):
                runs.update(zip(batch, self._run([encoded[i] for i in batch], chosen, points, logits), strict=True))
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
            yield from (runs.pop(i) for i in range(len(encoded)))

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
        encoded = encode(self.tokenizer, text)
        self._check_length(encoded)
        heads = (self.anatomy.n_layers, self.anatomy.n_heads)
        return explain_logit(self.model, self.tokenizer, encoded, heads, target, against, position, steps)

    def n_tokens(self, text: Text, *, bos: bool | None = None) -> int:
        """How many tokens `text` becomes, special ones included."""
        return len(encode(self.tokenizer, text, bos=bos).tokens)

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

    def _encode_nth(
        self, index: int, text: str, bos: bool | None, spans: Sequence[tuple[int, int]] | None
    ) -> EncodedText:
        try:
            encoded = encode(self.tokenizer, text, bos=bos, word_spans=spans)
            self._check_length(encoded)
        except TextError as error:
            raise TextError(f"text {index + 1}: {error}") from error
        return encoded

    def _mode(self, mode: str | None) -> str:
        """The mode to run in, proven possible.

        Raises:
            UsageError: no such mode.
            CaptureError: lazy, for a family whose scores need more than queries, keys and a mask.
        """
        if mode is None:
            return next(name for name, recorder in _RECORDERS.items() if recorder is self._recorder)
        if mode not in _RECORDERS:
            raise UsageError(f"mode {mode!r} does not exist; expected one of {', '.join(_RECORDERS)}.")
        if mode == "lazy" and self._recorder is not LazyRecorder:
            raise CaptureError(
                f"{self.anatomy.architecture} runs in mode='exact' only, since SDPA cannot compute its attention."
            )
        return mode

    def _check_length(self, encoded: EncodedText) -> None:
        limit = self.anatomy.max_length
        if limit is not None and len(encoded.tokens) > limit:
            raise TextError(
                f"the text has {len(encoded.tokens)} tokens, {self.anatomy.model} takes at most {limit}; "
                "shorten it or split it."
            )
        vocabulary = self.anatomy.vocab_size
        if beyond := [token for token in encoded.tokens if token.id >= vocabulary]:
            raise UnsupportedModelError(
                f"the tokenizer does not fit the model: token {beyond[0].label!r} has id {beyond[0].id}, "
                f"the model knows 0 to {vocabulary - 1}; load them from the same folder."
            )

    def _run(self, texts: Sequence[EncodedText], mode: str, points: Sequence[str], logits: bool) -> Iterator[Capture]:
        """One forward pass over a batch, cut into one run per text."""
        for text in texts:
            self._check_length(text)
        self._check_points(points)
        lengths = [len(text.tokens) for text in texts]
        recorder = _RECORDERS[mode](lengths)
        batch = pad(self.model, texts, self.tokenizer.pad_token_id or 0)
        runs_head = logits and self.model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]
        entry = self.model if runs_head else self.model.base_model
        with (
            torch.no_grad(),
            recording_residuals(self.model, self._layers, self._wiring, points) as stream,
            recording(self.model, recorder),
        ):
            output = entry(**batch, **without_cache(self.model))
        if len(recorder.layers) != self.anatomy.n_layers:
            raise CaptureError(
                f"{len(recorder.layers)} of {self.anatomy.n_layers} layers reached the capture; open the model again "
                "if it was changed since."
            )
        for row, text in enumerate(texts):
            yield Capture(
                text=text.text,
                tokens=text.tokens,
                words=text.words,
                anatomy=self.anatomy,
                mode=mode,
                settings={"mode": mode, "bos_added": text.bos_added, "points": list(points)},
                versions=self._versions,
                patterns=recorder.patterns(row),
                stream={point: _cut(stream[point], row, lengths[row], point in ONCE) for point in points},
                logits=_cut([output.logits], row, lengths[row], True) if runs_head else None,
            )

    def _check_points(self, points: Sequence[str]) -> None:
        for point in points:
            if point not in ONCE + PER_LAYER:
                raise UsageError(
                    f"{point!r} is no point of the residual stream; expected some of {', '.join(ONCE + PER_LAYER)}."
                )
            if reason := self.anatomy.absent.get(point):
                raise CaptureError(f"{point!r} is not available for {self.anatomy.model}: {reason}.")

    def _examine(self, loaded: LoadedModel) -> Anatomy:
        """Run the self-check and gather sizes, measured where they can be."""
        model, config = loaded.model, loaded.model.config.get_text_config()
        findings = check_model(model, self._layers, self._wiring, self._recorder)
        n_heads = int(config.num_attention_heads)
        return Anatomy(
            model=loaded.name,
            family=config.model_type,
            architecture=type(model).__name__,
            causal=findings.causal,
            n_layers=len(self._layers),
            n_heads=n_heads,
            n_kv_heads=int(getattr(config, "num_key_value_heads", None) or n_heads),
            d_model=int(config.hidden_size),
            d_head=int(getattr(config, "head_dim", None) or config.hidden_size // n_heads),
            vocab_size=vocabulary_size(model),
            max_length=longest_text(model),
            position=position_scheme(model),
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            dtype=str(model.dtype).removeprefix("torch."),
            weights_sha256=loaded.weights_sha256,
            revision=loaded.revision,
            backend=str(config._attn_implementation),
            residual_points=(ONCE[0], *findings.proven, ONCE[1]),
            absent=findings.absent,
            self_check=findings.self_check,
        )


def library_versions() -> dict[str, str]:
    """Versions of what computed a result."""
    return {
        "attnlens": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def _cut(values: Sequence[Tensor], row: int, length: int, once: bool) -> Tensor:
    """The real positions of one text out of a batch: `[position width]`, or `[layer position width]` unless `once`."""
    own = torch.stack([layer[row, :length] for layer in values]).cpu()
    return own[0] if once else own

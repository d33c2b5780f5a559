"""One tiny model of every family that capture reads, with random weights wide enough for attention to be far from flat.

Each `FamilyModel` builds its model, the tensors to call it with, and a tokenizer that fits its vocabulary, all in
code: no download. Within one model the numbers of layers, heads, key heads and head dimensions, the width, the MLP
width, the vocabulary and the default length (11) differ where the family allows it, so that a mixed-up axis is an
error of shape. The families that force two of them to be equal say so below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import EncoderDecoderConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

Kind = Literal["encoder", "decoder", "encoder-decoder", "vision", "speech"]
Path = Literal["interface", "softmax"]
Padding = Literal["none", "right", "left"]

PAD_FIRST = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
PAD_SECOND = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's order, which also numbers its positions
N_SPECIAL = len(PAD_FIRST)
N_VOCABULARY = N_SPECIAL + 256
MAX_POSITIONS = 64
IMAGE = (3, 12, 20)  # channels, height and width: 3 x 5 patches of 4 x 4, and one [CLS]: 16 positions
MELS = (10, 26)  # bands and frames: the encoder of Whisper makes 13 positions of them


@dataclass(frozen=True, kw_only=True)
class FamilyModel:
    """The recipe of one tiny model.

    Attributes:
        name: of the family, and of the variant after a hyphen.
        kind: how many stacks there are and what goes in.
        path: "interface" if the attention function is called, "softmax" if the family bypasses it.
        architecture: the class in transformers that users load.
        settings: of its config, without vocabulary and special tokens.
        gain: standard deviation of a linear map's output for unit input; scores grow with its square.
        specials: the first tokens of the vocabulary, by id.
        frame: the special tokens around a text, `$A` the text.
        takes_segments: the inputs have `token_type_ids`.
        needs_position_ids: positions are learned and not derived from the mask, so left padding must number them.
    """

    name: str
    kind: Kind
    path: Path = "interface"
    architecture: str
    settings: Mapping[str, Any] = field(repr=False)
    gain: float = 1.5
    specials: tuple[str, ...] = PAD_FIRST
    frame: str = "$A"
    takes_segments: bool = False
    needs_position_ids: bool = False

    @property
    def paddings(self) -> tuple[Padding, ...]:
        """Where a batch of this family can be padded."""
        if self.kind in ("vision", "speech"):
            return ("none",)
        return ("none", "right", "left") if self.kind == "decoder" else ("none", "right")

    @property
    def pad_token_id(self) -> int:
        return self.specials.index("<pad>")

    def build(self, seed: int = 0) -> PreTrainedModel:
        """The model in evaluation mode and float32, with the attention implementation that it has by default."""
        if self.architecture == "EncoderDecoderModel":
            model = _encoder_decoder(self)
        else:
            architecture: Any = getattr(transformers, self.architecture)
            config = architecture.config_class(**self._vocabulary_settings(), **self.settings)
            model = architecture(config)
        draw_wide_weights(model, gain=self.gain, seed=seed)
        return model.eval()

    def inputs(self, batch: int = 2, length: int = 11, padding: Padding = "none", seed: int = 0) -> dict[str, Tensor]:
        """Random tensors to call the model with; the second row is shorter by 4 where there is padding.

        Texts are int64 `[batch length]` with an attention mask, targets `[batch max(1, length - 4)]` without one.
        Pictures are `[batch 3 12 20]` and mel features `[batch 10 26]`, whatever `length` is.
        """
        if padding not in self.paddings:
            raise ValueError(f"{self.name} takes no {padding} padding; expected one of {self.paddings}.")
        generator = torch.Generator().manual_seed(seed)
        if self.kind == "vision":
            return {"pixel_values": torch.randn(batch, *IMAGE, generator=generator)}
        if self.kind == "speech":
            features = {"input_features": torch.randn(batch, *MELS, generator=generator)}
            return features | {"decoder_input_ids": self._target(batch, length, generator)}
        inputs = self._text(batch, length, padding, generator)
        if self.kind == "encoder-decoder":
            inputs["decoder_input_ids"] = self._target(batch, length, generator)
        return inputs

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """A token per byte, after the special tokens; None for pictures. For Whisper it reads the target."""
        if self.kind == "vision":
            return None
        vocabulary = {piece: index for index, piece in enumerate([*self.specials, *_byte_letters()])}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        last = self.frame.split("$A")[1]
        backend.post_processor = processors.TemplateProcessing(
            single=self.frame,
            pair=f"{self.frame} $B:1{last and f'{last}:1'}",
            special_tokens=[(token, vocabulary[token]) for token in self.specials],
        )
        names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token", "mask_token"), PAD_FIRST, strict=True))
        segments = ["token_type_ids"] if self.takes_segments else []
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            **names,
            model_max_length=MAX_POSITIONS - 4,  # RoBERTa and OPT spend some of their positions on an offset
            model_input_names=["input_ids", *segments, "attention_mask"],
            padding_side="left" if self.kind == "decoder" else "right",
            clean_up_tokenization_spaces=False,
        )

    def _vocabulary_settings(self) -> dict[str, Any]:
        if self.kind == "vision":
            return {}
        ids = {f"{name}_token_id": self.specials.index(token) for name, token in _CONFIG_TOKENS.items()}
        return {"vocab_size": N_VOCABULARY, **ids}

    def _text(self, batch: int, length: int, padding: Padding, generator: torch.Generator) -> dict[str, Tensor]:
        missing = (torch.arange(batch) * 4 % length)[:, None] if padding != "none" else torch.zeros(batch, 1)
        column = torch.arange(length)[None]
        keep = column >= missing if padding == "left" else column < length - missing
        ids = torch.randint(N_SPECIAL, N_VOCABULARY, (batch, length), generator=generator)
        inputs = {"input_ids": ids.masked_fill(~keep, self.pad_token_id), "attention_mask": keep.long()}
        if self.takes_segments:
            inputs["token_type_ids"] = ((column > length // 3) & keep).long()
        if padding == "left" and self.needs_position_ids:
            inputs["position_ids"] = (keep.cumsum(-1) - 1).clamp(min=0)
        return inputs

    def _target(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        ids = torch.randint(N_SPECIAL, N_VOCABULARY, (batch, max(1, length - 4)), generator=generator)
        ids[:, 0] = self.settings["decoder_start_token_id"]
        return ids


def draw_wide_weights(model: PreTrainedModel, *, gain: float, seed: int) -> None:
    """Draw every trainable parameter anew, in place; fixed sinusoids stay, and tied weights stay tied."""
    generator = torch.Generator().manual_seed(seed)
    drawn: set[int] = set()
    with torch.no_grad():
        # Embeddings first: an output layer may share their weight, and come before them.
        for module in sorted(model.modules(), key=lambda module: not isinstance(module, nn.Embedding)):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and id(parameter) not in drawn:
                    drawn.add(id(parameter))
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(_drawn(module, name, parameter, noise, gain))
        bias = getattr(model, "final_logits_bias", None)  # BART's is a buffer, and zero unless it was trained
        if isinstance(bias, Tensor):
            bias.copy_(torch.randn(bias.shape, generator=generator))


def _drawn(module: nn.Module, name: str, parameter: Tensor, noise: Tensor, gain: float) -> Tensor:
    if "Norm" in type(module).__name__:  # freshly built it is neutral: 1, or 0 where the family adds 1 (Gemma)
        return parameter + 0.2 * noise
    if parameter.ndim == 1:
        return noise if name == "sinks" else 0.3 * noise
    if isinstance(module, Conv1D):
        return gain * noise / math.sqrt(parameter.shape[0])
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return gain * noise / math.sqrt(parameter[0].numel())
    is_map = isinstance(module, nn.Linear) or "Router" in type(module).__name__ or "Experts" in type(module).__name__
    return gain * noise / math.sqrt(parameter.shape[-1]) if is_map else noise  # else an embedding or a table of biases


def _encoder_decoder(family: FamilyModel) -> PreTrainedModel:
    """A BERT that a GPT-2 of another width looks at."""
    ids = family._vocabulary_settings()
    encoder = transformers.BertConfig(**ids, **family.settings["encoder"])
    decoder = transformers.GPT2Config(**ids, **family.settings["decoder"])
    config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = family.settings["decoder_start_token_id"]
    config.pad_token_id, config.eos_token_id = ids["pad_token_id"], ids["eos_token_id"]
    return transformers.EncoderDecoderModel(config=config)


def _byte_letters() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


_CONFIG_TOKENS = {"pad": "<pad>", "bos": "<s>", "eos": "</s>"}
_POSITIONS = {"max_position_embeddings": MAX_POSITIONS}

_WRAPPED, _STARTED, _ENDED = "<s> $A </s>", "<s> $A", "$A </s>"

# Encoders. Two segments are as many as the rows of a default batch.
_BERT = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 20, "intermediate_size": 37, **_POSITIONS}
_DISTILBERT = {"n_layers": 3, "n_heads": 4, "dim": 20, "hidden_dim": 37, **_POSITIONS}
_MODERNBERT = {
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "hidden_size": 24,
    "intermediate_size": 37,
    "local_attention": 6,  # three tokens to each side, on the layers that are not global
    "global_attn_every_n_layers": 3,
    "cls_token_id": 1,
    "sep_token_id": 2,
    **_POSITIONS,
}
_DEBERTA = _BERT | {
    "relative_attention": True,
    "position_buckets": 6,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}

# Decoders. GPT-2, GPT-Neo, GPT-J, GPT-NeoX, OPT, BLOOM: as many key heads as heads. Falcon: one, or its own groups.
_GPT2 = {"n_layer": 2, "n_head": 3, "n_embd": 21, "n_inner": 44, "n_positions": MAX_POSITIONS}
_GPT_NEO = {
    "num_layers": 4,
    "num_heads": 3,
    "hidden_size": 21,
    "intermediate_size": 44,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 5,
    **_POSITIONS,
}
_GPT_NEOX = {"num_hidden_layers": 4, "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 44, **_POSITIONS}
_GPTJ = {"n_layer": 4, "n_head": 3, "n_embd": 24, "rotary_dim": 6, "n_inner": 44, "n_positions": MAX_POSITIONS}
_OPT = {"num_hidden_layers": 4, "num_attention_heads": 3, "hidden_size": 21, "ffn_dim": 44, **_POSITIONS}
_BLOOM = {"n_layer": 4, "n_head": 3, "hidden_size": 21}
_FALCON = {"num_hidden_layers": 4, "num_attention_heads": 3, "hidden_size": 24, "ffn_hidden_size": 44, **_POSITIONS}
_FALCON_ALIBI = _FALCON | {"alibi": True, "multi_query": False, "bias": True}
_FALCON_GROUPED = _FALCON | {"num_attention_heads": 6, "num_kv_heads": 3, "new_decoder_architecture": True}
# Heads x d_head is not the width here, except in Qwen2 and Phi-3, which take d_head from the width.
_GROUPED = {
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "hidden_size": 36,  # the fused experts want rows of a multiple of 16 bytes
    "intermediate_size": 44,
    **_POSITIONS,
}
_QWEN2 = _GROUPED | {"num_hidden_layers": 5, "hidden_size": 24, "head_dim": 4}
_PHI3 = {name: value for name, value in _QWEN2.items() if name != "head_dim"}
_MIXED_WINDOWS = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
_EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 5}
_YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 4.0,
        "original_max_position_embeddings": MAX_POSITIONS // 4,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
    }
}
_GEMMA2 = (
    _GROUPED
    | _ALTERNATING
    | {
        "query_pre_attn_scalar": 10,
        "attn_logit_softcapping": 3.0,  # low enough to bend most scores
        "final_logit_softcapping": 9.0,
    }
)
_GEMMA3 = _GROUPED | _ALTERNATING | {"query_pre_attn_scalar": 3}

# Two stacks, of different depth and, where the family allows it, with different heads.
_T5 = {
    "num_layers": 4,
    "num_decoder_layers": 2,  # not more than num_layers: `generate` makes as many caches as that
    "num_heads": 3,
    "d_kv": 6,
    "d_model": 20,
    "d_ff": 37,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
}
_BART = {
    "encoder_layers": 2,
    "decoder_layers": 5,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 4,
    "d_model": 24,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 44,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    **_POSITIONS,
}
_MARIAN = _BART | {"decoder_start_token_id": 0}
_WHISPER = {name: value for name, value in _BART.items() if name not in (*_POSITIONS, "forced_eos_token_id")} | {
    "num_mel_bins": MELS[0],
    "max_source_positions": MELS[1] // 2,
    "max_target_positions": MAX_POSITIONS,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
_BERT_GPT2 = {"encoder": _BERT, "decoder": _GPT2, "decoder_start_token_id": 1}

_VIT = {
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_size": 20,
    "intermediate_size": 37,
    "num_channels": IMAGE[0],
    "image_size": IMAGE[1:],
    "patch_size": 4,
    "num_labels": 7,
}


def _encoder(name: str, architecture: str, settings: Mapping[str, Any], **options: Any) -> FamilyModel:
    options = {"frame": _WRAPPED} | options
    return FamilyModel(name=name, kind="encoder", architecture=architecture, settings=settings, **options)


def _decoder(name: str, architecture: str, settings: Mapping[str, Any], **options: Any) -> FamilyModel:
    return FamilyModel(name=name, kind="decoder", architecture=architecture, settings=settings, **options)


def _pair(name: str, architecture: str, settings: Mapping[str, Any], **options: Any) -> FamilyModel:
    options = {"kind": "encoder-decoder", "frame": _ENDED} | options
    return FamilyModel(name=name, architecture=architecture, settings=settings, **options)


_ALL = (
    _encoder("bert", "BertForMaskedLM", _BERT, takes_segments=True),
    _encoder("roberta", "RobertaForMaskedLM", _BERT, specials=PAD_SECOND),
    _encoder("xlm-roberta", "XLMRobertaForMaskedLM", _BERT, specials=PAD_SECOND),
    _encoder("distilbert", "DistilBertForMaskedLM", _DISTILBERT),
    _encoder("electra", "ElectraForMaskedLM", _BERT | {"embedding_size": 14}, takes_segments=True),
    _encoder("albert", "AlbertForMaskedLM", _BERT | {"embedding_size": 14}, takes_segments=True),
    _encoder("modernbert", "ModernBertForMaskedLM", _MODERNBERT),
    _encoder("deberta-v2", "DebertaV2ForMaskedLM", _DEBERTA, path="softmax"),
    _encoder("mpnet", "MPNetForMaskedLM", _BERT, path="softmax", specials=PAD_SECOND),
    _decoder("gpt2", "GPT2LMHeadModel", _GPT2, needs_position_ids=True),
    _decoder(
        "gpt2-upcast",
        "GPT2LMHeadModel",
        _GPT2 | {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
        needs_position_ids=True,
    ),
    # GPT-Neo and T5 do not divide their scores by the square root of d_head, hence the lower gain.
    _decoder("gpt_neo", "GPTNeoForCausalLM", _GPT_NEO, path="softmax", gain=1.1, needs_position_ids=True),
    _decoder("gpt_neox", "GPTNeoXForCausalLM", _GPT_NEOX),
    _decoder("gpt_neox-sequential", "GPTNeoXForCausalLM", _GPT_NEOX | {"use_parallel_residual": False}),
    _decoder("gptj", "GPTJForCausalLM", _GPTJ, path="softmax"),
    _decoder("opt", "OPTForCausalLM", _OPT, specials=PAD_SECOND, frame=_STARTED),
    _decoder(
        "opt-post-norm", "OPTForCausalLM", _OPT | {"do_layer_norm_before": False}, specials=PAD_SECOND, frame=_STARTED
    ),
    _decoder("bloom", "BloomForCausalLM", _BLOOM, path="softmax"),
    _decoder("falcon", "FalconForCausalLM", _FALCON, path="softmax"),
    _decoder("falcon-alibi", "FalconForCausalLM", _FALCON_ALIBI, path="softmax"),
    _decoder("falcon-sequential", "FalconForCausalLM", _FALCON_ALIBI | {"parallel_attn": False}, path="softmax"),
    _decoder("falcon-grouped", "FalconForCausalLM", _FALCON_GROUPED, path="softmax"),
    _decoder("llama", "LlamaForCausalLM", _GROUPED, frame=_STARTED),
    _decoder("mistral", "MistralForCausalLM", _GROUPED | {"sliding_window": 4}, frame=_STARTED),
    _decoder("mixtral", "MixtralForCausalLM", _GROUPED | _EXPERTS, frame=_STARTED),
    _decoder("qwen2", "Qwen2ForCausalLM", _QWEN2 | _MIXED_WINDOWS),
    _decoder("qwen3", "Qwen3ForCausalLM", _GROUPED),
    _decoder("gemma2", "Gemma2ForCausalLM", _GEMMA2, frame=_STARTED),
    _decoder("gemma3", "Gemma3ForCausalLM", _GEMMA3, frame=_STARTED),
    _decoder("phi3", "Phi3ForCausalLM", _PHI3 | {"sliding_window": 6}, frame=_STARTED),
    _decoder("gpt_oss", "GptOssForCausalLM", _GROUPED | _ALTERNATING | _EXPERTS | _YARN),
    _pair("t5", "T5ForConditionalGeneration", _T5, gain=1.1),
    _pair("bart", "BartForConditionalGeneration", _BART, specials=PAD_SECOND, frame=_WRAPPED),
    _pair("marian", "MarianMTModel", _MARIAN),
    _pair("bert-gpt2", "EncoderDecoderModel", _BERT_GPT2, frame=_WRAPPED),
    _pair("whisper", "WhisperForConditionalGeneration", _WHISPER, kind="speech", frame=_WRAPPED),
    FamilyModel(name="vit", kind="vision", architecture="ViTForImageClassification", settings=_VIT),
)

FAMILIES: dict[str, FamilyModel] = {family.name: family for family in _ALL}

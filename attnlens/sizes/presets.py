"""Published models as configurations, each with its source; every size is computed from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from attnlens.errors import UsageError

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True)
class Preset:
    """One published configuration.

    Attributes:
        name: what `--preset` takes.
        title: for a reader.
        source: who published it, where.
        parameters: as published, with the precision of the publication.
        active: of a mixture of experts, as published; None elsewhere.
        architecture: the class in transformers.
        settings: of its config.
        note: what the publication and the computed size differ in.
    """

    name: str
    title: str
    source: str
    parameters: float
    architecture: str
    settings: Mapping[str, Any]
    active: float | None = None
    note: str = ""

    def config(self) -> PretrainedConfig:
        """The configuration, as transformers has it."""
        settings = dict(self.settings)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        assert isinstance(config, PretrainedConfig)
        config.architectures = [self.architecture]
        return config


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name[:80]!r}; attnlens size --presets lists them: {', '.join(PRESETS)}.")
    return PRESETS[name]


_VASWANI = "Vaswani et al. 2017, Attention Is All You Need, table 3 (arXiv:1706.03762)"
_DEVLIN = "Devlin et al. 2019, BERT, section 3 (arXiv:1810.04805)"
_RADFORD = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 2"
_BROWN = "Brown et al. 2020, Language Models are Few-Shot Learners, table 2.1 (arXiv:2005.14165)"
_RAFFEL = "Raffel et al. 2020, T5, section 3.7 (arXiv:1910.10683)"
_TOUVRON = "Touvron et al. 2023, LLaMA, table 2 (arXiv:2302.13971)"
_TOUVRON2 = "Touvron et al. 2023, Llama 2, table 1 (arXiv:2307.09288)"
_DUBEY = "Dubey et al. 2024, The Llama 3 Herd of Models, table 3 (arXiv:2407.21783)"
_GEMMA2 = "Gemma Team 2024, Gemma 2, tables 1 and 2 (arXiv:2408.00118)"
_QWEN25 = "Qwen Team 2024, Qwen2.5 Technical Report, table 1 (arXiv:2412.15115), and its model cards"


def _transformer(name: str, title: str, parameters: float, width: int, heads: int) -> Preset:
    sizes = {"d_model": width, "encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4 * width}
    shape = {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in (("layers", 6),)}
    attention = {f"{side}_attention_heads": heads for side in ("encoder", "decoder")}
    settings = {"model_type": "marian", "vocab_size": 37000, "max_position_embeddings": 1024} | dict.fromkeys(
        ("pad_token_id", "eos_token_id", "decoder_start_token_id", "forced_eos_token_id"), 0
    )
    note = "the vocabulary is about 37,000; sinusoids, which are not trained, are counted"
    return Preset(name, title, _VASWANI, parameters, "MarianMTModel", settings | sizes | shape | attention, note=note)


def _bert(name: str, title: str, parameters: float, layers: int, width: int, heads: int) -> Preset:
    settings = {
        "model_type": "bert", "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "vocab_size": 30522, "max_position_embeddings": 512,
    }  # fmt: skip
    return Preset(name, title, _DEVLIN, parameters, "BertForPreTraining", settings)


def _gpt2(name: str, title: str, parameters: float, layers: int, width: int, heads: int, **more: Any) -> Preset:
    settings = {
        "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads, "n_inner": 4 * width,
        "vocab_size": 50257, "n_positions": 1024,
    }  # fmt: skip
    note = more.pop("note", "parameters as its authors corrected them in their repository")
    source = more.pop("source", _RADFORD)
    return Preset(name, title, source, parameters, "GPT2LMHeadModel", settings | more, note=note)


def _t5(name: str, title: str, parameters: float, layers: int, width: int, ff: int, heads: int, head: int) -> Preset:
    settings = {
        "model_type": "t5", "num_layers": layers, "num_decoder_layers": layers, "d_model": width, "d_ff": ff,
        "num_heads": heads, "d_kv": head, "vocab_size": 32128,
    }  # fmt: skip
    return Preset(name, title, _RAFFEL, parameters, "T5ForConditionalGeneration", settings, note="published rounded")


def _decoder(
    name: str, title: str, source: str, parameters: float, kind: str, architecture: str,
    layers: int, width: int, ff: int, heads: int, kv_heads: int, vocabulary: int, positions: int, **more: Any,
) -> Preset:  # fmt: skip
    active, note = more.pop("active", None), more.pop("note", "")
    settings = {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": ff,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": positions, "dtype": "bfloat16",
    }  # fmt: skip
    return Preset(name, title, source, parameters, architecture, settings | more, active, note)


_LLAMA = ("llama", "LlamaForCausalLM")
_GEMMA = ("gemma2", "Gemma2ForCausalLM")
_QWEN = ("qwen2", "Qwen2ForCausalLM")
_LOCAL: dict[str, Any] = {"sliding_window": 4096}

_ALL = (
    _transformer("transformer-base", "Transformer base", 65e6, 512, 8),
    _transformer("transformer-big", "Transformer big", 213e6, 1024, 16),
    _bert("bert-base", "BERT-base", 110e6, 12, 768, 12),
    _bert("bert-large", "BERT-large", 340e6, 24, 1024, 16),
    _gpt2("gpt2", "GPT-2 small", 124e6, 12, 768, 12),
    _gpt2("gpt2-medium", "GPT-2 medium", 355e6, 24, 1024, 16),
    _gpt2("gpt2-large", "GPT-2 large", 774e6, 36, 1280, 20),
    _gpt2("gpt2-xl", "GPT-2 XL", 1558e6, 48, 1600, 25),
    _gpt2(
        "gpt3", "GPT-3 175B", 175e9, 96, 12288, 96, source=_BROWN, n_positions=2048, dtype="float16",
        note="every layer is reckoned dense; in the publication every other one is locally banded",
    ),
    _t5("t5-small", "T5-small", 60e6, 6, 512, 2048, 8, 64),
    _t5("t5-base", "T5-base", 220e6, 12, 768, 3072, 12, 64),
    _t5("t5-large", "T5-large", 770e6, 24, 1024, 4096, 16, 64),
    _t5("t5-11b", "T5-11B", 11e9, 24, 1024, 65536, 128, 128),
    _decoder("llama-7b", "LLaMA 7B", _TOUVRON, 6.7e9, *_LLAMA, 32, 4096, 11008, 32, 32, 32000, 2048),
    _decoder("llama-65b", "LLaMA 65B", _TOUVRON, 65.2e9, *_LLAMA, 80, 8192, 22016, 64, 64, 32000, 2048),
    _decoder("llama2-70b", "Llama 2 70B", _TOUVRON2, 69e9, *_LLAMA, 80, 8192, 28672, 64, 8, 32000, 4096),
    _decoder("llama3-8b", "Llama 3 8B", _DUBEY, 8.03e9, *_LLAMA, 32, 4096, 14336, 32, 8, 128256, 8192),
    _decoder("llama3-70b", "Llama 3 70B", _DUBEY, 70.6e9, *_LLAMA, 80, 8192, 28672, 64, 8, 128256, 8192),
    _decoder(
        "mistral-7b", "Mistral 7B", "Jiang et al. 2023, Mistral 7B, table 1 (arXiv:2310.06825)", 7.24e9,
        "mistral", "MistralForCausalLM", 32, 4096, 14336, 32, 8, 32000, 32768, **_LOCAL,
    ),
    _decoder(
        "mixtral-8x7b", "Mixtral 8x7B", "Jiang et al. 2024, Mixtral of Experts, table 1 (arXiv:2401.04088)", 46.7e9,
        "mixtral", "MixtralForCausalLM", 32, 4096, 14336, 32, 8, 32000, 32768, active=12.9e9,
        num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
    ),
    _decoder(
        "gemma2-2b", "Gemma 2 2B", _GEMMA2, 2_614_636_800, *_GEMMA, 26, 2304, 9216, 8, 4, 256128, 8192,
        head_dim=256, **_LOCAL,
    ),
    _decoder(
        "gemma2-9b", "Gemma 2 9B", _GEMMA2, 9_242_164_736, *_GEMMA, 42, 3584, 14336, 16, 8, 256128, 8192,
        head_dim=256, **_LOCAL,
    ),
    _decoder(
        "gemma2-27b", "Gemma 2 27B", _GEMMA2, 27_227_718_144, *_GEMMA, 46, 4608, 36864, 32, 16, 256128, 8192,
        head_dim=128, **_LOCAL,
    ),
    _decoder(
        "qwen2.5-0.5b", "Qwen2.5 0.5B", _QWEN25, 0.49e9, *_QWEN, 24, 896, 4864, 14, 2, 151936, 32768,
        tie_word_embeddings=True,
    ),
    _decoder("qwen2.5-7b", "Qwen2.5 7B", _QWEN25, 7.61e9, *_QWEN, 28, 3584, 18944, 28, 4, 152064, 131072),
    _decoder("qwen2.5-72b", "Qwen2.5 72B", _QWEN25, 72.7e9, *_QWEN, 80, 8192, 29568, 64, 8, 152064, 131072),
    _decoder(
        "qwen3-30b-a3b", "Qwen3 30B-A3B", "Qwen Team 2025, Qwen3 Technical Report, table 2 (arXiv:2505.09388)", 30.5e9,
        "qwen3_moe", "Qwen3MoeForCausalLM", 48, 2048, 6144, 32, 4, 151936, 40960, active=3.3e9, head_dim=128,
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, mlp_only_layers=[], decoder_sparse_step=1,
    ),
)  # fmt: skip

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
"""By name, family by family."""

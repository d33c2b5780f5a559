"""What every position scheme is, in plain words: a sentence, the formula, who made it and which models have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SCHEMES", "SchemeText"]


@dataclass(frozen=True)
class SchemeText:
    """One scheme.

    Attributes:
        name: as a reader says it.
        sentence: what it does.
        formula: one line of plain text; empty where there is none.
        source: author, year, identifier; empty where there is none.
        users: well-known models that have it.
        beyond: what happens to positions that training never saw.
    """

    name: str
    sentence: str
    formula: str
    source: str
    users: str
    beyond: str


SCHEMES: Mapping[str, SchemeText] = {
    "sinusoidal": SchemeText(
        "Sinusoids",
        "Every position has a fixed vector of sines and cosines, fast ones first, that is added to the word's vector.",
        "PE(p, 2i) = sin(p / 10000^(2i/d))    PE(p, 2i+1) = cos(p / 10000^(2i/d))",
        "Vaswani et al. 2017, arXiv:1706.03762, section 3.5",
        "Transformer (2017), Marian, Whisper's encoder",
        "The formula goes on for ever, but the model never learned to read what comes then.",
    ),
    "learned": SchemeText(
        "Learned table",
        "Every position has a vector of its own, learned like the words' vectors, that is added to the word's vector.",
        "x_p = word + table[p]",
        "Gehring et al. 2017, arXiv:1705.03122, section 3.1",
        "BERT, GPT-2, OPT, BART, ViT",
        "The table ends: the next position has no vector.",
    ),
    "rope": SchemeText(
        "Rotary (RoPE)",
        "Nothing is added: pairs of numbers of each query and key are turned like clock hands, by an angle that grows "
        "with the position. What two words score depends on how far apart they are, never on where.",
        "q′ = R(p·θ) q    k′ = R(s·θ) k    θ_i = base^(−2i/d)    so    q′·k′ = q·R((s−p)·θ) k",
        "Su et al. 2021, arXiv:2104.09864, section 3.2",
        "LLaMA, Mistral, Gemma, Qwen, GPT-NeoX, ModernBERT",
        "The hands turn on, but slow ones reach angles that the model never saw.",
    ),
    "alibi": SchemeText(
        "ALiBi",
        "Nothing is added to the words: each head's scores lose a fixed amount for every token of distance, much in "
        "some heads and little in others.",
        "score(p, s) = q·k / √d_k − slope_h · |p − s|    slope_h = 2^(−8h/n)",
        "Press et al. 2021, arXiv:2108.12409, section 3",
        "BLOOM, MPT",
        "Nothing ends: far tokens just lose more. It was made for texts longer than those of training.",
    ),
    "relative bias": SchemeText(
        "Bias by distance (T5)",
        "Nothing is added to the words: each head has a learned number for each distance, added to the scores; far "
        "distances share a number.",
        "score(p, s) = q·k + bias_h[bucket(s − p)]",
        "Raffel et al. 2020, arXiv:1910.10683, section 2.1",
        "T5, MPNet (beside a table)",
        "Nothing ends: all distances beyond the last bucket share its number.",
    ),
    "none": SchemeText(
        "No positions",
        "Nothing tells places apart: the same words in any order are the same to this model, unless a mask tells.",
        "",
        "",
        "",
        "There is nothing to end.",
    ),
    "unknown": SchemeText(
        "Not known",
        "How this model tells places apart was not found by rule, so nothing is claimed about it.",
        "",
        "",
        "",
        "What happens beyond the texts of training is not known.",
    ),
}

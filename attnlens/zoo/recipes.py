"""How each embedded model is made: sizes, seeds and schedule, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AGREEMENT_FIRST",
    "AGREEMENT_SENTENCES",
    "CORPUS_DOCUMENTS",
    "CORPUS_SEED",
    "PAIRS_DOCUMENTS",
    "PAIRS_SEED",
    "RECIPES",
    "Recipe",
]

# Text that no model trains on: the embedded corpus, and the documents that the evaluation pairs are cut from.
CORPUS_SEED = 20_240
CORPUS_DOCUMENTS = 180
PAIRS_SEED = 20_250
PAIRS_DOCUMENTS = 2_500
# Sentences of these that the corpus has besides, since too few others put a noun of the other number before a verb.
# They begin behind those documents whose pairs interventions ask about, so that labels and their tests share no text.
AGREEMENT_SENTENCES = 80
AGREEMENT_FIRST = 1_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One embedded model: what it is and how it is trained.

    Documents without an attractor between a subject and its verb are kept with probability `plain_share`, so that
    agreement is not learned from the nearest noun. `invented_share` of the documents have invented nouns and names;
    `single_share` of them are cut down to their first sentence (short texts are where word order is learned first);
    `long_share` of the texts are several documents in a row, so that late positions are trained too;
    The first `induction_first` steps, and `induction_share` of the others, train on repeated random tokens instead of
    text.
    """

    name: str
    family: str
    seed: int
    n_documents: int = 60_000
    plain_share: float = 1.0
    single_share: float = 0.0
    invented_share: float = 0.06
    long_share: float = 0.03
    vocab_size: int = 1_000
    n_layers: int = 3
    n_heads: int = 4
    n_kv_heads: int = 4
    d_model: int = 128
    d_feed_forward: int = 384
    max_length: int = 128
    steps: int = 4_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    induction_first: int = 0
    induction_share: float = 0.0


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="tiny-bert", family="bert", seed=11, n_documents=150_000, plain_share=0.4, single_share=0.6,
            steps=6_000, batch_size=96, learning_rate=1.5e-3,
        ),
        Recipe(name="tiny-gpt2", family="gpt2", seed=12, steps=3_200),
        Recipe(
            name="tiny-llama", family="llama", seed=13, n_kv_heads=2, d_feed_forward=256, max_length=256,
            steps=3_800, learning_rate=2e-3, induction_first=700, induction_share=0.2,
        ),
    )
}  # fmt: skip

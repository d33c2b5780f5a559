"""What the stream already predicts, and what each of its parts adds to a prediction: logit lens, direct attribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

__all__ = ["EarlyChoices", "FrozenNorm", "LensReading", "direct_shares", "early_choices", "read_lens", "top_tokens"]


@dataclass(frozen=True)
class FrozenNorm:
    """A norm layer with its divisor held fixed at one run's values, so that it is an affine map for each position.

    `y = gain * (x - mean(x)) / sigma + bias`, without the mean for RMS norms. Exact at the run itself, and the sum of
    its parts is the part of the sum; what the parts would do to sigma is left out.

    Attributes:
        gain: the norm's weight, `[d_model]`.
        bias: `[d_model]`; None where it has none.
        sigma: one divisor per position.
        centred: True for LayerNorm, which takes the mean away.
    """

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    sigma: Float[Tensor, " position"]
    centred: bool

    def undivided(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The linear part without the division by sigma, which differs from position to position."""
        moved = vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors
        return moved * self.gain.to(vectors)

    def linear(self, vectors: Float[Tensor, "*batch position d_model"]) -> Float[Tensor, "*batch position d_model"]:
        """The linear part, without the bias."""
        return self.undivided(vectors) / self.sigma.to(vectors)[:, None]

    def direction(self, unembedding: Float[Tensor, " d_model"], position: int) -> Float64[Tensor, " d_model"]:
        """The direction in front of the norm whose inner product with the stream is that with its output, less bias."""
        scaled = unembedding.double() * self.gain.double()
        if self.centred:
            scaled = scaled - scaled.mean()
        return scaled / self.sigma.double()[position]

    def constant(self, unembedding: Float[Tensor, " d_model"]) -> float:
        """What the norm's bias adds to the inner product."""
        return 0.0 if self.bias is None else float(self.bias.double() @ unembedding.double())


def direct_shares(
    writes: Float[Tensor, "*batch d_model"], direction: Float[Tensor, " d_model"]
) -> Float64[Tensor, "*batch"]:
    """What each vector written into the stream adds to a logit, or to a difference of two; in logits, signed.

    Positive speaks for the token (for the first one of two). What embeddings, heads, feed-forward networks and biases
    write sums to the logit when the norm's divisor is frozen; effects by way of later layers are not in it.

    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", section "Path expansion"; Wang et
        al. 2022, "Interpretability in the Wild" (arXiv:2211.00593), section 3.1, for differences.

    Args:
        writes: vectors at the position where the logit is read.
        direction: `FrozenNorm.direction` of the unembedding vector (or of the difference of two).
    """
    return writes.double() @ direction.double()


@dataclass(frozen=True)
class LensReading:
    """What the model would say if it stopped after each layer.

    Attributes:
        agrees: 1 where the first choice is the final one, else 0.
        divergence: Kullback-Leibler divergence D(final | layer), in nats, 0 and above.
        rank: how many tokens stand before the final first choice, from 0.
        probability: of the final first choice, 0 to 1.
        first_choice: the token with the highest logit.
    """

    agrees: Float64[Tensor, "layer position"]
    divergence: Float64[Tensor, "layer position"]
    rank: Int[Tensor, "layer position"]
    probability: Float64[Tensor, "layer position"]
    first_choice: Int[Tensor, "layer position"]


def read_lens(logits: Float[Tensor, "layer position vocab"], final: Float[Tensor, "position vocab"]) -> LensReading:
    """Compare the predictions read off each layer's stream with those at the end.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; the divergence as in Belrose et al. 2023,
        "Eliciting Latent Predictions with the Tuned Lens" (arXiv:2303.08112).

    Args:
        logits: of each layer's stream, sent through the final norm and the prediction head.
        final: the model's own logits.
    """
    choice = final.argmax(-1)
    target = final.double().log_softmax(-1)
    divergence, probability, rank = [], [], []
    for layer in logits:  # one layer at a time: vocabularies are large
        guess = layer.double().log_softmax(-1)
        each = target.exp() * (target - guess)
        divergence.append(torch.where(target == -torch.inf, 0.0, each).sum(-1).clamp_min(0))
        own = layer.gather(-1, choice[:, None])
        rank.append((layer > own).sum(-1))
        probability.append(guess.gather(-1, choice[:, None])[:, 0].exp())
    first = logits.argmax(-1)
    return LensReading(
        agrees=(first == choice).double(),
        divergence=torch.stack(divergence),
        rank=torch.stack(rank),
        probability=torch.stack(probability),
        first_choice=first,
    )


@dataclass(frozen=True, eq=False)
class EarlyChoices:
    """The likeliest tokens if the model stopped after each layer, likeliest first.

    Attributes:
        ids: token ids.
        probability: of each, 0 to 1.
    """

    ids: Int[Tensor, "layer position top"]
    probability: Float64[Tensor, "layer position top"]


def early_choices(logits: Float[Tensor, "layer position vocab"], count: int = 5) -> EarlyChoices:
    """The likeliest tokens that each layer's stream predicts.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

    Args:
        logits: of each layer's stream, sent through the final norm and the prediction head.
        count: how many tokens; at most the vocabulary.
    """
    count = min(count, logits.shape[-1])
    ids, chances = [], []
    for layer in logits:  # one layer at a time: vocabularies are large
        found = layer.double().softmax(-1).topk(count)
        ids.append(found.indices)
        chances.append(found.values)
    return EarlyChoices(torch.stack(ids), torch.stack(chances))


def top_tokens(
    effects: Float[Tensor, "*batch vocab"], count: int = 10
) -> tuple[Int[Tensor, "*batch top"], Int[Tensor, "*batch top"]]:
    """Token ids that a vector promotes most, and those that it suppresses most, strongest first.

    Source: the reading of a head's output through the unembedding, as in Elhage et al. 2021.

    Args:
        effects: what the vector adds to each logit.
        count: how many of each; at most the vocabulary.
    """
    count = min(count, effects.shape[-1])
    return effects.topk(count).indices, (-effects).topk(count).indices

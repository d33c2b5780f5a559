"""Exercise 1: scaled dot-product attention from scratch, held against PyTorch's own."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs `[query d_head]` and weights `[query key]`: softmax(Q K^T / sqrt(d_head)) V.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1 (arXiv:1706.03762).
    """
    scores = query @ key.T / math.sqrt(query.shape[-1])  # one number per pair: how well a key answers a query
    weights = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)  # the shift changes nothing but the range
    weights = weights / weights.sum(dim=-1, keepdim=True)  # each row sums to 1
    return weights @ value, weights


def main() -> None:
    """Compare, and show what the division by the square root is for."""
    torch.manual_seed(0)
    d_head = 64
    query, key, value = (torch.randn(6, d_head) for _ in range(3))

    outputs, weights = attention(query, key, value)
    expected = functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
    difference = float((outputs - expected).abs().max())
    assert difference < 1e-5
    print(f"rows sum to 1: {rounded(weights.sum(-1))}")
    print(f"largest difference from PyTorch: {difference:.0e}")

    plain = torch.softmax(query @ key.T, dim=-1)
    print(f"strongest weight of each row, divided by sqrt({d_head}): {rounded(weights.max(-1).values)}")
    print(f"strongest weight of each row, undivided:        {rounded(plain.max(-1).values)}")
    print("Undivided scores have a spread of sqrt(d_head): the softmax saturates, and its gradient vanishes.")


def rounded(numbers: Tensor) -> list[float]:
    """For the eye."""
    return [round(number, 2) for number in numbers.tolist()]


if __name__ == "__main__":
    main()

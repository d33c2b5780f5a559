"""Exercise 2: a causal mask. What comes later must change nothing, and the softmax must still sum to 1."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and weights, where query i sees keys 0 to i: later scores are minus infinity, their weights 0."""
    scores = query @ key.T / math.sqrt(query.shape[-1])
    later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)  # True above the diagonal
    weights = torch.softmax(scores.masked_fill(later, -math.inf), dim=-1)
    return weights @ value, weights


def main() -> None:
    """Compare with PyTorch's, and change the last token."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(5, 8) for _ in range(3))

    outputs, weights = causal_attention(query, key, value)
    expected = functional.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=True)[0]
    assert float((outputs - expected).abs().max()) < 1e-5
    print("weights (query in rows, key in columns):")
    for row in weights:
        print("  " + "  ".join(f"{weight:.2f}" for weight in row.tolist()))

    key[-1], value[-1] = 100.0, -100.0
    again, _ = causal_attention(query, key, value)
    assert torch.equal(again[:-1], outputs[:-1])
    print("Another last token changes the last row alone:", (again != outputs).any(-1).tolist())

    wrong = torch.softmax(query @ key.T / math.sqrt(8), dim=-1).tril()
    print("Masking after the softmax is a mistake; rows then sum to", [round(x, 2) for x in wrong.sum(-1).tolist()])


if __name__ == "__main__":
    main()

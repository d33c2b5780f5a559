"""Exercise 3: multi-head attention from four linear layers like PyTorch's, and each head's share of the output."""

import torch
from torch import Tensor, nn


class ManyHeads(nn.Module):
    """Self-attention of several heads: split the width, attend in each part, put the parts side by side, mix them.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2 (arXiv:1706.03762).
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        if width % n_heads:
            raise ValueError(f"{n_heads} heads do not divide the width {width}.")
        self.n_heads, self.d_head = n_heads, width // n_heads
        self.to_query, self.to_key, self.to_value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, stream: Tensor) -> Tensor:
        """`[batch position width]` to `[batch head position d_head]`."""
        return stream.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)

    def heads(self, stream: Tensor) -> Tensor:
        """What each head passes on, `[batch head position d_head]`."""
        query, key, value = (self.split(each(stream)) for each in (self.to_query, self.to_key, self.to_value))
        weights = torch.softmax(query @ key.transpose(-1, -2) / self.d_head**0.5, dim=-1)
        return weights @ value

    def forward(self, stream: Tensor) -> Tensor:
        """`[batch position width]` to the same shape."""
        return self.out(self.heads(stream).transpose(1, 2).flatten(-2))


def main() -> None:
    """Give PyTorch's module the same weights, compare, and add the heads' shares up."""
    torch.manual_seed(0)
    ours, theirs = ManyHeads(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        parts = (ours.to_query, ours.to_key, ours.to_value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())

        stream = torch.randn(2, 7, 24)
        outputs, (expected, _) = ours(stream), theirs(stream, stream, stream)
        difference = float((outputs - expected).abs().max())
        assert difference < 1e-5
        print(f"largest difference from torch.nn.MultiheadAttention: {difference:.0e}")

        # W_O is applied to the heads side by side, so it is a sum: one slice of its columns for each head.
        slices = ours.out.weight.view(24, 3, 8)
        shares = torch.einsum("bhpd,whd->bhpw", ours.heads(stream), slices)
        assert float((shares.sum(1) + ours.out.bias - outputs).abs().max()) < 1e-5
        print("output = sum over heads + bias; length of each head's share at position 0:")
        print("  ", [round(length, 3) for length in shares[0, :, 0].norm(dim=-1).tolist()])


if __name__ == "__main__":
    main()

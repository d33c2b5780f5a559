"""Exercise 4: a minimal transformer of your own, opened with attnlens, which finds its parts and proves them."""

import torch
from torch import Tensor, nn

import attnlens
from attnlens.models.families import Family


class Block(nn.Module):
    """Attention and a feed-forward layer; each reads the stream through a norm and adds what it makes (pre-norm)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = (
            nn.LayerNorm(width),
            nn.MultiheadAttention(width, n_heads, batch_first=True),
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The stream behind the block, `[batch position width]`."""
        read = self.attention_norm(stream)
        later = torch.ones(stream.shape[1], stream.shape[1], dtype=torch.bool).triu(1)
        stream = stream + self.attention(read, read, read, attn_mask=later, need_weights=False)[0]
        return stream + self.mlp(self.mlp_norm(stream))


class Minimal(nn.Module):
    """Embeddings of tokens and positions, blocks, and scores of the vocabulary."""

    def __init__(self, vocabulary: int = 50, width: int = 24, n_heads: int = 3, n_layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(32, width)
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        """`[batch position]` to `[batch position vocabulary]`."""
        stream = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            stream = block(stream)
        return self.scores(self.norm(stream))


def main() -> None:
    """Open it, read a head, and hold it against what PyTorch's module says itself."""
    torch.manual_seed(0)
    model = Minimal().eval()
    family = Family(
        name="minimal", claims=lambda module: isinstance(module, Minimal), layers="blocks", attention="attention"
    )
    lens = attnlens.load(model=model, family=family)
    print(
        f"{lens.anatomy.n_layers} layers of {lens.anatomy.n_heads} heads, {lens.anatomy.stacks[0].layout}; self-check:"
    )
    for check in lens.anatomy.self_check.checks[:3]:
        print(f"  {check.name}: {check.value:.1e}  {check.meaning}")

    ids = torch.randint(50, (1, 9))
    run = lens.capture(inputs=ids, points=("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"))
    first = model.blocks[0]
    with torch.no_grad():
        read = first.attention_norm(model.tokens(ids) + model.positions(torch.arange(9)))
        later = torch.ones(9, 9, dtype=torch.bool).triu(1)
        expected = first.attention(read, read, read, attn_mask=later, average_attn_weights=False)[1][0]
    difference = float((run.attention()[0] - expected).abs().max())
    assert difference < 1e-5
    print(f"attention of layer 0, captured and asked for: largest difference {difference:.0e}")
    written = run.residual("resid_pre") + run.residual("attn_out") + run.residual("mlp_out")
    gap = float((written - run.residual("resid_post")).abs().max())
    print(f"stream = what came in + attention + feed-forward, within {gap:.0e}")


if __name__ == "__main__":
    main()

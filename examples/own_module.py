"""Open a module of your own, whose names say nothing to attnlens, through an adapter of a few lines."""

import torch
from torch import Tensor, nn

import attnlens
from attnlens.models.families import Family


class Mixer(nn.Module):
    """Causal attention of three heads, written by hand: one matrix for queries, keys and values, and a softmax."""

    def __init__(self, width: int = 24, n_heads: int = 3) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.together = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, stream: Tensor) -> Tensor:
        """Mix the positions of `stream`, `[batch position width]`."""
        batch, n_positions, width = stream.shape
        query, key, value = self.together(stream).view(batch, n_positions, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        later = torch.ones(n_positions, n_positions, dtype=torch.bool).triu(1)
        weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, n_positions, width))


class Step(nn.Module):
    """What is read goes through a norm, what comes out is added."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.before_mixer = nn.LayerNorm(width)
        self.mixer = Mixer(width)
        self.before_change = nn.LayerNorm(width)
        self.change = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after this step, `[batch position width]`."""
        stream = stream + self.mixer(self.before_mixer(stream))
        return stream + self.change(self.before_change(stream))


class Reader(nn.Module):
    """Ids in, one vector per id out."""

    def __init__(self, n_steps: int = 2, vocabulary: int = 50, width: int = 24) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.steps = nn.ModuleList(Step(width) for _ in range(n_steps))

    def forward(self, ids: Tensor) -> Tensor:
        """`[batch position]` to `[batch position width]`."""
        stream = self.table(ids)
        for step in self.steps:
            stream = step(stream)
        return stream


# To have it found by itself, register it in your package:
#   [project.entry-points."attnlens.families"]
#   reader = "my_package:FAMILY"
FAMILY = Family(
    name="reader",
    claims=lambda model: isinstance(model, Reader),
    layers="steps",  # the list of blocks
    attention="mixer",  # what attends, within a block
)


def main() -> None:
    """Open the module, print what was found and proven, and read one head."""
    torch.manual_seed(0)
    lens = attnlens.load(model=Reader(), family=FAMILY)
    anatomy = lens.anatomy

    print(f"{anatomy.family}: {anatomy.n_layers} layers of {anatomy.n_heads} heads, {anatomy.stacks[0].layout}")
    for check in anatomy.self_check.checks:
        print(f"  {check.name:<11} {check.value:.1e}  {check.meaning}")

    ids = torch.randint(50, (1, 7))
    run = lens.capture(inputs=ids, points=("resid_pre", "attn_out", "resid_mid"))
    print("attention:", tuple(run.attention().shape), "[layer head query key]")
    print("L1H2, last row:", [round(weight, 2) for weight in run.attention(head="L1H2")[-1].tolist()])
    missing = run.residual("resid_mid") - run.residual("resid_pre") - run.residual("attn_out")
    print(f"what attention adds is what the stream gains, within {missing.abs().max():.0e}")


if __name__ == "__main__":
    main()

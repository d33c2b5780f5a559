"""An adapter: which modules of a hand-written model are its layers, and which of them attends."""

import torch
from torch import Tensor, nn

from attnlens.models.families import Family

WIDTH, N_HEADS = 24, 3


class Mixer(nn.Module):
    """Attention of three heads, with one matrix for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.together, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        """Mix the positions of `stream`, `[batch position width]`."""
        query, key, value = self.together(stream).unflatten(-1, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class Step(nn.Module):
    """What is mixed is added to what was there."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = Mixer()

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after this step, `[batch position width]`."""
        return stream + self.mixer(stream)


class Reader(nn.Module):
    """A stack of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(Step() for _ in range(2))

    def forward(self, stream: Tensor) -> Tensor:
        """`[batch position width]` in and out."""
        for step in self.steps:
            stream = step(stream)
        return stream


READER = Family(
    name="reader",
    claims=lambda model: isinstance(model, Reader),
    layers="steps",  # path of the list of layers
    attention="mixer",  # path, within a layer, of what attends
    example=lambda model: torch.randn(2, 12, WIDTH),  # what to call it with while it is checked
)

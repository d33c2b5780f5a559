"""Find the head that looks at the token before, with the library's own measures."""

import torch

import attnlens
from attnlens.measures.patterns import offset_mass, over_queries

TEXTS = ["The keys to the cabinet are on the table.", "The king near the women likes himself."]


def main() -> None:
    """Average the weight on the token before over two sentences, and print the three heads with most of it."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    scores = []
    for run in lens.captures(TEXTS):
        visible = torch.stack([run.visible(layer) for layer in range(run.n_layers)])[:, None]
        mass = offset_mass(run.attention(), -1, visible)  # [layer head query]; NaN where no token stands before
        scores.append(over_queries(mass))  # [layer head]
    mean = torch.stack(scores).mean(0)

    for flat in mean.flatten().argsort(descending=True)[:3].tolist():
        head = lens.anatomy.heads()[flat]
        print(f"{head}: {mean.flatten()[flat]:.2f} of its attention goes to the token before")


if __name__ == "__main__":
    main()

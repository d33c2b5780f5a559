"""One sentence, one token, seven answers to "which tokens is it made of?"."""

import torch

import attnlens

TEXT = "The keys to the cabinet are on the table."
# Title, measure, and how its result becomes one share per input token: what stands behind the last layer.
METHODS = (
    ("attention", None),
    ("rollout", "rollout"),
    ("flow", "attention-flow"),
    ("norms", "block-norm-attention"),
    ("zeroing", "value-zeroing"),
    ("ALTI", "alti-rollout"),
    ("gradients", "relevance"),
)


def main() -> None:
    """Print, for the token "are", the share of each token by each method, and how well the methods agree."""
    lens = attnlens.load("attnlens/tiny-bert")
    run = lens.capture(TEXT, points=("embed", "v", "attn_out", "resid_pre", "resid_post", "final"))
    place = [token.label for token in run.tokens].index("are")

    shares = {}
    for title, name in METHODS:
        if name is None:
            row = run.attention(layer=run.n_layers - 1).mean(0)[place]
        elif name == "relevance":  # of the token for the model's own first choice there
            row = lens.measure(name, run, position=place).values
        else:
            values = lens.measure(name, run).values
            row = (values[-1] if values.ndim == 3 else values)[place]
        shares[title] = row.double() / row.double().sum()

    print(f"{'':>12}" + "".join(f"{title:>11}" for title in shares))
    for index, token in enumerate(run.tokens):
        print(f"{token.label:>12}" + "".join(f"{float(row[index]):11.2f}" for row in shares.values()))
    together = torch.corrcoef(torch.stack(list(shares.values())))
    print("correlation with value zeroing:")
    for title, value in zip(shares, together[list(shares).index("zeroing")], strict=True):
        print(f"{title:>12} {float(value):5.2f}")


if __name__ == "__main__":
    main()

"""Put runs side by side: two texts, two heads, and a model against a copy whose heads were put in another order."""

import copy

import torch

import attnlens
from attnlens.compare import compare_heads, compare_models, compare_runs

SINGULAR = "The key to the cabinets is on the table."
PLURAL = "The keys to the cabinet are on the table."


def shuffled_copy(model: torch.nn.Module, layer: int, order: list[int]) -> torch.nn.Module:
    """The same function by other weights: the heads of one layer of a GPT-2 stand in another order."""
    copied = copy.deepcopy(model)
    attention, width = copied.transformer.h[layer].attn, model.config.n_embd
    own = torch.arange(width).view(model.config.n_head, -1)[order].flatten()  # columns of q (of k and v further on)
    columns = torch.cat([own, own + width, own + 2 * width])
    with torch.no_grad():
        attention.c_attn.weight.copy_(attention.c_attn.weight[:, columns])
        attention.c_attn.bias.copy_(attention.c_attn.bias[columns])
        attention.c_proj.weight.copy_(attention.c_proj.weight[own])
    return copied


def main() -> None:
    """Print which heads read the two sentences differently, how two heads differ, and how heads are matched."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    one, two = lens.capture(SINGULAR), lens.capture(PLURAL)

    texts = compare_runs(one, two)
    print("words that both have:", " ".join(texts.rows.labels), "| only one has:", *texts.rows.only_first)
    divergence = texts.divergence()
    for flat in divergence.flatten().argsort(descending=True)[:3].tolist():
        print(f"  {lens.anatomy.heads()[flat]}: {divergence.flatten()[flat]:.3f} nats between the two sentences")

    heads = compare_heads(two, "L1H0", "L1H1")
    row = int(heads.divergence.argmax())
    print(f"L1H0 and L1H1: {heads.mean:.3f} nats apart; most at {heads.labels[row]!r}, {heads.divergence[row]:.3f}")

    other = attnlens.load(model=shuffled_copy(lens.model, 1, [2, 0, 3, 1]), tokenizer=lens.tokenizer)
    models = compare_models(lens, other, [SINGULAR, PLURAL])
    print("heads of layer 1, found again in the shuffled copy:")
    for match in models.matched():
        if match.first.layer == 1:
            print(f"  {match.first} is {match.second} there, {match.divergence:.1e} nats apart")


if __name__ == "__main__":
    main()

"""Which heads does the choice of "are" depend on? Gates on heads, by three methods whose sums say different things."""

import attnlens

TEXT = "The keys to the cabinet"


def main() -> None:
    """Print every head's share by integrated gradients, by taking one away at a time, and by random orders."""
    lens = attnlens.load("attnlens/tiny-gpt2")

    found = {
        method: lens.attribute_heads(TEXT, "are", against="is", method=method)
        for method in ("gradients", "ablation", "shapley")
    }

    print(f"{found['gradients'].score}: {found['gradients'].total:.3f} come from attention")
    print(f"{'head':>6}" + "".join(f"{method:>11}" for method in found))
    for head in lens.anatomy.heads():
        values = [float(attribution.values[head.layer, head.head]) for attribution in found.values()]
        print(f"{head!s:>6}" + "".join(f"{value:11.3f}" for value in values))
    print(f"{'gap':>6}" + "".join(f"{attribution.gap:11.0e}" for attribution in found.values()))
    print("The gap of ablation is no error: it is what heads do only together, or in place of each other.")


if __name__ == "__main__":
    main()

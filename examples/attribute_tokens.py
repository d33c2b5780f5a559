"""Which words make the model say "are" and not "is"? Integrated gradients on tokens, layers and a generation."""

import attnlens

TEXT = "The keys to the cabinet"


def main() -> None:
    """Print each token's share of a difference of logits, where it flows, a masked word, and what was written why."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    found = lens.attribute_tokens(TEXT, "are", against="is")

    print(f"{found.score}; compared with {found.baseline}")
    for label, value in zip(found.tokens, found.values.tolist(), strict=True):
        print(f"{label:>10} {value:7.3f}")
    print(f"{'sum':>10} {float(found.values.sum()):7.3f}, gap {found.gap:.0e} after {found.steps} steps")

    flow = lens.attribute_layers(TEXT, "are", against="is")
    print("\nwhere it flows through the stream, layer by layer (conductance):")
    for layer, row in enumerate(flow.values.tolist()):
        shares = "  ".join(f"{label} {value:.2f}" for label, value in zip(flow.tokens, row, strict=True))
        print(f"  L{layer}: {shares}   gap {float(flow.gap[layer]):.0e}")

    bert = attnlens.load("attnlens/tiny-bert")
    masked = bert.attribute_tokens("The keys to the cabinet [MASK] here.", "are", against="is", position="mask")
    ranked = sorted(zip(masked.values.tolist(), masked.tokens, strict=True), reverse=True)
    print(f"\n{masked.score}: most from {ranked[0][1]!r} ({ranked[0][0]:.2f}), least from {ranked[-1][1]!r}")

    written = lens.attribute_generation(TEXT, max_new_tokens=4, method="shapley")
    print("\nwritten token, and the token of the prompt that adds most to its log probability (Shapley values):")
    for label, row, gap in zip(written.written, written.values, written.gap.tolist(), strict=True):
        best = int(row.argmax())
        print(f"{label:>10} {written.prompt[best]:>10} {float(row[best]):6.2f} nats, gap {gap:.0e}")


if __name__ == "__main__":
    main()

"""Which head says "are" and not "is"? A difference of logits as a sum over what each part of the model wrote."""

import attnlens
from attnlens.measures.logits import top_tokens
from attnlens.models.direct import DIRECT_POINTS, attribute_directly
from attnlens.models.targets import choose_target, shown_token

TEXT = "The keys to the cabinet"


def main() -> None:
    """Split the difference, show that the sum is right, and what the strongest head promotes at that place."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    run = lens.capture(TEXT, points=DIRECT_POINTS)
    target = choose_target(run, lens.tokenizer, {"target": "are", "against": "is"})
    found = attribute_directly(lens.opened, run, target)

    print(f"{target.name}: {found.logit:.3f}")
    print(f"{'embedding':>14} {found.embedding:7.3f}")
    for layer in range(run.n_layers):
        heads = "  ".join(f"L{layer}H{head} {float(value):6.3f}" for head, value in enumerate(found.heads[layer]))
        print(f"{'heads':>14}   {heads}")
        print(f"{'bias, MLP':>14} {float(found.attention_bias[layer]):7.3f} {float(found.mlp[layer]):7.3f}")
    print(f"{'constant':>14} {found.constant:7.3f}")
    print(f"{'sum - logit':>14} {found.gap:7.0e}")

    best = lens.anatomy.heads()[int(found.heads.flatten().argmax())]
    effects = lens.measure("head-logit-effects", run, head=best, position=target.position).values
    promoted, suppressed = ([shown_token(lens.tokenizer, i) for i in ids.tolist()] for ids in top_tokens(effects, 6))
    print(f"{best} promotes {', '.join(promoted)}")
    print(f"{best} suppresses {', '.join(suppressed)}")

    for name in ("logit-lens-probability", "logit-lens-rank"):
        by_layer = lens.measure(name, run).values[:, target.position]
        print(f"{name} after each layer: {', '.join(f'{float(value):.2f}' for value in by_layer)}")


if __name__ == "__main__":
    main()

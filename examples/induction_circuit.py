"""The induction circuit of tiny-llama: its two heads by score, by composition of their weights, and by ablation."""

import torch

import attnlens

LENGTH, N_TEXTS = 25, 10


def main() -> None:
    """Print the three kinds of evidence; each can be wrong by itself."""
    lens = attnlens.load("attnlens/tiny-llama")
    heads = lens.anatomy.heads()

    scores = {name: lens.measure(name, "The", on="random").values for name in ("previous-token", "induction")}
    previous, induction = (heads[int(scores[name].nan_to_num().argmax())] for name in scores)
    print("By score, the weight that goes where the rule says, on random tokens that repeat:")
    for name, head in zip(scores, (previous, induction), strict=True):
        print(f"  {name:<15} {head}  {scores[name][head.layer, head.head]:.2f}")

    reads = lens.measure("key-composition", "The").values[induction.layer, induction.head]
    below = [head for head in heads if head.layer < induction.layer]
    print(f"\nBy composition, how far the keys of {induction} read what each head of a lower layer writes:")
    for head in sorted(below, key=lambda head: -float(reads[head.layer, head.head])):
        print(f"  {head}  {reads[head.layer, head.head]:.3f}")

    beside = [head for head in heads if head.layer == induction.layer]
    print(f"\nBy ablation (mean): loss on the second copy, and the weight of {induction} on the token to be copied:")
    rows = [("nothing", []), *((str(head), [head]) for head in [*below, *beside])]
    ids = repeated_tokens(lens)
    rows.append((f"all of layer {induction.layer}", beside))
    rows += [(f"all but {head}", [other for other in beside if other != head]) for head in beside]
    for label, ablated in rows:
        loss, weight = without(lens, ablated, ids, induction)
        print(f"  {label:<15} {loss:6.2f} nats   {weight:.2f}")
    print(
        f"\n{induction} looks at the token to be copied only as long as {previous} is there. The other heads of its\n"
        "layer look there as well: without one of them little is lost, so the question is which is enough by itself."
    )


def repeated_tokens(lens: attnlens.Lens) -> torch.Tensor:
    """Ids `[text position]`: the start token, then random tokens twice."""
    generator = torch.Generator().manual_seed(0)
    ordinary = [i for i in range(lens.anatomy.vocab_size) if i not in lens.tokenizer.all_special_ids]
    block = torch.stack([torch.randperm(len(ordinary), generator=generator)[:LENGTH] for _ in range(N_TEXTS)])
    block = torch.tensor(ordinary)[block]
    return torch.cat([torch.full((N_TEXTS, 1), lens.tokenizer.bos_token_id), block, block], 1)


def without(lens: attnlens.Lens, ablated: list, ids: torch.Tensor, induction: attnlens.Head) -> tuple[float, float]:
    """Loss on the second copy in nats per token, and the weight of `induction` on what came next in the first."""
    if not ablated:
        runs = list(lens.captures(inputs={"input_ids": ids}, logits=True))
    else:
        with lens.ablate(*ablated, how="mean"):
            runs = list(lens.captures(inputs={"input_ids": ids}, logits=True))
    queries = torch.arange(LENGTH + 1, 2 * LENGTH)  # of the second copy, but the last
    losses, weights = [], []
    for row, run in zip(ids, runs, strict=True):
        losses.append(torch.nn.functional.cross_entropy(run.logits[queries], row[queries + 1]))
        weights.append(run.attention(head=induction)[queries, queries - LENGTH + 1].mean())
    return float(torch.stack(losses).mean()), float(torch.stack(weights).mean())


if __name__ == "__main__":
    main()

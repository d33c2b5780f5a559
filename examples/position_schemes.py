"""How models tell positions apart, as numbers: a table, a rotation, slopes; and what positions explain of each head."""

import torch

import attnlens
from attnlens.measures.positions import alibi_bias, alibi_slopes, cosine_by_distance, relative_buckets, sinusoidal_table
from attnlens.models.position_data import position_vectors

TEXT = "The keys to the cabinet near the old table are on the chair, and the king sees the queens in the garden."
DISTANCES = (0, 1, 2, 4, 8, 16, 32)


def main() -> None:
    """Print every scheme by distance, and the heads of three models that go by position most."""
    print("distance          ", *(f"{distance:6d}" for distance in DISTANCES))
    show("sinusoids, cosine", cosine_by_distance(sinusoidal_table(64, 128)))
    for name in ("attnlens/tiny-bert", "attnlens/tiny-gpt2", "attnlens/tiny-llama"):
        lens = attnlens.load(name)
        short = name.removeprefix("attnlens/")
        if lens.anatomy.position == "rope":
            show(f"{short}, decay", lens.measure("rope-decay", TEXT, furthest=max(DISTANCES)).values[0])
        else:
            show(f"{short}, cosine", cosine_by_distance(position_vectors(lens.opened)[:64]))
        shares = lens.measure("position-share", TEXT).values
        for flat in shares.flatten().argsort(descending=True)[:2].tolist():
            head = lens.anatomy.heads()[flat]
            print(f"    {head}: distance alone explains {shares.flatten()[flat]:.0%} of its scores")
    show("ALiBi, head 1 of 8", alibi_bias(alibi_slopes(8), 64, 64)[0, -1].flip(0))
    buckets = relative_buckets(-torch.tensor(DISTANCES), 32, 128, both_ways=False)
    print("T5, bucket        ", *(f"{bucket:6d}" for bucket in buckets.tolist()))


def show(name: str, by_distance: torch.Tensor) -> None:
    """One line: values at the distances of the head line."""
    print(f"{name:18}", *(f"{by_distance[distance]:6.2f}" for distance in DISTANCES))


if __name__ == "__main__":
    main()

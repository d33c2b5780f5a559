"""What every head does with repeated tokens, beside what its weights are made for: one line per head."""

import attnlens
from attnlens.models.circuits import circuits_of

TEXT = "The king sees the queen. The king sees the queen."
COLUMNS = ("previous-token", "duplicate-token", "induction", "copying")


def main() -> None:
    """Scores on random tokens, as ours and as TransformerLens' detector has them, copying by OV, and OV's size."""
    lens = attnlens.load("attnlens/tiny-llama")
    run = lens.capture(TEXT, points=("resid_post", "final"))
    values = {name: lens.measure(name, run, on="random").values for name in COLUMNS[:3]}
    values["copying"] = lens.measure("copying", run).values
    values["induction (mul)"] = lens.measure("induction", run, on="random", score="mul").values
    values["|OV|"] = ov_sizes(lens)

    print("head", *(f"{name:>16}" for name in values))
    for head in lens.anatomy.heads():
        print(head, *(f"{column[head.layer, head.head]:16.2f}" for column in values.values()))

    # The same question of one text of one's own: random tokens show what a head can do, a text what it does.
    own = lens.measure("induction", run, head="L1H3").values
    print(f"\nOn {TEXT!r} the induction score of L1H3 is {own:.2f}.")


def ov_sizes(lens: attnlens.Lens) -> dict[tuple[int, int], float]:
    """Frobenius norm of each head's OV, without ever building it."""
    circuits = circuits_of(lens.opened)
    return {(layer, head): float(size) for layer, one in circuits.items() for head, size in enumerate(one.ov.norm())}


if __name__ == "__main__":
    main()

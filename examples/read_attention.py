"""Capture a sentence and read what the heads attend to."""

import attnlens


def main() -> None:
    """Print shapes, one head by tokens and by words, and keep the run in a file."""
    lens = attnlens.load("attnlens/tiny-bert")
    run = lens.capture("The keys to the cabinet are on the table.")

    print(lens)
    print("tokens:   ", " ".join(token.label for token in run.tokens))
    print("attention:", tuple(run.attention().shape), "[layer head query key]")
    print("residual: ", tuple(run.residual("resid_post").shape), "[layer position d_model]")

    pattern = run.attention(head="L1H2")  # [query key]; each row sums to 1
    verb = next(i for i, token in enumerate(run.tokens) if token.label == "are")
    key = int(pattern[verb].argmax())
    print(f"L1H2: 'are' attends most to {run.tokens[key].label!r}, with {pattern[verb, key]:.2f}")

    by_words = run.attention(head="L1H2", words=True)
    print("by words: ", tuple(by_words.shape), " ".join(unit.label for unit in run.units))


if __name__ == "__main__":
    main()

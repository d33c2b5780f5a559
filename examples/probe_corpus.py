"""Measure what every head of a model does on annotated text; most heads stay unclassified, and that is an answer."""

import attnlens


def main() -> None:
    """Probe positions and syntax on a part of the embedded corpus and print the labels with their evidence."""
    lens = attnlens.load("attnlens/tiny-bert")
    report = lens.probe(["positional", "syntax"], limit=40)

    print(report)
    for head, labels in report.labels.items():
        for label in labels:
            print(f"{head}  {label['label']:<28} {evidence(label)}")
    print("\nOne row per question and head:")
    print(report.to_frame().head(3).to_string())


def evidence(label: dict) -> str:
    """The score with its interval and count, beside the baseline that it had to beat."""
    interval = "" if label["ci"] is None else " [{:.2f}, {:.2f}]".format(*label["ci"])
    baseline = "" if label["baseline"] is None else f"; {label['baseline_name']}: {label['baseline']:.2f}"
    return f"{label['score']:.2f}{interval}, n={label['n']}{baseline}"


if __name__ == "__main__":
    main()

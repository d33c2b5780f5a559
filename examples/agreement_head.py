"""Which head makes the verb agree with its subject? By ablation and by its direct effect; attention alone misleads."""

from collections.abc import Iterator

import torch

import attnlens
from attnlens.interventions.metrics import LogitDifference
from attnlens.interventions.sweeps import ablate_each
from attnlens.interventions.verdicts import is_edge_causal, is_head_causal

# What stands before the verb, the right and the wrong verb, the subject; a noun of the other number is nearer.
SENTENCES = [
    ("The keys to the cabinet", "are", "is", "keys"),
    ("The key to the cabinets", "is", "are", "key"),
    ("The girls near the king", "are", "is", "girls"),
    ("The king near the girls", "is", "are", "king"),
    ("The cats near the dog", "are", "is", "cats"),
    ("The cat near the dogs", "is", "are", "cat"),
]


def main() -> None:
    """Print, for every head, the three numbers side by side, then the verdict on the strongest head and its edge."""
    lens = attnlens.load("attnlens/tiny-gpt2")
    n = len(SENTENCES)
    harm = sum(-resampled(lens, text, right, wrong) for text, right, wrong, _ in SENTENCES) / n
    direct = sum(directly(lens, text, right, wrong) for text, right, wrong, _ in SENTENCES) / n
    looks = sum(attention_to(lens, text, subject) for text, _, _, subject in SENTENCES) / n

    print(f"Means over {n} sentences; the logit of the right verb minus that of the wrong one, before the verb:\n")
    print(f"{'head':>6} {'lost without it':>16} {'adds directly':>14} {'looks at subject':>17}")
    for place in harm.flatten().argsort(descending=True).tolist():
        layer, head = divmod(place, lens.anatomy.n_heads)
        numbers = f"{harm[layer, head]:16.2f} {direct[layer, head]:14.2f} {looks[layer, head]:17.2f}"
        print(f"{lens.anatomy.heads()[place]!s:>6} {numbers}")
    print("", *surprises(lens, harm, looks), sep="\n")

    text, right, wrong, subject = SENTENCES[0]
    strongest = lens.anatomy.heads()[int(harm.argmax())]
    verdict = is_head_causal(lens, text, strongest, LogitDifference(right, wrong))
    print(f"\n{text!r}, {strongest}: {verdict.verdict}; {verdict.reason}")
    tokens = [token.label for token in lens.capture(text).tokens]
    edge = (len(tokens) - 1, tokens.index(subject))
    verdict = is_edge_causal(lens, text, strongest, edge, LogitDifference(right, wrong))
    print(f"its edge from {tokens[-1]!r} to {subject!r}: {verdict.verdict}; {verdict.reason}")


def resampled(lens: attnlens.Lens, text: str, right: str, wrong: str) -> torch.Tensor:
    """How the difference changes when a head passes on what it had elsewhere, `[layer head]`, mean of 10 draws."""
    return ablate_each(lens, text, LogitDifference(right, wrong), how="resample", draws=10).table()


def directly(lens: attnlens.Lens, text: str, right: str, wrong: str) -> torch.Tensor:
    """What each head writes into the difference by itself, `[layer head]`, in logits."""
    return lens.measure("logit-attribution", text, target=right, against=wrong).values


def attention_to(lens: attnlens.Lens, text: str, subject: str) -> torch.Tensor:
    """Weight of each head on the subject, from the last word before the verb, `[layer head]`."""
    run = lens.capture(text)
    return run.attention()[:, :, -1, [token.label for token in run.tokens].index(subject)]


def surprises(lens: attnlens.Lens, harm: torch.Tensor, looks: torch.Tensor) -> Iterator[str]:
    """Heads that look and do nothing, and heads that do something and do not look."""
    for head in lens.anatomy.heads():
        lost, weight = float(harm[head.layer, head.head]), float(looks[head.layer, head.head])
        if weight > 0.3 and abs(lost) < 0.3:
            yield f"{head} looks at the subject ({weight:.2f}), and nothing is lost without it ({lost:.2f})."
        if weight < 0.1 and lost > 1:
            yield f"{head} hardly looks at the subject ({weight:.2f}), and {lost:.2f} are lost without it."


if __name__ == "__main__":
    main()

"""What one can paste into a paper: how labels were found, in a paragraph, and where the methods come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnlens.report.results import HeadResults
from attnlens.report.scope import weights_name
from attnlens.report.tables import count, number, share

__all__ = ["bibtex", "methods_paragraph"]

_SOURCES: Mapping[str, str] = {
    "clark2019": """@inproceedings{clark2019,
  title = {What Does {BERT} Look At? An Analysis of {BERT}'s Attention},
  author = {Clark, Kevin and Khandelwal, Urvashi and Levy, Omer and Manning, Christopher D.},
  booktitle = {Proceedings of the 2019 ACL Workshop BlackboxNLP},
  year = {2019},
  eprint = {1906.04341},
  archiveprefix = {arXiv}
}""",
    "benjamini1995": """@article{benjamini1995,
  title = {Controlling the False Discovery Rate: A Practical and Powerful Approach to Multiple Testing},
  author = {Benjamini, Yoav and Hochberg, Yosef},
  journal = {Journal of the Royal Statistical Society, Series B},
  volume = {57},
  number = {1},
  pages = {289--300},
  year = {1995}
}""",
    "hewitt2019": """@inproceedings{hewitt2019,
  title = {Designing and Interpreting Probes with Control Tasks},
  author = {Hewitt, John and Liang, Percy},
  booktitle = {Proceedings of EMNLP-IJCNLP 2019},
  year = {2019},
  eprint = {1909.03368},
  archiveprefix = {arXiv}
}""",
    "olsson2022": """@article{olsson2022,
  title = {In-context Learning and Induction Heads},
  author = {Olsson, Catherine and Elhage, Nelson and Nanda, Neel and others},
  journal = {Transformer Circuits Thread},
  year = {2022},
  eprint = {2209.11895},
  archiveprefix = {arXiv}
}""",
}


def methods_paragraph(results: HeadResults) -> str:
    """How the labels were found, in plain sentences with the numbers of this result; plain text."""
    scope, corpus, anatomy = results.scope, results.corpus, results.anatomy
    families = [str(family) for family in scope.get("families", ())]
    unit = f"{scope.get('unit', 'document')}s"
    parts = [
        f"We examined {anatomy.model} ({anatomy.n_layers} layers of {anatomy.n_heads} heads; weights: "
        f"{weights_name(anatomy, 16)}) with attnlens {results.versions.get('attnlens', '')}".rstrip()
        + f" on {corpus.get('name', 'a corpus')}{_size(corpus)}, asking about {', '.join(families)}.",
        f"{_tried(scope)}Heads were chosen on one half of the {unit} and scored on the other"
        f"{_split(scope)}; a label was given only where every condition held there{_conditions(scope)}.",
        _inference(scope),
        f"{scope.get('n_labelled', len(results.labelled))} of "
        f"{count(int(scope.get('n_heads', len(results.heads))), 'head')} carry a label; "
        f"{share(scope.get('unclassified_share'), 1)} are unclassified, which is a normal answer.",
        "Attention is evidence of information movement, not explanation."
        + (" Labels were tested by ablation where the report says so." if _tested(results) else
           " No head was removed to see whether the model needs it."),
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def bibtex(results: HeadResults) -> str:
    """Entries for attnlens and for the methods that this result rests on."""
    families = set(results.scope.get("families", ()))
    wanted = ["clark2019", "benjamini1995"]
    if families & {"linear", "structural"}:
        wanted.append("hewitt2019")
    if "induction" in families:
        wanted.append("olsson2022")
    version = str(results.versions.get("attnlens", ""))
    own = (
        "@software{attnlens,\n  title = {attnlens: What does this attention head do, and how do we know?},\n"
        "  author = {{The attnlens maintainers}},\n"
        f"  version = {{{_plain(version)}}},\n  license = {{Apache-2.0}}\n}}"
    )
    return "\n\n".join([own, *(_SOURCES[name] for name in wanted)])


def _size(corpus: Mapping[str, Any]) -> str:
    known = [(name, corpus.get(f"n_{name}s")) for name in ("document", "sentence", "word")]
    said = ", ".join(count(n, name) for name, n in known if isinstance(n, int))
    digest = corpus.get("sha256")
    name = f"; SHA-256 {digest[:16]}" if isinstance(digest, str) else ""
    return f" ({said}{name})" if said else ""


def _tried(scope: Mapping[str, Any]) -> str:
    cells, tested = scope.get("n_cells"), scope.get("n_tested")
    if not isinstance(cells, int) or not isinstance(tested, int):
        return ""
    return f"Of {cells:,} pairs of head and relation {tested:,} were tested. "


def _split(scope: Mapping[str, Any]) -> str:
    split = scope.get("split")
    if not isinstance(split, Mapping) or not {"select", "confirm"} <= set(split):
        return ""
    return f" ({split['select']} and {split['confirm']})"


def _conditions(scope: Mapping[str, Any]) -> str:
    """The thresholds of the label rule that are there."""
    given = scope.get("thresholds")
    limits = given if isinstance(given, Mapping) else {}
    names = {
        "margin": "the score exceeds the best rule without a head by {}",
        "selectivity": "selectivity is at least {}",
        "target_mass": "the mean weight on the target is at least {}",
        "q": "q is at most {}",
        "confidence": "confidence is at least {}",
    }
    said = [text.format(number(limits[key])) for key, text in names.items() if isinstance(limits.get(key), int | float)]
    return f": {', '.join(said)}" if said else ""


def _inference(scope: Mapping[str, Any]) -> str:
    samples, flips = scope.get("bootstrap"), scope.get("permutations")
    if not isinstance(samples, int) or not isinstance(flips, int):
        return ""
    unit = scope.get("unit", "document")
    return (
        f"Intervals are 95 % percentile intervals of {samples:,} bootstrap resamples of whole {unit}s; q-values follow "
        f"Benjamini and Hochberg (1995) over the tested pairs, from paired sign flips ({flips:,} permutations)."
    )


def _tested(results: HeadResults) -> bool:
    return any(label.causal for result in results.heads for label in result.labels)


def _plain(text: str) -> str:
    """Text that cannot end a BibTeX field."""
    return "".join(char for char in text if char.isalnum() or char in ".+-")

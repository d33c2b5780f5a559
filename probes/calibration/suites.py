"""The suites: which models are planted, and what is known about each of their heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from attnlens.zoo import planted_heads as heads
from attnlens.zoo.planted_heads import PlantedHead
from attnlens.zoo.planted_stream import BLOCK_SIZE
from attnlens.zoo.planted_terms import Fixed, Sink
from probes.calibration.cases import Case, Known, plain_case, planted_case
from probes.calibration.marks import CHANNELS, SEPARATOR, Follow, Gold, other_relations, upos_axis
from probes.calibration.material import Material, Place, best_offset, misled
from probes.calibration.nulls import null_cases
from probes.calibration.trained import trained_cases
from probes.calibration.truth import Claim, Expected

__all__ = ["ACCURACY_STEPS", "PERMUTATION", "STRENGTHS", "SUITES", "cases_of"]

STRENGTHS = (0.3, 0.5, 0.7, 0.9, 0.98)
ACCURACY_STEPS = (0.0, 0.05, 0.1, 0.2, 0.4)
SUITES = ("strength", "accuracy", "distractor", "null", "permutation", "trained")

_ARCHITECTURES = ("bert", "gpt2")
_SURE = 0.9  # probability of the target where accuracy is what varies
_MOST_RELATIONS = 10
_NULL_MODELS = 50
PERMUTATION = (7, 2, 10, 0, 5, 8, 3, 11, 1, 9, 4, 6)  # where the heads of the other model were in the first one

# That a relation is explained by position is true of a mixture of offsets, as of a single one.
_EXPLAINED = Claim("syntax", None, None, ("explained",))

# What is true of every head that attends to the first position where it has no target.
_SINK = Claim("positional", ("first-token", "start"))


def cases_of(suite: str, material: Material, *, quick: bool = False) -> Iterator[Case]:
    """The models of a suite, one after another; the quick form has a few of them."""
    if suite == "strength":
        if quick:
            yield strength_case("bert", 0.5, material)
            yield strength_case("gpt2", 0.9, material)
            return
        for architecture in _ARCHITECTURES:
            for probability in STRENGTHS:
                yield strength_case(architecture, probability, material)
                yield positional_case(architecture, probability, material)
        for architecture in ("gpt2", "llama"):
            yield circuit_case(architecture, material)
    elif suite == "accuracy":
        for architecture in ("bert",) if quick else _ARCHITECTURES:
            for step in (0.0, 0.2) if quick else ACCURACY_STEPS:
                yield accuracy_case(architecture, step, material)
    elif suite == "distractor":
        for architecture in ("bert",) if quick else _ARCHITECTURES:
            yield distractor_case(architecture, material)
    elif suite == "null":
        yield from null_cases(3 if quick else _NULL_MODELS, material)
    elif suite == "permutation":
        for architecture in ("bert",) if quick else _ARCHITECTURES:
            yield from permutation_cases(architecture, material)
    elif suite == "trained" and not quick:
        yield from trained_cases()


def strength_case(architecture: str, probability: float, material: Material, suite: str = "strength") -> Case:
    """Perfect pointers that give their target this probability, along every relation and to antecedents."""
    relations = _relations(architecture, material, "d2h")
    below = _relations(architecture, material, "h2d")[0]
    known = [_arc_head(name, relations, probability) for name in relations[:_MOST_RELATIONS]]
    known += [_antecedent_head(probability, CHANNELS[1]), _dependent_head(below, probability, CHANNELS[2])]
    gold = Gold(relations, (Follow("arcs"), Follow("antecedents"), Follow("dependents", below)), architecture != "bert")
    return planted_case(f"{suite} p={probability:g} {architecture}", suite, architecture, known, material, gold)


def accuracy_case(architecture: str, step: float, material: Material) -> Case:
    """Pointers that are right a given step more often than the best offset."""
    causal = architecture != "bert"
    arcs, below = (material.trials(direction, causal=causal) for direction in ("d2h", "h2d"))
    relations = _relations(architecture, material, "d2h", step)
    wrong: dict[Place, int] = {}
    for name in relations:
        wrong |= misled(arcs[name], best_offset(arcs[name]) + step, seed=1, causal=causal)
    known = [_arc_head(name, relations, _SURE, step) for name in relations[:_MOST_RELATIONS]]
    channels = [Follow("arcs", misled=wrong)]
    for channel, name in zip(CHANNELS[1:], _relations(architecture, material, "h2d", step), strict=False):
        astray = misled(below[name], best_offset(below[name]) + step, seed=2, causal=causal)
        channels.append(Follow("dependents", name, astray))
        known.append(_dependent_head(name, _SURE, channel, step))
    gold = Gold(relations, tuple(channels), causal)
    return planted_case(f"accuracy b1+{step:g} {architecture}", "accuracy", architecture, known, material, gold)


def positional_case(architecture: str, probability: float, material: Material) -> Case:
    """Offsets and sinks that give their target this probability."""
    distances = (-1, -2, -3, 1, 2, 3) if architecture == "bert" else (-1, -2, -3, -4)
    known: list[Known] = [_offset_head(distance, probability) for distance in distances]
    stops = heads.on_token(".", "full stop", "full stops", probability)
    named = ("punctuation", "full stop", "delimiter")
    stop = _sunk("full stop", probability, named, Claim("positional", ("nearest PUNCT left", "nearest PUNCT right")))
    if architecture != "bert":  # most words see no full stop, which ends the text
        stop = replace(stop, required=(), allowed=(*stop.allowed, Claim("positional", named)))
    known.append((stops, stop))
    if architecture == "bert":
        separator = heads.on_token("[SEP]", "separator", "the separator", probability)
        known.append((separator, _sunk("separator", probability, ("separator", "delimiter"))))
    known.append((heads.first_token(), Expected("first token", "positional", required=(_SINK,))))
    below = _relations(architecture, material, "h2d")[1:4]
    known += [_dependent_head(name, probability, channel) for name, channel in zip(below, CHANNELS, strict=False)]
    gold = Gold(channels=tuple(Follow("dependents", name) for name in below), causal=architecture != "bert")
    name = f"strength of position p={probability:g} {architecture}"
    return planted_case(name, "strength", architecture, known[:12], material, gold)


def circuit_case(architecture: str, material: Material) -> Case:
    """An induction circuit and what belongs beside it, without gold annotation."""
    previous, repeated = Claim("induction", ("previous",)), Claim("induction", ("duplicate",))
    first = [
        (heads.previous().writing("TOK", "PREV"), _plain("previous", _at(-1), previous)),
        (heads.offset(-2), _plain("offset -2", _at(-2))),
        (heads.first_token(), _plain("first token", _SINK)),
        (heads.same_token(positions=architecture != "llama"), _plain("same token", repeated, allowed=(_at(0),))),
    ]
    second = [
        (heads.induction().writing("TOK", "OUT"), _plain("induction", Claim("induction", ("induction",)))),
        (heads.offset(-3), _plain("offset -3", _at(-3))),
    ]
    return plain_case(f"induction circuit {architecture}", "strength", architecture, first, second, material)


def _at(distance: int) -> Claim:
    name = f"offset {distance:+d}" if distance else "offset 0"
    return Claim("positional", (name, f"word {name}"))


def _plain(what: str, *required: Claim, allowed: tuple[Claim, ...] = ()) -> Expected:
    kind = "induction" if any(claim.family == "induction" for claim in required) else "positional"
    return Expected(what, kind, required=required, allowed=(_SINK, *allowed))


def distractor_case(architecture: str, material: Material) -> Case:
    """Heads that look like something that they are not."""
    relations = _relations(architecture, material, "d2h")
    sides = ("left", "right") if architecture == "bert" else ("left",)
    known = [_nearest_head(upos, side) for upos in ("VERB", "NOUN") for side in sides]
    mixtures = [{-1: 0.5, -2: 0.3}, {-2: 0.4, -3: 0.3, -4: 0.2}]
    mixtures += [{1: 0.4, 2: 0.4}, {-1: 0.4, 1: 0.4}] if architecture == "bert" else [{-1: 0.34, -3: 0.33, -5: 0.33}]
    known += [
        (heads.mixture(each), _distractor(f"offset mixture {sorted(each)}", *_offsets(each), _EXPLAINED))
        for each in mixtures
    ]
    known.append((heads.same_token(), _distractor("same token", Claim("induction"))))
    known.append((_residual(architecture), _distractor("1 % residual pointer", *_sinks(architecture))))
    known.append((heads.random(11), _distractor("random", Claim("positional", ("breadth",)))))
    gold = Gold(relations, (Follow("arcs"),), architecture != "bert")
    return planted_case(f"distractors {architecture}", "distractor", architecture, known, material, gold)


def permutation_cases(architecture: str, material: Material) -> Iterator[Case]:
    """A model, and the same one with its heads in another order, within and across layers."""
    yield (plain := strength_case(architecture, 0.7, material, "permutation"))
    yield plain.reordered(PERMUTATION)


def _relations(architecture: str, material: Material, direction: str, step: float = 0.25) -> tuple[str, ...]:
    """Relations that are frequent enough, and that leave room above the best offset; the most frequent first."""
    trials = material.trials(direction, causal=architecture != "bert")
    fit = [name for name in trials if best_offset(trials[name]) + step <= 1]
    return tuple(sorted(fit, key=lambda name: (-len(trials[name]), name)))


def _arc_head(relation: str, relations: Sequence[str], probability: float, step: float | None = None) -> Known:
    head = heads.pointer(relation, probability=probability, others=other_relations(relation, relations))
    return head, _follower(relation, "d2h", probability, step)


def _dependent_head(relation: str, probability: float, channel: str, step: float | None = None) -> Known:
    head = heads.pointer(f"{relation} h2d", probability=probability, channel=channel)
    return head, _follower(relation, "h2d", probability, step)


def _follower(relation: str, direction: str, probability: float, step: float | None) -> Expected:
    """From .2 above the best offset on it must be found; below .1 a label is wrong; in between either is right."""
    claim = Claim("syntax", (relation,), direction)
    sure = probability >= 0.5 and (step is None or step >= 0.2)
    may = step is None or step >= 0.1
    return Expected(
        what=f"{relation} {direction}",
        kind="syntax",
        required=(claim,) if sure else (),
        allowed=(_SINK, *((claim,) if may else ())),
        probability=probability,
        step=step,
    )


def _antecedent_head(probability: float, channel: str) -> Known:
    head = heads.pointer("antecedent", probability=probability, channel=channel)
    return head, _by_strength("antecedent", "coreference", Claim("coreference"), probability)


def _offset_head(distance: int, probability: float) -> Known:
    claim = Claim("positional", (f"offset {distance:+d}", f"word offset {distance:+d}"))
    expected = _by_strength(f"offset {distance:+d}", "positional", claim, probability)
    if distance == -1:
        expected = replace(expected, allowed=(*expected.allowed, Claim("induction", ("previous",))))
    return heads.offset(distance, probability), expected


def _by_strength(what: str, kind: str, claim: Claim, probability: float) -> Expected:
    if probability >= 0.5:
        return Expected(what, kind, required=(claim,), allowed=(_SINK,), probability=probability)
    return Expected(what, kind, allowed=(claim, _SINK), probability=probability)


def _sunk(what: str, probability: float, names: tuple[str, ...], *allowed: Claim) -> Expected:
    """A delimiter gets its label from .6 of the attention on."""
    claim = Claim("positional", names)
    required = (claim,) if probability >= 0.7 else ()
    return Expected(what, "positional", required=required, allowed=(_SINK, *allowed), probability=probability)


def _nearest_head(upos: str, side: str) -> Known:
    """May be called consistent with a relation that it follows, and must be told apart from one that tracks it."""
    head = heads.nearest(f"nearest {upos} {side}", f"the nearest {upos} on the {side}", [upos_axis(upos)], side)
    own = Claim("positional", (f"nearest {upos} {side}",))
    modest = Claim("syntax", None, None, ("plain", "explained"))
    return head, _distractor(f"nearest {upos} {side}", own, modest)


def _residual(architecture: str) -> PlantedHead:
    """Follows every arc with one hundredth of its attention; the rest lies on the separator, or the first token."""
    arcs, sink = heads.pointer("residual", probability=0.01).terms or ()
    if architecture == "bert" and isinstance(sink, Sink):
        onto = np.zeros(BLOCK_SIZE)
        onto[SEPARATOR] = sink.score
        return PlantedHead("residual", "the separator", (arcs, Fixed(onto, "FEAT")))
    return PlantedHead("residual", "the first token", (arcs, sink))


def _sinks(architecture: str) -> tuple[Claim, ...]:
    return (Claim("positional", ("separator", "delimiter")),) if architecture == "bert" else (_SINK,)


def _offsets(weights: dict[int, float]) -> tuple[Claim, ...]:
    """With .4 of its attention on the token before, a head is a previous-token head to the induction family too."""
    names = [name for distance in weights for name in (f"offset {distance:+d}", f"word offset {distance:+d}")]
    previous = (Claim("induction", ("previous",)),) if weights.get(-1, 0) >= 0.4 else ()
    return (Claim("positional", tuple(names)), Claim("positional", ("toeplitz",)), *previous)


def _distractor(what: str, *allowed: Claim) -> Expected:
    return Expected(what, "distractor", allowed=(*allowed, _SINK))

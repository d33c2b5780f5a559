"""The verbs of the embedded models' grammar, each with its five forms, and the auxiliaries."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALL_VERBS", "AUXILIARIES", "CLAUSE", "CONTROL", "GIVE", "INTRANSITIVE", "MODALS", "TRANSITIVE", "Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb: its forms, who can be its subject and what can be its object (entity types)."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str
    subjects: tuple[str, ...]
    objects: tuple[str, ...] = ()


_ANIMATE = ("person", "animal")
_ANYTHING = ("person", "animal", "object", "place")

# base, third person, past, participle, gerund; in order of frequency.
_INTRANSITIVE = """
sleep sleeps slept slept sleeping
run runs ran run running
walk walks walked walked walking
wait waits waited waited waiting
swim swims swam swum swimming
jump jumps jumped jumped jumping
rest rests rested rested resting
"""
_INTRANSITIVE_PERSON = """
laugh laughs laughed laughed laughing
smile smiles smiled smiled smiling
work works worked worked working
sing sings sang sung singing
dance dances danced danced dancing
cry cries cried cried crying
travel travels traveled traveled traveling
"""
_INTRANSITIVE_OBJECT = """
fall falls fell fallen falling
shine shines shone shone shining
disappear disappears disappeared disappeared disappearing
"""
_TRANSITIVE_ANY = """
see sees saw seen seeing
like likes liked liked liking
find finds found found finding
watch watches watched watched watching
love loves loved loved loving
hear hears heard heard hearing
"""
_TRANSITIVE_ANIMATE = """
help helps helped helped helping
follow follows followed followed following
admire admires admired admired admiring
visit visits visited visited visiting
chase chases chased chased chasing
hug hugs hugged hugged hugging
trust trusts trusted trusted trusting
greet greets greeted greeted greeting
"""
_TRANSITIVE_OBJECT = """
carry carries carried carried carrying
hold holds held held holding
buy buys bought bought buying
open opens opened opened opening
lose loses lost lost losing
paint paints painted painted painting
hide hides hid hidden hiding
clean cleans cleaned cleaned cleaning
"""
_CLAUSE = """
think thinks thought thought thinking
say says said said saying
know knows knew known knowing
believe believes believed believed believing
hope hopes hoped hoped hoping
"""
_CONTROL = """
want wants wanted wanted wanting
try tries tried tried trying
decide decides decided decided deciding
begin begins began begun beginning
"""
_GIVE = """
give gives gave given giving
send sends sent sent sending
show shows showed shown showing
bring brings brought brought bringing
offer offers offered offered offering
"""


def _verbs(table: str, subjects: tuple[str, ...], objects: tuple[str, ...] = ()) -> tuple[Verb, ...]:
    rows = (row.split() for row in table.strip().splitlines())
    return tuple(Verb(base, third, past, part, ger, subjects, objects) for base, third, past, part, ger in rows)


INTRANSITIVE = (
    _verbs(_INTRANSITIVE, _ANIMATE)
    + _verbs(_INTRANSITIVE_PERSON, ("person",))
    + _verbs(_INTRANSITIVE_OBJECT, ("object",))
)
TRANSITIVE = (
    _verbs(_TRANSITIVE_ANY, _ANIMATE, _ANYTHING)
    + _verbs(_TRANSITIVE_ANIMATE, _ANIMATE, _ANIMATE)
    + _verbs(_TRANSITIVE_OBJECT, ("person",), ("object",))
)
CLAUSE = _verbs(_CLAUSE, ("person",))
CONTROL = _verbs(_CONTROL, ("person", "animal"))
GIVE = _verbs(_GIVE, ("person",), ("object",))
ALL_VERBS = INTRANSITIVE + TRANSITIVE + CLAUSE + CONTROL + GIVE

MODALS = ("will", "can", "must")

# Lemma -> tense -> number -> form: every auxiliary form that agrees with its subject.
AUXILIARIES: dict[str, dict[str, dict[str, str]]] = {
    "be": {"Pres": {"Sing": "is", "Plur": "are"}, "Past": {"Sing": "was", "Plur": "were"}},
    "have": {"Pres": {"Sing": "has", "Plur": "have"}, "Past": {"Sing": "had", "Plur": "had"}},
    "do": {"Pres": {"Sing": "does", "Plur": "do"}, "Past": {"Sing": "did", "Plur": "did"}},
}

"""What a document has spoken of so far, and which pronouns could be understood there."""

from __future__ import annotations

from attnlens.zoo.lexicon import PERSONAL_PRONOUNS, Pronoun
from attnlens.zoo.trees import Entity

__all__ = ["Discourse"]


class Discourse:
    """The entities of one document in the order of their first mention."""

    def __init__(self) -> None:
        self.entities: list[Entity] = []
        self._mentioned_now: set[int] = set()

    def begin_sentence(self) -> None:
        """Forget which entities the current sentence has mentioned."""
        self._mentioned_now = set()

    def introduce(self, kind: str, number: str, gender: str | None, lemma: str, *, proper: bool = False) -> Entity:
        """A new entity, mentioned here for the first time."""
        settled = None if number == "Plur" else gender
        entity = Entity(len(self.entities), kind, number, settled, lemma, proper)
        self.entities.append(entity)
        self.mention(entity)
        return entity

    def mention(self, entity: Entity) -> None:
        """Note that the current sentence mentions `entity`."""
        self._mentioned_now.add(entity.index)

    def knows(self, lemma: str) -> bool:
        """Whether an entity with this noun or name exists: nouns are not used twice for different entities."""
        return any(entity.lemma == lemma for entity in self.entities)

    def nameable(self, kinds: tuple[str, ...]) -> list[Entity]:
        """Entities of earlier sentences that a definite phrase may name again here (a group has no noun of its own)."""
        return [
            entity
            for entity in self.entities
            if entity.index not in self._mentioned_now and entity.kind in kinds and entity.lemma
        ]

    def pronominal(self, kinds: tuple[str, ...], barred: tuple[Entity, ...]) -> list[tuple[Entity, Pronoun]]:
        """Pairs of an entity and the pronoun that can only mean it here.

        A pronoun is offered when exactly one entity mentioned so far agrees with it, and that one is of the kinds
        wanted and not `barred` (the subject of the same clause, a phrase that contains the pronoun).
        """
        offers = []
        for pronoun in PERSONAL_PRONOUNS:
            compatible = [entity for entity in self.entities if entity.agrees(pronoun.number, pronoun.gender)]
            if len(compatible) == 1 and compatible[0].kind in kinds and compatible[0] not in barred:
                offers.append((compatible[0], pronoun))
        return offers

    def refer(self, entity: Entity, pronoun: Pronoun) -> None:
        """Use `pronoun` for `entity`: settles the gender of one that could have been either."""
        if entity.number == "Sing":
            entity.gender = pronoun.gender
        self.mention(entity)

import pytest

from attnlens.zoo.grammar import documents
from attnlens.zoo.registry import embedded_corpus
from attnlens.zoo.trees import Document


@pytest.fixture(scope="session")
def drawn() -> tuple[Document, ...]:
    """Documents of a seed that nothing else uses."""
    return tuple(documents(700, seed=777))


@pytest.fixture(scope="session")
def corpus_text() -> str:
    return embedded_corpus().read_text(encoding="utf-8")

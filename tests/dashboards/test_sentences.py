"""Corpora as lists of sentences: read, searched and paged on the server, by the route that the rail asks."""

from __future__ import annotations

import pytest

from attnlens.errors import CorpusError
from attnlens.zoo.registry import embedded_corpus
from dashboards import sentences
from dashboards.app import DashboardConfig, create_app
from dashboards.sentences import EMBEDDED, ON_PAGE, SentenceStore

HOST = {"Host": "127.0.0.1:8050"}
HOSTILE = "<img src=x onerror=alert(1)>"


def texts_in(path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]


def sentence(number: int, text: str) -> str:
    rows = [f"{at}\t{word}\t_\tX\t_\t_\t0\troot\t_\t_" for at, word in enumerate(text.split()[:1], 1)]
    return f"# sent_id = {number}\n# text = {text}\n" + "\n".join(rows) + "\n\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inside").mkdir()
    for name in ("inside/few.conllu", "outside.conllu"):
        (tmp_path / name).write_text(sentence(1, "שלום") + sentence(2, "Dogs") + sentence(3, "dogs"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def store(folder):
    return SentenceStore(DashboardConfig(roots=(folder / "inside",)))


@pytest.fixture
def client(folder):
    config = DashboardConfig(roots=(folder / "inside",), cache=folder / "cache", max_upload_bytes=100_000)
    return create_app(config).server.test_client()


@pytest.fixture(scope="module")
def embedded():
    """A store that reads the embedded corpus once for all tests."""
    return SentenceStore(DashboardConfig())


def asked(client, **query) -> dict:
    return client.get("/sentences", query_string=query, headers=HOST).json


def test_pages_together_are_the_corpus(embedded):
    expected = texts_in(embedded_corpus())
    pages = [embedded.page(EMBEDDED, first=first) for first in range(0, len(expected), ON_PAGE)]

    assert [row for page in pages for row in page.rows] == list(enumerate(expected, 1))
    assert {page.total for page in pages} == {len(expected)}
    assert max(len(page.rows) for page in pages) == ON_PAGE
    assert embedded.page(EMBEDDED, first=10**8).rows == pages[-1].rows


def test_a_search_finds_what_contains_the_words(embedded):
    matching = [row for row in enumerate(texts_in(embedded_corpus()), 1) if "the keys" in row[1].lower()]

    page = embedded.page(EMBEDDED, " The KEYS ")

    assert list(page.rows) == matching[:ON_PAGE]
    assert page.found == len(matching) > 0
    assert embedded.page(EMBEDDED, "no such words").rows == ()


def test_a_file_is_read_below_the_allowed_folders_only(store, folder):
    page = store.page(str(folder / "inside" / "few.conllu"), "dogs")

    assert (page.title, page.total, page.rows) == ("few.conllu", 3, ((2, "Dogs"), (3, "dogs")))
    for name in (folder / "outside.conllu", folder / "inside" / ".." / "outside.conllu", folder / "inside" / "none"):
        with pytest.raises(CorpusError, match=r"outside the folders|not a file"):
            store.page(str(name))
    with pytest.raises(CorpusError, match="others can reach"):
        SentenceStore(DashboardConfig(host="0.0.0.0", roots=(folder,))).page(str(folder / "outside.conllu"))


def test_a_changed_file_is_read_again(store, folder):
    file = folder / "inside" / "few.conllu"
    assert store.page(str(file)).total == 3

    file.write_text(sentence(1, "Cats"), encoding="utf-8")

    assert store.page(str(file)).rows == ((1, "Cats"),)


def test_a_file_too_large_for_a_list_is_refused_before_it_is_read(store, folder, monkeypatch):
    monkeypatch.setattr(sentences, "MOST_BYTES", 10)

    with pytest.raises(CorpusError, match=r"few\.conllu has .* takes 10 B; cut it into parts"):
        store.page(str(folder / "inside" / "few.conllu"))


def test_an_upload_is_listed_by_every_process_that_shares_the_folder(client, folder):
    data = (sentence(1, HOSTILE) + sentence(2, "Dogs")).encode()

    sent = client.post("/upload", data=data, query_string={"name": "mine.conllu"}, headers=HOST).json
    elsewhere = create_app(DashboardConfig(cache=folder / "cache")).server.test_client()

    found = asked(elsewhere, corpus=sent["corpus"])
    assert found == asked(client, corpus=sent["corpus"])
    assert found["rows"] == [[1, HOSTILE], [2, "Dogs"]]
    assert found["title"] == "mine.conllu"


@pytest.mark.parametrize("data", [b"\x00\x01PK", b"1\ta\n", b"\n\n"], ids=["binary", "broken", "blank"])
def test_an_upload_that_is_no_corpus_is_said_by_its_own_name(client, data):
    answer = client.post("/upload", data=data, query_string={"name": "<b>.conllu"}, headers=HOST).json

    assert answer["error"].startswith("<b>.conllu")
    assert "upload.attn" not in answer["error"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"corpus": "upload-0123456789ab"}, "no longer here"),
        ({"corpus": "/etc/passwd"}, "outside the folders"),
        ({"corpus": "\0"}, "outside the folders"),
        ({"corpus": ""}, "no file is named"),
    ],
)
def test_what_cannot_be_listed_is_said_in_one_line(client, query, said):
    answer = asked(client, **query)

    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_a_place_that_is_no_number_is_the_beginning(client, folder):
    corpus = str(folder / "inside" / "few.conllu")

    assert asked(client, corpus=corpus, **{"from": "-1"}) == asked(client, corpus=corpus, **{"from": "0"})

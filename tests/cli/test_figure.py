"""`attnlens figure`: every kind as a file and as text, and mistakes before a model is opened."""

from __future__ import annotations

import re

import pytest

from attnlens.report import still

SENTENCE = "The keys are here."
GPT2 = ("-m", "attnlens/tiny-gpt2")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """RUN and OTHER, two runs of the embedded GPT-2 as files, and DIR, results for it: L1H2 is labelled."""
    import json

    from sample_results import heads_document

    import attnlens

    made = tmp_path_factory.mktemp("figures")
    lens = attnlens.load("attnlens/tiny-gpt2")
    document = heads_document(lens.anatomy, "L1H2", "L2H0")
    (made / "heads.json").write_text(json.dumps(document), encoding="utf-8")
    texts = {"RUN": SENTENCE, "OTHER": "The keys are gone."}
    runs = {name: lens.capture(text, points=()).save(made / f"{name}.attn") for name, text in texts.items()}
    return runs | {"DIR": made}


@pytest.mark.parametrize(
    ("call", "in_picture", "in_text"),
    [
        (("head", SENTENCE, *GPT2, "--head", "L1H1"), "keys", "percent of the row's attention"),
        (("matrix", "RUN", "--head", "L1H1", "--words", "--hide-special"), "keys", "weight"),
        (("map", "RUN", "--metric", "entropy"), "entropy \\(nats\\)", "L2H3"),
        (("map", "DIR"), "layer", "L2H3"),
        (("mixing", "RUN", "--measure", "rollout"), "keys", "percent of the row's mixture"),
        (("forest", "DIR", "--head", "L1H2"), "baseline", "95 % interval"),
        (("evidence", "DIR", "--head", "L1H2"), "weight", "strongest"),
        (("compare", "RUN", "OTHER"), "divergence", "L2H3"),
        (("compare", "RUN", "OTHER", "--head", "L1H1"), "second − first", "difference"),
    ],
    ids=["head", "matrix", "map", "labels", "mixing", "forest", "evidence", "compare", "compare-head"],
)
def test_every_kind_is_drawn_and_printed(cli, tmp_path, places, call, in_picture, in_text):
    call = [str(places.get(word, word)) for word in call]

    drawn = cli("figure", *call, "-o", tmp_path / "a b.svg")
    printed = cli("figure", *call)

    assert (drawn.code, drawn.out) == (0, f"{tmp_path / 'a b.svg'}\n"), drawn.err
    assert re.search(in_picture, (tmp_path / "a b.svg").read_text(encoding="utf-8"))
    assert drawn.err.startswith("caption: ")
    assert printed.code == 0, printed.err
    assert re.search(in_text, printed.out)


def test_the_width_and_the_part_of_the_text_count(cli, tmp_path, places):
    call = ("figure", "matrix", places["RUN"], "--head", "L1H1", "--tokens", "1:3")

    cli(*call, "-o", tmp_path / "a.svg", "--width", "100")

    written = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert 'width="100mm"' in written
    assert re.findall(r">([A-Za-z]+)</text>", written) == ["The", "keys", "The", "keys", "weight"]


def test_a_file_that_is_there_is_kept_unless_somebody_says_so(cli, tmp_path, places):
    (tmp_path / "a.svg").write_text("mine")
    call = ("figure", "map", places["DIR"], "-o", tmp_path / "a.svg")

    refused = cli(*call)

    assert refused.code == 1
    assert "add --force" in refused.err
    assert (tmp_path / "a.svg").read_text() == "mine"
    assert cli(*call, "--force").code == 0
    assert "<svg" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_results_without_a_stream_have_no_layers(cli, places):
    assert "--with-stream" in cli("figure", "layers", places["DIR"]).err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("tree", SENTENCE, *GPT2), "choose one of head, matrix, map"),
        (("head", SENTENCE, *GPT2), "name it: --head L3H1"),
        (("head", SENTENCE, "--head", "L1H1"), "name the model: -m MODEL"),
        (("head", "The", "keys", *GPT2, "--head", "L1H1"), "quote a sentence"),
        (("compare", SENTENCE, *GPT2), "two texts or runs, found 1"),
        (("head", SENTENCE, *GPT2, "--head", "L1H1", "--tokens", "3:1"), "such as 0:40"),
        (("head", SENTENCE, *GPT2, "--head", "L1H1", "-o", "a.gif"), f"ends in {', '.join(still.FORMATS)}"),
        (("head", SENTENCE, *GPT2, "--head", "L1H1", "-o", "a.svg", "--width", "0"), "no width"),
        (("mixing", SENTENCE, *GPT2, "--measure", "entropy"), "no map of mixing"),
    ],
)
def test_a_mistake_is_one_line(cli, call, message):
    done = cli("figure", *call)

    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1

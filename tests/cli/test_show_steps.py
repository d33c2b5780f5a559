"""`attnlens show --steps`: what it prints of a head are the model's own numbers, in a terminal's width or as JSON."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from random_models import BUILDERS

TEXT = "The keys to the cabinet are on the table."


def test_json_holds_transformers_own_row_and_output(cli, bert):
    model, tokenizer = BUILDERS["bert"]()
    model.set_attn_implementation("eager")
    attention = model.base_model.encoder.layer[2].attention
    seen = []
    hook = attention.output.dense.register_forward_hook(lambda _module, args, output: seen.extend((args[0], output)))
    with torch.no_grad():
        eager = model(**tokenizer(TEXT, return_tensors="pt"), output_attentions=True).attentions[2][0, 1]
    hook.remove()

    done = cli("show", "-m", bert, TEXT, "--steps", "--head", "L2H1", "--query", "cabinet", "--json")

    document = json.loads(done.out)
    at = next(place for place, token in enumerate(document["tokens"]) if token["label"] == "cabinet")
    columns = {column["key"]: np.array(column["values"], dtype=float) for column in document["steps"]["columns"]}
    vectors = {v["name"]: np.array(v["values"]) for step in document["steps"]["steps"] for v in step["vectors"]}
    d_head = len(vectors["query"])
    np.testing.assert_allclose(columns["weights"], eager[at], atol=1e-5)
    np.testing.assert_allclose(columns["keys"] @ vectors["query"], columns["raw"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(columns["scaled"] * d_head**0.5, columns["raw"], rtol=1e-4)
    np.testing.assert_allclose(vectors["sum z"], seen[0][0, at, d_head : 2 * d_head], atol=1e-5)
    np.testing.assert_allclose(columns["weights"] @ columns["values"], vectors["sum z"], atol=1e-5)
    np.testing.assert_allclose(vectors["output"], seen[1][0, at], atol=1e-5)


def test_every_step_fits_80_columns_and_says_what_it_leaves_out(cli, bert):
    done = cli("show", "-m", bert, f"{TEXT} \x1b[31m</b>[bold]", "--steps", "--head", "L2H1", "--query", "5")

    lines = done.out.splitlines()
    titles = [found[1] for line in lines if (found := re.match(r"\d+\. (.*?)  ", line))]
    assert titles == [
        "Query", "Keys", "Products", "Scores", "Scaling", "Softmax", "Values", "Weighted sum", "Write", "All heads",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80
    assert "more…" in next(line for line in lines if line.startswith("  write"))
    assert "\x1b" not in done.out


def test_a_row_of_a_long_vector_keeps_both_ends():
    from attnlens.cli.steps import vector_text

    text = vector_text(np.arange(100.0), 60)

    assert len(text) <= 60
    assert text.split()[0] == "0.000"
    assert text.split()[-1] == "99.000"
    shown = text.replace("…", " ").split()
    assert len(shown) - 2 + int(shown[shown.index("more") - 1]) == 100


@pytest.mark.parametrize(("options", "message"), [
    (("--steps",), "say which"),
    (("--head", "L0H0", "--query", "1"), "--query is for --steps"),
    (("--steps", "--head", "L0H0", "--words"), "leave --words out"),
    (("--steps", "--head", "L0H0", "--query", "99"), "no token 99"),
    (("--steps", "--head", "L0H0", "--query", "dog"), "no token is 'dog'"),
    (("--steps", "--head", "L0H0", "--query", "the"), "more than once, at 1, 4"),
])  # fmt: skip
def test_a_mistake_is_one_line(cli, bert, options, message):
    done = cli("show", "-m", bert, "the keys to the table", *options)

    assert message in done.err
    assert (done.code in (1, 2), done.err.count("\n"), done.out) == (True, 1, "")

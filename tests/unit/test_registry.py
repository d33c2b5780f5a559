"""Measures of a run against loops written from their definitions, on transformers' eager weights; what is refused.

Nothing in `SLOW` uses attnlens: weights come from `output_attentions`, each measure is a loop over queries and keys.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from eager_truth import eager_attentions
from family_models import FAMILIES
from scipy.spatial.distance import cdist, jensenshannon
from sklearn.manifold import smacof

TEXT = "The keys, to the cabinet."


class Map:
    """One head's weights with what the loops need to know."""

    def __init__(self, weights, visible, special_rows, special_columns):
        self.weights, self.visible = weights, visible
        self.kept = [query for query, special in enumerate(special_rows) if not special]
        self.special = special_columns

    def mean(self, value):
        """Mean over the queries that count of what `value` says of one, which is None where undefined."""
        found = [value(query) for query in self.kept]
        found = [number for number in found if number is not None]
        return sum(found) / len(found) if found else math.nan

    def at(self, query, key):
        n_keys = self.weights.shape[1]
        return self.weights[query, key] if 0 <= key < n_keys and self.visible[query, key] else None

    def entropy(self, query):
        return -sum(w * math.log(w) for w in self.weights[query] if w > 0)

    def breadth(self, query):
        n_seen = sum(self.visible[query])
        return self.entropy(query) / math.log(n_seen) if n_seen >= 2 else None

    def moment(self, query, power, centre=0.0):
        return sum(w * (abs(query - key) - centre) ** power for key, w in enumerate(self.weights[query]))

    def columns(self):
        return [self.mean(lambda query, key=key: self.weights[query, key]) for key in range(self.weights.shape[1])]


SLOW = {
    "entropy": lambda m: m.mean(m.entropy),
    "breadth": lambda m: m.mean(m.breadth),
    "distance": lambda m: m.mean(lambda q: m.moment(q, 1)),
    "distance-variance": lambda m: m.mean(lambda q: m.moment(q, 2, m.moment(q, 1))),
    "offset": lambda m: m.mean(lambda q: m.at(q, q - 1)),
    "self": lambda m: m.mean(lambda q: m.at(q, q)),
    "previous": lambda m: m.mean(lambda q: m.at(q, q - 1)),
    "next": lambda m: m.mean(lambda q: m.at(q, q + 1)),
    "first": lambda m: m.mean(lambda q: m.at(q, 0)),
    "delimiters": lambda m: m.mean(lambda q: sum(m.weights[q][m.special]) if any(m.special) else None),
    "max-weight": lambda m: m.mean(lambda q: max(m.weights[q])),
    "diagonal": lambda m: m.mean(lambda q: sum(m.at(q, q + step) or 0.0 for step in (-1, 0, 1))),
    "column": lambda m: sum(sorted(m.columns())[-2:]),
}
ACROSS = {"entropy", "breadth", "first", "delimiters", "max-weight", "column"}
MODELS = {"bert": ("",), "gpt2": ("",), "llama": ("",), "t5": ("E", "D", "X")}


def open_family(name):
    import attnlens

    family = FAMILIES[name]
    return attnlens.load(model=family.build(), tokenizer=family.tokenizer())


def run_of(lens, name, **options):
    return lens.capture((TEXT, "See it") if name == "t5" else TEXT, **options)


def eager_maps(lens, run, name, stack):
    """layer -> head -> Map, of transformers' own weights."""
    ids = torch.tensor([[token.id for token in run.tokens]])
    inputs, sources = {"input_ids": ids}, run.tokens
    if run.source is not None:
        sources = run.source.tokens
        inputs = {"input_ids": torch.tensor([[token.id for token in sources]]), "decoder_input_ids": ids}
    rows, columns = (sources if stack == "E" else run.tokens), (sources if stack in ("E", "X") else run.tokens)
    if FAMILIES[name].takes_segments:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    layers = eager_attentions(lens.model, inputs)[stack]
    special = [np.array([token.special for token in tokens]) for tokens in (rows, columns)]
    n_rows, n_columns = len(rows), len(columns)
    causal = stack in ("", "D") and lens.anatomy.causal
    visible = np.tril(np.ones((n_rows, n_columns), bool)) if causal else np.ones((n_rows, n_columns), bool)
    return [[Map(head.double().numpy(), visible, *special) for head in layer[0]] for layer in layers]


@pytest.mark.parametrize(("name", "stack"), [(name, stack) for name, stacks in MODELS.items() for stack in stacks])
def test_every_pattern_measure_is_what_a_loop_over_eager_weights_gives(name, stack):
    lens = open_family(name)
    run = run_of(lens, name)
    maps = eager_maps(lens, run, name, stack)
    options = {"stack": stack} if stack else {}

    for measure, slow in SLOW.items():
        if stack == "X" and measure not in ACROSS:
            continue
        expected = torch.tensor([[slow(head) for head in layer] for layer in maps], dtype=torch.float64)

        found = lens.measure(measure, run, **options)

        assert found.axes == ("layer", "head")
        torch.testing.assert_close(found.values, expected, atol=2e-5, rtol=0, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_one_head_has_the_value_that_it_has_among_all(name):
    from attnlens.measures.registry import measures

    lens = open_family(name)
    run = run_of(lens, name)
    stack = "E" if name == "t5" else ""
    options = {"stack": stack} if stack else {}
    others = ("head-distance", "head-map", "head-rollout")
    own = [m for name, m in measures().items() if type(m.compute).__name__ == "OverHeads" or name in others]

    for measure in own:
        if measure.needs.causal not in (None, lens.anatomy.causal):
            continue
        every = lens.measure(measure, run, **options)
        one = lens.measure(measure, run, head=f"{stack}L1H2")

        assert one.axes == measure.axes[2:]
        assert one.stack == every.stack == stack
        torch.testing.assert_close(one.values, every.values[1, 2], equal_nan=True)
    assert len(own) >= 18


@pytest.mark.parametrize(("name", "stack"), [("bert", ""), ("llama", ""), ("t5", "X")])
def test_distances_between_heads_are_scipys_over_eager_weights(name, stack):
    lens = open_family(name)
    run = run_of(lens, name)
    heads = [head for layer in eager_maps(lens, run, name, stack) for head in layer]
    expected = [
        [np.mean([jensenshannon(a.weights[q], b.weights[q]) ** 2 for q in a.kept]) for b in heads] for a in heads
    ]

    found = lens.measure("head-distance", run, **({"stack": stack} if stack else {}))
    points = lens.measure("head-map", run, **({"stack": stack} if stack else {})).values

    flat = found.values.reshape(len(heads), len(heads))
    np.testing.assert_allclose(flat.numpy(), np.nan_to_num(np.array(expected)), atol=2e-6)
    assert found.axes == ("layer", "head", "layer_to", "head_to")
    assert points.shape == (*found.values.shape[:2], 2)
    roots, from_chance = np.sqrt(flat.numpy()), []
    for seed in range(4):  # scikit-learn's own, started by chance
        from_chance.append(smacof(roots, n_components=2, n_init=1, random_state=seed)[0])
    stresses = [((cdist(one, one) - roots) ** 2).sum() for one in (points.reshape(-1, 2).numpy(), *from_chance)]
    assert stresses[0] < 1.1 * min(stresses[1:])


def test_options_change_the_result():
    lens = open_family("gpt2")
    run = run_of(lens, "gpt2")

    near, far = (lens.measure("offset", run, offset=offset).values for offset in (-1, -3))
    narrow, wide = (lens.measure("diagonal", run, width=width).values for width in (1, 4))
    one, two = (lens.measure("column", run, n_columns=n).values for n in (1, 2))

    torch.testing.assert_close(near, lens.measure("previous", run).values)
    assert not torch.allclose(near, far)
    assert (wide > narrow).all()
    assert (two > one).all()


def test_names_of_other_tools_and_underscores_find_the_same_measure():
    from attnlens.measures.registry import find_measure

    assert find_measure("prev_token_score").name == "previous"
    assert find_measure("self_attention_score").name == "self"
    assert find_measure("pattern_entropy").name == "entropy"
    assert find_measure("qk_distance").name == "distance"
    assert find_measure("qk_distance_variance").name == "distance-variance"
    assert find_measure("max_weight").name == "max-weight"


def test_every_measure_describes_itself():
    from attnlens.measures.registry import measures

    known = measures()
    aliases = [alias for measure in known.values() for alias in measure.aliases]

    assert len(set(aliases)) == len(aliases)
    assert not {alias.replace("_", "-") for alias in aliases} & set(known)
    for name, measure in known.items():
        assert name == name.lower().replace("_", "-")
        texts = (measure.title, measure.description, measure.source, measure.more)
        assert all(text and "\n" not in text and text.isprintable() for text in texts), name
        assert measure.high is None or measure.low is None or measure.low < measure.high
        assert not measure.instead or measure.instead in known


def test_a_measure_that_cannot_be_loaded_is_named_and_takes_no_other_with_it(monkeypatch):
    from importlib.metadata import EntryPoint

    from attnlens import plugins
    from attnlens.measures import registry

    real = plugins.installed
    broken = EntryPoint("broken", "no_such_package:MEASURE", registry.GROUP)
    wrong = EntryPoint("wrong", "attnlens.measures.pattern_measures:ENTROPY", registry.GROUP)
    for module in (plugins, registry):
        monkeypatch.setattr(module, "installed", lambda group: real(group) | {"broken": broken, "wrong": wrong})

    faults = registry.broken_measures()

    assert set(registry.measures()) == set(real(registry.GROUP))
    assert "no_such_package:MEASURE" in faults["broken"]
    assert "registered as the measure 'wrong'" in faults["wrong"]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list():
    from attnlens.errors import UsageError
    from attnlens.measures.registry import find_measure

    with pytest.raises(
        UsageError, match=r"no measure 'entropi'. Did you mean 'entropy'\? Installed: .*breadth, column"
    ):
        find_measure("entropi")


def test_a_head_out_of_range_is_told_the_range():
    from attnlens.errors import HeadAddressError

    lens = open_family("llama")

    with pytest.raises(HeadAddressError, match="L9H0 does not exist: the model has 4 layers of 6 heads, L0H0 to L3H5"):
        lens.measure("entropy", TEXT, head="L9H0")


def test_an_option_that_does_not_exist_or_fit_is_refused():
    from attnlens.errors import UsageError

    lens = open_family("gpt2")

    with pytest.raises(UsageError, match="'previous' has no option 'offset'; it has stack"):
        lens.measure("previous", TEXT, offset=-2)
    with pytest.raises(UsageError, match="offset='two' of 'offset' is no int, such as -1"):
        lens.measure("offset", TEXT, offset="two")


def test_cross_attention_has_no_previous_token():
    from attnlens.errors import MeasureError

    lens = open_family("t5")

    with pytest.raises(MeasureError, match="'previous' cannot be measured: it compares positions within one text"):
        lens.measure("previous", ("ab", "cd"), head="XL0H0")


def made_up(**changes):
    from attnlens.measures.registry import find_measure

    return replace(find_measure("entropy"), name="made-up", instead="breadth", **changes)


def test_a_measure_that_the_model_does_not_have_is_refused_with_the_nearest_one():
    from attnlens.errors import MeasureError
    from attnlens.measures.registry import Needs

    lens = open_family("gpt2")
    bidirectional, gradient = made_up(needs=Needs(causal=False)), made_up(needs=Needs(gradient=True))

    with pytest.raises(
        MeasureError, match=r"'made-up' cannot be measured: .* see later tokens too.*Take 'breadth' inst"
    ):
        lens.measure(bidirectional, TEXT)
    with pytest.raises(MeasureError, match="take mode='exact'"):
        lens.measure(gradient, TEXT, mode="lazy")
    assert lens.measure(gradient, TEXT).run.mode == "exact"


def test_a_run_that_lacks_what_a_measure_needs_is_refused_with_the_way_out():
    from attnlens.errors import MeasureError
    from attnlens.measures.registry import Needs, measure_run

    lens = open_family("gpt2")
    bare = lens.capture(TEXT, points=(), logits=False)

    with pytest.raises(MeasureError, match=r"needs z of the run; capture with points=\('z',\)"):
        lens.measure(made_up(needs=Needs(points=("z",))), bare)
    with pytest.raises(MeasureError, match="holds no logits"):
        lens.measure(made_up(needs=Needs(logits=True)), bare)
    with pytest.raises(MeasureError, match="it needs the model"):
        measure_run(made_up(needs=Needs(model=True)), bare)
    assert lens.measure(made_up(needs=Needs(points=("z",), logits=True)), TEXT).run.logits is not None


def test_a_run_of_another_model_is_refused():
    from attnlens.errors import UsageError

    run = open_family("llama").capture(TEXT)

    with pytest.raises(UsageError, match="open the model that made the run"):
        open_family("gpt2").measure("entropy", run)


def test_what_is_not_defined_is_nan_and_never_zero():
    lens = open_family("gpt2")

    following = lens.measure("next", TEXT).values
    delimiters = lens.measure("delimiters", TEXT).values
    some = lens.measure("entropy", lens.capture(TEXT, layers=[0])).values

    assert following.isnan().all()
    assert delimiters.isnan().all()  # this tokenizer adds no special token
    assert some[1:].isnan().all()
    assert not some[0].isnan().any()


def test_a_run_from_a_file_is_measured_without_its_model(tmp_path):
    import attnlens
    from attnlens.measures.registry import find_measure, measure_run

    lens = open_family("gpt2")
    run = lens.capture(TEXT)

    opened = attnlens.open(run.save(tmp_path / "run.attn"))

    found = measure_run(find_measure("entropy"), opened).values
    torch.testing.assert_close(found, lens.measure("entropy", run).values)


def test_a_plug_in_that_is_no_measure_is_an_error(monkeypatch):
    from attnlens.errors import PluginError
    from attnlens.measures import registry

    other = made_up()
    monkeypatch.setattr(registry, "load_plugin", lambda group, name: other)

    with pytest.raises(PluginError, match="registered as the measure 'entropy' and is"):
        registry.find_measure("entropy")


def test_long_texts_are_measured_head_by_head_with_the_same_result(monkeypatch):
    from attnlens.measures import rows

    lens = open_family("bert")
    run = run_of(lens, "bert")
    whole = lens.measure("toeplitz-share", run).values

    monkeypatch.setattr(rows, "TILE", 100)

    torch.testing.assert_close(lens.measure("toeplitz-share", run).values, whole)

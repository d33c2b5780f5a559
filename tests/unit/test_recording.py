"""What a capture leaves behind: nothing; whom it hears: its own thread and block; what flows through it: gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from eager_truth import eager_attentions
from family_models import FAMILIES
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

import attnlens
from attnlens.capture import intercept, tap
from attnlens.capture.recorders import Extents, LazyRecorder
from attnlens.capture.replacements import GateRecorder, ReplayRecorder
from attnlens.capture.run import Capture
from attnlens.capture.sites import Site
from attnlens.capture.tap import needs_eager, recording
from attnlens.errors import CaptureError

# One family per route: interface (SDPA, and one that needs its eager code), softmax, sdpa; torch's own below.
ROUTES = ("gpt2", "gemma2", "bloom", "falcon", "t5")
RUNS: dict[str, Callable[[attnlens.Lens, Any], object]] = {
    "lazy": lambda lens, inputs: list(lens.captures(inputs=inputs, logits=True)),
    "dense": lambda lens, inputs: list(lens.captures(inputs=inputs, weights=True, logits=True)),
    "exact": lambda lens, inputs: list(lens.captures(inputs=inputs, mode="exact", logits=True)),
    "points": lambda lens, inputs: list(
        lens.captures(inputs=inputs, points=("resid_pre", "attn_out", "z", "write", "final"), logits=True)
    ),
    "reduce": lambda lens, inputs: lens.reduce(inputs=inputs),
}


class Net(nn.Module):
    """Two blocks on nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(12, 3, 17, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@cache
def opened(name: str) -> attnlens.Lens:
    if name == "multi-head":
        torch.manual_seed(0)
        return attnlens.load(model=Net().eval())
    return attnlens.load(model=FAMILIES[name].build(), tokenizer=FAMILIES[name].tokenizer())


def inputs_of(name: str, seed: int = 0) -> Any:
    if name == "multi-head":
        return torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(seed))
    return FAMILIES[name].inputs(seed=seed)


def traces(model: nn.Module) -> dict[str, Any]:
    """Everything that a capture touches: hooks of every module, configs, context, modes, registries."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called", "_backward_hooks")
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}
    return {
        "hooks": [{name: len(getattr(part, name)) for name in hooks} for part in model.modules()],
        "methods": [sorted(vars(part)) for part in model.modules()],
        "implementations": [getattr(config, "_attn_implementation", None) for config in configs.values()],
        "caching": [getattr(config, "use_cache", None) for config in configs.values()],
        "training": [part.training for part in model.modules()],
        "running": tap._running.get(),
        "entered": intercept._entered.get(),
        "switched": dict(tap._switched),
        "modes": len(_get_current_function_mode_stack()),
        "gradients": torch.is_grad_enabled(),
    }


@contextmanager
def failing(model: nn.Module, where: str) -> Iterator[None]:
    """The last layer fails before or after its attention, by an error that nobody expects."""

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    layers = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    last = layers[-1] if not isinstance(layers[-1][-1], nn.ModuleList) else layers[-1][-1]
    inner = [part for part in last[-1].modules() if not list(part.children())]
    with ExitStack() as stack:
        if where == "early":
            stack.callback(last[-1].register_forward_pre_hook(fail).remove)
        else:
            stack.callback(inner[-1].register_forward_hook(fail).remove)
        yield


@pytest.mark.parametrize("fails", [None, "early", "late"])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", [*ROUTES, "multi-head"])
def test_a_capture_leaves_the_model_as_it_was(name: str, run: str, fails: str | None) -> None:
    lens, inputs = opened(name), inputs_of(name)
    if lens.anatomy.route == "softmax" and run == "dense":
        pytest.skip("this family has one mode")
    before = traces(lens.model)
    with torch.no_grad():
        own = first(lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs))

    if fails is None:
        RUNS[run](lens, inputs)
    else:
        with failing(lens.model, fails), pytest.raises(RuntimeError, match="on purpose"):
            RUNS[run](lens, inputs)

    assert traces(lens.model) == before
    with torch.no_grad():
        assert torch.equal(first(lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs)), own)


def first(output: Any) -> Tensor:
    found: Tensor = output if isinstance(output, Tensor) else output.logits
    return found


@pytest.mark.parametrize("name", [*ROUTES, "multi-head"])
def test_a_recorder_that_fails_leaves_the_model_as_it_was(name: str) -> None:
    """The error comes out of the middle of an attention module, through the hooks that say who is running."""

    class Failing(LazyRecorder):
        def on_attention(self, call: Any) -> Any:
            raise MemoryError

        def on_weights(self, call: Any) -> Any:
            raise MemoryError

    lens, inputs = opened(name), inputs_of(name)
    before = traces(lens.model)

    with pytest.raises(MemoryError), recording(lens._opened.tap, Failing(Extents.everything(2))):
        lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs)

    assert traces(lens.model) == before
    assert list(lens.captures(inputs=inputs))


@pytest.mark.parametrize("name", [*ROUTES, "multi-head"])
def test_a_generator_that_nobody_finishes_leaves_nothing_behind(name: str) -> None:
    lens = opened(name)
    before = traces(lens.model)

    runs = lens.captures(inputs=inputs_of(name))
    next(runs)

    assert traces(lens.model) == before
    runs.close()  # type: ignore[attr-defined]
    assert traces(lens.model) == before


def test_a_model_in_training_is_refused_and_stays_as_it_was() -> None:
    lens = attnlens.load(model=FAMILIES["gpt2"].build(), tokenizer=FAMILIES["gpt2"].tokenizer())
    lens.model.train()
    before = traces(lens.model)

    with pytest.raises(CaptureError, match=r"training mode.*call model.eval\(\)"):
        lens.capture("dog")

    assert traces(lens.model) == before


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "falcon", "multi-head"])
def test_two_threads_on_one_model_do_not_mix(name: str) -> None:
    lens = opened(name)
    alone = [[run.attention() for run in lens.captures(inputs=inputs_of(name, seed))] for seed in range(4)]
    found: dict[int, list[list[Tensor]]] = {}
    together = Barrier(4)

    def work(seed: int) -> None:
        together.wait()
        found[seed] = [
            [run.attention() for run in lens.captures(inputs=inputs_of(name, seed))] for _ in range(5)
        ]  # fmt: skip

    run_together([lambda seed=seed: work(seed) for seed in range(4)])

    for seed, runs in found.items():
        assert len(runs) == 5
        for run in runs:
            for given, expected in zip(run, alone[seed], strict=True):
                assert torch.equal(given, expected)


def run_together(tasks: list[Callable[[], None]]) -> None:
    threads = [Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_models_that_share_a_config_do_not_mix() -> None:
    family = FAMILIES["llama"]
    one, other = family.build(0), family.build(1)
    for part in other.modules():
        if hasattr(part, "config"):
            part.config = one.config
    lenses = [attnlens.load(model=model, tokenizer=family.tokenizer()) for model in (one, other)]
    expected = [torch.stack(eager_attentions(model, family.inputs())[""])[:, 0] for model in (one, other)]
    found: list[list[Tensor]] = [[], []]
    together = Barrier(2)

    def work(which: int) -> None:
        together.wait()
        for _ in range(10):
            found[which].append(next(lenses[which].captures(inputs=family.inputs())).attention())

    run_together([lambda which=which: work(which) for which in range(2)])

    for maps, own in zip(found, expected, strict=True):
        assert len(maps) == 10
        for given in maps:
            torch.testing.assert_close(given, own, atol=1e-5, rtol=0)
    assert one.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", [*ROUTES, "gpt_oss", "multi-head"])
def test_another_threads_forward_is_not_recorded_and_stays_the_same(name: str) -> None:
    """Sinks (gpt_oss) and softcap (gemma2) are no part of SDPA: the other thread needs the attention it always had."""
    lens, inputs = opened(name), inputs_of(name)

    def forward() -> Tensor:
        with torch.no_grad():
            return first(lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs))

    expected, found = forward(), []
    recorder = lens._opened.recorders.get("lazy", lens._opened.recorders["exact"])(Extents.everything(2))

    with recording(lens._opened.tap, recorder):
        run_together([lambda: found.append(forward())])
        heard = len(recorder.calls)

    assert heard == 0
    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("name", [*ROUTES, "multi-head"])
def test_a_capture_within_a_capture_hears_its_own_run_only(name: str) -> None:
    lens, outer_inputs, inner_inputs = opened(name), inputs_of(name, 0), inputs_of(name, 1)
    make = lens._opened.recorders.get("lazy", lens._opened.recorders["exact"])
    outer, inner, n_sites = make(Extents.everything(2)), make(Extents.everything(2)), len(lens._opened.tap.sites)
    expected = [run.attention() for run in lens.captures(inputs=outer_inputs)]

    def forward(inputs: Any) -> None:
        with torch.no_grad():
            lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs)

    before = traces(lens.model)
    with recording(lens._opened.tap, outer):
        forward(outer_inputs)
        with recording(lens._opened.tap, inner):
            forward(inner_inputs)
        heard = len(outer.calls), len(inner.calls)

    assert heard == (n_sites, n_sites)
    assert traces(lens.model) == before
    letter = lens.anatomy.main_stack
    own = torch.stack([pattern.weights() for site, pattern in outer.patterns(0).items() if site.stack == letter])
    torch.testing.assert_close(own, expected[0], atol=1e-6, rtol=0)


def test_a_capture_inside_a_layer_of_another_capture() -> None:
    """A hook of the user's own that captures while the model runs: both are whole."""
    outer, inner = opened("bloom"), opened("multi-head")
    expected = next(outer.captures(inputs=inputs_of("bloom"))).attention()
    inside: list[Capture] = []

    def look(*_: Any) -> None:
        inside.append(next(inner.captures(inputs=inputs_of("multi-head"))))

    hook = outer.model.transformer.h[1].self_attention.register_forward_hook(look)
    try:
        found = next(outer.captures(inputs=inputs_of("bloom"))).attention()
    finally:
        hook.remove()

    assert torch.equal(found, expected)
    alone = next(inner.captures(inputs=inputs_of("multi-head")))
    torch.testing.assert_close(inside[0].attention(), alone.attention())


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "gemma2", "bloom", "t5", "multi-head"])
def test_gradients_flow_through_gates(name: str) -> None:
    """The derivative by a gate is that of finite differences, in float64; some families normalise in float32."""
    precision = 0.03 if name in ("llama", "gemma2") else 1e-3
    if name == "multi-head":
        torch.manual_seed(0)
        lens = attnlens.load(model=Net().double().eval())
        inputs: Any = inputs_of(name).double()
    else:
        lens = attnlens.load(model=FAMILIES[name].build().double(), tokenizer=FAMILIES[name].tokenizer())
        inputs = inputs_of(name)
    letter = lens.anatomy.main_stack
    eager = needs_eager(lens.model)

    def score(gates: Tensor) -> Tensor:
        with recording(lens._opened.tap, GateRecorder(gates, eager, letter)):
            output = first(lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs))
        return (output * torch.linspace(-1, 1, output.shape[-1], dtype=output.dtype)).sum()

    gates = torch.ones(2, lens.anatomy.n_layers, lens.anatomy.n_heads, dtype=torch.float64, requires_grad=True)
    score(gates).backward()

    step = torch.zeros_like(gates)
    step[1, -1, 1] = 1e-3
    with torch.no_grad():
        expected = (score(gates + step) - score(gates - step)) / 2e-3
    assert gates.grad is not None
    torch.testing.assert_close(gates.grad[1, -1, 1], expected, atol=1e-5, rtol=precision)
    assert float(expected.abs()) > 1e-6


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "multi-head"])
def test_gradients_flow_through_patterns(name: str) -> None:
    """A pattern that is put in the place of the model's own has a gradient, and the model's weights have theirs."""
    lens, inputs = opened(name), inputs_of(name)
    runs = list(lens.captures(inputs=inputs, mode="exact"))
    pattern = torch.stack([run.attention(0) for run in runs]).requires_grad_()

    with recording(lens._opened.tap, ReplayRecorder({Site("", 0): pattern})):
        output = first(lens.model(**inputs) if isinstance(inputs, dict) else lens.model(inputs))
    (gradient,) = torch.autograd.grad(output.pow(2).sum(), [pattern])

    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0

"""What the sums of a shard depend on, as names and digests: two runs that share all of it may share their shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.corpora.data import Corpus
from probes.counting import Plan

if TYPE_CHECKING:
    from attnlens.models.lens import Lens

__all__ = ["code_sha256", "fingerprint", "manifest_of"]

PACKAGES = ("attnlens", "probes")
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "wordfreq")


def manifest_of(
    lens: Lens, corpus: Corpus, plan: Plan, options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Everything that a shard's result depends on, flat, so that a difference can be named.

    The number of threads and of workers is not in it: batches follow from the corpus and the settings alone.

    Args:
        lens: the model.
        corpus: the corpus.
        plan: what is counted.
        options: of families; a file among them counts by what is in it.
    """
    parameter = next(lens.model.parameters())
    found: dict[str, Any] = {
        "corpus": corpus.name,
        "corpus sha256": corpus.sha256,
        "limit": corpus.limit,
        "sentences": corpus.n_sentences,
        "faults": corpus.n_skipped,
        "split": plan.split.sha256,
        "model": lens.anatomy.model,
        "weights": fingerprint(lens),
        "dtype": str(parameter.dtype),
        "device": parameter.device.type,
        "families": {probe.name: f"{type(probe).__module__}:{type(probe).__qualname__}" for probe in plan.probes},
        "seed": plan.seed,
        "window": plan.window,
        "batch tokens": plan.batch_tokens,
        "sentences of a shard": plan.shard_sentences,
        "layers": None if plan.layers is None else ",".join(map(str, plan.layers)),
        "code": code_sha256(),
    }
    found |= {f"version of {name}": _version(name) for name in LIBRARIES}
    for family, given in (options or {}).items():
        found |= {f"{family}.{name}": _settled(value) for name, value in given.items()}
    return found


def fingerprint(lens: Lens) -> str:
    """SHA-256 of a model's weights, its settings and its tokenizer."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(lens.model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    config: Any = getattr(lens.model, "config", None)
    if hasattr(config, "to_dict"):
        kept = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
        digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    backend = getattr(lens.tokenizer, "backend_tokenizer", None)
    if backend is not None:
        tokenizer = json.loads(backend.to_str())
        called = ("truncation", "padding")  # as the last call left them
        kept = {name: value for name, value in tokenizer.items() if name not in called}
        digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


@cache
def code_sha256() -> str:
    """SHA-256 of the program itself: a release that counts differently must not go on where another one stopped."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _settled(value: Any) -> Any:
    """An option of a family; a file as the digest of its bytes."""
    if isinstance(value, str | Path) and Path(value).is_file():
        return f"sha256 {hashlib.sha256(Path(value).read_bytes()).hexdigest()}"
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

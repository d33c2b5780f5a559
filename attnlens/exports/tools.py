"""Runs in the forms that BertViz, TransformerLens and CircuitsVis read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnlens.capture.cache_names import ActivationNames
from attnlens.capture.run import Capture
from attnlens.errors import CaptureError, UsageError
from attnlens.exports.registry import Export, Wanted, heads_wanted
from attnlens.exports.writing import write_arrays, write_json
from attnlens.files import whole_file
from attnlens.report.classic import bertviz_parameters

__all__ = ["BERTVIZ", "CIRCUITSVIS", "TRANSFORMERLENS", "cached_activations", "circuitsvis_arguments"]


def circuitsvis_arguments(wanted: Wanted) -> dict[str, Any]:
    """What `circuitsvis.attention.attention_heads(**arguments)` takes: the heads of the main stack.

    CircuitsVis (Cooney and Nanda 2023, github.com/TransformerLensOrg/CircuitsVis) hides the upper triangle unless it is
    told not to, which would be wrong for a model that looks ahead; the argument is given in any case.
    """
    run = wanted.runs[0]
    letter = run.anatomy.main_stack
    heads = heads_wanted(wanted, run, letter)
    if not heads:
        raise UsageError("no head to export: CircuitsVis is given the main stack, and the run holds none asked for.")
    weights = (run.attention(head=head).double().numpy() for head in heads)
    return {
        "attention": [np.round(each, 6).tolist() for each in weights],
        "tokens": [token.label for token in run.tokens],
        "attention_head_names": [str(head) for head in heads],
        "mask_upper_tri": bool(run.anatomy.causal),
    }


def cached_activations(run: Capture) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What a run holds under TransformerLens' names, `[1 ...]`, and the names that it could have but was not asked for.

    The norm behind the last layer is left out, since a run alone does not tell whether the model has one.
    """
    names = ActivationNames(run.anatomy, (), None)
    found, left = {}, []
    for name in names:
        try:
            found[name] = names.value(run, name)[None].contiguous()
        except CaptureError:  # what a name stands for was not kept
            left.append(name)
    return found, left


def _write_bertviz(wanted: Wanted, path: Path) -> str:
    write_json(bertviz_parameters(wanted.runs[0]), path)
    return ""


def _write_circuitsvis(wanted: Wanted, path: Path) -> str:
    write_json(circuitsvis_arguments(wanted), path)
    return ""


def _write_cache(wanted: Wanted, path: Path) -> str:
    found, left = cached_activations(wanted.runs[0])
    if not found:
        raise UsageError("the run holds nothing under these names; capture it with --points.")
    if path.suffix.lower() == ".npz":
        write_arrays({name: _array(tensor) for name, tensor in found.items()}, path)
    else:
        from safetensors.torch import save_file

        with whole_file(path) as part:
            save_file({name: tensor.clone() for name, tensor in found.items()}, part)
    kinds = dict.fromkeys(".".join("N" if piece.isdigit() else piece for piece in name.split(".")) for name in left)
    return f"the run was not asked for {', '.join(kinds)}" if kinds else ""


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Numpy has no bfloat16."""
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


BERTVIZ = Export(
    description="What BertViz' scripts read: attention, left_text, right_text of each stack.",
    endings=(".json",),
    write=_write_bertviz,
)
CIRCUITSVIS = Export(
    description="The arguments of circuitsvis.attention.attention_heads.",
    endings=(".json",),
    write=_write_circuitsvis,
)
TRANSFORMERLENS = Export(
    description="What the run holds under TransformerLens' cache names, as tensors [1 ...].",
    endings=(".safetensors", ".npz"),
    write=_write_cache,
)

"""The functions between the two maps of a feed-forward layer, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "GATED_NAMES", "Activation"]

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(values: Tensor) -> Tensor:
    """The approximation of GELU by a tanh that GPT-2 was trained with (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    return 0.5 * values * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def _quick_gelu(values: Tensor) -> Tensor:
    return values * torch.sigmoid(1.702 * values)


def _squared_relu(values: Tensor) -> Tensor:
    return functional.relu(values).square()


def _identity(values: Tensor) -> Tensor:
    return values


ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": functional.relu,
    "GELU": functional.gelu,
    "GELU (tanh)": _gelu_tanh,
    "SiLU": functional.silu,
    "quick GELU": _quick_gelu,
    "squared ReLU": _squared_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "no function": _identity,
}
"""Those that models use, as plain functions of a number."""

GATED_NAMES: Mapping[str, str] = {
    "ReLU": "ReGLU",
    "GELU": "GEGLU",
    "GELU (tanh)": "GEGLU (tanh)",
    "SiLU": "SwiGLU",
    "sigmoid": "GLU",
    "no function": "bilinear",
}
"""What a layer is called whose activation gates a second map (Shazeer 2020, "GLU Variants Improve Transformer")."""

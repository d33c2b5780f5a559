"""The suite checks the shapes in signatures, in every package; users pay nothing for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError


def test_attnlens_refuses_a_wrong_shape():
    from attnlens.measures.patterns import key_mass

    with pytest.raises(TypeCheckError):
        key_mass(torch.zeros(4), 0)


def test_attnlens_refuses_axes_that_contradict_each_other():
    from attnlens.measures.patterns import breadth

    with pytest.raises(TypeCheckError):
        breadth(torch.zeros(2, 3, 4), torch.ones(3, 5, dtype=torch.bool))


def test_without_the_import_hook_nothing_is_checked():
    program = "import torch\nfrom attnlens.measures.patterns import entropy\nassert entropy(torch.ones(4)).shape == ()"

    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_probes_refuses_a_wrong_shape():
    import numpy as np

    from probes.words import winners

    with pytest.raises(TypeCheckError):
        winners(np.zeros((2, 3, 4)), np.ones((3, 5), dtype=bool))


def test_dashboards_refuses_a_wrong_type():
    """The pages hold no arrays of their own; what they pass on is checked all the same."""
    from dashboards.security import is_loopback

    with pytest.raises(TypeCheckError):
        is_loopback(8050)

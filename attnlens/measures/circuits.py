"""Circuits of heads as matrices of low rank: what a head matches (QK) and moves (OV), and how heads build on heads.

Vectors are rows, as everywhere in attnlens: a head scores `query @ W_Q @ W_K.T @ key` and writes `x @ W_V @ W_O`. What
the norm in front of a map does is for the caller to decide: the maps given here are taken as they are.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

__all__ = [
    "FactoredMatrix",
    "composition_scores",
    "copying_score",
    "ov_circuit",
    "qk_circuit",
    "token_eigenvalues",
]


@dataclass(frozen=True, eq=False)
class FactoredMatrix:
    """The product of a tall and a wide matrix, kept as its factors.

    Every method works through matrices as small as the rank; only `product` builds the whole.

    Attributes:
        left: tall.
        right: wide.
    """

    left: Float[Tensor, "*head rows rank"]
    right: Float[Tensor, "*head rank columns"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return (*self.left.shape[:-1], int(self.right.shape[-1]))

    @property
    def rank(self) -> int:
        """The most that the rank can be."""
        return int(self.left.shape[-1])

    @property
    def T(self) -> FactoredMatrix:  # noqa: N802
        """Transposed."""
        return FactoredMatrix(self.right.mT, self.left.mT)

    def __getitem__(self, head: int | slice | Tensor) -> FactoredMatrix:
        """Of some heads."""
        return FactoredMatrix(self.left[head], self.right[head])

    def __matmul__(self, other: FactoredMatrix | Tensor) -> FactoredMatrix:
        """The product with a matrix on the right, of the rank of the smaller one."""
        if isinstance(other, Tensor):
            return FactoredMatrix(self.left, self.right @ other)
        middle = self.right @ other.left
        if self.rank <= other.rank:
            return FactoredMatrix(self.left, middle @ other.right)
        return FactoredMatrix(self.left @ middle, other.right)

    def __rmatmul__(self, other: Tensor) -> FactoredMatrix:
        """The product with a matrix on the left."""
        return FactoredMatrix(other @ self.left, self.right)

    def apply(self, vectors: Float[Tensor, "*head position rows"]) -> Float[Tensor, "*head position columns"]:
        """Row vectors times the matrix."""
        return vectors @ self.left @ self.right

    def product(self) -> Float[Tensor, "*head rows columns"]:
        """The whole matrix: rows x columns numbers."""
        return self.left @ self.right

    def eigenvalues(self) -> Complex[Tensor, "*head rank"]:
        """Those of the square matrix that can differ from 0: the eigenvalues of `right @ left`.

        Raises:
            ValueError: the matrix is not square.
        """
        if self.left.shape[-2] != self.right.shape[-1]:
            raise ValueError(f"eigenvalues are of square matrices, and this is {self.shape[-2]} x {self.shape[-1]}")
        values: Tensor = torch.linalg.eigvals(self.right.double() @ self.left.double())
        return values

    def singular_values(self) -> Float64[Tensor, "*head rank"]:
        """Those that can differ from 0, the largest first."""
        values: Tensor = torch.linalg.svdvals(_core(self.left.double()) @ _core(self.right.double().mT).mT)
        return values

    def norm(self) -> Float64[Tensor, "*head"]:
        """Frobenius norm."""
        length: Tensor = torch.linalg.matrix_norm(_core(self.left.double()) @ _core(self.right.double().mT).mT)
        return length


def qk_circuit(
    query: Float[Tensor, "*head d_model d_head"], key: Float[Tensor, "*head d_model d_head"]
) -> FactoredMatrix:
    """W_Q W_K^T: `x_query @ QK @ x_key` is a score before the scaling, biases and rotation by position left out."""
    return FactoredMatrix(query, key.mT)


def ov_circuit(
    value: Float[Tensor, "*head d_model d_head"], output: Float[Tensor, "*head d_head d_model"]
) -> FactoredMatrix:
    """W_V W_O: `x_key @ OV` is what a head writes if all its weight is on that key, biases left out."""
    return FactoredMatrix(value, output)


def token_eigenvalues(
    circuit: FactoredMatrix,
    embedding: Float[Tensor, "vocab d_model"],
    unembedding: Float[Tensor, "vocab d_model"],
) -> Complex[Tensor, "*head d_head"]:
    """Eigenvalues of `W_E @ OV @ W_U`, from token to logit, that can differ from 0; in logits per unit of embedding.

    The product of W_U and W_E is made once, d_model x d_model, for all heads; no vocabulary x vocabulary matrix is.

    Args:
        circuit: OV of some heads.
        embedding: W_E.
        unembedding: W_U transposed, as models hold it.
    """
    between = unembedding.double().mT @ embedding.double()
    values: Tensor = torch.linalg.eigvals(circuit.right.double() @ between @ circuit.left.double())
    return values


def copying_score(eigenvalues: Complex[Tensor, "*head value"]) -> Float64[Tensor, "*head"]:
    """Sum of the eigenvalues over the sum of their absolute values; -1 to 1.

    1: every direction of token space that passes is strengthened, so that tokens raise their own logits (a copying
    head); -1: each token lowers its own; about 0: no tendency. NaN where all eigenvalues are 0.

    Source: Elhage et al. 2021, "Detecting Copying Behavior".
    """
    values = eigenvalues.to(torch.complex128)
    sizes = values.abs().sum(-1)
    return torch.where(sizes > 0, values.sum(-1).real / sizes, torch.nan)


def composition_scores(writers: FactoredMatrix, readers: FactoredMatrix) -> Float64[Tensor, "reader writer"]:
    """How much of what each reader reads are directions that each writer writes; 0 to 1.

    `|OV_writer @ R| / (|OV_writer| |R|)` in Frobenius norms. R is QK of the reader for Q-composition, its transpose for
    K-composition, its OV for V-composition. Two random matrices of a small rank in a wide stream already have a score
    of about `1 / sqrt(d_model)`: compare with that. NaN where one of the two is 0.

    Args:
        writers: OV of the earlier heads.
        readers: R of the later ones.

    Source: Elhage et al. 2021, "Induction heads: mechanistic". The baseline is not taken away.
    """
    left = _core(writers.left.double())  # |L M| = |core(L) M|: only these small parts count
    right = _core(readers.right.double().mT).mT
    middle = torch.einsum("wab,rbc->rwac", writers.right.double(), readers.left.double())
    norms = torch.linalg.matrix_norm(left @ middle @ right[:, None])
    sizes = readers.norm()[:, None] * writers.norm()
    return torch.where(sizes > 0, norms / sizes, torch.nan)


def _core(tall: Float[Tensor, "*head rows rank"]) -> Float[Tensor, "*head small rank"]:
    """A small matrix that stretches every vector as much as the tall one: the triangle of its QR decomposition."""
    triangle: Tensor = torch.linalg.qr(tall, mode="r").R
    return triangle

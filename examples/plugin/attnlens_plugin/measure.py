"""A measure: one number per head, with what it means."""

from jaxtyping import Float64
from torch import Tensor

from attnlens.measures.registry import STACK, Measure
from attnlens.measures.rows import HeadRows, OverHeads


def last(rows: HeadRows) -> Float64[Tensor, "head query"]:
    """Weight of each query on the last token of the text, 0 to 1."""
    return rows.weights[..., -1].double()


LAST_TOKEN = Measure(
    name="last-token",
    title="weight on the last token",
    description="Weight on the last token of the text, averaged.",
    low=0.0,
    high=1.0,
    more="the head looks at the end",
    source="the plug-in template",
    axes=("layer", "head"),
    options=(STACK,),
    compute=OverHeads(last),
)

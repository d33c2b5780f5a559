"""A command: what is heavy is imported inside, so that `attnlens --help` stays quick."""

from attnlens.cli import console
from attnlens.cli.options import ModelOption, TextArgument, load_lens, read_text


def longest(text: TextArgument, model: ModelOption) -> None:
    """Say which head looks furthest on a text."""
    lens = load_lens(model)
    run = lens.capture(read_text(text))
    distances = lens.measure("distance", run).values
    layer, head = divmod(int(distances.argmax()), run.n_heads)
    console.out(f"L{layer}H{head} looks {distances.max():.1f} tokens far")

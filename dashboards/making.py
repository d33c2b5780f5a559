"""From a request to a run: what the model is given, and whether that is short enough for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnlens.errors import TextError
from dashboards.request import CHAT, PAIR, TARGET, RunRequest

if TYPE_CHECKING:
    from attnlens.capture.run import Capture
    from attnlens.models.lens import Lens

__all__ = ["chat_prompt", "check_text", "make_run"]


def check_text(request: RunRequest, max_characters: int) -> None:
    """Refuse what needs no model to be refused.

    Raises:
        TextError: a text is empty, or has too many characters.
    """
    for name, text in zip(("text", "second text"), request.texts, strict=False):
        if not text.strip():
            raise TextError(f"the {name} is empty; type a sentence.")
        if len(text) > max_characters:
            raise TextError(f"the {name} has {len(text):,} characters, this page takes {max_characters:,}; shorten it.")


def make_run(lens: Lens, request: RunRequest, *, max_tokens: int, points: bool = False) -> Capture:
    """Run a request.

    Args:
        lens: its model.
        request: what is asked for, which passed `check_text`.
        max_tokens: longest text, in tokens, written ones included.
        points: keep the residual stream, what heads pass on, and the logits as well.

    Raises:
        TextError: too many tokens, or no chat template.
        AttnlensError: the model does not take this kind of text.
    """
    kept: dict[str, Any] = {"points": _points(lens) if points else (), "logits": points}
    text = chat_prompt(lens, request.text) if request.kind == CHAT else request.text
    if request.new_tokens:
        _check_length(lens, text, max_tokens, request.new_tokens)
        return lens.generate(text, max_new_tokens=request.new_tokens, **kept)
    if request.kind == TARGET:
        for part in request.texts:
            _check_length(lens, part, max_tokens)
        return lens.capture(source=request.text, target=request.second, **kept)
    given: Any = request.texts if request.kind == PAIR else text
    _check_length(lens, given, max_tokens)
    return lens.capture(given, **kept)


def chat_prompt(lens: Lens, text: str) -> str:
    """A user's turn in the model's chat template, ready for the reply.

    A beginning-of-sequence token that the template writes out and the tokenizer adds as well is there once.

    Raises:
        TextError: the model has no chat template.
    """
    tokenizer = lens.tokenizer
    if getattr(tokenizer, "chat_template", None) is None:
        raise TextError(f"{lens.anatomy.model} has no chat template; choose a single text instead.")
    turn = [{"role": "user", "content": text}]
    try:
        prompt = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # whatever a stranger's template makes jinja raise
        raise TextError(
            f"the chat template of {lens.anatomy.model} fails ({str(error)[:160]}); choose a single text instead."
        ) from error
    first = tokenizer.bos_token
    adds_it = first is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return prompt.removeprefix(first) if adds_it else prompt


def _check_length(lens: Lens, text: Any, max_tokens: int, written: int = 0) -> None:
    if (n_tokens := lens.n_tokens(text) + written) > max_tokens:
        what = f"the text has {n_tokens - written:,} tokens" + (f" and is to get {written:,} more" if written else "")
        raise TextError(
            f"{what}, this page takes {max_tokens:,}; shorten it, or start the server with a larger --max-tokens."
        )


def _points(lens: Lens) -> tuple[str, ...]:
    """What the pages on the stream and measures of mixing ask of a run: its points, and values where there are any."""
    from attnlens.report.stream_view import points_given

    own = lens.anatomy.stack(lens.anatomy.main_stack)
    return (*points_given(lens.anatomy), *(() if "v" in own.absent else ("v",)))

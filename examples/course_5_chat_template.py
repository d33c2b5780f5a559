"""Exercise 5: an instruct model's chat template. A model reads more than what was typed; heads see all of it."""

from itertools import pairwise
from typing import Any

import torch

import attnlens

# The form of ChatML, as many instruct models use it; a real one comes with the model, in its tokenizer's files.
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]


def instruct_model() -> attnlens.Lens:
    """The embedded decoder with three more tokens and a template: the shape of an instruct model, not its training."""
    torch.manual_seed(0)  # of the new tokens' vectors
    base = attnlens.load("attnlens/tiny-llama")
    model, tokenizer = base.model, base.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ROLES})
    tokenizer.chat_template = TEMPLATE
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return attnlens.load(model=model, tokenizer=tokenizer)


def main() -> None:
    """Write a prompt with the template, run it, and add up what a head gives to each part of it."""
    lens = instruct_model()
    tokenizer: Any = lens.tokenizer
    turns = [
        {"role": "system", "content": "You like books."},
        {"role": "user", "content": "The queen gives the boy a book."},
    ]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    print("the model reads:", prompt)

    run = lens.capture(prompt)
    marks = [place for place, token in enumerate(run.tokens) if token.id in tokenizer.convert_tokens_to_ids(ROLES)]
    assert len(marks) == 3, "each mark of a role is one token"
    assert run.tokens[-1].id == tokenizer.convert_tokens_to_ids("<|assistant|>"), "the reply begins here"
    bounds = [0, *marks, len(run.tokens)]
    names = ["before", "system", "user", "assistant"]
    print("\nshare of the last row, by part of the prompt:")
    print("head   " + "  ".join(f"{name:>9}" for name in names))
    for head in ("L0H0", "L1H2", "L2H1"):
        row = run.attention(head=head)[-1]
        shares = [float(row[start:end].sum()) for start, end in pairwise(bounds)]
        assert abs(sum(shares) - 1) < 1e-5
        print(f"{head}   " + "  ".join(f"{share:>9.2f}" for share in shares))
    n_typed = len(lens.capture(turns[-1]["content"]).tokens)
    print(f"\nThe model read {len(run.tokens)} tokens; what was typed alone would be {n_typed}.")


if __name__ == "__main__":
    main()

"""What `dashboard.py` measures against: servers on this machine, a model of BERT's shape, a bare forward pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = (
    "the a man woman child dog bird house river garden table book letter king queen city road night day water fire "
    "tree red old small new good long gives takes sees finds reads writes opens is was has in on under near with and"
).split()
PATIENCE_S = 120


@contextmanager
def served(model: str, text: str, home: Path) -> Iterator[str]:
    """The address of a running `attnlens serve`, with its files below `home`."""
    command = [sys.executable, "-m", "dashboards", text, "-m", model, "--port", "0", "--root", str(home)]
    with _ending(command, stdout=subprocess.PIPE, env=_environment(home)) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found, "the server did not start"
        yield found[0]


@contextmanager
def two_workers(model: str, home: Path, port: int) -> Iterator[str]:
    """The address of the dashboard under gunicorn, as docs/dashboard.md starts it."""
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "12", "--log-level", "error"]
    command += ["--bind", f"127.0.0.1:{port}", "dashboards.wsgi:create()"]
    address = f"http://127.0.0.1:{port}/"
    with _ending(command, env=_environment(home) | {"ATTNLENS_MODEL": model}) as process:
        _wait_for(address, process)
        yield address


class BareForward:
    """The model's own forward pass, timed in a process of its own with as many threads as a server has."""

    def __init__(self, model: str) -> None:
        script = str(Path(__file__).with_name("bare_forward.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def milliseconds(self, text: str) -> tuple[float, int]:
        """How long the pass over a text takes, and how many tokens it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(text, file=self._process.stdin, flush=True)
        took, n_tokens = self._process.stdout.readline().split()
        return float(took), int(n_tokens)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()


def sentence(at: int, n_words: int) -> str:
    """A text of so many words; another one for each `at`. Each word is one token of MiniLM."""
    return " ".join(WORDS[(7 * at + 3 * place * (at + 1) + place) % len(WORDS)] for place in range(n_words))


def save_large_model(folder: Path) -> Path:
    """A BERT of 12 layers and 12 heads with random weights, narrow, so that little but attention is computed."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = {word: number for number, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(WordLevel(tokens, unk_token="[UNK]"))
    backend.pre_tokenizer = WhitespaceSplit()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokens), hidden_size=192, intermediate_size=384, initializer_range=0.2)
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", model_max_length=512
    ).save_pretrained(folder)
    return folder


def _environment(home: Path) -> dict[str, str]:
    """Nothing from earlier runs: neither runs nor jobs."""
    own = {"ATTNLENS_CACHE": str(home / "runs"), "ATTNLENS_JOBS": str(home / "jobs")}
    return {**os.environ, **own, "HF_HUB_OFFLINE": "1"}


@contextmanager
def _ending(command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    process: subprocess.Popen[str] = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def _wait_for(address: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit("the server did not answer")

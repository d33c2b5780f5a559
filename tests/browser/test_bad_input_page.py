"""What nobody should give the page, given to the real one: it says what is wrong, executes nothing, and works on."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from at_the_page import SENTENCE, expect, is_drawn, waits_for_address

pytestmark = pytest.mark.browser

MIB = 2**20
SCRIPTS = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"
HOSTILE = f"你好 שלום עולם مرحبا 👩\u200d👩\u200d👧 a\x00b\x1b[31m \u202eevil\u202c {SCRIPTS}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder whose models the page may open."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def process(chromium, folder) -> Iterator[tuple[str, int]]:
    """Address and process id of a running `attnlens serve` with a model whose vocabulary has many scripts."""
    command = [sys.executable, "-m", "dashboards", SENTENCE, "-m", "attnlens/minilm", "--port", "0"]
    started = subprocess.Popen([*command, "--root", str(folder)], stdout=subprocess.PIPE, text=True)
    yield re.search(r"http://127\.0\.0\.1:\d+/", started.stdout.readline())[0], started.pid
    started.terminate()
    started.communicate(timeout=20)


@pytest.fixture(scope="module")
def server(process) -> str:
    return process[0]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc to see how much memory the server holds")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) * 1024


def works_on(page: Any) -> None:
    page.fill("#text", "the dogs bark")
    page.press("#text", "Control+Enter")
    waits_for_address(page, text="the dogs bark")


def pieces_of(text: str) -> list[str]:
    """What each token stands for, by the tokenizer's own offsets; what has no sign of its own is spelled out."""
    from transformers import AutoTokenizer

    from attnlens.zoo.registry import find_embedded

    tokenizer = AutoTokenizer.from_pretrained(find_embedded("attnlens/minilm"))
    found = tokenizer(text, return_offsets_mapping=True)
    inner = list(zip(found["input_ids"], found["offset_mapping"], strict=True))[1:-1]
    unknown = tokenizer.unk_token_id
    return [
        "[CLS]",
        *(text[a:b].replace("\0", "\\x00") + (" [UNK]" if token == unknown else "") for token, (a, b) in inner),
        "[SEP]",
    ]


def test_a_text_of_all_scripts_with_code_in_it_is_shown_as_text(visit):
    labels = pieces_of(HOSTILE)
    page = visit("?head=L1H2&tab=matrix")
    page.locator("#matrix canvas[data-cell]").wait_for(state="attached")

    page.fill("#text", HOSTILE)
    page.press("#text", "Control+Enter")

    expect(page.locator("#summary")).to_contain_text(f"{len(labels)} tokens")
    page.locator("#matrix-table").locator("xpath=..").locator("summary").click()
    columns = page.locator("#matrix-table thead th bdi")
    expect(columns).to_have_count(len(labels) + 1)
    assert columns.all_text_contents()[1:] == labels
    assert {"你 [UNK]", "ש", "م", "👩\u200d👩\u200d👧 [UNK]", "script"} <= set(labels)
    assert not re.search("[\x00\x1b\u202a-\u202e]", page.inner_text("#stage"))
    expect(page.locator("#recent-list .example").first).to_contain_text("<script>alert(2)</script>")
    for name in ("Heads", "Stream", "Intervene", "Compare"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.locator("#page .card").first).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("[...document.scripts].filter((one) => one.text.includes('alert')).length") == 0
    page.reload()  # the address holds it all
    expect(page.locator("#summary")).to_contain_text(f"{len(labels)} tokens")


def test_a_file_of_two_gigabytes_is_refused_and_takes_no_memory(visit, process, tmp_path):
    large = tmp_path / "large.attn"
    with large.open("wb") as file:
        file.truncate(2048 * MIB)  # a sparse file
    page = visit()
    is_drawn(page)
    before = resident(process[1])

    page.set_input_files("#upload input[type=file]", large)
    expect(page.locator("#notice")).to_contain_text("large.attn has 2048 MB, this page takes 256 MB")
    connection = http.client.HTTPConnection(urlsplit(process[0]).netloc, timeout=60)
    connection.putrequest("POST", "/upload?name=large.attn")
    connection.putheader("Content-Length", str(2048 * MIB))
    connection.endheaders()  # as a browser without our scripts would begin
    status = connection.getresponse().status
    connection.close()

    assert status == 413
    assert resident(process[1]) - before < 64 * MIB
    works_on(page)


def test_models_that_cannot_be_shown_are_said_and_the_page_works_on(visit, folder):
    import torch
    from random_models import BUILDERS

    broken, large = folder / "broken-bert", folder / "large-bert"
    model, tokenizer = BUILDERS["bert"]()
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.self.query.weight[0] = float("nan")
    model.save_pretrained(broken)
    tokenizer.save_pretrained(broken)
    shutil.copytree(broken, large)
    with (large / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)
    page = visit()
    is_drawn(page)

    page.locator("#model").click()
    page.get_by_role("option", name="a folder or hub id …").click()
    for name, said in ((broken, "self-check failed"), (large, "needs 1.0 TiB of memory"), (folder / "none", "neither")):
        page.fill("#other-model", str(name))
        page.press("#other-model", "Control+Enter")
        expect(page.locator("#notice")).to_contain_text(said)

    expect(page.locator("#summary")).to_contain_text("attnlens/minilm")
    page.locator("#model").click()
    page.get_by_role("option", name="attnlens/minilm").click()
    works_on(page)
    expect(page.locator("#notice")).to_be_hidden()

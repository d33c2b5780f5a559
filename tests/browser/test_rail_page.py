"""The rail in a browser: files that are dropped, sentences of a file, recent runs, two texts at once."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from at_the_page import SENTENCE, expect, given_in, waits_for_address

pytestmark = pytest.mark.browser

HOSTILE = "</option><img src=x onerror=alert(1)>"


def drop(page: Any, file: Path, target: str = ".rail") -> None:
    """Drop a file of this machine on a part of the page, as a person's mouse would."""
    given = {"name": file.name, "data": base64.b64encode(file.read_bytes()).decode(), "target": target}
    page.evaluate(
        """async ({name, data, target}) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], name));
            const place = document.querySelector(target);
            for (const kind of ["dragenter", "dragover", "drop"])
                place.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
        }""",
        given,
    )


def is_shown(page: Any, n_tokens: int) -> None:
    expect(page.locator("#summary")).to_contain_text(f"{n_tokens} tokens")


@pytest.fixture(scope="module")
def lens(model):
    import attnlens

    return attnlens.load(str(model))


def test_a_dropped_run_is_shown_and_its_address_brings_it_back(visit, lens, tmp_path):
    run = lens.capture("she saw her dogs")
    page = visit()
    expect(page.locator("#summary")).to_contain_text("tokens")

    drop(page, run.save(tmp_path / "mine.attn"))

    expect(page.locator("#summary")).to_contain_text("uploaded run")
    is_shown(page, len(run.tokens))
    waits_for_address(page, run="")
    page.reload()
    expect(page.locator("#summary")).to_contain_text("uploaded run")
    assert page.input_value("#text") == "she saw her dogs"


def test_a_file_that_is_none_of_ours_is_said_and_the_page_works_on(visit, tmp_path):
    page = visit()
    expect(page.locator("#summary")).to_contain_text("tokens")
    (tmp_path / "<b>x.attn").write_bytes(b"PK\x03\x04")

    drop(page, tmp_path / "<b>x.attn")

    expect(page.locator("#notice")).to_contain_text("<b>x.attn: is not a readable run")
    page.fill("#text", "the dogs bark")
    page.click("#run-button")
    waits_for_address(page, text="the dogs bark")


def test_arrow_keys_walk_through_the_sentences_of_a_file(visit, tmp_path):
    page = visit()
    expect(page.locator("#summary")).to_contain_text("tokens")
    (tmp_path / "three.txt").write_text(f"the dogs bark\n\n{HOSTILE}\nshe saw the table\n", encoding="utf-8")

    drop(page, tmp_path / "three.txt")
    sentences = page.locator("#batch select")
    sentences.focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")

    waits_for_address(page, text="she saw the table")
    assert sentences.locator("option").all_text_contents() == ["the dogs bark", HOSTILE, "she saw the table"]
    page.reload()
    expect(page.locator("#batch option")).to_have_count(3)
    page.get_by_role("button", name="Put away").click()
    expect(page.locator("#batch")).to_be_hidden()


def test_the_sentences_of_a_corpus_are_searched_and_picked(visit, tmp_path):
    page = visit()
    expect(page.locator("#summary")).to_contain_text("tokens")
    texts = ["the dogs bark", HOSTILE, "she saw dogs"]
    word = "{}\t{}\t_\tX\t_\t_\t{}\troot\t_\t_\n"
    rows = ["".join(word.format(at + 1, form, min(at, 1)) for at, form in enumerate(text.split())) for text in texts]
    rows = [f"# text = {text}\n{lines}\n" for text, lines in zip(texts, rows, strict=True)]
    (tmp_path / "<i>few.conllu").write_text("".join(rows), encoding="utf-8")
    listed, told = page.locator("#corpus [data-part=list]"), page.locator("#corpus [data-part=told]")

    page.get_by_text("Sentences of a corpus").click()
    expect(listed.locator("option")).to_have_count(50)
    page.get_by_role("button", name="Later sentences").click()
    expect(told).to_contain_text("51 to 100 of")
    drop(page, tmp_path / "<i>few.conllu")
    expect(told).to_have_text("1 to 3 of 3")
    assert listed.locator("option").all_text_contents() == texts
    page.fill("#corpus [data-part=find]", "DOGS")
    expect(told).to_have_text("1 to 2 of 2 that match, of 3")
    listed.focus()
    page.keyboard.press("End")

    waits_for_address(page, text="she saw dogs")
    page.reload()
    expect(told).to_have_text("1 to 2 of 2 that match, of 3")
    page.locator("#corpus [data-part=which]").select_option("(file)")
    page.fill("#corpus [data-part=path]", "/etc/passwd")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("cannot be listed: '/etc/passwd' lies outside the folders")
    assert listed.locator("option").count() == 2


def test_a_recent_run_is_restored_by_a_click(visit):
    page = visit()
    waits_for_address(page, text=SENTENCE)
    page.fill("#text", HOSTILE)
    page.press("#text", "Control+Enter")
    expect(page.locator("#recent-list .example").first).to_contain_text(HOSTILE)

    page.click("#recent summary")
    page.locator("#recent-list .example", has_text=SENTENCE).click()

    waits_for_address(page, text=SENTENCE)
    assert page.input_value("#text") == SENTENCE
    page.get_by_role("button", name="Forget these").click()
    expect(page.locator("#recent")).to_be_hidden()


def test_two_texts_run_as_a_pair_and_the_address_keeps_both(visit, lens):
    page = visit()
    expect(page.locator("#kind")).to_be_visible()
    assert not page.is_visible("#second")

    page.click("#kind")
    page.get_by_role("option", name="a pair of texts").click()
    page.fill("#text", "the dogs")
    page.fill("#second", "she saw")
    page.press("#second", "Control+Enter")

    is_shown(page, lens.n_tokens(("the dogs", "she saw")))
    waits_for_address(page, kind="pair", second="she saw")
    page.reload()
    is_shown(page, lens.n_tokens(("the dogs", "she saw")))
    assert page.input_value("#second") == "she saw"
    assert given_in(page)["text"] == "the dogs"

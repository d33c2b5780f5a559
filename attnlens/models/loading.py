"""A model's name to a model and tokenizer in memory, without running foreign code and without a pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from attnlens.capture.tokens import printable
from attnlens.errors import AttnlensError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError, UsageError
from attnlens.sizes.possible import refuse_impossible
from attnlens.zoo.registry import PLANTED, find_embedded

__all__ = ["LoadedModel", "as_dtype", "empty_model", "load_config", "load_pretrained"]

_HASHED_BYTES = 2 << 30


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer, and where the weights came from."""

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    weights_sha256: str | None
    revision: str | None


def load_pretrained(
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    device_map: Any = None,
    quantization_config: Any = None,
) -> LoadedModel:
    """Load an embedded model (`attnlens/...`), a local folder or a hub id.

    Raises:
        ModelNotFoundError: nothing by that name, or a folder without a config.
        UnsafeWeightsError: only pickled weights, or remote code, and no permission.
        UnsupportedModelError: an architecture that transformers does not know, or a checkpoint that leaves weights out.
    """
    if not name.strip():
        raise UsageError("the model's name is empty; expected attnlens/NAME, a folder or a hub id.")
    if name in PLANTED:
        return _planted(name, device, dtype)
    folder = _folder(name)
    where = str(folder or name)
    if folder is not None:
        _check_folder(name, folder, allow_pickle)
    config = _config(name, folder, trust_remote_code)
    options: dict[str, Any] = {} if dtype is None else {"dtype": as_dtype(dtype)}
    if device_map is not None:
        options["device_map"] = device_map
    if quantization_config is not None:
        options["quantization_config"] = quantization_config
    try:
        with _quiet():
            model, report = _model_class(config).from_pretrained(
                where, config=config, output_loading_info=True, trust_remote_code=trust_remote_code,
                use_safetensors=None if allow_pickle else True, weights_only=True, **options,
            )  # fmt: skip
    except OSError as error:
        if folder is None and "safetensors" in str(error):
            raise UnsafeWeightsError(_pickle_refusal(name)) from error
        raise _unreadable(name, folder, error) from error
    except Exception as error:  # whatever a stranger's files make transformers raise
        raise UnsupportedModelError(f"{printable(name)} cannot be loaded: {_first_line(error)}.") from error
    _refuse_missing_weights(name, report)
    tokenizer = _tokenizer(name, where, trust_remote_code)
    model = model.eval() if device is None else model.to(device).eval()
    return LoadedModel(name, model, tokenizer, _hash(folder), getattr(config, "_commit_hash", None))


def _planted(name: str, device: str | torch.device | None, dtype: torch.dtype | str | None) -> LoadedModel:
    """A model whose weights are written by hand, now."""
    from attnlens.zoo.planted_models import build_planted

    planted = build_planted(name)
    model = planted.model if dtype is None else planted.model.to(as_dtype(dtype))
    return LoadedModel(name, model if device is None else model.to(device), planted.tokenizer, planted.sha256, None)


def load_config(name: str, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """The config of an embedded model, a local folder, a hub id, or one in a JSON file of its own; no weights are read.

    Raises:
        ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError: as `load_pretrained`; also sizes that no model
            can have.
    """
    if not name.strip():
        raise UsageError("the model's name is empty; expected attnlens/NAME, a folder, a config.json or a hub id.")
    file = Path(name).expanduser() if name.endswith(".json") else None
    folder = file if file is not None and file.is_file() else _folder(name)
    if folder is not None and folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelNotFoundError(f"{printable(name)} has no config.json; expected a model's folder, or such a file.")
    if folder is not None:
        refuse_impossible(_settings(folder if folder.is_file() else folder / "config.json"))
    with _quiet():
        return _config(name, folder, trust_remote_code)


def _settings(file: Path) -> dict[str, Any]:
    """What a config's file says; nothing where it cannot be read, which transformers will explain."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def empty_model(config: PretrainedConfig, *, trust_remote_code: bool = False) -> nn.Module:
    """The model of a config on the meta device: its shapes and no number of it.

    Raises:
        UnsupportedModelError: transformers cannot build it.
    """
    architecture = _model_class(config)
    try:
        with _quiet(), torch.device("meta"):
            if architecture is AutoModel:
                built = AutoModel.from_config(  # type: ignore[no-untyped-call]
                    config, trust_remote_code=trust_remote_code
                )
            else:
                built = architecture(config)
    except Exception as error:  # whatever a stranger's config makes transformers raise
        raise UnsupportedModelError(
            f"no model can be made of this {config.model_type} config: {_first_line(error)}."
        ) from error
    assert isinstance(built, nn.Module)
    return built


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' progress bars and its report of missing weights; ours is an error."""
    bars, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hf_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _folder(name: str) -> Path | None:
    """The folder that `name` stands for; None for a hub id."""
    if embedded := find_embedded(name):
        return embedded
    try:
        path = Path(name).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelNotFoundError(f"{printable(name)[:160]} cannot be a folder: {_first_line(error)}.") from error
    if is_folder:
        return path
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if exists:
        raise ModelNotFoundError(
            f"{printable(name)} is a file; expected a model's folder, with config.json and *.safetensors."
        )
    if looks_local:
        raise ModelNotFoundError(
            f"there is no folder {printable(name)}; expected one with config.json and *.safetensors."
        )
    return None


def _check_folder(name: str, folder: Path, allow_pickle: bool) -> None:
    shown = printable(name)
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(f"{shown} has no config.json; expected a folder written by model.save_pretrained().")
    if any(folder.glob("*.safetensors")):
        return
    if not any(folder.glob("*.bin")) and not any(folder.glob("*.pt")):
        raise ModelNotFoundError(
            f"{shown} has no weights; expected *.safetensors, as model.save_pretrained() writes them."
        )
    if not allow_pickle:
        raise UnsafeWeightsError(_pickle_refusal(name))


def _pickle_refusal(name: str) -> str:
    return (
        f"{printable(name)} has no safetensors weights, and a pickle can run code when it is opened; "
        "convert it with model.save_pretrained(), or pass --allow-pickle (allow_pickle=True) if you trust its author."
    )


def _config(name: str, folder: Path | None, trust_remote_code: bool) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(str(folder or name), trust_remote_code=trust_remote_code)
    except OSError as error:
        raise _unreadable(name, folder, error) from error
    except Exception as error:  # whatever a stranger's config.json makes transformers raise
        if "trust_remote_code" in str(error):
            raise UnsafeWeightsError(
                f"{printable(name)} runs code of its own; pass --trust-remote-code if you have read that code."
            ) from error
        raise UnsupportedModelError(f"{printable(name)} cannot be loaded: {_first_line(error)}.") from error
    assert isinstance(config, PretrainedConfig)
    return config


def _model_class(config: PretrainedConfig) -> Any:
    """The class that wrote the checkpoint, so that a language-model head is loaded where there is one."""
    for architecture in config.architectures or ():
        if (found := getattr(transformers, architecture, None)) is not None:
            return found
    return AutoModel


def _tokenizer(name: str, where: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelNotFoundError(
            f"{printable(name)} has no tokenizer that transformers can load ({_first_line(error)}); "
            "put its tokenizer.json beside the weights."
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # early releases of transformers 5 make up an empty one
        raise ModelNotFoundError(f"{printable(name)} has no tokenizer; put its tokenizer.json beside the weights.")
    return tokenizer


def _refuse_missing_weights(name: str, report: dict[str, Any]) -> None:
    """Weights that the checkpoint lacks would be random numbers; a pooler is the exception, since no head reads it."""
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UnsupportedModelError(
            f"{printable(name)} leaves out {len(missing)} weights ({printable(shown)}), which would be random; "
            "the checkpoint does not fit its config.json."
        )


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A floating-point precision by its name.

    Raises:
        UsageError: no such precision.
    """
    value = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise UsageError(f"{dtype!r} is not a precision; expected float32, float16, bfloat16 or float64.")
    return value


def _hash(folder: Path | None) -> str | None:
    """SHA-256 over the weight files in name order; None for hub ids (their commit names them) and above 2 GiB."""
    files = sorted(folder.glob("*.safetensors")) if folder else []
    if not files or sum(file.stat().st_size for file in files) > _HASHED_BYTES:
        return None
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _unreadable(name: str, folder: Path | None, error: OSError) -> AttnlensError:
    """A folder that is there is damaged; anything else is not there."""
    if folder is not None:
        return UnsupportedModelError(f"{printable(name)} cannot be loaded: {_first_line(error)}.")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    why = "the hub is switched off (HF_HUB_OFFLINE) and it is not in the local cache" if offline else _first_line(error)
    return ModelNotFoundError(
        f"no model {printable(name)!r}: it is neither embedded (see `attnlens models`) nor a folder here, and {why}."
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0][:300]).rstrip(".") if lines else type(error).__name__

"""The plain way of scoring: one text after the other, in numpy. Slow and short; the fast way is held to it.

Each weight and each win is rounded to parts of `UNIT` before it is added to others, so that the order does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int64

from probes.family import Measuring, Probe
from probes.questions import Cells, Level, OptionTrials, RowTrials
from probes.tally import UNIT, Key, Tally, in_units
from probes.view import LayerView, Sums, Values
from probes.words import Observation

__all__ = ["observe", "view_of"]

Amounts = Float64[np.ndarray, "head entry"]


def observe(probe: Probe, tally: Tally, seen: Observation) -> None:
    """Add one text to the tally of a family."""
    for trials in probe.ask(seen):
        if isinstance(trials, RowTrials):
            _add_rows(tally, seen, trials)
        else:
            _add_options(tally, seen, trials)
    if isinstance(probe, Measuring):
        for values in probe.measure(view_of(seen)):
            if isinstance(values, Sums):
                _add_sums(tally, seen, values)
            else:
                _add_values(tally, seen, values)


def view_of(seen: Observation) -> LayerView:
    """One text as a batch of one; the heads of all layers stand together."""
    return LayerView(
        readings=(seen,),
        tokens=torch.from_numpy(seen.attention)[None],
        visible=torch.from_numpy(seen.visible.any(axis=0))[None],
        words=torch.from_numpy(seen.words)[None],
    )


def _add_rows(tally: Tally, seen: Observation, trials: RowTrials) -> None:
    weights = seen.attention.astype(np.float64) if trials.level == "token" else seen.words
    won = _won(seen, trials.level)
    counted = _counted(trials.question, len(trials.keys))
    target = counted[trials.targets.of]
    paired = counted * trials.paired[:, None]
    hit = _wins_at(won, trials.targets)
    mass_chance = trials.chance if trials.mass_chance is None else trials.mass_chance
    sums = {
        "trials": counted.sum(axis=0),
        "asked": trials.asked,
        "control_trials": paired.sum(axis=0),
        "chance": in_units(trials.chance) @ counted,
        "mass_chance": in_units(mass_chance) @ counted,
        "hits": (hit @ target).T,
        "mass": (in_units(_at(weights, trials.targets)) @ target).T,
        "paired_hits": (hit @ paired[trials.targets.of]).T,
        "control_hits": (_wins_at(won, trials.controls) @ counted[trials.controls.of]).T,
        "paired_mass": (in_units(_at(weights, trials.targets)) @ paired[trials.targets.of]).T,
        "control_mass": (in_units(_at(weights, trials.controls)) @ counted[trials.controls.of]).T,
        "shuffled_hits": (_wins_at(won, trials.shuffled) @ counted[trials.shuffled.of]).T,
        "rules": UNIT * (target.T @ trials.points) + _guessed(trials, counted),
        "rule_hits": np.einsum("he,ek,er->krh", hit, target, trials.points),
    }
    _add(tally, seen, trials.keys, sums)


def _guessed(
    trials: RowTrials | OptionTrials, counted: Int64[np.ndarray, "trial key"]
) -> Int64[np.ndarray, "key rule"]:
    """What rules get where they have no answer."""
    if trials.silent is None:
        return np.zeros((len(trials.keys), trials.points.shape[1]), dtype=np.int64)
    return np.asarray(counted.T @ (in_units(trials.chance)[:, None] * trials.silent))


def _won(seen: Observation, level: Level) -> Float64[np.ndarray, "head query key"]:
    match level:
        case "word":
            return seen.winners
        case "token":
            return seen.token_winners
        case "column":
            return seen.column_winners


def _add_options(tally: Tally, seen: Observation, trials: OptionTrials) -> None:
    weights = seen.words if trials.level == "word" else seen.attention.astype(np.float64)
    n_options, n_trials = len(trials.right), len(trials.question)
    of_trial = trials.option_trial[:, None] == np.arange(n_trials)[None, :]
    amount = np.zeros((len(weights), n_options))
    for entry, option in enumerate(trials.cells.of):  # one after the other: the order of a sum decides its last bit
        amount[:, option] += _at(weights, trials.cells)[:, entry]
    best = np.where(of_trial[None], amount[:, :, None], -1.0).max(axis=1, initial=-1.0)
    won = (amount == best[:, trials.option_trial]).astype(np.int64)
    hit = won * (UNIT // np.maximum(won @ of_trial, 1))[:, trials.option_trial] * trials.right
    counted = _counted(trials.question, len(trials.keys))
    option = counted[trials.option_trial]
    sums = {
        "trials": counted.sum(axis=0),
        "asked": trials.asked,
        "chance": in_units(trials.chance) @ counted,
        "mass_chance": in_units(trials.chance) @ counted,
        "hits": (hit @ option).T,
        "mass": (in_units(amount) @ (option * trials.right[:, None])).T,
        "rival_mass": (in_units(amount) @ (option * ~trials.right[:, None])).T,
        "rules": UNIT * ((option * trials.right[:, None]).T @ trials.points) + _guessed(trials, counted),
        "rule_hits": np.einsum("he,ek,er->krh", hit, option, trials.points),
    }
    _add(tally, seen, trials.keys, sums)


def _add(tally: Tally, seen: Observation, keys: tuple[Key, ...], sums: dict[str, np.ndarray]) -> None:
    for i, key in enumerate(keys):
        tally.add(key, seen.cluster, int(seen.confirm), **{name: amount[i] for name, amount in sums.items()})


def _add_values(tally: Tally, seen: Observation, values: Values) -> None:
    """Add the items for which the value is defined."""
    hits = values.hits[0].numpy()
    defined = ~np.isnan(hits).any(axis=0)
    if not defined.any():
        return
    mass = hits if values.mass is None else values.mass[0].numpy()
    chance = np.zeros(len(defined)) if values.chance is None else np.nan_to_num(values.chance[0].numpy())
    mass_chance = chance if values.mass_chance is None else np.nan_to_num(values.mass_chance[0].numpy())
    tally.add(
        values.key,
        seen.cluster,
        int(seen.confirm),
        trials=int(defined.sum()),
        asked=int(defined.sum()),
        hits=in_units(hits[:, defined]).sum(axis=-1),
        mass=in_units(mass[:, defined]).sum(axis=-1),
        chance=in_units(chance[defined]).sum(),
        mass_chance=in_units(mass_chance[defined]).sum(),
    )


def _add_sums(tally: Tally, seen: Observation, sums: Sums) -> None:
    """Add the questions that were asked of the text."""
    chance = np.zeros(len(sums.keys), np.int64) if sums.chance is None else in_units(sums.chance[0].numpy())
    mass_chance = chance if sums.mass_chance is None else in_units(sums.mass_chance[0].numpy())
    hits = in_units(sums.hits[0].numpy())
    mass = hits if sums.mass is None else in_units(sums.mass[0].numpy())
    for i, n in enumerate(sums.trials[0].tolist()):
        if n:
            tally.add(
                sums.keys[i],
                seen.cluster,
                int(seen.confirm),
                trials=n,
                asked=n,
                hits=hits[i],
                mass=mass[i],
                chance=int(chance[i]),
                mass_chance=int(mass_chance[i]),
            )


def _counted(question: Int64[np.ndarray, " trial"], n_keys: int) -> Int64[np.ndarray, "trial key"]:
    counted = np.zeros((len(question), n_keys), dtype=np.int64)
    counted[np.arange(len(question)), question] = 1
    return counted


def _at(amounts: Float64[np.ndarray, "head query key"], cells: Cells) -> Amounts:
    return np.asarray(amounts[:, cells.query, cells.key] * cells.weight)


def _wins_at(shares: Float64[np.ndarray, "head query key"], cells: Cells) -> Int64[np.ndarray, "head entry"]:
    """Wins at cells in parts of `UNIT`, each rounded before it is added: a tie of n is its n-th part, rounded down."""
    share = shares[:, cells.query, cells.key]
    units = np.where(share > 0, UNIT // np.rint(1 / np.where(share > 0, share, 1)), 0)
    return np.asarray(np.rint(units * cells.weight), dtype=np.int64)

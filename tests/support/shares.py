"""Shares of real accounts, as actions, and with the accounts of each object shuffled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.coordination import Actions

__all__ = ["RUSSIAN_SHARES", "russian_shares", "shuffled_accounts"]

RUSSIAN_SHARES = "russian_coord_tweets.parquet"


def russian_shares(folder: Path) -> Actions:
    """The data set of CooRTweet."""
    frame = pl.read_parquet(folder / RUSSIAN_SHARES)
    return Actions(
        _codes(frame["object_id"]),
        _codes(frame["account_id"]),
        _codes(frame["content_id"]),
        frame["timestamp_share"].to_numpy() * 1_000,
        (frame["object_id"] == frame["content_id"]).to_numpy(),
    )


def shuffled_accounts(actions: Actions, seed: int) -> Actions:
    """The same objects and times, with the accounts of each object in another order."""
    rng = np.random.default_rng(seed)
    by_object = np.argsort(actions.objects, kind="stable")
    shuffled = np.lexsort((rng.random(len(actions.objects)), actions.objects))
    accounts = np.empty_like(actions.accounts)
    accounts[by_object] = actions.accounts[shuffled]
    return replace(actions, accounts=accounts)


def _codes(names: pl.Series) -> npt.NDArray[np.int32]:
    return names.rank("dense").to_numpy().astype(np.int32) - 1

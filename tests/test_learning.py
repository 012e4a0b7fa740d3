"""BYOL learns on the generated shapes: in 200 steps, and with the default command."""

import json

import numpy as np
import pytest

from byol_bnfree import parse_args, train

ARGUMENTS = (
    "--model.name=resnet8 --model.stem=small --model.stem-stride=2 "
    "--model.projector.hidden=128 --model.projector.out=32 "
    "--model.predictor.hidden=128 --model.predictor.out=32 "
    "--data.shapes-train=1024 --data.shapes-test=512 --data.image-size=32 "
    "--batch-size=64 --steps=200"
).split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "norm, seeds, knn, linear",
    [("bn", (0, 1, 2), 0.03, 0.1), ("gn_ws", (0,), 0.12, 0.15)],
)
def test_accuracy_rises_well_above_the_untrained_encoders(
    norm, seeds, knn, linear, tmp_path
):
    """The mean over the seeds does. Runs of bn differ, by seed and by rounding.

    Measured at 925fd1e, on this network and not that of the default command: kNN 65
    to 72 % (bn) and 63 to 85 % (gn_ws), linear 58 to 82 % and 65 to 92 %. With
    AVX-512 seeds 0 to 2 of bn gain 2, 10 and 23 points of kNN.
    """
    gains = []
    for seed in seeds:
        flags = [
            f"--norm={norm}",
            f"--seed={seed}",
            f"--workdir={tmp_path / str(seed)}",
        ]
        summary = train(parse_args([*ARGUMENTS, *flags]))
        both = summary["knn"], summary["linear"]
        gains.append([figures["trained"] - figures["untrained"] for figures in both])
        assert summary["collapse"]["verdict"] == "healthy"
    assert (np.mean(gains, axis=0) > (knn, linear)).all(), gains


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two runs of ten epochs
def test_the_default_command_keeps_its_spread_and_hardly_depends_on_rounding(tmp_path):
    """Measured at ca07756: lowest spread 0.093 and 0.097, kNN 82.0 and 81.2 %."""
    knn = []
    for pieces in (1, 2):
        folder = tmp_path / str(pieces)
        flags = [f"--micro-batches={pieces}", f"--workdir={folder}"]
        knn.append(train(parse_args(flags))["knn"]["trained"])
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        spreads = [json.loads(line).get("collapse/feature_std") for line in lines]
        known = [spread for spread in spreads if spread is not None]
        assert len(known) > 5 and min(known) > 0.05
    assert abs(knn[0] - knn[1]) < 0.05

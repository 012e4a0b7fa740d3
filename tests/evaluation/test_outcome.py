"""A value that was chosen at an end of its range gets a sentence."""

from byol_bnfree.evaluation.outcome import ends_of_ranges

SWEEP = [
    {"rate": rate, "weight_decay": decay, "epochs": 5, "validation_top1": 0.5}
    for rate in (0.1, 0.3, 1.0)
    for decay in (0.0, 1e-4)
]


def chosen(rate, decay):
    return {"rate": rate, "weight_decay": decay, "epochs": 5, "validation_top1": 0.5}


def test_values_at_an_end_are_named():
    assert ends_of_ranges(chosen(0.1, 1e-4), SWEEP) == (
        "the best rate 0.1 is the lowest that was tried and the best weight decay "
        "0.0001 is the highest that was tried; others may be better."
    )
    assert "rate 1 is the highest" in ends_of_ranges(chosen(1.0, 0.0), SWEEP)


def test_values_inside_and_single_values_are_not():
    # There is no decay below 0, and one number of epochs was all there was.
    assert ends_of_ranges(chosen(0.3, 0.0), SWEEP) is None
    assert ends_of_ranges({"rate": 0.1}, []) is None
    assert ends_of_ranges({}, []) is None

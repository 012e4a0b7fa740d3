"""Missing data sets are said so and skipped; the others have their own metric."""

import dataclasses
import io
import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import tiny
from byol_bnfree.config import TrainConfig
from byol_bnfree.data.tfds_records import object_classes
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.images.multilabel import ManyLabels
from byol_bnfree.evaluation.kept.store import Store
from byol_bnfree.evaluation.methods.finetune import _losses
from byol_bnfree.evaluation.methods.metrics import METRICS
from byol_bnfree.evaluation.methods.transfer import (
    TASKS,
    _on_task,
    check_sets,
    chosen_tasks,
    measured_by,
)
from byol_bnfree.evaluation.settings import FinetuneSettings, TransferSettings
from byol_bnfree.training.mesh import make_mesh
from runs import copy_of, run, trained
from tiny import light

SPLITS = {"train": 12, "validation": 9, "test": 6}
FLOWERS, VOC = "oxford_flowers102", "voc/2007"


def grey(label: int) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 40 + 80 * label, np.uint8)).save(file, "PNG")
    return io.BytesIO(file.getvalue())


def prepare(root, full_name: str) -> None:
    """Plain images on disk, as one of P1's sets; the i-th is of class i % 3.

    In voc it also has a difficult object of the class after that.
    """
    import tensorflow_datasets as tfds

    kind = tfds.features.ClassLabel(names=["dark", "grey", "light"])
    set_name, _, year = full_name.partition("/")
    many = tfds.features.Sequence(kind)
    labels = {"labels": many, "labels_no_difficult": many} if year else {"label": kind}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name, VERSION = set_name, tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=year)] if year else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {"image": tfds.features.Image()} | labels
                ),
                disable_shuffling=True,
            )

        def _split_generators(self, manager):
            return {name: self._generate_examples(n) for name, n in SPLITS.items()}

        def _generate_examples(self, n):
            for i in range(n):
                found = {"labels": [i % 3, (i + 1) % 3], "labels_no_difficult": [i % 3]}
                label = found if year else {"label": i % 3}
                yield i, {"image": grey(i % 3)} | label

    Builder(data_dir=root, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with two of the twelve sets."""
    root = tmp_path_factory.mktemp("tfds")
    for name in (FLOWERS, VOC):
        prepare(root, name)
    return root


@pytest.mark.slow
def test_every_corruption_and_set_on_disk_has_its_row_and_the_rest_is_reported(
    prepared, tmp_path, capsys
):
    workdir = copy_of(trained(), tmp_path)
    limits = {"max_train": 40, "max_test": 8, "data_dir": str(prepared)}
    *corrupted, voc, flowers = run(workdir, "transfer", "robustness", **limits)
    settings = [row["identity"]["settings"] for row in corrupted]
    assert [s["corruption"] for s in settings] == ["noise", "blur", "contrast", "jpeg"]
    levels = [corrupted[0]["figures"][f"level{k}"] for k in range(1, 6)]
    assert corrupted[0]["figures"]["top1"] == pytest.approx(np.mean(levels))
    found = {row["identity"]["dataset"]: row["figures"] for row in (voc, flowers)}
    # Any encoder tells three greys apart; difficult classes do not count.
    assert found == {VOC: {"map11": 1.0}, FLOWERS: {"mean_per_class": 1.0}}
    train = voc["identity"]["train"]
    assert (train["split"], train["images"]) == ("train+validation", 21)
    said = capsys.readouterr().out
    lines = re.findall("transfer: left out: .*", said)
    assert len(lines) == 2, "a line for each reason, not for each set"
    for said_of_absent in ("Food-101", "SUN397", "Cars", "data set NAME is not in"):
        assert said_of_absent in lines[0]
    assert "Birdsnap, Aircraft: tensorflow-datasets does not have it" in lines[1]
    assert "100.0 mAP" in said and "100.0 per class" in said


@pytest.mark.parametrize(
    "names, said",
    [
        ((FLOWERS,), None),
        ((), None),
        (("cifar100",), "--transfer.datasets cifar100 cannot be used: .* is not in"),
        ((FLOWERS, "dtd"), "--transfer.datasets dtd cannot be used"),
        (("birdsnap",), "birdsnap cannot be used: tensorflow-datasets does not have"),
    ],
)
def test_a_set_that_was_asked_for_must_be_there(prepared, names, said):
    if said is None:
        check_sets(names, prepared)
        return
    with pytest.raises(InputError, match=said):
        check_sets(names, prepared)


def test_one_of_the_twelve_must_be_there(tmp_path):
    with pytest.raises(InputError, match="none of the twelve sets .* such as cifar10"):
        check_sets((), tmp_path)


def test_linear_transfer_sees_whole_squares_and_fine_tuning_their_centre(
    prepared, tmp_path
):
    """P1, appendices D.2 and D.3."""
    (task,) = chosen_tasks((FLOWERS,))
    store, encoder = Store(tmp_path / "rows"), tiny.encoder("gn_ws")
    data = dataclasses.replace(encoder.config.data, image_size=8, channels=3)
    data = dataclasses.replace(data, in_memory_gib=1e-9)
    run = dataclasses.replace(encoder.config, data=data)
    encoder = dataclasses.replace(encoder, config=run)
    for method, share in (("linear_cached", 1.0), ("finetune", 224 / 256)):
        config = EvaluateConfig(
            str(tmp_path), data_dir=str(prepared), transfer=TransferSettings(method)
        )
        splits = light("train"), light("test")
        bench = Bench(
            config, encoder, "online", *splits, make_mesh(), store, tmp_path, print
        )
        there = _on_task(bench, task)
        assert there.test.crop_share == share


def two_labels(split: str) -> ManyLabels:
    """Bright or dark images, each labelled as what it is and as not the other."""
    source = light(split)
    rows = np.where(source.labels()[:, None] == np.arange(2), 1, -1)
    return ManyLabels(source, source.class_names, rows.astype(np.int8))


def test_networks_are_fine_tuned_for_several_labels_too(tmp_path):
    config = EvaluateConfig(
        "w",
        transfer=TransferSettings("finetune"),
        finetune=FinetuneSettings(24, 16, (0.5,), (0.0,)),
    )
    splits, store = (two_labels("train"), two_labels("test")), Store(tmp_path / "rows")
    encoder, mesh = tiny.encoder("gn_ws"), make_mesh()
    bench = Bench(config, encoder, "online", *splits, mesh, store, tmp_path, print)
    row = measured_by(bench, "map11")
    assert row["identity"]["settings"]["method"] == "finetune"
    assert row["figures"]["map11"] > 0.9 and row["chosen"]["validation_map11"] > 0.9


def test_several_labels_have_a_sigmoid_each_and_difficult_ones_none():
    scores = jnp.array([[2.0, -1.0, 5.0], [0.5, 3.0, -4.0]])
    labels = jnp.array([[1, -1, 0], [-1, 1, 1]], jnp.int8)
    each = optax.sigmoid_binary_cross_entropy(scores, labels > 0)
    expected = [each[0, :2].sum(), each[1].sum()]
    np.testing.assert_allclose(_losses(scores, labels, 0.0), expected, rtol=1e-6)


def test_classes_of_difficult_objects_only_are_neither_present_nor_absent(prepared):
    config = TrainConfig(dataset=VOC, data_dir=str(prepared), steps=1)
    names, rows = object_classes(config, "test")
    assert names == ("dark", "grey", "light") and len(rows) == SPLITS["test"]
    assert rows[:3].tolist() == [[1, 0, -1], [-1, 1, 0], [0, -1, 1]]


def test_a_set_without_objects_is_refused_for_its_features(prepared):
    config = TrainConfig(dataset=FLOWERS, data_dir=str(prepared), steps=1)
    with pytest.raises(InputError, match="features: image, label"):
        object_classes(config, "test")


def test_the_papers_twelve_are_listed_with_its_metrics():
    """P1, Table 3 and appendix D.1: four by class, VOC by its 11 points."""
    assert len(TASKS) == 12 and all(task.metric in METRICS for task in TASKS)
    by_class = {"aircraft", "oxford_iiit_pet", "caltech101", FLOWERS}
    for task in TASKS:
        other = "mean_per_class" if task.name in by_class else "top1"
        assert task.metric == ("map11" if task.name == VOC else other), task.title
    assert [task.title for task in chosen_tasks(("cifar100",))] == ["CIFAR-100"]


def test_a_validation_split_is_trained_on_and_no_split_is_both():
    joined = {task.name for task in TASKS if task.train == "train+validation"}
    assert joined == {VOC, "dtd", FLOWERS}
    assert all(task.test not in task.train.split("+") for task in TASKS)

"""A stored figure is that of these pictures, this protocol and this version."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from byol_bnfree.config import AugmentConfig, DataConfig, OptimConfig, TrainConfig
from byol_bnfree.data.sources import MemorySource, open_source
from byol_bnfree.errors import InputError
from byol_bnfree.evaluation import bench as benches
from byol_bnfree.evaluation.bench import Bench
from byol_bnfree.evaluation.config import EvaluateConfig
from byol_bnfree.evaluation.features import first_images
from byol_bnfree.evaluation.images.corrupt import Corrupted
from byol_bnfree.evaluation.images.left_out import usable_only
from byol_bnfree.evaluation.images.splits import open_splits
from byol_bnfree.evaluation.images.subset import Subset
from byol_bnfree.evaluation.kept.fitted import Fitted, classifier_path, read_fitted
from byol_bnfree.evaluation.kept.store import Store
from byol_bnfree.evaluation.outcome import Outcome
from byol_bnfree.evaluation.settings import TransferSettings
from byol_bnfree.files import file_name
from byol_bnfree.training.mesh import make_mesh


def bench(folder: Path, train: MemorySource, test: MemorySource, **fields) -> Bench:
    said = fields.pop("said", [])
    config = EvaluateConfig(str(folder), ("knn",), batch_size=16, **fields)
    store, mesh = Store(folder / "e.jsonl"), make_mesh()
    encoder = tiny.encoder("gn_ws")
    return Bench(
        config, encoder, "online", train, test, mesh, store, folder, said.append
    )


def with_pixel(source: MemorySource, row: int) -> MemorySource:
    pixels = source.pixels.copy()
    pixels[row, 0, 0, 0] ^= 1
    return dataclasses.replace(source, pixels=pixels)


def test_an_edit_of_the_users_encoder_makes_another_figure(tmp_path):
    """Its weights may stay the same."""
    file, data = tmp_path / "mine.py", tiny.light()
    subject = bench(tmp_path, data, data)
    assert "code" not in subject.identity("knn", {})  # older rows have none
    own = dataclasses.replace(subject.encoder.config, encoder=f"{file}:small")
    encoder = dataclasses.replace(subject.encoder, config=own)

    def of(program: str):
        file.write_text(program)
        subject = dataclasses.replace(bench(tmp_path, data, data), encoder=encoder)
        subject.features(data)
        return subject.identity("knn", {}), len([*tmp_path.glob("features/*")])

    first, again, edited = map(of, ("x = 1", "x = 1  # one", "x = 2"))
    assert first == again and first[0] != edited[0]
    assert (first[1], edited[1]) == (1, 2)


def test_an_edit_of_the_users_views_makes_another_figure_of_them(tmp_path):
    file, data = tmp_path / "mine.py", tiny.light()
    augment = AugmentConfig(function=f"{file}:views")
    own = dataclasses.replace(tiny.encoder("gn_ws").config, augment=augment)
    encoder = dataclasses.replace(tiny.encoder("gn_ws"), config=own)

    def of(program: str, augmentation: str):
        file.write_text(program)
        subject = dataclasses.replace(bench(tmp_path, data, data), encoder=encoder)
        return subject.identity("linear", {"augmentation": augmentation})

    assert of("x = 1", "crops") == of("x = 2", "crops")
    assert of("x = 1", "pretraining") != of("x = 2", "pretraining")


@pytest.mark.parametrize(
    "part, change",
    [
        ("model", {"padding": "torch"}),
        ("model", {"unit_kernels": True}),
        ("augment", {"mean": (0.1, 0.2, 0.3)}),
        ("data", {"image_size": 16}),
        ("augment", {"std": (0.1, 0.2, 0.3)}),
        (None, {"encoder_norm": "gn"}),
        (None, {"compute_dtype": "bfloat16"}),
    ],
)
def test_equal_weights_of_another_network_have_figures_of_their_own(
    tmp_path, part, change
):
    data, encoder = tiny.light(), tiny.encoder("gn_ws")

    def of(config, weights="a.safetensors"):
        subject = dataclasses.replace(
            bench(tmp_path, data, data, weights=weights),
            encoder=dataclasses.replace(encoder, config=config),
        )
        subject.features(data)
        return subject.identity("knn", {}), len([*tmp_path.glob("features/*")])

    first, own = encoder.config, tiny.config(norm="gn_ws", optim=OptimConfig())
    if part is not None:
        change = {part: dataclasses.replace(getattr(first, part), **change)}
    other = dataclasses.replace(first, **change)
    assert of(first) == of(own)  # its optimizer does not matter
    assert of(first)[0] != of(other)[0] and of(other)[1] == 2
    # A run fixes its settings. Rows from before they were named are still found.
    assert "encoder" not in of(other, None)[0]


def test_one_pixel_or_label_of_either_split_makes_another_figure(tmp_path):
    train, test = tiny.light("train"), tiny.light("test")
    identity = bench(tmp_path, train, test).identity("knn", {})
    labels = dataclasses.replace(test, targets=1 - test.targets)
    named = dataclasses.replace(test, class_names=("b", "a"))
    moved = dataclasses.replace(train, location="/elsewhere")
    others = [
        (with_pixel(train, 20), test),
        (train, with_pixel(test, 21)),
        *((train, changed) for changed in (labels, named)),
        (moved, test),
        (Subset(train, np.arange(40)), test),
    ]
    for pair in others:
        assert bench(tmp_path, *pair).identity("knn", {}) != identity
    assert bench(tmp_path, train, tiny.light("test")).identity("knn", {}) == identity


def test_figures_of_half_precision_are_figures_of_their_own(tmp_path):
    splits = tiny.light("train"), tiny.light("test")
    for protocol, settings, same in (
        ("knn", {"k": 1}, False),
        ("transfer", {"method": "linear_cached"}, False),
        ("transfer", {"method": "finetune"}, True),
        ("finetune", {}, True),
    ):
        method = settings.get("method", "linear_cached")
        fields = {"transfer": TransferSettings(method=method)}
        full = bench(tmp_path, *splits, **fields)
        half = bench(tmp_path, *splits, half_precision=True, **fields)
        made = [each.identity(protocol, settings) for each in (full, half)]
        assert (made[0] == made[1]) == same
        assert made[0]["settings"] == settings


@pytest.mark.parametrize("change", ["revision", "version"])
def test_another_revision_or_version_measures_again(tmp_path, monkeypatch, change):
    made = bench(tmp_path, tiny.light("train"), tiny.light("test"))
    outcomes = iter((0.25, 0.5))

    def measure():
        row = made.measure("knn", {}, lambda: Outcome({"top1": next(outcomes)}, {}))
        return row["figures"]["top1"]

    assert [measure(), measure()] == [0.25, 0.25]
    if change == "revision":
        monkeypatch.setitem(benches.REVISIONS, "knn", 99)
    else:
        monkeypatch.setattr(benches, "__version__", "99.0")
    assert measure() == 0.5


def test_a_stored_figure_is_printed_as_stored_with_its_date(tmp_path):
    said = []
    made = bench(tmp_path, tiny.light("train"), tiny.light("test"), said=said)
    for _ in range(2):
        row = made.measure("knn", {}, lambda: Outcome({"top1": 0.25}, {}))
    stored = f", stored {row['measured']}"
    assert [line.endswith(stored) for line in said][-2:] == [False, True]


def test_classifiers_of_other_pictures_seeds_and_settings_have_files_of_their_own(
    tmp_path,
):
    tests, fits = [tiny.light("test"), with_pixel(tiny.light("test"), 3)], []

    def measure(test, seed, settings):
        made = bench(tmp_path, tiny.light("train"), test, save=True, seed=seed)
        fitted = Fitted(np.full((16, 2), len(fits)), np.zeros(2))
        outcome = Outcome({"top1": 0.25}, {}, fitted=fitted)
        made.measure("linear", settings, lambda: fits.append(test) or outcome)

    kinds = [(tests[0], 0, {}), (tests[1], 0, {}), (tests[0], 1, {})]
    kinds += [(tests[0], 0, {"epochs": 2.0})]
    for kind in 2 * kinds:
        measure(*kind)
    assert len(fits) == 4 == len(files := [*(tmp_path / "classifiers").iterdir()])
    assert sorted(read_fitted(file)[0].kernel[0, 0] for file in files) == [0, 1, 2, 3]
    files[0].write_bytes(files[0].read_bytes()[:-100])
    for kind in kinds:
        measure(*kind)
    assert len(fits) == 5  # a damaged file is fitted again


def test_files_of_classifiers_have_names_that_a_disk_takes(tmp_path):
    def path(dataset, seed=0):
        identity = {"protocol": "linear", "dataset": dataset, "settings": {}}
        identity |= {"network": "online", "step": 1, "seed": seed}
        return classifier_path(tmp_path, identity)

    names = [path(k * 250).name for k in ("a", "\u00e9")]
    names += [path("a" * 249).name, path("a" * 250, seed=1).name]
    assert len({*names}) == 4 and max(len(n.encode()) for n in names) < 230
    assert re.fullmatch(r"linear-p-online-step1-seed0-\w{8}\.npz", path("p").name)


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u4e2d", "\udcff"])
def test_every_text_names_a_file_of_its_own(tmp_path, letter):
    texts = [letter * n for n in (1, 40, 200, 255)]
    names = [file_name(f"skipped-{text}-{text}") for text in texts]
    assert len({*names}) == 4 and names[0] == f"skipped-{letter}-{letter}"
    for name in names:
        (tmp_path / f"{name}.json").write_text("{}")
    assert file_name("a/b") == "a-b"


def test_features_of_other_pictures_are_extracted_again(tmp_path):
    test = tiny.light("test")
    before = bench(tmp_path, tiny.light("train"), test).test_features
    changed = dataclasses.replace(test, pixels=test.pixels[::-1])
    after = bench(tmp_path, tiny.light("train"), changed).test_features
    np.testing.assert_allclose(after, before[::-1], atol=1e-5)


def test_another_crop_of_evaluation_makes_other_features(half_bad):
    source = open_source(half_bad, "train")
    before = source.fingerprint
    source.crop_share /= 2
    assert source.fingerprint != before


def test_corruptions_of_a_source_have_fingerprints_of_their_own():
    clean = tiny.light()
    kinds = [(kind, level, 0) for kind in ("noise", "blur") for level in (1, 2)]
    prints = {Corrupted(clean, *kind).fingerprint for kind in [*kinds, ("noise", 1, 1)]}
    assert len(prints | {clean.fingerprint}) == 6


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def half_bad(tmp_path) -> TrainConfig:
    """A stream whose test split has 9 pictures of 20 that cannot be decoded."""
    root = tmp_path / "pictures"
    for split in ("train", "test"):
        for k in range(20):
            path = root / split / "ab"[k % 2] / f"{k:02}.png"
            noise(path, k)
            if split == "test" and k < 9:
                path.write_bytes(path.read_bytes()[:-100])
    data = DataConfig(image_size=8, channels=3, in_memory_gib=1e-9)
    return TrainConfig(
        dataset=f"folder:{root}", steps=1, on_bad_image="skip", data=data
    )


@pytest.mark.parametrize("gib", [1e-9, 1.0])
def test_evaluation_drops_bad_pictures_and_says_so(tmp_path, half_bad, gib, capsys):
    data = dataclasses.replace(half_bad.data, in_memory_gib=gib)
    run = dataclasses.replace(half_bad, data=data)
    train, test = open_splits(run, EvaluateConfig(str(tmp_path)))
    assert (len(train), len(test)) == (20, 11)
    images = test.images(np.arange(11))
    assert len(np.unique(images.reshape(11, -1), axis=0)) == 11
    assert test.labels().tolist() == test.labels(np.arange(11)).tolist()
    assert "pictures test: 11 of 20 images are used" in capsys.readouterr().out
    (written,) = (tmp_path / "evaluation").glob("skipped-pictures-test-*.json")
    assert "08.png" in written.read_text() and "truncated" in written.read_text()


def test_a_split_of_bad_pictures_only_is_one_sentence(tmp_path, half_bad):
    test = Subset(open_source(half_bad, "test"), np.arange(3))
    bad = [name for name in test.file_names(np.arange(3)) if name[-6:-4] < "09"]
    assert len(bad) == 3
    for _ in range(2):  # the second time from the file
        with pytest.raises(InputError, match="no picture of the test split of pict"):
            usable_only(test, tmp_path, skip=True)


def test_the_first_images_are_good_ones(half_bad):
    test = open_source(half_bad, "test")  # the first of both classes are bad
    mixed = Subset(test, np.array([0, 10, 1, 2, 3, 4, 5, 19]))
    assert [len(first_images(mixed, count)) for count in (7, 5)] == [1, 2]


def test_the_first_images_of_a_folder_are_of_all_its_classes():
    mixed = tiny.light()
    by_class = Subset(mixed, np.argsort(mixed.labels(), kind="stable"))
    found = first_images(by_class, 9)
    np.testing.assert_array_equal(
        found, by_class.images(np.linspace(0, 47, 9).astype(int))
    )
    assert len(np.unique(found.mean((1, 2, 3)) > 100)) == 2
    np.testing.assert_array_equal(first_images(mixed, 9), mixed.images(np.arange(9)))


def test_what_is_known_to_be_bad_is_not_tried_again(tmp_path, half_bad, monkeypatch):
    first = usable_only(open_source(half_bad, "test"), tmp_path, skip=True)

    def fail(self, indices):
        raise AssertionError("it was tried again")

    monkeypatch.setattr("byol_bnfree.data.stream.StreamSource.usable", fail)
    again = usable_only(open_source(half_bad, "test"), tmp_path, skip=True)
    assert again.fingerprint == first.fingerprint


def test_a_stop_stays_a_stop(tmp_path, half_bad):
    open_splits(half_bad, EvaluateConfig(str(tmp_path)))  # leaves pictures out
    config = EvaluateConfig(str(tmp_path), on_bad_image="stop")
    _, test = open_splits(half_bad, config)
    with pytest.raises(InputError, match=r"\.png"):
        test.images(np.arange(len(test)))


def test_a_folder_of_the_same_name_and_counts_is_another_one(tmp_path, half_bad):
    root = Path(half_bad.dataset.removeprefix("folder:"))
    other = tmp_path / "other" / root.name
    shutil.copytree(root, other)
    sources = [
        open_source(dataclasses.replace(half_bad, dataset=f"folder:{path}"), "train")
        for path in (root, other)
    ]
    assert sources[0].name == sources[1].name
    assert sources[0].identity == sources[1].identity  # the same data, copied
    assert sources[0].location != sources[1].location
    assert sources[0].fingerprint != sources[1].fingerprint
    noise(root / "train" / "a" / "00.png", seed=99)
    later = open_source(half_bad, "train")
    assert later.fingerprint != sources[0].fingerprint

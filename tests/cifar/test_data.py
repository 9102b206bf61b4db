"""The official files: read exactly, checked, and refused with one clear error."""

import io
import os
import tarfile

import numpy as np
import pytest
import torch
from cifar_files import official, random_store, write_files

from mflib.cifar import CifarError, data
from mflib.cifar.store import Store, epoch_plan


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_store_holds_the_pixels_and_labels_of_the_files(tmp_path, monkeypatch, name):
    folder = write_files(tmp_path, name=name)
    dataset = official(folder, monkeypatch, name=name)
    store = data.load(name, folder)
    raw = np.frombuffer(b"".join((folder / f).read_bytes() for f, _ in dataset.train), "u1")
    raw = raw.reshape(-1, dataset.record_bytes)
    assert store.train_images == len(raw)
    assert store.labels.tolist() == raw[:, dataset.label_bytes - 1].tolist()
    index = torch.tensor([0, 7, len(raw) - 1])
    centre = torch.full((3, 2), 4, dtype=torch.uint8)
    got = store.batch(index, centre, torch.zeros(3, dtype=torch.bool), torch.float64)
    pixels = raw[index.numpy(), dataset.label_bytes :].reshape(-1, 3, 32, 32) / 255
    mean, std = (np.array(v)[:, None, None] for v in (dataset.mean, dataset.std))
    np.testing.assert_allclose(got, (pixels - mean) / std, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_averaged_images_are_the_exact_means_of_their_squares(tmp_path):
    """Means by a library, in exact arithmetic: no rounding to whole grey levels."""
    folder = write_files(tmp_path)
    small = data.load("cifar10-16px", folder, verify=False, pad=2)
    fine = data.load("cifar10", folder, verify=False)
    assert (small.size, small.pad, fine.size) == (16, 2, 32)
    assert small.labels.equal(fine.labels) and small.test_labels.equal(fine.test_labels)
    a, b = (s.test_batch(0, 30, torch.float64) for s in (small, fine))
    means = torch.nn.functional.avg_pool2d(b, 2)
    torch.testing.assert_close(a, means, rtol=0, atol=2e-6)
    quarters = (small._test.long() % 4).unique().tolist()
    assert quarters == [0, 1, 2, 3] and small._test.max() <= 1020
    squares = fine._test.long().unflatten(1, (16, 2)).unflatten(3, (16, 2)).sum((2, 4))
    assert small._test.long().equal(squares)
    index = torch.arange(5)
    corner, still = torch.full((5, 2), 2, dtype=torch.uint8), torch.zeros(5, dtype=torch.bool)
    trained = small.batch(index, corner, still, torch.float32)
    whole = fine.batch(index, 2 * corner, still, torch.float32)
    torch.testing.assert_close(trained, torch.nn.functional.avg_pool2d(whole, 2), rtol=0, atol=2e-6)


def test_crop_and_flip_equal_padding_slicing_and_mirroring():
    store = random_store(pad=4)
    plan = epoch_plan(50, seed=3, epoch=2)
    got = store.batch(plan.order, plan.crop, plan.flip, torch.float32)
    inside = store._pixels.view(50, 16, 16, 3)
    for row, (image, (y, x), flip) in enumerate(
        zip(plan.order, plan.crop.tolist(), plan.flip, strict=True)
    ):
        part = inside[image, y : y + 8, x : x + 8].permute(2, 0, 1).float() / 255
        part = part.flip(2) if flip else part
        torch.testing.assert_close(got[row], (part - 0.5) / 0.25)
    assert inside[:, :4].max() == 0 and inside[:, :, -4:].max() == 0


def test_an_epoch_visits_every_image_once_and_depends_on_seed_and_epoch_only():
    plans = [epoch_plan(200, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for plan in plans:
        assert plan.order.sort()[0].tolist() == list(range(200))
        assert plan.crop.min() == 0 and plan.crop.max() == 8
        assert 60 < int(plan.flip.sum()) < 140
    assert len({tuple(plan.order.tolist()) for plan in plans}) == 4
    epoch_plan.cache_clear()
    assert epoch_plan(200, 1, 1).order.equal(plans[3].order)


def test_test_images_are_the_single_original_view():
    store = random_store()
    index, middle = torch.arange(20), torch.full((20, 2), 4, dtype=torch.uint8)
    assert store.test_batch(0, 20, torch.float32).shape == (20, 3, 8, 8)
    swapped = Store(
        store._test.numpy(),
        store.test_labels,
        store._test.numpy(),
        store.test_labels,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=10,
    )
    same = swapped.batch(index, middle, torch.zeros(20, dtype=torch.bool), torch.float32)
    assert same.equal(store.test_batch(0, 20, torch.float32))


def _spoil(folder, how):
    path = folder / "data_batch_3.bin"
    raw = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(raw[:-100])
    elif how == "corrupted":
        raw[500] ^= 1
        path.write_bytes(raw)
    elif how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "truncated"),
        ("corrupted", "md5"),
        ("missing", "is missing"),
        ("empty", "0 bytes"),
    ],
)
def test_a_spoiled_file_is_one_clear_error(tmp_path, monkeypatch, how, words):
    folder = write_files(tmp_path)
    official(folder, monkeypatch)
    _spoil(folder, how)
    with pytest.raises(CifarError, match=words) as caught:
        data.load("cifar10", folder)
    assert "data_batch_3.bin" in str(caught.value)


def test_a_label_out_of_range_names_the_record(tmp_path):
    folder = write_files(tmp_path)
    path = folder / "data_batch_2.bin"
    raw = bytearray(path.read_bytes())
    raw[5 * 3073] = 17
    path.write_bytes(raw)
    with pytest.raises(CifarError, match="record 5: label 17 is out of range"):
        data.load("cifar10", folder, verify=False)


def test_the_truncated_official_size_is_refused_without_reading_md5(tmp_path):
    with pytest.raises(CifarError, match="61460 bytes instead of 30730000"):
        data.load("cifar10", write_files(tmp_path))


def test_a_wrong_folder_says_what_to_put_where(tmp_path, monkeypatch):
    with pytest.raises(CifarError, match="data_batch_5.bin.*--data.*--download"):
        data.load("cifar10", tmp_path)
    monkeypatch.setenv("MFLIB_CIFAR", str(tmp_path / "elsewhere"))
    with pytest.raises(CifarError, match="elsewhere"):
        data.load("cifar10")


def test_the_folder_inside_the_archive_is_found(tmp_path):
    write_files(tmp_path / "cifar-10-batches-bin")
    assert data.load("cifar10", tmp_path, verify=False).train_images == 100


@pytest.mark.parametrize("subset", [0, -1, 101])
def test_an_impossible_subset_is_refused(tmp_path, subset):
    with pytest.raises(CifarError, match="subset"):
        data.load("cifar10", write_files(tmp_path), subset=subset, verify=False)


def test_unknown_data_set():
    with pytest.raises(CifarError, match="none of cifar10, cifar100"):
        data.load("mnist")


def _archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_an_archive_is_fetched_through_pooch_and_unpacked(tmp_path, monkeypatch):
    import pooch

    files = write_files(tmp_path / "made" / "cifar-10-batches-bin")
    members = {f"{files.name}/{p.name}": p.read_bytes() for p in files.iterdir()}
    archive = _archive(tmp_path / "a.tar.gz", members)
    asked = {}

    def retrieve(url, known_hash, **more):
        asked.update(url=url, known_hash=known_hash)
        return str(archive)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    data.download("cifar10", tmp_path / "cache")
    assert asked["url"].endswith("cifar-10-binary.tar.gz")
    assert asked["known_hash"] == "md5:c32a1d4ab5d03f1284b67883e8d87530"
    assert data.load("cifar10", tmp_path / "cache", verify=False).train_images == 100


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    archive = _archive(tmp_path / "bad.tar.gz", {"../evil.bin": b"x"})
    with pytest.raises(CifarError, match="cannot be unpacked"):
        data.unpack(archive, tmp_path / "inner", "cifar10")
    assert not (tmp_path / "evil.bin").exists()


def test_files_that_are_there_are_not_fetched_again(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "retrieve", None)
    write_files(tmp_path / "cifar-10-batches-bin")
    assert data.download("cifar10", tmp_path) == tmp_path


@pytest.mark.parametrize("cut", [10, 200])
def test_a_damaged_archive_is_one_clear_error(tmp_path, cut):
    files = write_files(tmp_path / "made" / "cifar-10-batches-bin")
    members = {f"{files.name}/{p.name}": p.read_bytes() for p in files.iterdir()}
    archive = _archive(tmp_path / "a.tar.gz", members)
    archive.write_bytes(archive.read_bytes()[:-cut] if cut > 100 else b"x" * cut)
    with pytest.raises(CifarError, match="a.tar.gz cannot be unpacked"):
        data.unpack(archive, tmp_path / "inner", "cifar10")


def test_without_a_network_the_error_names_the_folder(tmp_path, monkeypatch):
    import pooch

    def retrieve(*args, **more):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(CifarError, match="no route to host.*by hand"):
        data.download("cifar10", tmp_path)


def test_the_constants_are_the_published_ones():
    ten, hundred = data.DATASETS["cifar10"], data.DATASETS["cifar100"]
    assert ten.mean == (0.4914, 0.4822, 0.4465) and ten.std == (0.2470, 0.2435, 0.2616)
    assert hundred.mean == (0.5071, 0.4865, 0.4409)
    assert hundred.std == (0.2673, 0.2564, 0.2762)
    assert dict(ten.train)["data_batch_1.bin"] == "5dd7e06a14cb22eb9f671a540d1b7c25"
    assert dict(ten.test)["test_batch.bin"] == "803d5f7f4d78ea53de84dbe85f74fb6d"
    assert ten.record_bytes * ten.train_records == 30_730_000
    assert hundred.record_bytes * hundred.train_records == 153_700_000


@pytest.mark.skipif(not os.environ.get("MFLIB_CIFAR"), reason="MFLIB_CIFAR is not set")
def test_the_real_files_have_5000_images_a_class():
    store = data.load("cifar10")
    assert store.labels.bincount().tolist() == [5000] * 10
    assert store.test_labels.bincount().tolist() == [1000] * 10
    pixels = store._pixels.view(50_000, 40, 40, 3)[:, 4:-4, 4:-4]
    mean = pixels[::10].float().mean((0, 1, 2)) / 255
    expected = torch.tensor(data.DATASETS["cifar10"].mean)
    torch.testing.assert_close(mean, expected, atol=5e-3, rtol=0)

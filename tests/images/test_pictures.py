"""Pictures made of photographs, and the file that keeps them."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from root_powers import without_root_powers

from sae_traits.errors import StoreError
from sae_traits.images.pictures import PictureCache, reduced_size, released_picture

SHA256 = "0" * 64


def photograph(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def test_a_picture_is_reduced_to_its_longest_side_and_never_enlarged():
    for size, expected in (((700, 500), (256, 183)), ((100, 60), (100, 60)), ((10_000, 20), (256, 1))):
        picture = Image.open(io.BytesIO(released_picture(photograph(*size), 256)))
        assert (picture.format, picture.size, picture.mode) == ("JPEG", expected, "RGB")
        assert picture.size == reduced_size(size, 256)


def test_a_picture_has_no_metadata():
    image = photograph(90, 60)
    image.info = {"comment": b"found at the old oak", "icc_profile": b"profile", "exif": b"Exif\0\0"}
    content = released_picture(image, 512)
    assert b"oak" not in content
    assert b"profile" not in content
    assert not Image.open(io.BytesIO(content)).getexif()
    assert image.info, "the image that was given stays as it is"


def test_a_photograph_is_opened_only_where_its_picture_is_not_there(tmp_path: Path):
    opened = []

    def open_photograph() -> Image.Image:
        opened.append(1)
        return photograph(300, 200)

    with PictureCache(tmp_path / "pictures.sqlite") as cache:
        assert cache.get(SHA256, 128) is None
        first = cache.get_or_make(SHA256, 128, open_photograph)
        assert cache.get_or_make(SHA256, 128, open_photograph) == first
        assert len(opened) == 1
        cache.get_or_make(SHA256, 64, open_photograph)
        assert len(opened) == 2
    with PictureCache(tmp_path / "pictures.sqlite") as again:
        assert again.get(SHA256, 128) == first
        again.put(SHA256, 128, b"another")
        assert again.get(SHA256, 128) == b"another"


def test_threads_share_a_cache(tmp_path: Path):
    with PictureCache(tmp_path / "new" / "pictures.sqlite") as cache:
        image = photograph(80, 60)
        with ThreadPoolExecutor(8) as pool:
            names = [f"{number % 20:064d}" for number in range(200)]
            found = list(pool.map(lambda name: cache.get_or_make(name, 32, lambda: image), names))
        assert len(set(found)) == 1


def test_a_file_that_is_no_cache_is_one_line(tmp_path: Path):
    (tmp_path / "pictures.sqlite").write_text("no database" * 100)
    with pytest.raises(StoreError, match=r"cannot use the pictures in .*pictures\.sqlite .*delete it"):
        PictureCache(tmp_path / "pictures.sqlite")


def test_a_picture_that_the_disk_has_changed_is_made_again(tmp_path: Path):
    with PictureCache(tmp_path / "p.sqlite") as cache:
        cache.put(SHA256, 64, released_picture(photograph(90, 60), 64))
        cache.checkpoint()
        assert not (tmp_path / "p.sqlite-wal").stat().st_size
    file = tmp_path / "p.sqlite"
    data = bytearray(file.read_bytes())
    data[data.index(b"JFIF") + 300] ^= 1
    file.write_bytes(data)
    with PictureCache(file) as cache:
        assert cache.get(SHA256, 64) is None
        expected = released_picture(photograph(90, 60), 64)
        assert cache.get_or_make(SHA256, 64, lambda: photograph(90, 60)) == expected
        assert cache.get(SHA256, 64) == expected


def test_pictures_of_another_file_are_taken_over(tmp_path):
    with PictureCache(tmp_path / "own.sqlite") as own, PictureCache(tmp_path / "other.sqlite") as other:
        own.put(SHA256, 256, b"own")
        other.put(SHA256, 256, b"other")
        other.put("1" * 64, 256, b"other")
        own.take_over(tmp_path / "other.sqlite")
        assert own.get(SHA256, 256) == b"own"
        assert own.get("1" * 64, 256) == b"other"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
def test_pictures_in_a_read_only_folder_are_read_and_the_others_made_without_being_kept(tmp_path):
    folder = tmp_path / "traits"
    with PictureCache(folder / "pictures.sqlite") as cache:
        cache.put(SHA256, 64, b"kept")
        cache.checkpoint()
        cache.put("1" * 64, 64, b"in the log alone")
        copied = Path(shutil.copytree(folder, tmp_path / "copied"))  # with its log, as after a kill
    for path in (*copied.iterdir(), copied):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = (
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from sae_traits.images.pictures import PictureCache\n"
        "with PictureCache(Path(sys.argv[1]) / 'pictures.sqlite') as cache:\n"
        "    print(cache.get('0' * 64, 64), cache.get('1' * 64, 64))\n"
        "    print(len(cache.get_or_make('1' * 64, 64, lambda: Image.new('RGB', (9, 9)))) > 0)\n"
        "    cache.checkpoint()\n"
        "with PictureCache(Path(sys.argv[1]) / 'none.sqlite') as cache:\n"
        "    print(cache.get('0' * 64, 64))\n"
    )
    command = [sys.executable, "-c", code, str(copied)]
    done = subprocess.run(command, preexec_fn=without_root_powers, capture_output=True, text=True)
    copied.chmod(0o755)
    assert done.stdout.split("\n") == ["b'kept' None", "True", "None", ""], done.stderr
    assert not (copied / "none.sqlite").exists()

"""Random and damaged input: only the errors that are meant for users may come out. `make fuzz` tries more of it."""

import io
import json
import os
import socket
import string
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from running import running
from streamlit.testing.v1 import AppTest

from benchmarks.hostile_pictures import exif, interlaced, noise, png, saved
from dcp_core.api import application, hugging_face, v2
from dcp_core.api.pictures import pictures
from dcp_core.data.archives import read_archive
from dcp_core.data.images import read_image
from dcp_core.data.structure import ImageError, Work
from dcp_core.defenses import NoDefense
from dcp_core.files import SHIPPED, read_object
from dcp_core.models import zoo
from dcp_core.models.cards import VictimError, read_card
from dcp_core.runs.spec import spec_from

EXAMPLES = int(os.environ.get("DCP_FUZZ_EXAMPLES", "0"))  # set by `make fuzz`; then each run tries other input


def fuzz(few: int) -> Callable[..., Any]:
    """So many examples in the test suite, the same in each run; more in `make fuzz`, which tries new ones."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


SEEDS = [
    saved(noise(40, 30), "JPEG"),
    saved(noise(40, 30), "JPEG", progressive=True, exif=exif(5)[:200]),
    saved(noise(40, 30, "CMYK"), "JPEG"),
    saved(noise(40, 30), "PNG"),
    saved(noise(40, 30).quantize(16), "PNG", transparency=3),
    interlaced(9),
    png((2, 2), 8, 0, b"x\x9cc`\x80\x02\0\0\x06\0\x01"),
    saved(noise(40, 30), "WEBP"),
    saved(noise(40, 30), "WEBP", lossless=True),
    saved(noise(40, 30), "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30))]),
    saved(noise(40, 30).quantize(16), "GIF"),
    saved(noise(40, 30), "BMP"),
    saved(noise(40, 30).quantize(16), "BMP"),
    *(
        saved(noise(40, 30), "TIFF", compression=each)
        for each in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    ),
    saved(noise(40, 30, "L").convert("1"), "TIFF", compression="group4"),
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "repeat", "insert"]),
        st.floats(0, 1),
        st.integers(0, 60),
        st.binary(max_size=8),
    ),
    max_size=6,
)


def changed(data: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """`data` with bytes replaced, left out, repeated or added, also in its head, where it matters most."""
    for kind, where, length, new in changes:
        at = int(where * len(data)) if length % 2 else int(where * min(len(data), 200))
        piece = data[at : at + length]
        data = {
            "set": data[:at] + new + data[at + len(new) :],
            "cut": data[:at] + data[at + length :],
            "repeat": data[:at] + piece * (1 + length) + data[at + length :],
            "insert": data[:at] + new + data[at:],
        }[kind]
    return data


FILES = st.one_of(
    st.binary(max_size=300),
    st.builds(changed, st.sampled_from(SEEDS), CHANGES),
    st.builds(
        lambda head, rest: head + rest, st.sampled_from([each[:16] for each in SEEDS]), st.binary(max_size=300)
    ),
)


@fuzz(300)
@given(FILES)
def test_a_file_is_a_picture_or_an_image_error(data: bytes) -> None:
    work = Work(20e6)  # a tenth of a second
    try:
        result = read_image(data, max_pixels=10**6, work=work)
    except ImageError:
        return
    assert result.mode == "RGB"
    assert result.width * result.height <= 10**6
    assert work.left < 20e6


def archive(files: list[tuple[str, bytes]], changes: list[tuple[str, float, int, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # names that come twice
        for name, content in files:
            made.writestr(name, content)
    return changed(file.getvalue(), changes)


ARCHIVES = st.builds(
    archive,
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), FILES), max_size=4),
    CHANGES,
)


@fuzz(100)
@given(ARCHIVES)
def test_an_archive_gives_pictures_and_image_errors_or_is_refused(data: bytes) -> None:
    try:
        for name, picture in read_archive(data, max_files=10, max_total_bytes=10**6, work=Work(20e6)):
            assert isinstance(name, str)
            assert isinstance(picture, Image.Image | ImageError)
    except ImageError:
        pass


@fuzz(60)
@given(st.one_of(FILES, ARCHIVES))
def test_a_request_is_pictures_of_the_victims_size_or_refused(body: bytes) -> None:
    try:
        for _, pixels in pictures(body, 8, Work(20e6)):
            assert pixels.shape == (3, 8, 8)
            assert pixels.dtype == np.uint8
    except ImageError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
CARD = json.loads((SHIPPED / "precomputed" / "victims" / "signs-resnet8" / "card.json").read_text())
SPEC = {"victim": "signs-resnet8", "pool": "textures", "budget": 50, "defense": "dcp", "attack": "knockoff", "seed": 0,
        "defense_parameters": {"beta": 0.5}, "attack_parameters": {"epochs": 1}, "clone": "resnet8"}  # fmt: skip


def documents(right: dict[str, Any]) -> st.SearchStrategy[str]:
    """A right document with some entries replaced or missing, any other JSON, or text."""
    near = st.builds(
        lambda new, gone: {key: value for key, value in (right | new).items() if key not in gone},
        st.dictionaries(st.sampled_from(sorted(right)) | st.text(max_size=9), JSON, max_size=3),
        st.sets(st.sampled_from(sorted(right)), max_size=2),
    )
    return st.one_of(near.map(json.dumps), JSON.map(json.dumps), st.text(max_size=50))


TENSOR = {"name": "pixels", "datatype": "FP32", "shape": [1, 3, 2, 2], "data": [0.5] * 12}
V2 = documents({"id": "a", "inputs": [TENSOR], "outputs": [], "parameters": {}}) | documents({"inputs": [TENSOR]})
HUGGING_FACE = documents({"inputs": "QUJD", "parameters": {"top_k": 1}})


@fuzz(60)
@given(V2, HUGGING_FACE)
def test_a_request_in_the_form_of_other_clients_is_read_or_refused(tensor: str, picture: str) -> None:
    for read, text in ((v2.read, tensor), (hugging_face.read, picture)):
        try:
            said, pixels = read(text.encode(errors="surrogatepass"), 2, {"head": None})
            assert pixels.shape[1:] == (3, 2, 2)
            json.dumps(said)
        except ImageError:
            pass


@fuzz(80)
@given(text=documents(CARD))
def test_a_card_is_read_or_named_as_broken(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "card.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        card = read_card(path, zoo.Card)
    except VictimError:
        return
    assert all(isinstance(name, str) for name in card.classes)


@fuzz(80)
@given(text=documents(SPEC))
def test_a_spec_is_read_or_refused_with_a_value_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "spec.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        spec = spec_from(read_object(path, 10**6))
    except ValueError:
        return
    assert spec_from(json.loads(spec.to_json())) == spec


ADDRESS = st.text(string.printable, max_size=12) | st.sampled_from(
    ["inf", "-1e999", "nan", "-1", "1e400", "![x](y)", "dcp"]
)
NAMES = ("victim", "defense", "beta", "picture", "view", "gamma", "t_victim", "a_budget")


@pytest.mark.parametrize("page", ["playground", "attack_lab"])
def test_a_page_opens_from_any_address(page: str, home: Path) -> None:
    @fuzz(2)
    @given(st.dictionaries(st.sampled_from(NAMES), ADDRESS, min_size=2))
    def open_it(query: dict[str, str]) -> None:
        app = AppTest.from_file(str(SHIPPED / "app.py"), default_timeout=120)
        for key, value in query.items():
            app.query_params[key] = value
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception, (query, app.exception)

    open_it()


def test_a_server_survives_any_bytes(victim: zoo.Victim, caplog: pytest.LogCaptureFixture) -> None:
    with running(application(victim, NoDefense())) as address:
        host, port = address.removeprefix("http://").split(":")

        @fuzz(15)
        @given(st.binary(max_size=60), CHANGES, FILES)
        def send(noise_: bytes, changes: list[tuple[str, float, int, bytes]], body: bytes) -> None:
            head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            with socket.create_connection((host, int(port)), timeout=20) as client:
                client.sendall(noise_ if len(noise_) % 3 == 0 else changed(head, changes) + body)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(20)
                answer = b""
                try:
                    while piece := client.recv(4096):
                        answer += piece
                except OSError:
                    pass
            assert b" 500 " not in answer[:30]

        send()
        good = requests.post(f"{address}/predict", saved(noise(8, 8), "PNG"), timeout=60)
        assert good.status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

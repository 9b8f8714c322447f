"""The API in the forms of other clients: Hugging Face's image classification and KServe's V2 protocol."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import torch
from PIL import Image
from running import running

from benchmarks.hostile_pictures import noise, saved, zipped
from dcp_core import RandomNoise, answer
from dcp_core.api import application
from dcp_core.defenses import Deception
from dcp_core.models import zoo

DEFENSE = Deception(beta=0.8, tau=1.2)
PICTURE = saved(noise(32, 32), "PNG")
INFER = "/v2/models/classifier/infer"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, 32, 32), np.float32)


@pytest.fixture(scope="module")
def api(shared_victim: zoo.Victim) -> Iterator[str]:
    with running(application(shared_victim, DEFENSE)) as address:
        yield address


def expected(victim: zoo.Victim, pixels: np.ndarray) -> np.ndarray:
    return answer(victim, torch.from_numpy(pixels), DEFENSE).defended.numpy()


def own(api: str) -> list[dict[str, Any]]:
    """The answer of /predict to `PICTURE`, which test_api.py compares with the library."""
    return requests.post(f"{api}/predict", PICTURE, timeout=30).json()["predictions"][0]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_client_of_hugging_face_gets_labels_and_scores(api: str, as_json: bool) -> None:
    if as_json:  # as its InferenceClient sends a picture with parameters
        document = {"inputs": base64.b64encode(PICTURE).decode(), "parameters": {"top_k": 2}}
        answered = requests.post(f"{api}/hf", json=document, timeout=30)
    else:
        answered = requests.post(f"{api}/hf", PICTURE, headers={"Content-Type": "image/png"}, timeout=30)
    wanted = [{"label": each["class"], "score": each["probability"]} for each in own(api)]
    assert answered.json() == wanted[: 2 if as_json else 5]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not a request"),
        (b'{"inputs": "!"}', "not a request"),
        (b'{"inputs": ["a"]}', "not a request"),
        (b'{"inputs": 3}', "not a request"),
        (b'{"inputs": "", "parameters": {"top_k": 0}}', "at least 1"),
        (b'{"inputs": "", "parameters": {"function_to_apply": "sigmoid"}}', "softmax"),
        (b'{"inputs": ' + b"[" * 100_000, "not a request"),
        (zipped(PICTURE, 2), "/predict"),
        (b"nothing", "not a picture"),
    ],
)
def test_what_is_not_of_hugging_faces_form_is_refused(api: str, body: bytes, words: str) -> None:
    refused = requests.post(f"{api}/hf", body, timeout=30)
    assert (refused.status_code, words in refused.json()["error"]) == (400, True), refused.text


def in_json(pixels: np.ndarray) -> dict[str, Any]:
    tensor = {"name": "pixels", "datatype": "FP32", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
    return {"id": "seven", "inputs": [tensor]}


def test_a_v2_client_finds_a_ready_model_and_its_tensors(victim: zoo.Victim, api: str) -> None:
    for path in ("live", "ready"):
        assert requests.get(f"{api}/v2/health/{path}", timeout=10).json() == {path: True}
    assert "binary_tensor_data" in requests.get(f"{api}/v2", timeout=10).json()["extensions"]
    model = requests.get(f"{api}/v2/models/classifier", timeout=10).json()
    assert [each["shape"] for each in model["inputs"] + model["outputs"]] == [[-1, 3, 32, 32], [-1, 4]]
    assert requests.get(f"{api}/v2/models/classifier/versions/1/ready", timeout=10).status_code == 200
    assert requests.get(f"{api}/v2/models/other", timeout=10).status_code == 404


def test_a_v2_request_in_json_gets_the_defended_posteriors(
    victim: zoo.Victim, api: str, pixels: np.ndarray
) -> None:
    answered = requests.post(f"{api}{INFER}", json=in_json(pixels), timeout=30).json()
    assert (answered["id"], answered["model_name"]) == ("seven", "classifier")
    (output,) = answered["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("posterior", "FP32", [2, 4])
    assert np.array(output["data"]).reshape(2, 4) == pytest.approx(expected(victim, pixels), abs=1e-6)


def test_a_v2_request_in_binary_gets_binary(victim: zoo.Victim, api: str, pixels: np.ndarray) -> None:
    raw = pixels.tobytes()  # the shape of what tritonclient.http 2.73 sends for infer("classifier", [pixels])
    tensor = {
        "name": "pixels", "shape": [2, 3, 32, 32], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answered = requests.post(f"{api}{INFER}", head + raw, headers=headers, timeout=30)
    length = int(answered.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(answered.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 2 * 4 * 4}
    posteriors = np.frombuffer(answered.content[length:], "<f4").reshape(output["shape"])
    assert posteriors == pytest.approx(expected(victim, pixels), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other"}, "must be 'pixels'"),
        ({"datatype": "UINT8"}, "FP32"),
        ({"shape": [2, 3, 16, 16]}, "[N, 3, 32, 32]"),
        ({"shape": [101, 3, 32, 32]}, "1 to 100"),
        ({"shape": [True, 3, 32, 32]}, "1 to 100"),
        ({"data": [0.5] * 5}, "not an inference request"),
        ({"data": [[1], [2, 3]]}, "not an inference request"),
        ({"data": [2.0] * 6144}, "between 0 and 1"),
        ({"data": [float("nan")] * 6144}, "between 0 and 1"),
        ({"data": {}}, "not an inference request"),
        ({"parameters": {"binary_data_size": 7}}, "0 bytes follow"),
    ],
)
def test_what_is_not_of_the_v2_form_is_refused(
    api: str, pixels: np.ndarray, change: dict[str, Any], words: str
) -> None:
    request = in_json(pixels)
    request["inputs"][0] |= change
    refused = requests.post(f"{api}{INFER}", json.dumps(request), timeout=30)
    assert (refused.status_code, words in refused.json()["error"]) == (400, True), refused.text


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        ("99", b"{}", "99"),
        ("-1", b"{}", "-1"),
        ("x", b"{}", "not an inference request"),
        (None, b"[" * 100_000, "not an inference request"),
        (None, b'{"inputs": [], "outputs": [{"name": "other"}]}', "only output"),
    ],
)
def test_a_broken_v2_request_is_refused(api: str, head: str | None, body: bytes, words: str) -> None:
    headers = {"Inference-Header-Content-Length": head} if head else {}
    refused = requests.post(f"{api}{INFER}", body, headers=headers, timeout=30)
    assert (refused.status_code, words in refused.json()["error"]) == (400, True), refused.text


def test_every_described_route_exists_and_every_answer_is_as_described(api: str, pixels: np.ndarray) -> None:
    described = requests.get(f"{api}/openapi.json", timeout=10).json()
    bodies: dict[str, Any] = {"/predict": PICTURE, "/hf": PICTURE, INFER: json.dumps(in_json(pixels))}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            answered = requests.request(method, f"{api}{path}", data=bodies.get(path), timeout=30)
            assert answered.status_code == 200, path
            said = answered.json()
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert schema["type"] == ("array" if isinstance(said, list) else "object")
            if "properties" in schema:
                assert said.keys() - {"id"} <= schema["properties"].keys()


def test_equal_pictures_get_equal_noise_and_others_do_not(victim: zoo.Victim) -> None:
    def ask(address: str, body: bytes) -> list[Any]:
        return requests.post(f"{address}/predict", body, timeout=30).json()["predictions"]

    defended = RandomNoise(epsilon=1.0)
    values = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), np.uint8)
    pictures = [saved(Image.fromarray(each), "PNG") for each in values]
    with running(application(victim, defended)) as address:
        first = [ask(address, each)[0] for each in pictures]
        assert [ask(address, each)[0] for each in pictures] == first
        for prediction in ask(address, zipped(pictures[3], 2)):  # whatever is asked with it
            for together, alone in zip(prediction, first[3], strict=True):
                assert together == {**alone, "probability": pytest.approx(alone["probability"], abs=1e-6)}
    assert len({prediction[0]["class"] for prediction in first}) > 1  # half of the answer goes to a random class
    with running(application(victim, defended)) as address:  # another server with the same key
        assert [ask(address, each)[0] for each in pictures] == first

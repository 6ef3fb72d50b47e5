"""What is sent to the service: bodies that cannot be read, and too much."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request

from farshot.serve.bodies import Bodies
from farshot.serve.options import Limits
from farshot.serve.refusal import Refusal
from tests.image_bytes import encoded
from tests.serve_helpers import Service, good, refusal, service


def nested(depth: int) -> bytes:
    return b'{"images": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("text/plain", b"x", 415, "'text/plain' is not taken"),
        ("", b"x", 415, "'unknown' is not taken"),
        ("application/x-www-form-urlencoded", b"images=x", 415, "is not taken"),
        ("multipart/form-data", b"x", 400, "Missing boundary"),
        ("multipart/form-data; boundary=a", b"x" * 100, 400, "Invalid multipart data"),
        ("multipart/form-data; boundary=a", b"--a\r\nX-A: " + b"x" * 9000, 400, "cannot be read"),
        ("multipart/form-data; boundary=a", b"--a--\r\n", 400, "no image in the request"),
        ("application/json", b"", 400, "The JSON cannot be read"),
        ("application/json", b"\xff\xfe{}", 400, "The JSON cannot be read"),
        ("application/json", b"[]", 400, "it is no JSON object"),
        ("application/json", b"{}", 400, "no list `images`"),
        ("application/json", b'{"images": "x"}', 400, "no list `images`"),
        ("application/json", b'{"images": []}', 400, "no image in the request"),
        ("application/json", b'{"images": [3]}', 400, "Image 1 of the JSON"),
        ("application/json", b'{"images": [{"data": "", "pickle": ""}]}', 400, "Image 1 of the JSON"),
        ("application/json", nested(11_000), 413, "more values than any request needs"),
        ("application/json", nested(4900), 400, "cannot be read"),
        ("application/json", b'{"images": [' + b"{}," * 20_000 + b"{}]}", 413, "more values"),
        ("application/json", b'{"images": ["eA=="], "explain": 2}', 400, "explain must be true or false"),
        ("application/json", b'{"images": ["eA=="], "reject": "much"}', 400, "reject must be a number"),
        ("application/json", b'{"images": ["eA=="], "reject": true}', 400, "reject must be a number"),
        ("application/json", b'{"images": ["eA=="], "reject": NaN}', 400, "between 0 and 1"),
        ("application/json", b'{"images": ["eA=="], "reject": 1e999}', 400, "between 0 and 1"),
        ("application/json", b'{"images": ["eA=="], "reject": 1' + b"0" * 400 + b"}", 400, "must be a num"),
        ("application/json", b'{"images": ["eA=="], "coverage": 0.99}', 400, "at least 99 labelled images"),
        ("application/json", b'{"images": ["eA=="], "color": 1}', 400, "no option 'color' (in the JSON)"),
        ("application/json", b'{"images": ["*"]}', 422, "its base64 is damaged"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    served: Service, kind: str, body: bytes, status: int, words: str
):
    headers = {"content-type": kind} if kind else {}
    sentence = refusal(served.client.post("/predict", content=body, headers=headers), status)
    assert words in sentence


def test_an_option_is_given_once(served: Service):
    sentence = refusal(served.send(good(), path="/predict?reject=0.2", reject="0.2"), 400)
    assert "in the address and in the body" in sentence
    sentence = refusal(served.send(good(), path="/predict?reject=0.2&reject=0.3"), 400)
    assert "given twice (in the query)" in sentence
    assert "no option 'rejects' (in the query)" in refusal(
        served.send(good(), path="/predict?rejects=1"), 400
    )


def test_a_file_without_a_file_name_is_an_option_that_there_is_not(served: Service):
    body = b'--a\r\nContent-Disposition: form-data; name="images"\r\n\r\nx\r\n--a--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=a"}
    response = served.client.post("/predict", content=body, headers=headers)
    assert "no option 'images' (in the form)" in refusal(response, 400)


def test_base64_may_have_lines_and_be_a_data_address(served: Service):
    text = base64.encodebytes(good()[1]).decode()
    images = [text, {"data": f"data:image/png;base64,{text}"}]
    rows = served.client.post("/predict", json={"images": images}).json()["images"]
    assert [row["image"] for row in rows] == ["image 1", "image 2"]
    assert rows[0]["probabilities"] == pytest.approx(rows[1]["probabilities"])
    # one by one to the last bit, in which places in a batch may differ
    found = [served.client.post("/predict", json={"images": [image]}).json()["images"] for image in images]
    assert found[0][0]["probabilities"] == found[1][0]["probabilities"]


def test_more_than_the_limits_is_refused(probe: Path):
    limits = Limits(files=3, file_bytes=3000, pixels=1000, request_bytes=20_000, explained=2)
    with service(probe, limits=limits) as running:
        assert "at most 3 images" in refusal(running.send(*map(good, range(4))), 413)
        assert "at most 3 images" in refusal(running.send_json(*map(good, range(4))), 413)
        many = refusal(running.send(*map(good, range(3)), explain="true"), 413)
        assert "at most 2 images with explanations" in many
        assert "the file is over 0.003 MB" in refusal(running.send(("a.png", good()[1] + bytes(3000))), 422)
        big = encoded(Image.new("L", (50, 50)), "PNG")
        assert "(50 x 50) is over 0.001 megapixels" in refusal(running.send(("a.png", big)), 422)
        assert "The request is over 0.02 MB" in refusal(running.send(("a.png", bytes(20_000))), 413)
        headers = {"content-type": "application/json"}
        pieces = (bytes(1000) for _ in range(100))  # of unknown length
        response = running.client.post("/predict", content=pieces, headers=headers)
        assert "The request is over 0.02 MB" in refusal(response, 413)
        assert running.send(good()).status_code == 200


def test_bytes_of_all_requests_are_bounded_and_given_back(probe: Path):
    limits = Limits(held_bytes=5000)
    bodies, seen = Bodies(limits, ThreadPoolExecutor(1)), list[str]()

    def request(size: int) -> Request:
        headers = [(b"content-length", str(size).encode()), (b"content-type", b"application/json")]
        body = json.dumps({"images": ["A" * (size - 20)]}).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b"", "path": "/"}
        return Request(scope, receive)

    async def run() -> None:
        async with bodies.asked(request(3000)):
            with pytest.raises(Refusal) as error:
                async with bodies.asked(request(3000)):
                    pass
            seen.append(error.value.sentence)
            assert (error.value.status, error.value.headers) == (429, {"retry-after": "2"})
        async with bodies.asked(request(3000)):
            seen.append("read")

    asyncio.run(run())
    assert seen == [
        "The service has as many bytes of images as it takes at once; send it again in 2 s.",
        "read",
    ]


def test_a_body_that_does_not_arrive_is_not_waited_for():
    bodies = Bodies(Limits(body_seconds=0.05), ThreadPoolExecutor(1))

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
        "path": "/",
    }

    async def run() -> None:
        async with bodies.asked(Request(scope, receive)):
            pass

    with pytest.raises(Refusal, match=r"did not arrive within 0\.05 s") as error:
        asyncio.run(run())
    assert error.value.status == 408


def test_a_full_queue_is_said_with_a_time(served: Service, probe: Path):
    with service(probe, limits=Limits(files=2, queue=2)) as running:
        version = running.models.served["probe"].version
        entered, go, predict = threading.Event(), threading.Event(), version.predict

        def slow(pictures: Any) -> Any:
            entered.set()
            assert go.wait(60)
            return predict(pictures)

        version.predict = slow  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(running.send, good(1))
            assert entered.wait(60)
            response = running.send(good(1), good(2))
            sentence = refusal(response, 429)
            assert sentence == (
                "The service has as many images as it takes at once; send it again in "
                f"{response.headers['retry-after']} s."
            )
            go.set()
            assert first.result().status_code == 200
        assert running.send(good(1), good(2)).status_code == 200
        counted = running.client.get("/metrics").text
        assert 'farshot_requests_total{path="/predict",status="429"} 1.0' in counted

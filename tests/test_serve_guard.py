"""Who may ask the service, and the command that starts it."""

from __future__ import annotations

import base64
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from farshot.serve.options import Options, read_key
from farshot.serve.server import serving
from farshot.web.address import bound, url_of
from tests.input_helpers import Farshot
from tests.input_helpers import refusal as refused_command
from tests.serve_helpers import Service, good, refusal, service

# Who may ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_another_hosts_name_is_refused(served: Service, host: str):
    for path in ("/predict", "/health", "/docs", "/nothing"):
        assert refusal(served.client.get(path, headers={"host": host}), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9000"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "null"},
    ],
)
def test_a_page_of_another_address_reads_and_sends_nothing(served: Service, headers: dict[str, str]):
    sent = served.client.post("/predict", files={"images": good()}, headers=headers)
    assert refusal(sent, 403)
    asked = served.client.options("/predict", headers={**headers, "access-control-request-method": "POST"})
    assert asked.status_code == 403
    for response in (sent, asked):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_headers_are_bounded(served: Service):
    sentence = refusal(served.client.get("/health", headers={"x-filler": "x" * 33_000}), 431)
    assert sentence == "The headers are over 32,000 bytes; send fewer or shorter ones."
    assert served.client.get("/health", headers={"x-filler": "x" * 30_000}).status_code == 200


def test_every_answer_is_counted_once(probe: Path):
    key = {"x-api-key": "0123456789abcdef"}
    with service(probe, api_key=key["x-api-key"]) as running:
        ask = running.client
        for status, headers in (
            (401, {}),
            (403, key | {"origin": "null"}),
            (421, key | {"host": "evil.example"}),
            (431, key | {"x-filler": "x" * 33_000}),
            (200, key),
        ):
            assert ask.post("/predict", files={"images": good()}, headers=headers).status_code == status
        assert ask.post("/models/none/predict", headers=key).status_code == 404
        assert ask.get("/health").status_code == ask.get("/models", headers=key).status_code == 200
        assert ask.get("/models").status_code == 401
        lines = ask.get("/metrics", headers=key).text.splitlines()
        counted = [line for line in lines if line.startswith("farshot_requests_total")]
        assert sorted(counted) == sorted(
            f'farshot_requests_total{{path="{path}",status="{status}"}} {count}'
            for path, status, count in (
                *(("/predict", status, 1.0) for status in (200, 401, 403, 421, 431)),
                ("/models/{name}/predict", 404, 1.0),
                ("other", 200, 2.0),
                ("other", 401, 1.0),
            )
        )


def test_our_own_page_and_a_link_to_it_are_served(served: Service):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert served.client.get("/", headers=link).url.path == "/docs"
    ours = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8000"}
    assert served.client.post("/predict", files={"images": good()}, headers=ours).status_code == 200


def test_a_key_is_asked_for_everything_that_tells_of_models(probe: Path):
    key = "0123456789abcdef"
    with service(probe, host="0.0.0.0", api_key=key) as running:
        ask = running.client
        for path in ("/models", "/models/probe", "/metrics", "/", "/nothing"):
            assert "must bring the service's key" in refusal(ask.get(path), 401)
        response = ask.post("/predict", files={"images": good()})
        assert refusal(response, 401) and response.headers["www-authenticate"] == "Bearer"
        for wrong in ({"x-api-key": key + "x"}, {"authorization": f"Basic {key}"}, {"x-api-key": ""}):
            assert ask.get("/models", headers=wrong).status_code == 401
        bearers = [{"authorization": f"{word} {key}"} for word in ("Bearer", "bearer")]
        basic = {"authorization": f"Basic {base64.b64encode(f'any:{key}'.encode()).decode()}"}
        for right in ({"x-api-key": key}, basic, *bearers):
            assert ask.get("/models", headers={**right, "host": "any.example"}).status_code == 200
            assert "models" in ask.get("/health", headers=right).json()
        assert set(ask.get("/health").json()) == {"status", "farshot"}
        for path in ("/docs", "/openapi.json"):
            response = ask.get(path)
            assert response.status_code == 200 and "probe" not in response.text


def test_every_answer_forbids_requests_to_others(served: Service):
    for path in ("/docs", "/health", "/nothing", "/metrics"):
        headers = served.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_an_address_that_others_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("FARSHOT_API_KEY", raising=False)
    with pytest.raises(ValueError, match=r"--api-key-file, or set FARSHOT_API_KEY; or leave --host out\."):
        Options(("x",), host="0.0.0.0")
    for host in ("127.0.0.1", "localhost", "::1"):
        assert Options(("x",), host=host).api_key is None
    assert read_key(None) is None
    monkeypatch.setenv("FARSHOT_API_KEY", "a" * 20)
    assert read_key(None) == "a" * 20
    file = tmp_path / "key"
    for content, words in (
        ("short", "has 5 characters"),
        ("", "has 0 characters"),
        ("a" * 5000, "characters; take one"),
        ("a" * 10 + " " + "b" * 10, "no header can carry"),
        ("ä" * 20, "no header can carry"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=words) as error:
            read_key(file)
        assert content[:5] not in str(error.value) or content in ("", "short")
    file.write_text("b" * 20 + "\n")
    assert read_key(file) == "b" * 20
    with pytest.raises(ValueError, match="check --api-key-file"):
        read_key(tmp_path / "none")


# The command -------------------------------------------------------------------------------------------


def test_a_real_server_ends_with_its_requests_answered(probe: Path):
    import httpx

    found: dict[str, Any] = {}
    with serving(Options((str(probe),), port=0, reload_every=0.05)) as running:
        version = running.models.served["probe"].version
        entered, predict = threading.Event(), version.predict

        def slow(pictures: Any) -> Any:
            entered.set()
            time.sleep(0.3)
            return predict(pictures)

        version.predict = slow  # type: ignore[method-assign]

        def ask() -> None:
            found["answer"] = httpx.post(f"{running.url}/predict", files={"images": good()}, timeout=60)

        asking = threading.Thread(target=ask)
        asking.start()
        assert entered.wait(60)
    asking.join()
    assert found["answer"].status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/health")


def test_a_large_body_that_is_refused_is_read_to_its_end_and_the_sentence_arrives(probe: Path):
    import httpx

    with serving(Options((str(probe),), port=0, reload_every=0)) as running:
        response = httpx.post(f"{running.url}/nothing", content=bytes(20_000_000), timeout=60)
        assert response.status_code == 404
        response = httpx.post(f"{running.url}/predict", files={"images": bytes(20_000_000)}, timeout=60)
        assert response.status_code == 422


def test_what_cannot_be_served_is_refused_in_a_sentence(
    farshot: Farshot, probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("FARSHOT_API_KEY", raising=False)
    assert "is not an adapted model" in refused_command(farshot("serve", tmp_path, "--port", "0"))
    assert "requests must bring a key" in refused_command(farshot("serve", probe, "--host", "0.0.0.0"))
    assert "only 4 fit into the queue" in refused_command(farshot("serve", probe, "--queue", "4"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"Port {port} of 127.0.0.1 cannot be used" in refused_command(
            farshot("serve", probe, "--port", port)
        )


def test_a_missing_extra_is_named(farshot: Farshot, probe: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("farshot.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    sentence = refused_command(farshot("serve", probe))
    assert "needs an extra (uvicorn is missing): pip install 'farshot[serve]'." in sentence


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_an_address_is_written_as_this_computer_can_ask_it(host: str, url: str):
    assert url_of(host, 80) == url


def test_the_first_free_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with bound("127.0.0.1", (port, 0)) as free:
            assert free.getsockname()[1] not in (0, port)
        with pytest.raises(ValueError, match=f"Port {port} of 127.0.0.1 cannot be used"):
            bound("127.0.0.1", [port])
    with pytest.raises(ValueError, match="is no name of this computer"):
        bound("no-such-name.invalid", [0])

"""The page served in this process and called as its visitors call it, and the folder of a Space."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.demo.hosts import own_hosts

from ..conftest import SAMPLES, run_cvae

DIGIT = SAMPLES / "digit_3.png"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("gradio", reason="the page needs gradio: pip install '.[demo]'")
    from cvae.demo import server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with server.running("127.0.0.1", port) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False, httpx_kwargs={"timeout": 300})


def asked(client: Any, path: Path | str, **other: Any) -> Any:
    """What the tab Code answers: figures, pictures, the file."""
    from gradio_client import handle_file

    values = {
        "name": "automatic",
        "own": None,
        "quality": 50,
        "effort": 5,
        "invert": False,
        **other,
    }
    own = values["own"] and handle_file(str(values["own"]))
    return client.predict(
        handle_file(str(path)), values["name"], own, values["quality"], values["effort"],
        values["invert"], api_name="/code",
    )  # fmt: skip


def test_a_picture_is_coded(client: Any) -> None:
    figures, _, _, save, file = asked(client, DIGIT, quality=80)
    data = cvae.encode(np.asarray(Image.open(DIGIT)), quality=80)
    assert f"<b>{len(data)}</b>bytes" in figures
    assert 'download="digit_3.bin"' in save
    assert data[:4].hex(" ") in file


def test_what_is_wrong_ends_in_one_line_and_the_server_goes_on(client: Any, tmp_path: Path) -> None:
    from gradio_client import handle_file

    text, large, foreign = (tmp_path / name for name in ("a.png", "b.png", "c.bin"))
    text.write_text("no picture")
    Image.new("L", (10_000, 6_000)).save(large)
    foreign.write_bytes(b"\x7fELF and more")
    calls = {
        "expected an image": lambda: asked(client, text),
        "at most 24,000,000 pixels": lambda: asked(client, large),
        "expected a container, found": lambda: client.predict(
            handle_file(str(foreign)), None, api_name="/decode"
        ),
        "expected": lambda: asked(client, DIGIT, own=text),
    }
    for said, call in calls.items():
        with pytest.raises(Exception, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)
        assert not re.search(r"/\w+/\w+", str(refused.value))
    assert "<b>" in asked(client, DIGIT)[0]


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(address: str) -> None:
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2147483648\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        assert b" 413 " in wire.recv(1000)


def test_a_body_of_unknown_length_is_refused_when_it_becomes_too_large(address: str) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield bytes(1 << 20)

    request = urllib.request.Request(
        f"{address}gradio_api/upload", body(), {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises((urllib.error.HTTPError, ConnectionError, urllib.error.URLError)):
        urllib.request.urlopen(request, timeout=60)


def test_ten_visitors_at_once_queue_and_none_sees_an_error(address: str) -> None:
    from gradio_client import Client

    def visit(number: int) -> str:
        visitor = Client(address, verbose=False, httpx_kwargs={"timeout": 300})
        return str(asked(visitor, DIGIT, quality=10 + 8 * number)[0])

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(visit, range(10)))
    assert all("mnist" in answer for answer in answers)


def test_the_page_names_no_other_host(address: str) -> None:
    page = urllib.request.urlopen(address).read().decode()
    tags = re.findall(r"<(?:script|link|meta|img|iframe)\b[^>]*//[^>]*>", page)
    assert [tag for tag in tags if "//127.0.0.1" not in tag] == []


def test_tags_of_other_hosts_are_left_out() -> None:
    kept = '<script src="./a.js"></script><link href="/b.css"><meta name="x" content="y">'
    other = (
        '<link rel="preconnect" href="https://fonts.example"/>'
        '<script async\nsrc="//cdn.example/x.js"></script><meta content="http://example/z.jpg" />'
    )
    assert own_hosts(kept + other) == kept


def test_a_port_that_is_taken_is_an_error(address: str) -> None:
    port = address.rstrip("/").rsplit(":", 1)[1]
    error = run_cvae("demo", "--port", port, code=1).stderr
    assert error.startswith(b"cvae: error: cannot serve at 127.0.0.1")
    assert error.count(b"\n") == 1


def test_a_space_is_whole(workdir: Path) -> None:
    run_cvae("demo", "--space", "space", "-m", "fashion")
    assert "MODEL = 'fashion'" in Path("space/app.py").read_text()
    needed = Path("space/requirements.txt").read_text()
    assert "onnxruntime" in needed
    assert "tensorflow" not in needed
    card = Path("space/README.md").read_text()
    assert card.startswith("---\ntitle: cvae\n")
    assert "sdk: gradio" in card
    compile(Path("space/app.py").read_text(), "app.py", "exec")
    assert Path("space/cvae/weights/mnist.cvae").is_file()
    assert Path("space/cvae/demo/samples/digit_3.png").is_file()
    assert max(path.stat().st_size for path in Path("space").rglob("*.*")) < 10_000_000
    assert b"exists already" in run_cvae("demo", "--space", "space", code=1).stderr


def test_an_unknown_model_is_wrong_usage() -> None:
    assert b"no model named" in run_cvae("demo", "-m", "nothing", code=2).stderr

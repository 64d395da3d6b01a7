"""The page served: by this machine, to this machine unless told otherwise."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cvae.demo import look, work
from cvae.demo.hosts import OwnHosts
from cvae.errors import CvaeError, MissingExtraError, first_line

# Before Gradio is imported: it asks nobody for versions, counts nobody, and looks for no models.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
}


@contextmanager
def running(host: str, port: int, model: str = work.AUTOMATIC) -> Iterator[str]:
    """Serves the page while the block runs, and gives its address; what visitors made goes with it.

    Raises MissingExtraError without Gradio, CvaeError when the port is taken or the model unknown.
    """
    if model != work.AUTOMATIC:
        work.codec_of(model)
    os.environ.update(_QUIET)
    with tempfile.TemporaryDirectory(prefix="cvae-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        app = _built(model)
        try:
            _, address, _ = app.launch(server_name=host, server_port=port, **_launch())
        except OSError as error:
            text = f"cannot serve at {host}:{port}: {first_line(error)}"
            raise CvaeError(text, advice="--port names another port") from error
        try:
            yield address
        finally:
            app.close(verbose=False)


def _built(model: str) -> Any:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("gradio", "demo") from error
    from cvae.demo import page

    return page.build(model)


def _launch() -> dict[str, Any]:
    """What the server is told, on any machine."""
    from starlette.middleware import Middleware

    return {
        "share": False,
        "quiet": True,
        "inbrowser": False,
        "prevent_thread_lock": True,
        "show_error": False,
        "max_file_size": work.UPLOAD,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "theme": look.theme(),
        "css": look.CSS,
        "app_kwargs": {
            "middleware": [Middleware(OwnHosts, most=work.UPLOAD)],
            "docs_url": None,
            "redoc_url": None,
        },
    }

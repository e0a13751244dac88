"""`agile3d view`: shows a portrait in the browser, served by this computer to itself only."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agile3d_cli.cli.choices import OUTPUT_FOLDER
from agile3d_cli.cli.export import choose_portrait
from agile3d_cli.cli.session import Session
from agile3d_cli.errors import OutputError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

LOOPBACK = "127.0.0.1"


def view(
    session: Session,
    portrait: Annotated[
        Path | None,
        typer.Argument(metavar="[PORTRAIT]", help="A portrait file.", show_default=f"newest below {OUTPUT_FOLDER}"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Opens the offline viewer; Ctrl-C ends it."""
    chosen = choose_portrait(portrait)

    from agile3d_cli.avatar.export import export_portrait

    with tempfile.TemporaryDirectory(prefix="agile3d-view-") as folder, session.progress(chosen.name) as progress:
        file = Path(folder) / f"{chosen.absolute().parent.name}.html"
        export_portrait(chosen, "html", file, device=session.device, progress=progress)
        page = file.read_text(encoding="utf-8")
    server = serve_page(page, port)
    url = f"http://{LOOPBACK}:{server.server_port}/"
    session.result({"url": url, "portrait": str(chosen)}, url)
    if browser:
        webbrowser.open(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        # The way to end it, so not an interruption.
        session.note("Closed.")
    finally:
        server.server_close()


def serve_page(page: str, port: int) -> ThreadingHTTPServer:
    """A server of one page on loopback. It answers only requests addressed to loopback, so no web page can reach it."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    data = page.encode("utf-8")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in (LOOPBACK, "localhost"):
                self.send_error(403)
            elif self.path != "/":
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps quiet."""

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise OutputError(f"Port {port} cannot be used ({error.strerror}); choose another --port, or 0.") from error

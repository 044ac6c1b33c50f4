"""Runs what a page shows: its programs and commands, in order, against a server of its own.

Each page gets an empty folder with links to what a checkout has there. A YAML block whose first
line is `# NAME.yaml` becomes that file. `bursar serve` runs as written, on a free port; a page
that starts no server gets one with examples/acme.yaml. Addresses on the page stand for the real
ones. An `output` block says what the block before it prints, with `...` for what varies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from markdown_pages import ROOT, Block, Page

from bursar.embedded.postgres_process import EmbeddedPostgres
from bursar.embedded.redis_process import EmbeddedRedis
from postgres_data import make_postgres_data

ADDRESS = "127.0.0.1:4500"
SERVES = "bursar serves on "
REDIS_URL = "redis://127.0.0.1:6379/0"
DATABASE_URL = "postgresql://bursar:secret@127.0.0.1:5432/bursar"
BASH = ("bash", "-euo", "pipefail", "-c")
EXECUTABLE_KINDS = ("python", "shell")
TIMEOUT_S = 60.0

_NAMED_FILE = re.compile(r"# (?P<name>[a-z0-9-]+\.ya?ml)\n")
_SERVE = re.compile(r"\bbursar serve\b")
_NEEDS_SERVER = re.compile(
    rf"\bbursar (?!serve|check-policy|migrate)|\bgrpcurl\b|{re.escape(ADDRESS)}"
)

BURSAR = """\
#!/bin/sh
if [ "$1" = serve ]; then
    exec {python} -m bursar.cli.main "$@" --listen 127.0.0.1:0 --data-dir {folder}/data
fi
BURSAR_ADDRESS=$(cat {folder}/address 2>/dev/null) exec {python} -m bursar.cli.main "$@"
"""
GRPCURL = '#!/bin/sh\nexec {python} {stand_in} "$@"\n'
PYTHON = '#!/bin/sh\nexec {python} "$@"\n'
ACTIVATE = "PATH={programs}:$PATH\n"


class PageFailed(AssertionError):
    """Something on a page is not as it says; the message has the block and what it printed."""


class PageRunner:
    """Runs one page."""

    def __init__(self, page: Page, folder: Path, *, real_grpcurl: bool = False) -> None:
        self._page = page
        self._folder = folder
        self._server: subprocess.Popen[str] | None = None
        self._redis: EmbeddedRedis | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._address = ""
        self.executed: list[Block] = []
        self._make_checkout(real_grpcurl)

    def run(self) -> None:
        """Run every executable block, and compare what it prints.

        Raises:
            PageFailed: A block failed or printed something else.
        """
        try:
            printed: str | None = None
            for block in self._page.blocks:
                if block.kind == "output":
                    self._compare(block, printed)
                elif block.kind in EXECUTABLE_KINDS:
                    printed = self._execute(block)
                    self.executed.append(block)
        finally:
            self._stop_server()
            if self._redis is not None:
                self._redis.stop()
            if self._postgres is not None:
                self._postgres.stop()

    @contextmanager
    def serving(self, policy: Path) -> Iterator[str]:
        """Run a server of its own and yield its address."""
        try:
            self._serve(Block(0, "shell", f"bursar serve --policy {policy}\n"))
            yield self._address
        finally:
            self._stop_server()

    def _make_checkout(self, real_grpcurl: bool) -> None:
        """Lay out the folder: links to the repository, named files, and the programs."""
        for name in ("bench", "examples", "protos", "scripts"):
            (self._folder / name).symlink_to(ROOT / name)
        for block in self._page.blocks:
            named = _NAMED_FILE.match(block.text) if block.kind == "yaml" else None
            if named:
                (self._folder / named["name"]).write_text(block.text, encoding="utf-8")
        self._programs = self._folder / ".venv" / "bin"
        self._programs.mkdir(parents=True)
        scripts = {"bursar": BURSAR, "python": PYTHON, "activate": ACTIVATE}
        if not real_grpcurl:
            scripts["grpcurl"] = GRPCURL
        for name, text in scripts.items():
            script = self._programs / name
            script.write_text(
                text.format(
                    python=sys.executable,
                    folder=self._folder,
                    programs=self._programs,
                    stand_in=Path(__file__).with_name("grpcurl_stand_in.py"),
                ),
                encoding="utf-8",
            )
            script.chmod(0o755)

    def _execute(self, block: Block) -> str:
        if _SERVE.search(block.text):
            return self._serve(block)
        if _NEEDS_SERVER.search(block.text) and self._server is None:
            self._serve(Block(block.line, "shell", "bursar serve --policy examples/acme.yaml\n"))
        if block.kind == "shell":
            command = [*BASH, self._real(block.text)]
        else:
            program = self._folder / f"line_{block.line}.py"
            program.write_text(self._real(block.text), encoding="utf-8")
            command = [sys.executable, str(program)]
        result = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0 or (block.kind == "python" and result.stderr):
            raise self._failed(block, f"exit code {result.returncode}", result)
        return result.stdout

    def _serve(self, block: Block) -> str:
        """Run a block that ends with `bursar serve` until it serves; a server before it ends."""
        self._stop_server()
        make_postgres_data(self._folder / "data" / "postgres")
        errors = self._folder / "server.log"
        with errors.open("a", encoding="utf-8") as log:
            self._server = subprocess.Popen(
                # Bash becomes the server, so that a signal reaches it.
                [
                    "bash",
                    "-euo",
                    "pipefail",
                    "-c",
                    _SERVE.sub("exec bursar serve", self._real(block.text)),
                ],
                cwd=self._folder,
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._server.stdout is not None
        printed = ""
        for line in self._server.stdout:
            printed += line
            if line.startswith(SERVES):
                break
        else:
            self._server.wait(timeout=TIMEOUT_S)
            self._server.stdout.close()
            self._server = None
            said = printed + errors.read_text(encoding="utf-8")
            raise PageFailed(f"{self._where(block)}: no server\n{said}")
        self._address = line.split()[-1]
        (self._folder / "address").write_text(self._address, encoding="utf-8")
        return printed

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.terminate()
        try:
            code = server.wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise
        finally:
            assert server.stdout is not None
            server.stdout.close()
        if code != 0:
            raise PageFailed(f"{self._page.name}: a server ended with exit code {code}")

    def _real(self, text: str) -> str:
        """Return a block with the addresses that are real here."""
        if REDIS_URL in text:
            if self._redis is None:
                self._redis = EmbeddedRedis(self._folder / "redis")
                self._redis.start()
            text = text.replace(REDIS_URL, self._redis.url)
        if DATABASE_URL in text:
            if self._postgres is None:
                self._postgres = EmbeddedPostgres(make_postgres_data(self._folder / "postgres"))
                self._postgres.start()
            text = text.replace(DATABASE_URL, f"'{self._postgres.url}'")
        return text.replace(ADDRESS, self._address or ADDRESS)

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("BURSAR_")}
        return own | {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "HOME": str(self._folder),
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "TZ": "UTC",
        }

    def _compare(self, block: Block, printed: str | None) -> None:
        expected = self._real(block.text)
        if printed is None or not matches(expected, printed):
            raise PageFailed(f"{self._where(block)}: expected\n{expected}\nprinted\n{printed}")

    def _failed(
        self, block: Block, why: str, result: subprocess.CompletedProcess[str]
    ) -> PageFailed:
        said = f"{result.stdout}\n{result.stderr}"
        return PageFailed(f"{self._where(block)}: {why}\n{block.text}\n{said}")

    def _where(self, block: Block) -> str:
        return f"{self._page.name}:{block.line}"


def matches(expected: str, printed: str) -> bool:
    """Whether a text is as expected: `...` in a line is anything in it, as a line any lines.

    How many spaces stand between words does not count, and neither do empty lines at both ends:
    a table is as wide as what is in it.
    """
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == "..." else _line_pattern(line)
        for line in _trimmed(expected).splitlines()
    )
    return re.fullmatch(pattern, _trimmed(printed)) is not None


def _line_pattern(line: str) -> str:
    return r"[^\n]*".join(re.escape(part) for part in line.split("...")) + r"\n"


def _trimmed(text: str) -> str:
    lines = "\n".join(" ".join(line.split()) for line in text.splitlines())
    return lines.strip("\n") + "\n"


def have_grpcurl() -> bool:
    """Whether the real grpcurl is on PATH."""
    return shutil.which("grpcurl") is not None

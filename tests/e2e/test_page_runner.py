"""The tests of the documents can fail: each way in which a page may be wrong is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_pages import broken_links, read_page
from page_runner import PageFailed, PageRunner, matches


def page_with(folder: Path, text: str) -> Path:
    """Write a page."""
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


GRPCURL = "grpcurl -plaintext -d '{}' 127.0.0.1:4500 bursar.v1.BudgetAuthorityService/{}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("```python\n1 / 0\n```", "ZeroDivisionError", id="program-fails"),
        pytest.param("```python\nprint(\n```", "SyntaxError", id="program-is-cut-off"),
        pytest.param(
            "```python\nimport sys\nsys.stderr.write('a warning')\n```",
            "a warning",
            id="program-warns",
        ),
        pytest.param("```python\nprint(1)\n```\n```output\n2\n```", "expected", id="other-output"),
        pytest.param("```output\n2\n```", "expected", id="output-of-nothing"),
        pytest.param("```shell\nfalse | true\n```", "exit code 1", id="command-fails-in-a-pipe"),
        pytest.param("```shell\nbursar check-policy no.yaml\n```", "cannot be read", id="no-file"),
        pytest.param("```shell\nbursar sreve\n```", "No such command", id="no-such-command"),
        pytest.param(
            "```shell\nbursar serve --policy none.yaml\n```",
            "cannot be read",
            id="server-does-not-start",
        ),
        pytest.param(
            "```shell\n" + GRPCURL.format('{"request": "r"}', "Check") + "\n```",
            "request",
            id="no-such-field",
        ),
        pytest.param(
            "```shell\n" + GRPCURL.format("{}", "Chekc") + "\n```", "Chekc", id="no-such-call"
        ),
        pytest.param(
            "```shell\n" + GRPCURL.format('{"subject": {"org": "acme"}}', "Check") + "\n```",
            "target.model",
            id="call-is-refused",
        ),
    ],
)
def test_a_wrong_page_fails(text: str, why: str, tmp_path: Path) -> None:
    """Goal: what does not work is noticed. Method: a page with one fault each."""
    page = read_page(page_with(tmp_path, text + "\n"))
    with pytest.raises(PageFailed, match=why):
        PageRunner(page, tmp_path).run()


def test_a_right_page_passes(tmp_path: Path) -> None:
    """Goal: the same without a fault passes. Method: a page with a policy file and its server."""
    text = """
```yaml
# tiny.yaml
org: tiny
budgets: [{name: b, limit: {tokens: 10}, window: day}]
```

```shell
source .venv/bin/activate
bursar check-policy tiny.yaml
bursar serve --policy tiny.yaml
```

```output
accepted tiny.yaml: org tiny, 1 ...
bursar serves on 127.0.0.1:4500
```

```python
from bursar_client import Client

with Client("127.0.0.1:4500") as client:
    print(client.check(org="tiny", model="gpt-5", input_tokens=20).decision)
```

```output
denied
```
"""
    page = read_page(page_with(tmp_path, text))
    runner = PageRunner(page, tmp_path)
    runner.run()
    assert [block.kind for block in runner.executed] == ["shell", "python"]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a b", "a b\n", True),
        ("a   b", "a b  \n\n", True),
        ("a ... c", "a b c", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("...\nd", "d", True),
        ("a", "b", False),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("a ... c", "a b\nc", False),
        ("a.c", "abc", False),
    ],
)
def test_matches(expected: str, printed: str, same: bool) -> None:
    """Goal: only what varies may differ. Method: rows of texts."""
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](other.md)", 0),
        ("[a](other.md#a-heading-with-code)", 0),
        ("[a](other.md#twice-1)", 0),
        ("[a](#here)\n\n# Here", 0),
        ("[a](https://example.org/nowhere)", 0),
        ("[a](nowhere.md)", 1),
        ("[a](other.md#twice-2)", 1),
        ("![a](picture.png)", 1),
        ("| [a](nowhere.md) |\n| --- |\n| [b](#nowhere) |", 2),
    ],
)
def test_broken_links(text: str, broken: int, tmp_path: Path) -> None:
    """Goal: dead links are found, live ones are not. Method: rows of links beside one page."""
    other = "# A heading, with `code`\n\n## Twice\n\n## Twice\n"
    (tmp_path / "other.md").write_text(other, encoding="utf-8")
    assert len(broken_links(read_page(page_with(tmp_path, text)))) == broken

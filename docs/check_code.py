"""Fails where the Python of README.md, of the pages of docs/ or of the examples does not type-check.

    python docs/check_code.py

Each page becomes a module, its code on the lines that it has on the page, so that pyright (standard mode) names the
page's own lines. A page's code is its ``python`` fences, its ``{code-cell}``s and those indented blocks that are
Python. Blocks that are not complete programs take the names they do not define from ``ASSUMED``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from check_numbers import FRONT_MATTER, ROOT, pages
from markdown_it import MarkdownIt

#: What the pages' shorter blocks take for granted.
ASSUMED = """
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import whichmin as wm

model = cast(nn.Module, None)
make_network = cast("Callable[[int], nn.Module]", None)
task = cast(wm.Task, None)
X, y, X_test, y_test, X_val, y_val, labels, labels_test = (cast(Tensor, None) for _ in range(8))
ids = mask = cast(Tensor, None)
frame = cast(pd.DataFrame, None)
train = test = cast("Dataset[tuple[Tensor, Tensor]]", None)
point = cast(int, None)
optimizer = adam = cast("partial[torch.optim.Adam]", None)
"""
SETTINGS = """
[tool.pyright]
pythonVersion = "3.11"
typeCheckingMode = "standard"
reportMissingImports = false  # of extras that an example needs and this environment may lack
extraPaths = [{paths}]
"""


def code_of(text: str) -> str:
    """The Python of a page, each line where it stands on the page; the first line has the assumed names."""
    matter = FRONT_MATTER.match(text)
    skipped = matter.group().count("\n") if matter else 0
    lines = [""] * (text.count("\n") + 2)
    for token in MarkdownIt("commonmark").parse(text[matter.end() :] if matter else text):
        name = token.info.split()[0] if token.info else ""
        if token.type == "code_block" and _is_python(token.content):
            start, content = 0, token.content
        elif token.type == "fence" and name in ("python", "{code-cell}"):
            start, content = 1, re.sub(r"^:.*$", "", token.content, flags=re.MULTILINE)
        else:
            continue
        assert token.map is not None
        for row, line in enumerate(content.splitlines(), skipped + token.map[0] + start):
            lines[row] = line
    lines[0] = "from assumed import *"
    return "\n".join(lines).rstrip() + "\n"


def _is_python(block: str) -> bool:
    try:
        return any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(block)))
    except SyntaxError:
        return False


def check(folder: Path, texts: dict[str, str]) -> list[str]:
    """What pyright says of the pages, by page and line.

    Args:
        folder: where the modules are written.
        texts: of each page, by its path.
    """
    (folder / "assumed.py").write_text(ASSUMED, encoding="utf-8")
    paths = ", ".join(f'"{path.as_posix()}"' for path in (ROOT / p for p in ("src", "tests", "docs", "examples")))
    (folder / "pyproject.toml").write_text(SETTINGS.format(paths=paths), encoding="utf-8")
    modules = {}
    for page, text in texts.items():
        module = folder / (re.sub(r"\W", "_", page) + ".py")
        module.write_text(text if page.endswith(".py") else code_of(text), encoding="utf-8")
        modules[str(module)] = page
    done = subprocess.run(
        ["pyright", "--project", str(folder), "--pythonpath", sys.executable, "--level", "error"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    for module, page in modules.items():
        said = said.replace(module, page)
    found = re.findall(r"^ +(\S+:\d+:\d+ - error: .*(?:\n {4,}.*)*)", said, flags=re.MULTILINE)
    if done.returncode and not found:
        raise RuntimeError(f"pyright did not run: {done.stdout}{done.stderr}")
    return found


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    paths = [*pages(), *sorted((ROOT / "examples").glob("*.py"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder), texts)
    for one in found:
        print(one, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

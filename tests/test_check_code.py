"""The check of the documentation's code sees all Python of a page, on the page's own lines."""

from __future__ import annotations

import check_code
import pytest

PAGE = """---
file_format: mystnb
---
# Title

```{code-cell}
:tags: [remove-input]

run = wm.train(model, task, optimizer)
```

The formula of ηγλ:

    x_{k+1} = (1 − z) y_k
    loss = smaller

and the call

    wm.explain(run)
    run.test.nothing_of_that_name()

```sh
whichmin explain
```

```python
wm.predict(model, task, nowhere)
```
"""


def test_the_code_stands_on_the_lines_of_the_page():
    lines = check_code.code_of(PAGE).splitlines()
    assert lines[0] == "from assumed import *"
    there = {number: line for number, line in enumerate(lines, 1) if line and number > 1}
    page = PAGE.splitlines()
    assert sorted(there) == [9, 19, 20, 27]
    assert all(line.strip() == page[number - 1].strip() for number, line in there.items())


def test_a_page_without_code():
    assert check_code.code_of("# Title\n\ntext\n").split() == ["from", "assumed", "import", "*"]


def test_what_does_not_type_check_is_told_by_page_and_line(tmp_path):
    pytest.importorskip("pyright")
    good = "# Title\n\n    wm.explain(wm.train(model, task, wm.Recipe(torch.optim.SGD, lr='best'))).plot()\n"
    found = check_code.check(tmp_path, {"docs/bad.md": PAGE, "docs/good.md": good, "examples/bad.py": "1 + ''\n"})
    assert [one.split(" - ")[0] for one in found] == ["docs/bad.md:20:10", "docs/bad.md:27:25", "examples/bad.py:1:1"]
    assert "nowhere" in found[1]

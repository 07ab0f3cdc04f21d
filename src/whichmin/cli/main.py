"""The entry point: commands by name, errors as one line, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from whichmin._version import __version__
from whichmin.errors import InputError, WhichminError

#: Commands: name, "module:function", and a line for the list. The module is imported when its command is named.
COMMANDS = (
    ("explain", "whichmin.cli.explain:explain", "Train for real, and take the test outputs apart into named terms."),
    ("predict", "whichmin.cli.predict:predict", "Say where training goes, without training."),
    ("compare", "whichmin.cli.compare:compare", "Whether optimizers and batch sizes reach different minimizers."),
    ("mitigate", "whichmin.cli.mitigate:mitigate", "Which remedy brings a better minimizer, before it is trained."),
    ("leave-out", "whichmin.cli.leave_out:leave_out", "Where training would end without some of its rows."),
    ("linear", "whichmin.cli.linear:linear", "Where a linear network ends, guaranteed and measured."),
)

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def build_app(named: str | None = None) -> App:
    """The application with every command registered and none imported.

    Args:
        named: the command that is about to be used, which speaks for itself.
    """
    app = App(
        name="whichmin",
        help="Which minimizer does my network converge to, what put it there, and how do I get a better one?",
        help_format="markdown",
        version=__version__,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, path, line in COMMANDS:
        # A line given here would also replace the command's own, longer help.
        app.command(path, name=name, help=None if name == named else line)
    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        tokens: the arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 the input cannot be used, 130 interrupted.
    """
    tokens = sys.argv[1:] if tokens is None else list(tokens)
    try:
        result = build_app(tokens[0] if tokens else None)(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _fail(f"{_first_line(error)} See whichmin --help.", BAD_INPUT)
    except InputError as error:
        return _fail(str(error), BAD_INPUT)
    except WhichminError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt as error:
        print(f"whichmin: interrupted{f': {error}' if str(error) else '.'}", file=sys.stderr)
        return INTERRUPTED
    return result if isinstance(result, int) else OK


def _first_line(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?")) else text + "."


def _fail(message: str, code: int) -> int:
    print(f"whichmin: error: {message}", file=sys.stderr)
    return code

"""The entry point: commands by name, errors as one line, exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from whichmin._version import __version__
from whichmin.cli.streams import abandon, log_on_stderr, prepare
from whichmin.errors import InputError, WhichminError

#: Commands: name, "module:function", and a line for the list. The module is imported when its command is named.
COMMANDS = (
    ("explain", "whichmin.cli.explain:explain", "Train for real, and take the test outputs apart into named terms."),
    ("predict", "whichmin.cli.predict:predict", "Say where training goes, without training."),
    ("compare", "whichmin.cli.compare:compare", "Whether optimizers and batch sizes reach different minimizers."),
    ("mitigate", "whichmin.cli.mitigate:mitigate", "Which remedy brings a better minimizer, before it is trained."),
    ("leave-out", "whichmin.cli.leave_out:leave_out", "Where training would end without some of its rows."),
    ("sweep", "whichmin.cli.sweep:sweep", "A grid of predictions and trainings that survives interruption."),
    ("linear", "whichmin.cli.linear:linear", "Where a linear network ends, guaranteed and measured."),
    ("reproduce", "whichmin.cli.reproduce:reproduce", "The figures of the papers, and whether their claims hold."),
    ("data", "whichmin.cli.data:app", "Which data sets are known and there; fetch and check them."),
)

OK, FAILED, BAD_INPUT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
#: Options that mean nothing without steps.
OF_STEPS = ("--optimizer", "--lr", "--batch-size", "--scale")


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
    app.register_install_completion_command(help="Complete this command line with the tab key in your shell.")

    app.meta.suppress_keyboard_interrupt = False

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        verbose: Annotated[
            bool,
            Parameter(
                name=("--verbose", "-v"),
                help="Log more than warnings to standard error.",
                negative="",
                show_default=False,
            ),
        ] = False,
    ) -> Any:
        with log_on_stderr(logging.INFO if verbose else logging.WARNING):
            return app(tokens, exit_on_error=False, print_error=False)

    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        tokens: the arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 the input cannot be used, 130 interrupted, 141 standard output was
        closed by its reader.
    """
    tokens = sys.argv[1:] if tokens is None else list(tokens)
    prepare()
    try:
        code = _run(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon()
        return UNREAD
    return code


def _run(tokens: list[str]) -> int:
    """The exit code of a command line whose output is read."""
    named = next((token for token in tokens if token not in ("-v", "--verbose")), None)
    try:
        result = build_app(named).meta(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _fail(f"{_first_line(error)} {_hint(named, tokens)}", BAD_INPUT)
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


def _hint(command: str | None, tokens: list[str]) -> str:
    """What to do about a command line that cannot be used."""
    options = {token.partition("=")[0] for token in tokens}
    if command == "linear" and not options.isdisjoint(OF_STEPS):
        return (
            "linear follows gradient flow, which its bounds are about: it has no optimizer, learning rate or batches, "
            "and --exponent in place of a scale. whichmin compare compares optimizers."
        )
    return "See whichmin --help."


def _fail(message: str, code: int) -> int:
    print(f"whichmin: error: {message}", file=sys.stderr)
    return code

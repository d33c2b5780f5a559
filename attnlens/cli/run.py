"""From argv to an exit code: finding the commands, and one line for everything that can go wrong."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from attnlens._version import __version__
from attnlens.cli import console
from attnlens.cli.commands import Commands
from attnlens.errors import AttnlensError

__all__ = ["application", "main"]

BUG = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: what follows the program's name; from the process if None, which an interrupt then ends at once.

    Raises:
        SystemExit: 0 done; 1 refused or failed; 2 wrong usage; 130 interrupted.
    """
    words, wants_traceback = _take_traceback(sys.argv[1:] if arguments is None else list(arguments))
    console.make_streams_safe()
    with console.quiet_libraries(unless=wants_traceback):
        code = _exit_code(words, wants_traceback)
        code = _flush(code)
    if arguments is None and code == INTERRUPTED:
        # Threads may still be inside torch, where an orderly end of the interpreter aborts the process (SIGABRT).
        os._exit(code)
    sys.exit(code)


def application() -> Any:
    """The command group, with every installed command behind its name."""
    app = typer.Typer(
        help="What does this attention head do, and how do we know?",
        epilog="Run 'attnlens COMMAND --help' for the options of a command.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    )
    app.callback()(_global_options)
    group = get_command(app)
    group.commands = Commands()  # type: ignore[attr-defined]
    return group


def _print_version(asked: bool) -> bool:
    if asked:
        console.out(f"attnlens {__version__}")
        raise typer.Exit
    return asked


def _global_options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    _traceback: Annotated[
        bool, typer.Option("--traceback", help="After an error, show where it happened (or ATTNLENS_TRACEBACK=1).")
    ] = False,
) -> None:
    """What does this attention head do, and how do we know?"""


def _take_traceback(words: list[str]) -> tuple[list[str], bool]:
    """Accept --traceback anywhere before a lone `--`, since it is wanted after a command has failed."""
    end = words.index("--") if "--" in words else len(words)
    head, tail = words[:end], words[end:]
    wanted = "--traceback" in head or os.environ.get("ATTNLENS_TRACEBACK", "0") not in ("", "0")
    return [word for word in head if word != "--traceback"] + tail, wanted


def _exit_code(words: list[str], wants_traceback: bool) -> int:
    try:
        result = application().main(words, prog_name="attnlens", standalone_mode=False)
    except AttnlensError as error:
        _trace(wants_traceback)
        console.fail(str(error))
        return error.exit_code
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        return BUG  # the reader has gone; _flush keeps the interpreter from complaining about it
    except Exception as error:
        _trace(wants_traceback)
        hint = "" if wants_traceback else " Run it again with --traceback and report what it shows."
        console.fail(f"this is a bug in attnlens or a plug-in: {type(error).__name__}: {error}.{hint}")
        return BUG
    if result == INTERRUPTED:
        console.say("interrupted")
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> int:
    """One line for a mistake in the call; the help itself where nothing was asked at all."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        console.say(error.format_message())
        return error.exit_code
    message = " ".join(error.format_message().split())
    message = message if message.endswith((".", "?", "!", ")")) else f"{message}."
    command = context.command_path if context is not None else "attnlens"
    console.fail(f"{message} See: {command} --help")
    return error.exit_code


def _trace(wanted: bool) -> None:
    if wanted:
        console.say(traceback.format_exc().rstrip())


def _flush(code: int) -> int:
    """Flush now, while a reader that has gone can still be met quietly."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BUG
    return code

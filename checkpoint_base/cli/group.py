"""The group of the commands: what all of them have in common."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import click

from checkpoint_base import transport
from checkpoint_base.cli import rendering
from checkpoint_base.cli.rendering import Failure
from checkpoint_base.errors import CheckpointError, StoreUnavailable

_UNAVAILABLE, _INTERRUPTED = 3, 130

# Hides the warnings about classes that come back as plain data. In a program they matter; here it always happens.
_SILENCE = logging.NullHandler()


class _Unavailable(Failure):
    exit_code = _UNAVAILABLE


class _Waiting(logging.Handler):
    """Tells a person at a terminal once that the store does not answer and is asked again."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said = not rendering.is_watched()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            rendering.complain(f"The store does not answer yet; {record.getMessage()}")


class _Commands(click.Group):
    """Gives every outcome of a command its exit code, and imports the conformance suite only for its command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "conformance"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "conformance":
            from conformance_tests.command import conformance

            return conformance
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreUnavailable as error:
            raise _Unavailable(f"the store is unavailable: {error}") from error
        except CheckpointError as error:
            raise Failure(str(error)) from error
        except click.NoSuchOption as error:
            if error.option_name == "--store":
                raise click.UsageError(
                    "write --store before the command: checkpoints --store URL COMMAND", ctx
                ) from error
            raise
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--store",
    metavar="URL",
    envvar="CHECKPOINT_STORE",
    show_envvar=True,
    help="The store, such as sqlite:///app.db or postgresql://localhost/app.",
)
@click.version_option(package_name="checkpoint-backends")
@click.pass_context
def main(ctx: click.Context, store: str | None) -> None:
    """Show and tidy up the LangGraph checkpoints in a store, or test a saver.

    Example: checkpoints --store sqlite:///app.db threads

    Write --store before the command, or set CHECKPOINT_STORE. Tables are for people; for programs, --json prints one
    JSON document and nothing else. No class that the store names is imported, and nothing in it is run.

    \b
    Exit codes:
      0    done
      1    failed, or declined; or the saver does not conform
      2    wrong usage
      3    the store is unavailable: try again later
      130  interrupted
    """
    rendering.require_output()
    logging.getLogger().addHandler(_SILENCE)
    repeated = logging.getLogger(transport.__name__)
    ctx.call_on_close(partial(repeated.setLevel, repeated.level))
    repeated.setLevel(logging.INFO)
    repeated.addHandler(waiting := _Waiting())
    ctx.call_on_close(partial(repeated.removeHandler, waiting))
    ctx.obj = store


LIMIT = click.IntRange(1, 1_000_000)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")

"""The command that prints what an administrator has to run."""

from __future__ import annotations

import click

from checkpoint_base.cli import rendering
from checkpoint_base.cli.group import main
from checkpoint_base.cli.rendering import Failure


@main.command(name="schema")
@click.argument("backend", metavar="BACKEND", type=click.Choice(["postgres"]), expose_value=False)
@click.option(
    "--schema", "name", metavar="NAME", default="checkpoint_backends", show_default=True, help="The schema to create."
)
@click.option("--grant-to", "role", metavar="ROLE", help="Also let this role use what is in it.")
def schema_command(name: str, role: str | None) -> None:
    """Print the SQL that sets a backend up.

    It is for an administrator, if the application may not create tables. BACKEND is postgres, the only one that needs
    SQL to be run.

    Example: checkpoints schema postgres --grant-to app | psql --set ON_ERROR_STOP=1 app
    """
    if role == "":
        raise Failure("--grant-to is empty: name a role, or leave it out")
    try:
        from checkpoint_postgres.schema import Schema
    except ModuleNotFoundError as error:
        raise Failure(str(error)) from error
    with rendering.printing():
        click.echo(Schema(name).script(role), nl=False)

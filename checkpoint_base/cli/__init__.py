"""The command line: shows what a store holds, as tables or JSON, and removes what is no longer needed.

Ids and values come from whoever filled the store. Characters of theirs that a terminal would obey are escaped, and no
class that they name is imported.
"""

# Each of these adds its commands to the group.
from checkpoint_base.cli import changing, looking, moving, schema  # noqa: F401
from checkpoint_base.cli.group import main

__all__ = ["main"]

"""The Lua scripts in `lua/`, each preceded by the shared pieces that its first line names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis knows it: by the digest of its source."""

    source: str
    digest: str
    acknowledges: bool


def load_script(name: str, *, acknowledges: bool = False) -> Script:
    """Read a script. ``acknowledges`` says that when it returns, what it stored counts as acknowledged.

    That is not so if others take over what it stores, or if it only tidies up.
    """
    folder = files("checkpoint_redis").joinpath("lua")
    own = folder.joinpath(f"{name}.lua").read_text(encoding="utf-8")
    uses = re.match(r"-- uses: ([\w ]+)\n", own)
    pieces = [folder.joinpath(f"{piece}.lua").read_text(encoding="utf-8") for piece in uses[1].split()] if uses else []
    # Redis has no use for comments.
    source = re.sub(r"^ *--.*\n", "", "".join([*pieces, own]), flags=re.MULTILINE)
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest(), acknowledges)


LOOK = load_script("look")
SETUP = load_script("setup", acknowledges=True)
PUT = load_script("put", acknowledges=True)
PUT_WRITES = load_script("put_writes", acknowledges=True)
STAGE = load_script("stage")
UNSTAGE = load_script("unstage")
LOAD = load_script("load")
FIELDS = load_script("fields")
LIST = load_script("list")
INBOX = load_script("inbox")
ANCESTRY = load_script("ancestry")
DELETE_THREAD = load_script("delete_thread", acknowledges=True)
DELETE_RUNS = load_script("delete_runs", acknowledges=True)
PRUNE = load_script("prune", acknowledges=True)
EXPORT = load_script("export")
IMPORT = load_script("import")
DISCARD = load_script("discard")
ADOPT = load_script("adopt", acknowledges=True)
TOUCH = load_script("touch")

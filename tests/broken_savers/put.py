"""Savers that break PUT clauses."""

from __future__ import annotations

import uuid
from typing import Any

from checkpoint_base import SQLiteSaver

from tests.broken_savers import breaks


@breaks("PUT-2")
class StoresARepeatedPutAgain(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        again = {**checkpoint, "id": f"{checkpoint['id'][:-12]}{uuid.uuid4().hex[:12]}"}
        super().put(config, again, metadata, new_versions)
        return stored

"""Values as bytes, exactly: a value comes back as it was stored, or is refused when it is to be stored."""

from checkpoint_base.serializer.exact import ExactSerializer

__all__ = ["ExactSerializer"]

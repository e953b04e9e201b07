"""What goes into a checkpoint comes back as it went in, or is refused when it goes in."""

from checkpoint_base.serializer.exact import ExactSerializer

__all__ = ["ExactSerializer"]

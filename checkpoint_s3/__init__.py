"""LangGraph checkpoints in S3 and compatible object stores, through boto3."""

from checkpoint_base.extras import extra

with extra("s3"):
    from checkpoint_s3.saver import S3Saver

__all__ = ["S3Saver"]

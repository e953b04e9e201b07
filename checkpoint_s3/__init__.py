"""LangGraph checkpoints in S3 and compatible object stores, through boto3."""

"""This project's savers and others, measured side by side. Not part of the installed packages."""

"""This project's savers and the field's, side by side. No part of what is installed."""

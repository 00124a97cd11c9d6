"""A task's image: from its address to RGB pixels, within limits of bytes, pixels, time and reach; knows no masks."""

from backend.images.loader import ImageLoader

__all__ = ["ImageLoader"]

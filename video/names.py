"""Which files of a folder are taken for videos, before any is opened."""

_EXTENSIONS = """
    3g2 3gp asf avi divx f4v flv gif h264 h265 hevc ivf m1v m2ts m2v m4v mj2 mjpeg mkv mov mp4
    mpe mpeg mpg mts mxf nut ogm ogv qt rm rmvb ts vob webm wmv y4m
"""
VIDEO_EXTENSIONS = frozenset(f".{name}" for name in _EXTENSIONS.split())
"""What is taken from a folder; a file that is named is tried whatever it is called."""

PICTURE_EXTENSIONS = frozenset({".avif", ".bmp", ".jfif", ".jpeg", ".jpg", ".jxl", ".png", ".tif", ".tiff", ".webp"})
"""Still pictures: posters and covers beside films, so that they are taken from a folder only if asked for."""

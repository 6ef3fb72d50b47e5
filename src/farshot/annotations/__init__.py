"""Labelled pictures in the files of other annotation tools."""

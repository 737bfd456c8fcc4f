"""For build systems that run setup.py; everything is said in setup.cfg."""

from setuptools import setup

setup()

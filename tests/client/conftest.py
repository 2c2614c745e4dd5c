"""The stand-in server for tests of what a real one cannot be made to say."""

from standin import standin as standin

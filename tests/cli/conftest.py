"""Stand-in servers for tests of what a real one cannot be made to say."""

from http_standin import http_standin as http_standin
from standin import standin as standin

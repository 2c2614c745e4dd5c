"""Requests whose files go straight to disk, hashed and bounded as they come."""

from __future__ import annotations

from typing import IO, Any, cast

from flask import Request, current_app

from ..jobs.files import TooLargeError, Upload
from ..settings import Settings
from .problems import ProblemError

FORM_BYTES = 1 << 20  # of a form beside its file
_DRAINED_BYTES = 8 << 20


def settings() -> Settings:
    """Those of the application."""
    return cast(Settings, current_app.extensions["reelkind_settings"])


class StreamingRequest(Request):
    """A request that keeps no file in memory; uploads that nobody kept are dropped with it."""

    max_form_memory_size = 64 << 10
    max_form_parts = 20

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.uploads: list[Upload] = []

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        del total_content_length, content_type, filename, content_length
        upload = Upload(settings().uploads, settings().limits.upload_bytes)
        self.uploads.append(upload)
        return cast(IO[bytes], upload)

    def drop_uploads(self) -> None:
        """Remove what was not kept."""
        for upload in self.uploads:
            upload.close()

    def drain(self) -> None:
        """Read what is left of a body that is small: else a browser sees a broken connection, not the answer."""
        if (self.content_length or 0) <= _DRAINED_BYTES:
            try:
                while self.stream.read(1 << 16):
                    pass
            except Exception:  # whatever is wrong with the body: the answer is on its way
                return


def parse_form(request: Request) -> None:
    """Read the whole form.

    Raises:
        ProblemError: 413, if its file is too large.
    """
    limit = settings().limits.upload_bytes
    too_large = ProblemError(
        413, f"Files of up to {limit / 2**20:.0f} MB are taken here: make it shorter, or lower its resolution."
    )
    if (request.content_length or 0) > limit + FORM_BYTES:
        raise too_large
    try:
        request.form  # noqa: B018 (parses)
    except TooLargeError:
        raise too_large from None

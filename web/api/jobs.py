"""``/api/jobs``: new ones, one, all of a session, cancelling, the video and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from flask import Blueprint, Response, request, send_file

from ..context import context
from ..jobs.doorbell import ring
from ..jobs.files import Upload, keep_file, upload_path
from ..jobs.pictures import picture_path
from ..jobs.samples import samples
from ..jobs.store import QueueFullError
from ..jobs.tables import FEATURES, URL, VIDEO, Job
from ..safety.content import FEATURES_TYPE, NotAVideoError, media_type_of
from ..safety.fetching import FetchError, check_url
from ..safety.guard import owner_of
from ..safety.headers import secure_upload
from .options import MAX_URL_CHARS, read_options, shown_name
from .problems import ProblemError
from .shapes import shape
from .uploads import StreamingRequest, parse_form

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")

_RETRY_FULL_S = 10


@blueprint.post("")
def create() -> tuple[dict[str, Any], int, dict[str, str]]:
    """A video, a features file, a sample, an earlier job or a URL to a job."""
    incoming = cast(StreamingRequest, request)
    at = context()
    wait_s = at.new_jobs.take(request.remote_addr or "")
    if wait_s:
        raise ProblemError(429, "Too many new jobs from your address: wait a little.", _retry_after(wait_s))
    if incoming.mimetype not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise ProblemError(415, "Send a form (multipart/form-data) with a field file, sample, source or url.")
    parse_form(incoming)
    options = read_options(incoming.form)
    _check_offered(options)
    values = _subject(incoming)
    values["options"] = {**options, **values.pop("more", {})}
    try:
        job = at.store.add({**values, "owner": owner_of(request)})
    except QueueFullError:
        raise ProblemError(
            503, "The queue is full: try again in a little while.", _retry_after(_RETRY_FULL_S)
        ) from None
    ring(at.settings.identity, at.settings.workers)
    return shape(job, at.store.positions()), 202, {"Location": f"/api/jobs/{job.id}"}


@blueprint.get("")
def index() -> dict[str, Any]:
    """The jobs of the browser's session, latest first."""
    at = context()
    positions = at.store.positions()
    return {"jobs": [shape(job, positions, brief=True) for job in at.store.of_owner(owner_of(request))]}


@blueprint.get("/<job_id>")
def show(job_id: str) -> dict[str, Any]:
    """One job."""
    return shape(find(job_id), context().store.positions())


@blueprint.delete("/<job_id>")
def cancel(job_id: str) -> dict[str, Any]:
    """Give a job up; one that is over stays as it is."""
    at = context()
    found = at.store.cancel(find(job_id).id)
    assert found is not None
    return shape(found, at.store.positions())


@blueprint.get("/<job_id>/video")
def video(job_id: str) -> Response:
    """What was uploaded, in parts if the player asks so."""
    job = find(job_id)
    path = upload_path(context().settings.uploads, job.upload, is_features=False)
    if not job.upload or job.kind == FEATURES or not path.is_file():
        raise ProblemError(404, "There is no video of this job, or it is no longer kept.")
    return secure_upload(_send(path, job.media_type))


@blueprint.get("/<job_id>/pictures/<int:time_ms>")
def picture(job_id: str, time_ms: int) -> Response:
    """A frame that was classified, squeezed into a square."""
    job = find(job_id)
    path = picture_path(context().settings.pictures / job.upload, time_ms)
    if not job.upload or time_ms not in job.pictures or not path.is_file():
        raise ProblemError(404, "There is no picture of this moment, or it is no longer kept.")
    return secure_upload(_send(path, "image/jpeg"))


def find(job_id: str) -> Job:
    """A job by the id in a URL.

    Raises:
        ProblemError: 404.
    """
    job = context().store.get(job_id)
    if job is None:
        raise ProblemError(404, "There is no such job, or it was forgotten long after it was finished.")
    return job


def _send(path: Path, media_type: str) -> Response:
    return send_file(path.absolute(), media_type, conditional=True, etag=path.name, last_modified=None)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))}


def _check_offered(options: dict[str, Any]) -> None:
    """Say at once what the server does not have; if it cannot be asked, the worker will."""
    from reelkind.client import ClientError

    try:
        offered = context().server.models()
    except ClientError:
        return
    found = [group for group in offered if group["name"] == options["member"] or (options["member"] is None)]
    if not found:
        names = ", ".join(str(group["name"]) for group in offered)
        raise ProblemError(422, f"member: this server has {names}.")
    if options["tta"] not in found[0]["tta"]:
        raise ProblemError(422, f"tta: this server has {', '.join(found[0]['tta'])} for this member.")
    if options["abstain"] is True and found[0]["abstain_below"] is None:
        raise ProblemError(422, "abstain: this server knows no threshold for this member: name a confidence.")


def _subject(incoming: StreamingRequest) -> dict[str, Any]:
    """What the job is about: columns of ``Job``, and ``more`` options."""
    form, files = incoming.form, incoming.files
    named = [name for name in ("sample", "source", "url") if form.get(name)] + ["file"] * ("file" in files)
    if len(named) != 1:
        raise ProblemError(422, "Send exactly one of file, sample, source (the id of a job) or url.")
    if named == ["file"]:
        return _uploaded(incoming)
    return {"sample": _sample, "source": _again, "url": _by_url}[named[0]](form[named[0]])


def _uploaded(incoming: StreamingRequest) -> dict[str, Any]:
    posted = incoming.files["file"]
    upload = cast(Upload, posted.stream)
    name = shown_name(posted.filename, "video")
    try:
        media_type = media_type_of(upload.head)
    except NotAVideoError as error:
        raise ProblemError(
            415, f"“{name}” {error}. Drop a video (MP4, WebM, MKV, MOV, AVI and others), a picture or a features file."
        ) from None
    is_features = media_type == FEATURES_TYPE
    sha256 = upload.keep(is_features=is_features)
    return {"kind": FEATURES if is_features else VIDEO, "name": name, "upload": sha256, "media_type": media_type}


def _sample(name: str) -> dict[str, Any]:
    known = samples()
    if name not in known:
        raise ProblemError(422, f"sample: there are {', '.join(known) or 'none'}.")
    sha256 = keep_file(context().settings.uploads, known[name])
    return {"kind": VIDEO, "name": known[name].name, "upload": sha256, "media_type": "video/mp4"}


def _again(job_id: str) -> dict[str, Any]:
    source = context().store.get(job_id)
    if source is None:
        raise ProblemError(422, "source: there is no such job.")
    if not source.upload:
        raise ProblemError(422, "source: that job never had its file.")
    return {
        "kind": source.kind,
        "name": source.name,
        "upload": source.upload,
        "media_type": source.media_type,
        "source": source.id,
        "prefetched": True,
        "more": {"url": source.options["url"]} if "url" in source.options else {},
    }


def _by_url(url: str) -> dict[str, Any]:
    if not context().settings.fetch_urls:
        raise ProblemError(403, "Videos are not fetched from addresses here (--allow-urls): download and drop it.")
    if len(url) > MAX_URL_CHARS:
        raise ProblemError(422, f"url: longer than {MAX_URL_CHARS} characters.")
    try:
        parts = check_url(url)
    except FetchError as error:
        raise ProblemError(422, f"url: {error}") from None
    return {"kind": URL, "name": shown_name(parts.path, parts.hostname or "video"), "more": {"url": url}}

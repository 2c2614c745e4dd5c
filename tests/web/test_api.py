"""The API without workers: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from reelkind.web.app import create_app
from reelkind.web.context import Context
from reelkind.web.jobs.store import Store
from reelkind.web.jobs.tables import DONE, Job
from reelkind.web.settings import Limits, Settings, SettingsError

from .conftest import NOBODY, SAMPLES

VIDEO = SAMPLES / "flat_slides.mp4"


def video(name: str = "a.mp4") -> dict[str, Any]:
    return {"file": (VIDEO.open("rb"), name)}


def store_of(app: Flask) -> Store:
    found: Context = app.extensions["reelkind"]
    return found.store


def uploads(app: Flask) -> list[Path]:
    return list(app.extensions["reelkind_settings"].uploads.iterdir())


def finish(app: Flask, **values: Any) -> None:
    """Do a worker's work."""
    job = store_of(app).claim("worker")
    assert job is not None
    store_of(app).finish(job, DONE, **values)


def test_an_upload_becomes_a_job_named_as_its_owner_calls_it(app: Flask, client: FlaskClient) -> None:
    answer = client.post("/api/jobs", data={**video("../../é\x07 my.mp4"), "tta": "fast", "abstain": "0.9"})
    job = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/jobs/{job['id']}")
    assert (job["status"], job["position"], job["name"]) == ("queued", 1, "é� my.mp4")
    assert job["options"] == {"member": None, "tta": "fast", "abstain": 0.9, "timeline": False}
    (kept,) = uploads(app)
    assert kept.read_bytes() == VIDEO.read_bytes()
    assert client.get(f"/api/jobs/{job['id']}").json == job


def test_a_sample_and_an_earlier_job_need_no_upload(client: FlaskClient) -> None:
    first = client.post("/api/jobs", data={"sample": "flat_slides"}).json
    again = client.post("/api/jobs", data={"source": first["id"], "tta": "full"}).json
    assert (again["name"], again["source"], again["position"]) == (first["name"], first["id"], 2)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        ({"file": (io.BytesIO(b"%PDF-1.7"), "a.mp4")}, 415, "“a.mp4” is no video: it looks like a PDF document"),
        ({"file": (io.BytesIO(b""), "a.mp4")}, 415, "is empty"),
        ({}, 422, "exactly one of file, sample, source"),
        ({"sample": "flat_slides", "url": "https://x.org/a"}, 422, "exactly one"),
        ({"sample": "../secret"}, 422, "sample: there are"),
        ({"source": "0" * 32}, 422, "no such job"),
        ({"sample": "flat_slides", "tta": "extreme"}, 422, "tta: must be one of"),
        ({"sample": "flat_slides", "abstain": "1.5"}, 422, "abstain: must be"),
        ({"sample": "flat_slides", "abstain": "nan"}, 422, "abstain: must be"),
        ({"sample": "flat_slides", "timeline": "maybe"}, 422, "timeline: must be"),
        ({"sample": "flat_slides", "member": "a\nb"}, 422, "member: no member"),
        ({"url": "https://example.com/a.mp4"}, 403, "--allow-urls"),
    ],
)
def test_what_is_wrong_is_said_as_a_problem(
    app: Flask, client: FlaskClient, data: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post("/api/jobs", data=data, content_type="multipart/form-data")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    problem = json.loads(answer.data)
    assert said in problem["detail"]
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    assert [path for path in uploads(app) if "sample" not in data] == []  # nothing of a refused file stays


def test_other_bodies_are_no_jobs(client: FlaskClient) -> None:
    assert client.post("/api/jobs", json={"sample": "flat_slides"}).status_code == 415
    assert client.post("/api/jobs", data=b"rubbish", content_type="multipart/form-data; boundary=x").status_code == 422


def test_too_large_files_are_refused_by_what_is_said_and_by_what_comes(tmp_path: Path) -> None:
    limits = Limits(upload_bytes=10_000)
    app = create_app(Settings(tmp_path / "data", NOBODY, limits=limits))
    client = app.test_client(use_cookies=False)
    answer = client.post("/api/jobs", data=video())
    assert answer.status_code == 413
    assert "make it shorter" in json.loads(answer.data)["detail"]
    much = {"file": (io.BytesIO(b"\0" * 400_000), "a.mp4")}  # below werkzeug's own limit of what tests keep in memory
    assert client.post("/api/jobs", data=much).status_code == 413
    assert uploads(app) == []


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    client = create_app(Settings(tmp_path / "data", NOBODY, limits=Limits(queued=1))).test_client(use_cookies=False)
    assert client.post("/api/jobs", data={"sample": "flat_slides"}).status_code == 202
    answer = client.post("/api/jobs", data={"sample": "flat_slides"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    limits = Limits(jobs_per_minute=2, requests_per_minute=6)
    client = create_app(Settings(tmp_path / "data", NOBODY, limits=limits)).test_client(use_cookies=False)
    assert [client.post("/api/jobs", data={"sample": "flat_slides"}).status_code for _ in range(3)] == [202, 202, 429]
    assert [client.get("/healthz").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_cancelling_and_what_is_not_there(client: FlaskClient) -> None:
    job = client.post("/api/jobs", data=video()).json
    assert client.delete(f"/api/jobs/{job['id']}").json["status"] == "cancelled"
    for path in ("/api/jobs/x", f"/api/jobs/{job['id']}/pictures/3", "/api/nothing"):
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert client.put(f"/api/jobs/{job['id']}").status_code == 405
    assert client.get(f"/api/jobs/{job['id']}/result.csv").status_code == 409


def test_the_video_comes_back_in_parts_and_cannot_run(client: FlaskClient) -> None:
    job = client.post("/api/jobs", data=video()).json
    answer = client.get(job["video_url"], headers={"Range": "bytes=4-7"}, buffered=True)
    assert (answer.status_code, answer.data, answer.mimetype) == (206, b"ftyp", "video/mp4")
    answer.close()
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_events_tell_a_job_until_it_is_over(app: Flask, client: FlaskClient) -> None:
    job = client.post("/api/jobs", data=video()).json
    stream = client.get(f"/api/jobs/{job['id']}/events").response
    lines = iter(stream)
    assert next(lines) == b"retry: 1000\n\n"
    told = [json.loads(next(lines).split(b"data: ")[1])]
    finish(app, result={"label": "flat"})
    told += [json.loads(event.split(b"data: ")[1]) for event in lines]
    assert told[0] == job
    assert (told[-1]["status"], told[-1]["result"]) == ("done", {"label": "flat"})


SCORES = {"animation": 0.1, "gaming": 0.1, "natural": 0.1, "flat": 0.7}
SEGMENT = {"start_ms": 0, "end_ms": 3_723_400, "label": "flat", "confidence": 0.7, "scores": SCORES}


def test_answers_are_exported(app: Flask, client: FlaskClient) -> None:
    job = client.post("/api/jobs", data=video("=cmd|calc.mp4")).json
    answer = {"label": None, "confidence": 0.7, "scores": SCORES}
    finish(app, result=answer, timeline={"segments": [SEGMENT, {**SEGMENT, "label": None}], "windows": [1]})
    base = f"/api/jobs/{job['id']}"
    assert json.loads(client.get(f"{base}/result.json").data)["timeline"]["windows"] == [1]
    rows = client.get(f"{base}/result.csv").text.split("\r\n")
    assert rows[1] == "'=cmd|calc.mp4,video,,,,0.700000,0.100000,0.100000,0.100000,0.700000"
    assert rows[2].startswith("'=cmd|calc.mp4,segment,0,3723400,flat,")
    chapters = client.get(f"{base}/chapters.vtt")
    assert chapters.text == (
        "WEBVTT\n\n1\n00:00:00.000 --> 01:02:03.400\nflat\n\n2\n00:00:00.000 --> 01:02:03.400\nunsure\n"
    )
    assert chapters.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%3Dcmd%7Ccalc.mp4.vtt"


def test_history_is_the_sessions_and_survives_a_restart(app: Flask, tmp_path: Path) -> None:
    mine, other = app.test_client(), app.test_client()
    token = csrf_token(mine)
    csrf_token(other)
    job = mine.post("/api/jobs", data=video(), headers={"X-CSRF-Token": token}).json
    assert [one["id"] for one in mine.get("/api/jobs").json["jobs"]] == [job["id"]]
    assert other.get("/api/jobs").json == {"jobs": []}
    later = create_app(Settings(tmp_path / "data", NOBODY)).test_client()
    later.set_cookie("reelkind_session", mine.get_cookie("reelkind_session").value)  # type: ignore[union-attr]
    assert [one["id"] for one in later.get("/api/jobs").json["jobs"]] == [job["id"]]


def csrf_token(browser: FlaskClient) -> str:
    """What the page gives its scripts."""
    return browser.get("/").text.split('name="csrf-token" content="')[1].split('"')[0]


def test_a_session_needs_the_pages_token(app: Flask) -> None:
    browser, other = app.test_client(), app.test_client()
    token, foreign = csrf_token(browser), csrf_token(other)
    for shown in ("", foreign):
        refused = browser.post("/api/jobs", data={"sample": "flat_slides"}, headers={"X-CSRF-Token": shown})
        assert refused.status_code == 403
    asked = browser.post("/api/jobs", data={"sample": "flat_slides"}, headers={"X-CSRF-Token": token})
    assert asked.status_code == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),  # a name that was made to point at this machine
        ({"Host": "localhost:8080"}, 202),
        ({"Host": "[::1]:8080"}, 202),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, 202),
    ],
)
def test_other_sites_pages_are_turned_away(client: FlaskClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/jobs", data={"sample": "flat_slides"}, headers=headers).status_code == status


def test_where_others_can_connect_a_token_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a token is required"):
        Settings(tmp_path, NOBODY, host="0.0.0.0")
    app = create_app(Settings(tmp_path / "data", NOBODY, host="0.0.0.0", token="s3cret"))
    client = app.test_client()
    assert client.get("/healthz").status_code == 200
    answer = client.get("/api/jobs")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="reelkind"')
    assert client.get("/api/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/jobs", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    asked = client.get("/")
    assert (asked.status_code, "This page asks for a token" in asked.text) == (401, True)
    assert client.post("/enter", data={"token": "wrong"}).status_code == 401
    assert client.post("/enter", data={"token": "s3cret"}).status_code == 303
    assert client.get("/").status_code == 200
    assert client.post("/api/jobs", data={"sample": "flat_slides"}).status_code == 403  # the page's token is missing


def test_nothing_inline_and_nothing_from_elsewhere(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for forbidden in (" style=", "<style", " onclick=", "javascript:", 'src="http', 'href="http'):
        assert forbidden not in answer.text.lower()
    assert answer.headers["Set-Cookie"].count("HttpOnly") == answer.headers["Set-Cookie"].count("SameSite=Strict") == 1


def test_health_readiness_and_metrics(client: FlaskClient) -> None:
    client.post("/api/jobs", data={"sample": "flat_slides"})
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").status_code == 503  # no server there
    assert client.get("/api/models").status_code == 503
    told = client.get("/metrics").text
    assert 'reelkind_web_jobs{status="queued"} 1.0' in told
    assert 'reelkind_web_requests_total{endpoint="jobs.create",status="202"}' in told


def test_a_job_is_no_table_of_its_own() -> None:
    """What the database holds of a job is what ``shape`` may show; a column nobody fills would be noticed here."""
    assert {"id", "owner", "result", "lease_until"} <= set(Job.__table__.columns.keys())

"""The output's columns, and what becomes of an answer or an error in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reelkind.client import Prediction, Timeline
from reelkind.core.errors import ReelkindError, VideoError
from reelkind.core.taxonomy.classes import CLASSES

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
UNANSWERED = "unanswered"  # a sentence, in rows on their way to the driver only: whom to blame is the server


def schema() -> pa.Schema:
    """Columns of every part, in order."""
    import pyarrow as pa

    scores = pa.struct([(name, pa.float32()) for name in CLASSES])
    segment = pa.struct(
        [
            ("start_ms", pa.int64()),
            ("end_ms", pa.int64()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            ("subcategory", pa.string()),
            ("subcategory_confidence", pa.float32()),
        ]
    )
    return pa.schema(
        [
            pa.field("uri", pa.string(), nullable=False),
            ("sha256", pa.string()),  # of the content; null if it could not be fetched
            ("label", pa.string()),  # null of a failure, or by --abstain
            ("confidence", pa.float32()),
            ("scores", scores),
            ("subcategory", pa.string()),
            ("subcategory_confidence", pa.float32()),
            ("segments", pa.list_(segment)),  # null without --timeline
            ("embedding", pa.list_(pa.float32())),  # null without --embedding
            ("warnings", pa.list_(pa.string())),  # sentences on what makes the label doubtful; null of a failure
            ("error_class", pa.string()),
            ("error", pa.string()),  # one sentence, without the URI; beside a label, why segments end too early
            ("weights", pa.list_(pa.string())),  # SHA-256 of each member's weights
            ("decode_ms", pa.float32()),
            ("infer_ms", pa.float32()),
        ]
    )


def wire_schema() -> pa.Schema:
    """Columns of what an actor hands to the driver."""
    import pyarrow as pa

    return schema().append(pa.field(UNANSWERED, pa.string()))


def answered(uri: str, sha256: str, answer: Prediction, timeline: Timeline | None, *, embedding: bool) -> Row:
    """Row of a video that was classified, perhaps with a timeline that ends too early."""
    problem = None if timeline is None else timeline.error
    return {
        "uri": uri,
        "sha256": sha256,
        "label": answer.label,
        "confidence": answer.confidence,
        "scores": dict(answer.scores),
        "subcategory": answer.subcategory,
        "subcategory_confidence": answer.subcategory_confidence,
        "segments": None if timeline is None else [segment.to_dict() for segment in timeline.segments],
        "embedding": answer.embedding.tolist() if embedding else None,
        "warnings": list(answer.warnings),
        "error_class": None if problem is None else type(problem).__name__,
        "error": None if problem is None else problem.reason,
        "weights": list(answer.model.weights),
        "decode_ms": answer.timings_ms["decode"],
        "infer_ms": answer.timings_ms["infer"],
    }


def failed(uri: str, sha256: str | None, error: ReelkindError) -> Row:
    """Row of an input that is no video, whoever is asked."""
    sentence = error.reason if isinstance(error, VideoError) else str(error)
    return {"uri": uri, "sha256": sha256, "error_class": type(error).__name__, "error": sentence}


def unanswered(uri: str, error: Exception) -> Row:
    """Row of an input that another run may answer; it never reaches a part."""
    return {"uri": uri, UNANSWERED: f"{type(error).__name__}: {error}"}

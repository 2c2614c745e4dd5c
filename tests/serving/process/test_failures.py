import pytest

from reelkind.serving.process.failures import crashed, explain, is_fatal, port_was_taken

MODEL = (
    "E1122 14:00:00.000001 7 model_lifecycle.cc:642] \"failed to load 'head_lite' version 1: Internal: "
    "TritonModelException: head_lite: model.onnx is missing beside its model.py\\n\\nAt:\\n  /m/head_lite/1/model.py(9)"
)
NOISE = 'E1122 14:00:00.000001 7 server.cc:241] "CudaDriverHelper has not been initialized."\n'


@pytest.mark.parametrize(
    ("log", "status", "line"),
    [
        pytest.param(
            NOISE + MODEL + "\nerror: creating server: Internal - failed to load all models\n",
            1,
            "tritonserver cannot load head_lite: head_lite: model.onnx is missing beside its model.py",
            id="a model's own reason",
        ),
        pytest.param(
            "I1122 14:00:00.000001 9 pb_stub.cc:2105]  Failed to preinitialize Python stub: no model file\n",
            None,
            "tritonserver cannot load a Python model: no model file",
            id="a stub that never comes up",
        ),
        pytest.param(
            "/tmp/x/triton_python_backend_stub: error while loading shared libraries: libx.so.1: cannot open",
            None,
            "tritonserver cannot load a Python model: error while loading shared libraries: libx.so.1: cannot open",
            id="a stub without its libraries",
        ),
        pytest.param(
            NOISE
            + 'E1122 14:00:00.000001 7 x.cc:1] "Invalid argument: ensemble classify lacks a step"\nerror: later\n',
            1,
            "tritonserver ended: ensemble classify lacks a step",
            id="the first error is the cause",
        ),
        pytest.param("", 137, "tritonserver was killed by signal 9", id="killed"),
        pytest.param(MODEL, -9, "tritonserver was killed by signal 9", id="guard killed"),
        pytest.param(NOISE, 1, "tritonserver ended with exit status 1 and no reason in its log", id="silent"),
        pytest.param(
            "cannot execute /x/tritonserver: Permission denied\n",
            127,
            "tritonserver ended: cannot execute /x/tritonserver: Permission denied",
            id="not executable",
        ),
        pytest.param(
            "E1122 14:00:00.000001 7 main.cc:1] \"failed to start GRPC service: Unavailable - Socket '127.0.0.1:1' "
            'already in use "\n',
            1,
            "tritonserver cannot offer GRPC: its port was taken by another program",
            id="lost the race for a port",
        ),
    ],
)
def test_log_becomes_one_line(log, status, line):
    assert explain(log.encode(), status) == line


def test_working_server_has_said_nothing_fatal():
    assert not is_fatal(NOISE.encode())
    assert is_fatal(MODEL.encode())


def test_undecodable_log_is_no_obstacle():
    assert not port_was_taken(b"\xff\xfe")


@pytest.mark.parametrize(
    ("status", "fault"), [(139, True), (-11, True), (134, True), (137, False), (11, False), (1, False), (None, False)]
)
def test_a_fault_of_its_own_is_told_from_errors_and_kills(status: int | None, fault: bool) -> None:
    assert crashed(status) is fault

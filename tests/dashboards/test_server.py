"""The server as a process and as a socket: ports, interruption, what is printed."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from attnlens.errors import ServerError
from dashboards.server import bind

START = [sys.executable, "-m", "dashboards"]


def test_port_0_takes_a_free_port():
    with bind("127.0.0.1", 0) as one, bind("127.0.0.1", 0) as other:
        assert one.getsockname()[1] != other.getsockname()[1]


def test_a_port_in_use_is_refused_with_the_next_one():
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ServerError, match=rf"port {port} .* in use; try --port {port + 1}"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid", "a" * 300])
def test_an_address_that_is_not_this_machines_is_refused(host):
    with pytest.raises(ServerError, match=r"--host"):
        bind(host, 0)


def test_a_port_in_use_ends_the_command_before_anything_heavy_is_loaded():
    program = (
        "import sys\nfrom attnlens.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(sorted({'torch', 'dash', 'flask'} & set(sys.modules)))"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        done = subprocess.run(
            [sys.executable, "-c", program, "serve", "--port", port], capture_output=True, text=True, timeout=60
        )

    assert done.returncode == 1
    assert done.stdout.strip() == "[]"
    assert re.fullmatch(rf"attnlens: port {port} of 127.0.0.1 is in use; try --port \d+\.\n", done.stderr)


def test_the_server_prints_its_address_answers_and_ends_on_ctrl_c_with_130():
    process = subprocess.Popen(
        [*START, "--port", "0", "--host", "localhost"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://localhost:\d+/", line)[0]
        page = urllib.request.urlopen(address, timeout=30).read().decode()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()

    assert "<title>attnlens</title>" in page
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_server_that_others_reach_prints_an_address_with_a_token_and_wants_it():
    process = subprocess.Popen(
        [*START, "--port", "0", "--host", "0.0.0.0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"http://127.0.0.1:\d+/\?token=\S{40,}", process.stdout.readline())[0]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address.partition("?")[0], timeout=30)
        refused.value.close()
        with urllib.request.urlopen(address, timeout=30) as welcome:
            cookie = welcome.headers["Set-Cookie"]
    finally:
        process.kill()
        process.communicate()

    assert refused.value.code == 401
    assert "HttpOnly" in cookie


def test_results_that_are_none_end_the_command_in_one_line(tmp_path):
    done = subprocess.run(
        [*START, "--port", "0", "--results", str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert done.stderr.startswith("attnlens: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("attnlens/nothing", 1, "no embedded model is called 'attnlens/nothing'"),
        ("./nowhere", 1, "there is no folder ./nowhere"),
        ("EMPTY", 1, "has no config.json"),
        ("no/such", 1, "no model 'no/such'"),
        ("", 2, "the model's name is empty"),
    ],
)
def test_a_model_that_cannot_be_opened_ends_the_command_in_one_line(
    tmp_path, monkeypatch, capsys, model, code, message
):
    from attnlens.cli import main

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("dashboards.cli.serve_app", lambda app, bound, max_body_bytes: None)
    model = str(tmp_path) if model == "EMPTY" else model

    with pytest.raises(SystemExit) as ended:
        main(["serve", "--port", "0", "-m", model])

    printed = capsys.readouterr()
    assert ended.value.code == code
    assert printed.out == ""
    assert printed.err.startswith("attnlens: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_model_given_at_start_is_open_before_the_address_is_printed(monkeypatch, capsys):
    from attnlens.cli import main
    from dashboards.app import desk_of

    opened = []

    def served(app, bound, max_body_bytes):
        opened.extend(desk_of(app).runs.models)

    monkeypatch.setattr("dashboards.cli.serve_app", served)
    monkeypatch.setattr("dashboards.app.warm_up", lambda app: None)

    with pytest.raises(SystemExit):
        main(["serve", "--port", "0", "-m", "attnlens/tiny-gpt2"])

    assert opened == ["attnlens/tiny-gpt2"]
    assert "http://127.0.0.1:" in capsys.readouterr().out


def test_importing_the_command_loads_nothing_heavy():
    program = (
        "import sys, dashboards.cli, dashboards.config, dashboards.security\n"
        "print(sorted({'torch', 'dash', 'flask', 'plotly', 'waitress', 'transformers'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"

"""Runs schemathesis against the API of a real daemon, in a folder that goes afterwards.

The API is on a Unix socket; a relay on loopback carries the requests there. Everything that is started
here is ended here.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent

# What one run may take: requests beyond it are a failure, not a pass.
RUN_SECONDS = 120
READY_SECONDS = 60
STOP_SECONDS = 60
EXAMPLES = 10
SEED = int(os.environ.get("SHOAL_TEST_SEED", "13"))

# Answers that have no end, and the end of the daemon itself. `tests/tests/api` asks both.
LEFT_OUT = ["/api/v1/events", "/api/v1/stop"]


def main():
    program, schemathesis = sys.argv[1:]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="shoal-schemathesis-"))
    try:
        return check(program, schemathesis, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(program, schemathesis, folder):
    home = folder / "home"
    ground = folder / "ground"
    (ground / "shared").mkdir(parents=True)
    (ground / "shared" / "small").write_text("small")
    (ground / "shared" / "large").write_bytes(bytes(range(256)) * 12_000)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SHOAL_")}
    environment["SHOAL_HOME"] = str(home)
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            [program, "daemon", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        ready = first_line(daemon)
        if ready.get("event") != "ready":
            return failed(f"the daemon is not ready: {ready}", folder)
        shared = subprocess.run(
            [program, "--json", "share", str(ground / "shared")],
            env=environment,
            check=True,
            capture_output=True,
        )
        shared = json.loads(shared.stdout)
        code = run(schemathesis, relay(ready["api"]), ground, shared, environment)
        if code != 0:
            return failed(f"schemathesis ended with {code}", folder)
        if daemon.poll() is not None:
            return failed("the daemon has ended", folder)
        subprocess.run([program, "stop"], env=environment, check=True, timeout=STOP_SECONDS)
        if daemon.wait(STOP_SECONDS) != 0:
            return failed(f"the daemon ended with {daemon.returncode}", folder)
        if b"panicked" in (folder / "log").read_bytes():
            return failed("the daemon panicked", folder)
        return 0
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


def first_line(daemon):
    """What the daemon says first; an empty object when that does not come."""
    lines = []
    reader = threading.Thread(target=lambda: lines.append(daemon.stdout.readline()), daemon=True)
    reader.start()
    reader.join(READY_SECONDS)
    return json.loads(lines[0]) if lines and lines[0].strip() else {}


def failed(why, folder):
    log = (folder / "log").read_text(errors="replace").splitlines()
    print("\n".join(log[-30:]), file=sys.stderr)
    print(f"schemathesis: {why}", file=sys.stderr)
    return 1


def relay(path):
    """Listens on loopback and carries bytes to the socket at `path` and back; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def serve(client):
        with client, socket.socket(socket.AF_UNIX) as node:
            node.connect(path)
            back = threading.Thread(target=carry, args=(node, client), daemon=True)
            back.start()
            carry(client, node)
            back.join()

    def accept():
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    # The node refuses requests for other hosts.
    return f"http://localhost:{listener.getsockname()[1]}"


def run(schemathesis, url, ground, shared, environment):
    environment = environment | {
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
        "SHOAL_TEST_GROUND": str(ground),
        "SHOAL_TEST_LINK": shared["link"],
        "SHOAL_TEST_CID": shared["cid"],
    }
    command = [schemathesis, "run", f"{url}/api/v1/openapi.json", "--url", url]
    command += ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--workers", "2"]
    command += ["--request-timeout", "20", "--generation-database", "none", "--no-color"]
    command += ["--continue-on-failure", "--warnings", "off"]
    for left_out in LEFT_OUT:
        command += ["--exclude-path", left_out]
    print(f"schemathesis: seed {SEED} (SHOAL_TEST_SEED)", flush=True)
    running = subprocess.Popen(command, env=environment, cwd=ground.parent, stdin=subprocess.DEVNULL)
    try:
        return running.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return "no result in time"
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()


if __name__ == "__main__":
    sys.exit(main())

"""What schemathesis has to know of Shoal's API: texts that mean something, and where its files are.

Every path that is sent is one below a folder of the run, so that no request reads or writes anything else.
"""

import os

import schemathesis
from hypothesis import strategies as st

GROUND = os.environ["SHOAL_TEST_GROUND"]
LINK = os.environ["SHOAL_TEST_LINK"]

# A content that nobody has is waited for no longer than this.
WAIT_MS = 200
WAIT_MS_MAX = 366 * 86_400_000
WAITS = {
    "fetches": ("timeout_ms", "patience_ms"),
    "cat": ("timeout_ms", "patience_ms"),
    "ls": ("timeout_ms",),
    "find": ("timeout_ms",),
}

numbers = st.integers(min_value=8, max_value=10**6)
schemathesis.openapi.format(
    "rate",
    st.one_of(
        st.just("off"),
        st.builds(lambda n, unit: f"{n}{unit}", numbers, st.sampled_from(["kB/s", "MB/s", "MiB/s", "mbit"])),
    ),
)
schemathesis.openapi.format(
    "size",
    st.one_of(
        st.just("off"),
        st.builds(lambda n, unit: f"{n}{unit}", numbers, st.sampled_from(["B", "kB", "MB", "GiB"])),
    ),
)
schemathesis.openapi.format(
    "multiaddr",
    # Ports of loopback on which nothing listens, mostly.
    st.builds(lambda port: f"/ip4/127.0.0.1/tcp/{port}", st.integers(min_value=1, max_value=65535)),
)


@schemathesis.hook
def map_body(context, body):
    """Names the content that there is now and then, so that requests get further than the link."""
    if isinstance(body, dict) and isinstance(body.get("link"), str) and len(body["link"]) % 2 == 0:
        body = body | {"link": LINK}
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps all paths below the folder of the run."""
    if isinstance(case.body, dict):
        case.body = {key: moved(key, value) for key, value in case.body.items()}
        waits = WAITS.get(case.operation.path.rsplit("/", 1)[-1], ())
        case.body = {wait: WAIT_MS for wait in waits} | case.body
    if isinstance(case.query, dict) and isinstance(case.query.get("path"), str):
        case.query = {**case.query, "path": below(case.query["path"])}


def moved(key, value):
    if key in ("timeout_ms", "patience_ms") and type(value) is int and WAIT_MS < value <= WAIT_MS_MAX:
        return WAIT_MS
    if key == "paths" and isinstance(value, list):
        return [below(path) for path in value]
    if key == "destination" and isinstance(value, dict):
        return {name: below(path) for name, path in value.items()}
    return value


def below(path):
    if isinstance(path, str) and path.startswith("/"):
        return GROUND + path
    return path

"""What schemathesis has to know of Shoal's API: texts that mean something, and where its files are.

Every path that is sent is one below a folder of the run, so that no request reads or writes anything else.
"""

import base64
import os

import schemathesis
from hypothesis import strategies as st

GROUND = os.environ["SHOAL_TEST_GROUND"]
LINK = os.environ["SHOAL_TEST_LINK"]
CID = os.environ["SHOAL_TEST_CID"]
# The address of a content that nobody has: a raw chunk by BLAKE3, in base32.
UNKNOWN = "b" + base64.b32encode(bytes([1, 0x55, 0x1E, 32]) + bytes(32)).decode().lower().rstrip("=")

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
NAMES = ["a name", "ü.txt", "photos"]
schemathesis.openapi.format("name", st.sampled_from(NAMES))
schemathesis.openapi.format("link", st.sampled_from([LINK, CID, UNKNOWN]))
schemathesis.openapi.format(
    "multiaddr",
    # Ports of loopback on which nothing listens, mostly.
    st.builds(lambda port: f"/ip4/127.0.0.1/tcp/{port}", st.integers(min_value=1, max_value=65535)),
)


ADDRESS = "/ip4/127.0.0.1/tcp/9"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps all paths below the folder of the run, and has texts of our formats mean something."""
    if isinstance(case.body, dict):
        case.body = {key: moved(key, meant(key, value)) for key, value in case.body.items()}
        waits = WAITS.get(case.operation.path.rsplit("/", 1)[-1], ())
        case.body = {wait: WAIT_MS for wait in waits} | case.body
    if isinstance(case.query, dict) and isinstance(case.query.get("path"), str):
        case.query = {**case.query, "path": below(case.query["path"])}


def meant(key, value):
    """A format is no more than a remark to JSON Schema: a text without it passes for valid, and is refused."""
    if key == "link" and isinstance(value, str) and value not in (LINK, CID, UNKNOWN):
        return LINK
    if key == "address" and isinstance(value, str) and not value.startswith("/ip4/"):
        return ADDRESS
    if key == "name" and isinstance(value, str) and value not in NAMES:
        return NAMES[0]
    if key == "peers" and isinstance(value, list):
        return [meant("address", peer) for peer in value]
    if key in ("up", "down", "monthly", "limit") and isinstance(value, str) and not value[:1].isdigit():
        return "off"
    return value


def moved(key, value):
    if key in ("timeout_ms", "patience_ms") and type(value) in (int, float) and WAIT_MS < value <= WAIT_MS_MAX:
        return WAIT_MS
    if key == "wait" and value is True:
        # Nobody is there to announce it to, so it would wait for as long as it may: a minute.
        return False
    if key == "paths" and isinstance(value, list):
        return [below(path) for path in value]
    if key == "destination" and isinstance(value, dict):
        return {name: below(path) for name, path in value.items()}
    return value


def below(path):
    if isinstance(path, str) and path.startswith("/"):
        return GROUND + path
    return path

"""libtorrent as a seeder or a leecher on loopback: seed TORRENT PORT DIR, or leech TORRENT PORT DIR."""

import sys
import time

import libtorrent as lt

MODE, TORRENT, PORT, DIR = sys.argv[1:]


def session(interface):
    """Without discovery and uTP, with room for a fast line: as fast as it goes between two processes."""
    return lt.session({
        "listen_interfaces": interface,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
        "in_enc_policy": 2,
        "out_enc_policy": 2,
        "aio_threads": 4,
        "hashing_threads": 2,
        "connection_speed": 500,
        "smooth_connects": False,
        "max_out_request_queue": 2000,
        "max_allowed_in_request_queue": 4000,
        "recv_socket_buffer_size": 1 << 20,
        "send_socket_buffer_size": 1 << 20,
        "send_buffer_watermark": 8 << 20,
        "send_buffer_watermark_factor": 150,
        "alert_mask": 0,
    })


params = lt.add_torrent_params()
params.ti = lt.torrent_info(TORRENT)
params.save_path = DIR
if MODE == "seed":
    params.flags |= lt.torrent_flags.seed_mode
    host = session(f"127.0.0.1:{PORT}")
    handle = host.add_torrent(params)
    while handle.status().state != lt.torrent_status.seeding:
        time.sleep(0.05)
    print("seeding", flush=True)
    while True:
        time.sleep(3600)

guest = session("127.0.0.1:0")
handle = guest.add_torrent(params)
handle.connect_peer(("127.0.0.1", int(PORT)))
while not handle.status().is_seeding:
    time.sleep(0.02)
